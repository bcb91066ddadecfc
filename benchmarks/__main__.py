"""Runs the quick versions of all benchmarks that need no data, one after the other. --full runs the full versions."""

import subprocess
import sys

BENCHMARKS = (
    "speed",
    "memory_vs_depth",
    "memory_vs_size",
    "memory_budget",
    "small",
    "torch_tensors",
    "tutorials",
    "contention",
    "start",
    "kernels",
    "products",
    "inference",
    "torch_bridge",
    "jet",
    "data_parallel",
    "exact",
    "guards",
    "drift_vs_depth",
)

if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(
            f"{__doc__}\n\nEach has a --help: python -m "
            f"benchmarks.{', .'.join((*BENCHMARKS, 'time_to_quality', 'gpu', 'peak'))}"
        )
        sys.exit()
    for name in BENCHMARKS:
        print(f"# {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=True)
