"""Peak memory of one contender's training step, in a process of its own: `python -m benchmarks.peak twin --hidden 64 ...`.

1. A step of a tiny model of the same kind runs first: it loads libraries, compiles or loads kernels and starts threads.
2. The model and the batch are made and the gradients' memory is touched; `baseline` is the resident memory then. So it
   holds interpreter, libraries, batch, parameters and gradients, and no activation.
3. The kernel's high-water mark of resident memory is reset (Linux: 5 to /proc/self/clear_refs), the step runs
   `--repeats` times, and `peak` is the mark after that (VmHWM). Where it cannot be reset, it is that of the whole process.
4. `activations` = peak - baseline: what a step takes above parameters, gradients and the batch. A contender that frees its
   gradients in the forward pass, as PyTorch's do, gains at most the gradients' size by this reckoning.

Prints these as JSON, in bytes. Linux only.
"""

import argparse
import gc
import json

from .contenders import ARGUMENTS, CONTENDERS


def resident(field):
    """VmRSS or VmHWM of this process in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return True
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--repeats", type=int, default=1)
    for name, default in zip(ARGUMENTS, (64, 3, 4, 3, 4, 64, 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = vars(parser.parse_args())
    contender, repeats = CONTENDERS[options.pop("contender")], options.pop("repeats")

    tiny = contender.make(**options | dict(hidden=8, steps=1, batch=3, size=4 * 2 ** options["levels"]))
    tiny()
    del tiny
    step = contender.make(**options)
    step.touch_gradients()
    gc.collect()
    baseline, was_reset = resident("VmRSS"), reset_peak()
    for _ in range(repeats):
        step()
    peak = resident("VmHWM")
    arrays = dict(input=4 * options["batch"] * options["channels"] * options["size"] ** 2, parameters=4 * step.parameters)
    print(json.dumps(dict(activations=peak - baseline, baseline=baseline, peak=peak, peak_was_reset=was_reset, **arrays)))


if __name__ == "__main__":
    main()
