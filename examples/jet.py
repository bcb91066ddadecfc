"""Jet, a flow of couplings with a vision transformer in each, learns crops of two photographs.

python examples/jet.py          # three minutes; the picture in runs/jet
python examples/jet.py --quick  # a few seconds; learns little
"""

import argparse
import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images
from tqdm import trange

import invnet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a small setting that only shows that the script runs")
parser.add_argument("--out", type=Path, default="runs/jet", help="folder for the picture")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)
begun, rng = time.perf_counter(), np.random.default_rng(0)

# The data: 32x32 crops of two photographs, a temple and a flower. The right quarter of each is held out.
size, photographs = 32, np.stack(load_sample_images().images).transpose(0, 3, 1, 2)
left, right = np.split(photographs, [480], axis=3)


def crops(photographs, n):
    windows = np.lib.stride_tricks.sliding_window_view(photographs, (size, size), (2, 3))
    which, row, column = (rng.integers(count, size=n) for count in np.take(windows.shape, (0, 2, 3)))
    return windows[which, :, row, column]


held_out = crops(right, 16 if args.quick else 128)
images = invnet.data.Images(crops(left, 10_000), held_out, held_out, 256, "photographs")
alone = invnet.data.independent_histograms(images)

# The network: 16 couplings of channels and 4 of positions. Its input is in [-1, 1], where each of the 256 levels is
# 2^-7 wide. This is why 7 is added to the bits below.
D, couplings, width = 3 * size**2, 5 if args.quick else 20, 8 if args.quick else 32
jet = invnet.Jet(3, (size, size), patch=4, couplings=couplings, depth=1, width=width, heads=4, seed=0)
steps, batch = (20, 8) if args.quick else (600, 32)
opt = invnet.optim.Adam(
    jet.parameters(), invnet.optim.schedule(2e-3, warmup=steps // 10, cosine=steps), betas=(0.9, 0.95)
)


def loss_of(images):
    """Returns Z, the bits per dimension, and the gradients of the loss in nats. Adds noise to the integer images."""
    Z, logdet = jet.forward(2 * invnet.data.dequantise(images, 256, rng) - 1)
    loss, dZ, dlogdet = invnet.losses.gaussian_nll(Z, logdet)
    return Z, loss / (D * math.log(2)) + 7, dZ, dlogdet


# Training. Each batch has new random crops. No activation is stored: the backward pass recomputes them, one transformer
# at a time.
train, validation = [], []
for step in (bar := trange(steps + 1, unit="step")):
    Z, bits, dZ, dlogdet = loss_of(crops(left, batch))
    train.append(bits)
    if step % (steps // 20) == 0:
        validation.append((step, loss_of(held_out)[1]))
        bar.set_postfix_str(f"held out {validation[-1][1]:.2f} bits/dim")
    jet.backward(dZ, Z, dlogdet)
    invnet.optim.clip_by_global_norm(jet.parameters(), D)  # the loss is in nats per image, not per dimension
    opt.step()
    jet.zero_grad()

at, bits = zip(*validation)
print(
    f"objective: from {bits[0]:.3f} to {bits[-1]:.3f} bits/dim of held-out crops; {np.mean(train[-20:]):.3f} in "
    f"training"
)
print(f"a histogram of single values, from the training crops: {alone:.3f} bits/dim")

# The picture: crops, samples, and bits per dimension against steps.
figure, (data, model, curve) = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
samples = invnet.Flow(jet, (3, size, size)).sample(20, seed=1)
for axes, pictures, title in (
    (data, crops(left, 20) / 255, "crops"),
    (model, np.clip(samples / 2 + 0.5, 0, 1), "samples"),
):
    axes.imshow(pictures.reshape(4, 5, 3, size, size).transpose(0, 3, 1, 4, 2).reshape(4 * size, 5 * size, 3))
    axes.set(title=title, xticks=[], yticks=[])
curve.plot(train, color="0.7", linewidth=0.8, label="training batches")
curve.plot(at, bits, color="#2f4b7c", label="held out")
curve.axhline(alone, color="k", linestyle="--", linewidth=0.8, label="histogram of single values")
curve.set(xlabel="step", ylabel="bits/dim")
curve.legend()
figure.savefig(args.out / "jet.png", dpi=90)
print(f"{time.perf_counter() - begun:.1f} s; the picture in {args.out}")
