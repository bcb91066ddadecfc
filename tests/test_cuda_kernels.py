"""kernels.cu as a source: in bounds, compiled for devices, shipped; and that the tests see when a term of it is
broken.
"""

import ctypes
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from cupy_here import ON_GPU
from engines import ENGINES
from test_engines import OPERATIONS, REFERENCE, OnArrays, array

import invnet

SOURCE = pathlib.Path(invnet.__file__).parent / "ops" / "cupy" / "kernels.cu"
CODE = SOURCE.read_text()
stand_in = pytest.mark.skipif(ON_GPU, reason="needs the stand-in for CuPy, whose place a GPU takes")


# ---- addresses

PROGRAM = """
import sys, pytest
sys.path.insert(0, {tests!r})
import cupy_here, cupy_stand_in
from invnet.ops.cupy import launch
piece, replacement = {broken!r}
launch.cupy.RawModule = lambda code, options: cupy_stand_in.RawModule(code.replace(piece, replacement), options)
sys.exit(pytest.main(["-q", "-x", "--capture=no", "-p", "no:cacheprovider", *{files!r}, "-k", {chosen!r}]))
"""


def sanitized(chosen, broken=("", "")):
    """A process that runs tests of the engine with kernels that check every address and every integer's range."""
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        if not os.path.isabs(found):
            pytest.skip(f"this g++ has no {name}")
        libraries.append(found)
    here = pathlib.Path(__file__).parent
    code = PROGRAM.format(
        tests=str(here),
        broken=broken,
        chosen=chosen,
        files=[str(here / f"test_{name}.py") for name in ("engines", "cupy_engine")],
    )
    environment = os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1",
        "INVNET_SANITIZE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, cwd=here.parent
    )


@stand_in
@pytest.mark.exhaustive
def test_kernels_stay_within_their_arrays():
    done = sanitized("another_engine and cupy or all_numbers or sums_in_passes")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 500


@stand_in
def test_a_kernel_that_leaves_its_array_is_found():
    done = sanitized(
        "ragged and cupy",
        (
            "EACH(i, rows * C) {\n        int c = i % C;\n        real a = A[i]",
            "EACH(i, rows * C + 1) {\n        int c = i % C;\n        real a = A[i]",
        ),
    )
    assert done.returncode and "AddressSanitizer: heap-buffer-overflow" in done.stderr, (
        done.stdout[-3000:] + done.stderr[-3000:]
    )


# ---- compilers for devices


@pytest.mark.parametrize("arch, real", [(70, "double"), (80, "double"), (90, "double"), (90, "float"), (100, "double")])
def test_nvrtc_compiles_the_kernels_for_a_device_without_a_warning_or_memory_for_registers(arch, real):
    library = nvrtc()
    if arch not in known(library):
        pytest.skip(f"this NVRTC does not know sm_{arch}")
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), CODE.encode(), b"kernels.cu", 0, None, None) == 0
    options = [
        f"-DREAL={real}".encode(),
        b"--std=c++14",
        b"-ftz=true",
        f"--gpu-architecture=sm_{arch}".encode(),
        b"--ptxas-options=-v",
    ]
    status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, text)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    log = text.value.decode()
    assert status == 0, log
    assert not [line for line in log.splitlines() if "warning" in line and "deprecated" not in line]
    assert set(re.findall(r"Compiling entry function '(\w+)'", log)) == set(names())
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(frames) == len(names()) and set(frames) == {("0", "0", "0")}, log


def known(library):
    """The numbers of the architectures that this NVRTC compiles for."""
    count = ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(numbers)
    return list(numbers)


def nvrtc():
    """NVRTC's library, of a pip package or of the system; it compiles without a driver."""
    for package in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc-cu13"):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if re.search(r"libnvrtc\.so\.\d+$", str(file)):
                return ctypes.CDLL(str(file.locate()))
    for name in ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            pass
    pytest.skip("there is no NVRTC: pip install nvidia-cuda-nvrtc-cu12 brings it")


def names():
    import cupy_stand_in

    return cupy_stand_in.parameters_of(CODE)


def test_the_source_belongs_to_the_package():
    assert '"invnet.ops.cupy" = ["*.cu"]' in (pathlib.Path(__file__).parent.parent / "pyproject.toml").read_text()


# ---- broken terms: (kernel, piece, replacement, an operation that notices)

BROKEN = [
    ("sums", "k < length", "k < length - 1", "conv_stack wider, None, "),
    ("activate", "a += added", "a -= added", "conv_stack two, silu, samples"),
    ("activate", "A[i] + b[c]", "A[i]", "conv_stack two, relu, "),
    ("activate", "(real)0.01 * a", "a", "conv_stack two, leaky_relu, "),
    ("activate", "a *= sigmoid(a)", "a += sigmoid(a)", "conv_stack two, silu, "),
    ("activate_vjp", "s <= 0 ? 0 : g", "g", "conv_stack two, relu, "),
    ("activate_vjp", "(real)0.01 * g", "g", "conv_stack two, leaky_relu, "),
    ("activate_vjp", "-expm1(-s)", "expm1(-s)", "conv_stack two, softplus, "),
    ("activate_vjp", "(1 + s * (1 - sigmoid(s)))", "1", "conv_stack two, silu, "),
    ("activate", "a = tanh(a)", "a = a", "conv_stack two, tanh, "),
    ("activate", "(a > 0 ? a : within(a)) * normal_cdf(a)", "normal_cdf(a)", "conv_stack two, gelu, "),
    ("normal_cdf", "-0.7071067811865475244", "0.7071067811865475244", "conv_stack two, gelu, "),
    ("activate_vjp", "normal_cdf(s) + ", "", "conv_stack two, gelu, "),
    ("activate_vjp", " + within(s) * exp", " + exp", "conv_stack two, gelu, "),
    ("activate_vjp", "* (real)0.3989422804014326779", "", "conv_stack two, gelu, "),
    ("activate_vjp", "(1 - s) * (1 + s)", "(1 - s)", "conv_stack two, tanh, "),
    ("activate_vjp", "total += g", "total = g", "conv_stack two, silu, "),
    ("taps", "p.x + ox", "p.x - ox", "conv_stack wider, None, "),
    ("shift_add", "z >= 0", "z > 0", "conv_stack narrower, None, "),
    ("shift_add", "(oz * H + oy) * W", "oy * W", "conv_stack narrower, None, "),
    ("mix_rows", "before[c]", "0", "mix_vjp_"),
    ("mix_rows", "after ? after[c] : 0", "0", "mix_"),
    ("outer", "b * bcs] : 1", "b * bcs] : 0", "mix_vjp_"),
    ("scale", "+ b[c]", "", "mix_ by a diagonal"),
    ("scale_vjp", "(*z - b[c])", "*z", "mix_vjp_ by a diagonal"),
    ("scale_vjp", "dm += *dz * x", "dm += *dz * *z", "mix_vjp_ by a diagonal"),
    ("scale_vjp", "db += *dz", "db += x", "mix_vjp_ by a diagonal"),
    ("scale_vjp", "*dz *= m[c]", "*dz *= minv[c]", "mix_vjp_ by a diagonal"),
    ("log_scale", "(u < 0 ? u : 0)", "0", "couple_ sigmoid"),
    ("couple", "-log_s : log_s", "log_s : log_s", "uncouple_ bounded"),
    ("couple_vjp", "(log_s / a)", "1", "couple_vjp_ bounded"),
    ("couple_vjp", "-expm1(log_s + a)", "1", "couple_vjp_ sigmoid"),
    ("couple_vjp", "dh[at] = -*dx", "dh[at] = *dx", "uncouple_vjp_ bounded"),
    ("couple_vjp", "(*dx * moved + dl)", "(*dx * moved)", "uncouple_vjp_ bounded"),
    ("couple_vjp", "*dx *= exp(-log_s);", "", "uncouple_vjp_ bounded"),
    ("couple_vjp", "*x = moved * s;", "*x = moved;", "uncouple_vjp_ bounded"),
    ("couple_vjp", "(*dx * *x + dl)", "(*dx * *x)", "couple_vjp_ bounded"),
    ("couple_vjp", "*dx *= s;", "", "couple_vjp_ bounded"),
    ("couple_vjp", "dh[at] = *dx;", "dh[at] = 0;", "couple_vjp_ bounded"),
    ("couple_vjp", "exp(-log_s) - t", "exp(-log_s)", "couple_vjp_ bounded"),
    ("squeeze", "k >> lx &", "k &", "squeeze_"),
    ("planar_tanh", "high = f < 0 ? v : high", "high = v", "planar_vjp_ False"),
    ("planar_tanh", "T[i] = a < 0 ? -t : t", "T[i] = t", "planar_ False"),
    ("spline", "inverse ? -log_slope : log_slope", "log_slope", "spline_inverse"),
    ("spline_vjp", "dl * log_xi / at.w", "0", "spline_inverse_vjp"),
    ("spline_vjp", "dvalue = -dvalue, dl = -dl", "dvalue = -dvalue", "spline_inverse_vjp"),
    ("spline_vjp", "+ dl * log_xi;", ";", "spline_vjp"),
    ("spline_vjp", "2 / delta + ", "", "spline_vjp"),
    ("spline_vjp", "dR[i] = -dx", "dR[i] = dx", "spline_vjp"),
    ("spline_vjp", "(dsize - mean)", "dsize", "spline_vjp"),
    ("spline_vjp", "dvalue * rise + ", "", "spline_vjp"),
    ("spline_vjp", "* -expm1(least - d0)", "", "spline_vjp"),
    ("spline_vjp", "* -expm1(least - d1)", "", "spline_vjp"),
]


def agrees(operation):
    engine = OnArrays(ENGINES["cupy"])
    for shape in ((3, 4), (2, 4, 5), (2, 4, 3, 2, 4)):
        x = array(shape)
        for got, expected in zip(OPERATIONS[operation](engine, x), OPERATIONS[operation](REFERENCE, x), strict=True):
            if expected is not None:
                np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


def body_of(kernel):
    """The text of a kernel or of a function of kernels.cu, from its name on."""
    return re.search(rf"^(?:KERNEL|__device__ \w+) {kernel}\(.*?^}}", CODE, re.S | re.M).group()


@stand_in
@pytest.mark.parametrize("kernel, piece, replacement, operation", BROKEN, ids=lambda value: str(value)[:30])
def test_a_broken_term_is_found(kernel, piece, replacement, operation, monkeypatch, pytestconfig):
    if kernel == "planar_tanh" and pytestconfig.getoption("--seed"):
        pytest.skip("which numbers need the bracket of the root is known for those of every day")
    import cupy

    from invnet.ops.cupy import launch

    body = body_of(kernel)
    assert body.count(piece) == 1, f"{kernel} has {piece!r} {body.count(piece)} times: rewrite this row of BROKEN"
    broken = cupy.RawModule(CODE.replace(body, body.replace(piece, replacement)), ("-DREAL=double",))
    agrees(operation)
    monkeypatch.setattr(launch, "kernel", lambda name, char: broken.get_function(name))
    with pytest.raises(AssertionError):
        agrees(operation)


def test_every_kernel_is_broken_at_least_once():
    kernels = {"mix_rows" if name.startswith("mix_") else name for name in names()}
    assert kernels <= {row[0] for row in BROKEN}


# ---- CuPy itself, where it is installed, with a device or without

NAMES = """
try:
    import cupy
    from cupy_backends.cuda.libs import cublas
except ImportError:
    raise SystemExit("missing")
from invnet.ops import cupy as cupy_engine
from invnet.ops.cupy import launch, products
launch._module("f"), launch._module("d")
for name in ("getMathMode", "setMathMode", "sgemm", "dgemm"):
    getattr(cublas, name)
cupy.cuda.PythonFunctionAllocator, cupy.cuda.set_allocator, cupy.cuda.Stream.from_external, cupy.from_dlpack, cupy.cuda.MemoryHook
cupy.cuda.runtime.memGetInfo, cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.memory.OutOfMemoryError, cupy.get_default_memory_pool().used_bytes
cupy.cuda.device.get_cublas_handle, cupy.cuda.nvrtc.getVersion(), cupy.cuda.get_current_stream, cupy.ascontiguousarray, cupy.repeat
"""


def test_what_the_engine_uses_is_there_in_cupy():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NAMES],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE.parents[3])},
    )
    if "missing" in done.stderr:
        pytest.skip("CuPy or its CUDA libraries are not installed")
    assert done.returncode == 0, done.stderr
