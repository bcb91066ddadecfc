"""A stand-in for the small part of CuPy that the CuPy engine uses, on NumPy memory: `install()` makes it `import cupy`.

It is stricter than CuPy where that finds mistakes that a CPU would hide. NumPy's arrays are refused where CuPy wants
its own, and arrays of a device that is not the current one. A kernel's arguments must have the types of its parameters.
Copies from and to the host are counted, in `cupy.counters.synchronizations`, and so are bytes, by
`cupy.get_default_memory_pool()`. RawModule compiles the same source with g++ (cuda_shim.h).
"""

import ctypes
import functools
import importlib.machinery
import operator
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import types
import weakref

import numpy as np

HERE = pathlib.Path(__file__).parent
DEVICES = 2


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        self.status = operator.index(status)
        super().__init__({100: "cudaErrorNoDevice: no CUDA-capable device is detected"}[status])


class OutOfMemoryError(MemoryError):
    def __init__(self, size, total, limit=0):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


# ---- devices and their memory


class Device:
    current = 0

    def __init__(self, device=None):
        self.id = Device.current if device is None else getattr(device, "id", device)
        self._before = []

    def __enter__(self):
        self._before.append(Device.current)
        Device.current = self.id
        return self

    def __exit__(self, *error):
        Device.current = self._before.pop()

    def __eq__(self, other):
        return self.id == other.id

    def __hash__(self):
        return self.id

    def synchronize(self):
        counters.synchronizations += 1


class MemoryHook:
    active = {}

    def __enter__(self):
        if self.name in self.active:
            raise KeyError(f"memory hook {self.name} already exists")
        self.active[self.name] = self
        return self

    def __exit__(self, *error):
        del self.active[self.name]


class Pool:
    """Counts the bytes of arrays that are alive; `limit` is what the device has."""

    def __init__(self):
        self.used, self.peak, self.limit = 0, 0, 1 << 40

    def took(self, a):
        if self.used + a.nbytes > self.limit:
            raise OutOfMemoryError(a.nbytes, self.used)
        self.used += a.nbytes
        self.peak = max(self.peak, self.used)
        for hook in MemoryHook.active.values():
            hook.malloc_postprocess(size=a.nbytes)
        weakref.finalize(a, self._gave_back, a.nbytes).atexit = False

    def _gave_back(self, size):
        self.used -= size

    def used_bytes(self):
        return self.used

    def free_bytes(self):
        return 0

    def free_all_blocks(self):
        pass


class PythonFunctionAllocator:
    """CuPy's calls the two functions of a program; here a test does."""

    def __init__(self, allocate, free):
        self.allocate, self.free = allocate, free

    def malloc(self, size, device):
        return self.allocate(size, device)


counters = types.SimpleNamespace(synchronizations=0, pool=Pool())


# ---- arrays


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """Has a NumPy array, and does not become one by itself."""

    __module__ = "cupy"
    __slots__ = ("_a", "device")

    def __init__(self, a, owner=None):
        self._a = a
        self.device = owner or Device()
        if a.base is None:
            counters.pool.took(a)

    data = property(lambda self: types.SimpleNamespace(ptr=self._a.__array_interface__["data"][0]))
    shape, dtype, ndim, size = (
        property(lambda self, name=name: getattr(self._a, name)) for name in ("shape", "dtype", "ndim", "size")
    )
    strides, itemsize, nbytes = (
        property(lambda self, name=name: getattr(self._a, name)) for name in ("strides", "itemsize", "nbytes")
    )
    T = property(lambda self: ndarray(self._a.T))

    def __array__(self, *arguments, **options):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array "
            "explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        call = getattr(ufunc, method)
        if out is None:
            return _lifted(call)(*inputs, **options)
        call(*map(_unwrapped, inputs), out=tuple(map(_unwrapped, out)), **options)
        return out[0]

    def __dlpack__(self, **options):
        return self._a.__dlpack__()

    def __dlpack_device__(self):
        return self._a.__dlpack_device__()

    def get(self):
        counters.synchronizations += 1
        return self._a.copy()

    def _value(self, convert):
        counters.synchronizations += 1
        return convert(self._a)

    def __float__(self):
        return self._value(float)

    def __int__(self):
        return self._value(int)

    def __bool__(self):
        return self._value(bool)

    def __index__(self):
        return self._value(lambda a: a.__index__())

    def item(self):
        return self._value(lambda a: a.item())

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        if any(isinstance(i, ndarray) and i.dtype == bool for i in (index if isinstance(index, tuple) else [index])):
            counters.synchronizations += 1  # to know how many numbers are chosen
        return _wrapped(self._a[_unwrapped(index)])

    def __setitem__(self, index, value):
        self._a[_unwrapped(index)] = _unwrapped(value)

    def __getattr__(self, name):
        value = getattr(self._a, name)
        return _lifted(value) if callable(value) else value

    def __repr__(self):
        return repr(self._a)

    def __deepcopy__(self, memo):
        return ndarray(self._a.copy(), self.device)

    def __reduce__(self):
        raise TypeError("the stand-in's arrays are not pickled")


def _unwrapped(value):
    if isinstance(value, ndarray):
        if value.device.id != Device.current:
            raise ValueError(
                f"Array device must be same as the current device: array device = {value.device.id} while current = "
                f"{Device.current}"
            )
        return value._a
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    return type(value)(map(_unwrapped, value)) if type(value) in (list, tuple) else value


def _wrapped(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value))
    if isinstance(value, (list, tuple)):
        values = map(_wrapped, value)
        return (
            type(value)(*values) if hasattr(value, "_fields") else type(value)(values)
        )  # the named pairs of numpy.linalg
    return value


def _lifted(function):
    def lifted(*arguments, **options):
        if options:
            options = {name: _unwrapped(value) for name, value in options.items()}
        return _wrapped(function(*map(_unwrapped, arguments), **options))

    return lifted


def _waiting(function):
    """Of functions whose result's shape is known when the device is done."""

    def waiting(*arguments, **options):
        counters.synchronizations += 1
        return function(*arguments, **options)

    return waiting


def _asarray(data, dtype=None, copy=None, **options):
    if isinstance(data, ndarray):
        _unwrapped(data)
        same = dtype is None or data.dtype == dtype
        return data if same and not copy else ndarray(np.array(data._a, dtype=dtype, copy=True))
    counters.synchronizations += 1  # a copy from the host
    return ndarray(np.array(data, dtype=dtype, copy=True))


# ---- kernels


NUMBERS, POINTERS = (
    {"int": (ctypes.c_int, "i"), "float": (ctypes.c_float, "f"), "double": (ctypes.c_double, "d")},
    {"float *": "f", "double *": "d"},
)


class RawModule:
    def __init__(self, code, options=()):
        self.code, self.real = (
            code,
            next(option.removeprefix("-DREAL=") for option in options if option.startswith("-DREAL=")),
        )
        self.library = compiled(code, self.real)

    def get_function(self, name):
        return RawKernel(self, name)


class RawKernel:
    def __init__(self, module, name):
        self.run, self.name = getattr(module.library, f"run_{name}"), name
        self.types = [t.replace("real", module.real) for t in parameters_of(module.code)[name]]

    def __call__(self, grid, block, arguments):
        if not (type(grid) is type(block) is type(arguments) is tuple and 0 < grid[0] < 2**31 and 0 < block[0] <= 1024):
            raise ValueError(f"CUDA_ERROR_INVALID_VALUE: {self.name} of {grid} blocks of {block} threads")
        if len(arguments) != len(self.types):
            raise TypeError(f"{self.name} takes {len(self.types)} arguments; got {len(arguments)}")
        memory = [self._memory(a, t) for a, t in zip(arguments, self.types)]
        self.run(grid[0], block[0], (ctypes.c_void_p * len(memory))(*map(ctypes.addressof, memory)))

    def _memory(self, a, kind):
        """An argument as a parameter of that type finds it."""
        if kind.endswith("*"):
            if isinstance(a, np.uint64) and a == 0:
                return ctypes.c_void_p(0)
            _unwrapped(a)
            if not isinstance(a, ndarray) or a.dtype.char != POINTERS[kind]:
                raise TypeError(f"{self.name} takes {kind}; got {type(a)} {getattr(a, 'dtype', '')}")
            return ctypes.c_void_p(a.data.ptr)
        number, char = NUMBERS[kind]
        if not isinstance(a, np.generic) or a.dtype.char != char:
            raise TypeError(f"{self.name} takes {kind}; got {a!r} of {type(a)}")
        return number(a.item())


@functools.cache
def parameters_of(code):
    """{kernel: the types of its parameters, without const}, of a source whose kernels begin with KERNEL."""
    kernels = re.findall(r"KERNEL (\w+?)(?:##C)?\((.*?)\) \{", code, re.S)
    found = {
        name: [re.match(r"(?:const )?(\w+(?: \*)?)", p.strip()).group(1) for p in parameters.split(",")]
        for name, parameters in kernels
    }
    mix = found.pop("mix_")
    return found | {f"mix_{C}": mix for C in re.findall(r"MIX\((\d+)\)", code)}


@functools.cache
def compiled(code, real):
    """The shared library of a source, with a function run_NAME(grid, block, arguments) for each kernel."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = pathlib.Path(folder) / "kernels.cpp", pathlib.Path(folder) / "kernels.so"
        runs = "".join(
            f'extern "C" void run_{name}(unsigned g, unsigned b, void **a) {{ run({name}, g, b, a); }}\n'
            for name in parameters_of(code)
        )
        source.write_text(f'#include "{HERE / "cuda_shim.h"}"\n#line 1 "kernels.cu"\n{code}\n{runs}')
        address = ["-fsanitize=address,undefined", "-g"] if os.environ.get("INVNET_SANITIZE") else []
        command = [
            "g++",
            "-std=c++14",
            "-O0",
            "-ffp-contract=off",
            "-shared",
            "-fPIC",
            f"-DREAL={real}",
            "-Wall",
            "-Wno-unknown-pragmas",
            *address,
        ]
        subprocess.run([*command, str(source), "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library))
    for name in parameters_of(code):
        getattr(loaded, f"run_{name}").restype = None
    return loaded


# ---- cuBLAS

math_mode = {"now": 0}


def _gemm(char, handle, ta, tb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):
    """C = alpha op(A) op(B) + beta C of matrices whose columns are contiguous, ld numbers from one to the next."""
    dtype = np.dtype(char)

    def matrix(pointer, rows, columns, ld):
        if ld < max(1, rows):
            raise ValueError(f"CUBLAS_STATUS_INVALID_VALUE: {rows} rows, {ld} numbers from column to column")
        size = ((columns - 1) * ld + rows) * dtype.itemsize
        return np.ndarray(
            (rows, columns),
            dtype,
            (ctypes.c_char * size).from_address(pointer),
            strides=(dtype.itemsize, ld * dtype.itemsize),
        )

    A = matrix(A, k, m, lda).T if ta else matrix(A, m, k, lda)
    B = matrix(B, n, k, ldb).T if tb else matrix(B, k, n, ldb)
    alpha, beta = (
        np.ndarray((), dtype, (ctypes.c_char * dtype.itemsize).from_address(pointer)) for pointer in (alpha, beta)
    )
    if math_mode["now"] == 3:
        A, B = _tf32(A), _tf32(B)
    C, product = matrix(C, m, n, ldc), alpha * (A @ B)
    C[...] = product + beta * C if beta else product


def _tf32(A):
    return ((np.ascontiguousarray(A).view(np.int32) + 0x1000) & ~0x1FFF).view(np.float32)


# ---- the modules


def install():
    """Puts the stand-in in the place of cupy and cupy_backends; gives the module."""
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    for name in dir(np):
        value = getattr(np, name)
        if name[0] != "_" and not isinstance(value, types.ModuleType):
            plain = (
                isinstance(value, type)
                or not callable(value)
                or name in ("finfo", "iinfo", "result_type", "can_cast", "issubdtype", "dtype", "isdtype")
            )
            setattr(cupy, name, value if plain else _lifted(value))
    for name in ("nonzero", "flatnonzero", "argwhere", "unique", "extract"):
        setattr(cupy, name, _waiting(vars(cupy)[name]))
    cupy.__all__ = [name for name in vars(cupy) if name[0] != "_"]
    for name in ("linalg", "fft"):
        module = types.ModuleType(f"cupy.{name}")
        for inner in getattr(np, name).__all__:
            value = getattr(getattr(np, name), inner)
            setattr(module, inner, value if isinstance(value, type) else _lifted(value))
        module.__all__ = list(getattr(np, name).__all__)
        setattr(cupy, name, module)
        sys.modules[module.__name__] = module
    runtime = types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: 12080,
        runtimeGetVersion=lambda: 12090,
        getDeviceCount=lambda: DEVICES,
        memGetInfo=lambda: (counters.pool.limit - counters.pool.used, counters.pool.limit),
    )
    device = types.ModuleType("cupy.cuda.device")
    device.get_cublas_handle, device.Device = lambda: 1, Device
    cuda = types.ModuleType("cupy.cuda")
    cuda.Device, cuda.device, cuda.runtime, cuda.Stream = Device, device, runtime, type("Stream", (), {})
    cuda.PythonFunctionAllocator, cuda.get_current_stream = (
        PythonFunctionAllocator,
        lambda: types.SimpleNamespace(ptr=7, synchronize=Device().synchronize),
    )
    cuda.MemoryHook = MemoryHook
    cuda.set_allocator = lambda allocator: setattr(cuda, "allocator", allocator)
    cuda.memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cuda.nvrtc = types.SimpleNamespace(getVersion=lambda: (12, 9))
    cupy.cuda, cupy.ndarray, cupy.RawModule = cuda, ndarray, RawModule
    cupy.asarray = cupy.array = _asarray
    cupy.ascontiguousarray = lambda a: a if a._a.flags.c_contiguous else ndarray(np.ascontiguousarray(_unwrapped(a)))
    cupy.get_default_memory_pool = lambda: counters.pool
    cupy.from_dlpack = lambda tensor: ndarray(np.from_dlpack(tensor))
    cupy.asnumpy = lambda a: a.get()
    cupy.counters = counters
    cublas = types.SimpleNamespace(
        sgemm=functools.partial(_gemm, "f"),
        dgemm=functools.partial(_gemm, "d"),
        CUBLAS_OP_N=0,
        CUBLAS_OP_T=1,
        getMathMode=lambda handle: math_mode["now"],
        setMathMode=lambda handle, mode: math_mode.update(now=mode),
    )
    libs = types.ModuleType("cupy_backends.cuda.libs")
    libs.cublas = cublas
    sys.modules.update(
        {
            "cupy": cupy,
            "cupy.cuda": cuda,
            "cupy.cuda.device": device,
            "cupy_backends": types.ModuleType("cupy_backends"),
            "cupy_backends.cuda": types.ModuleType("cupy_backends.cuda"),
            "cupy_backends.cuda.libs": libs,
        }
    )
    return cupy
