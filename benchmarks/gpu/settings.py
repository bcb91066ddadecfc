"""The sizes to measure: on a GPU, and small ones for a CPU, where the benchmark itself is tested in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    device: str
    depths: tuple  # steps of each level, at `size`
    size: int
    sizes: tuple  # at `steps`
    steps: int
    batch: int
    memory_hidden: int
    memory_contenders: tuple
    hidden: tuple  # of the step times
    speed: dict  # their shape
    rounds: int
    gemm: int  # side of the matrices whose product gives the device's rate
    kernels: dict  # batch, size and channels of the images that kernels work on
    seconds: dict  # for a process of each part, which may also use what those before it left


GPU = Settings(
    device="cuda",
    depths=(4, 8, 16, 32, 64, 128),
    size=256,
    sizes=(64, 128, 256, 512, 1024, 2048),
    steps=16,
    batch=8,
    memory_hidden=256,
    memory_contenders=("invnet-cupy", "invnet-torch", "twin", "checkpointed", "normflows"),
    hidden=(128, 256, 512),
    speed=dict(levels=3, steps=4, channels=3, batch=32, size=128),
    rounds=10,
    gemm=8192,
    kernels=dict(N=32, size=256, C=12),
    seconds=dict(kernels=35, memory=50, speed=125, compiled=45),
)

CPU = Settings(
    device="cpu",
    depths=(1, 2),
    size=16,
    sizes=(8, 16),
    steps=1,
    batch=2,
    memory_hidden=8,
    memory_contenders=("invnet-cupy", "twin"),
    hidden=(8,),
    speed=dict(levels=2, steps=1, channels=3, batch=2, size=8),
    rounds=2,
    gemm=64,
    kernels=dict(N=2, size=16, C=12),
    seconds=dict(kernels=100, memory=100, speed=200, compiled=10),
)

OF_DEVICE = {"cuda": GPU, "cpu": CPU}
