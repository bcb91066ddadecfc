"""The device that is measured, in words."""

import importlib.util
import platform


def device_facts(device):
    """Name, memory and driver of the device.

    Raises:
        SystemExit: there is none to be measured.
    """
    if device == "cpu":
        return {"device": f"CPU {platform.machine()}, a trial of the benchmark"}
    if importlib.util.find_spec("cupy") is None:
        raise SystemExit("the benchmark of a GPU needs CuPy: pip install 'invnet[gpu]'; --device cpu tries it without")
    from invnet.ops import ops_named

    try:
        ops_named("cupy")
    except (OSError, ImportError) as error:
        raise SystemExit(f"{error}; --device cpu tries the benchmark without a GPU") from None
    import cupy

    runtime = cupy.cuda.runtime
    properties, driver = runtime.getDeviceProperties(0), runtime.driverGetVersion()
    return {"device": properties["name"].decode(), "device_GiB": round(properties["totalGlobalMem"] / 2**30), "cupy": cupy.__version__,
            "cuda_driver": f"{driver // 1000}.{driver % 1000 // 10}"}
