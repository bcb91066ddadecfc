"""The name, memory and driver of the device that is measured."""

import importlib.util
import platform


def device_facts(device):
    """Name, memory and driver of the device, by CuPy or else by PyTorch.

    Raises:
        SystemExit: neither finds one to be measured; says why.
    """
    if device == "cpu":
        return {"device": f"CPU {platform.machine()}, a trial of the benchmark"}
    reasons = []
    for facts in (_by_cupy, _by_torch):
        try:
            return facts()
        except (OSError, ImportError) as error:
            reasons.append(str(error))
    raise SystemExit("; ".join(reasons) + "; --device cpu tries the benchmark without a GPU")


def _by_cupy():
    if importlib.util.find_spec("cupy") is None:
        raise ImportError("the benchmark of a GPU needs CuPy: pip install 'cupy-cuda12x[ctk]'")
    from invnet.ops import ops_named

    ops_named("cupy")  # says what is missing
    import cupy

    runtime = cupy.cuda.runtime
    properties, driver = runtime.getDeviceProperties(0), runtime.driverGetVersion()
    return {
        "device": properties["name"].decode(),
        "device_GiB": round(properties["totalGlobalMem"] / 2**30),
        "cupy": cupy.__version__,
        "cuda_driver": f"{driver // 1000}.{driver % 1000 // 10}",
    }


def _by_torch():
    import torch

    if not torch.cuda.is_available():
        raise OSError("PyTorch finds no CUDA device")
    return {
        "device": torch.cuda.get_device_name(0),
        "device_GiB": round(torch.cuda.get_device_properties(0).total_memory / 2**30),
        "cupy": "none that can be used",
        "cuda_torch": torch.version.cuda,
    }
