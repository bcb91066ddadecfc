"""The PyTorch engine: aten's functions on any device, and NumPy's kernels on the memory of tensors on the CPU."""

import functools

try:
    import torch
except ImportError as error:
    raise ImportError(f"the PyTorch engine needs PyTorch: pip install torch; got: {error}") from error
import array_api_compat.torch

from .. import tile
from ..reference import Ops
from ..reference.coupling import log_bound
from .conv_stack import ConvStack
from .precision import in_full, never_reduced, reduced
from .recording import RecordingOps, is_recording

#: Bytes of a tile, which come one after the other: as much work as fills a device, and on the CPU what an allocator
#: gives quickly.
TILE_BYTES = {"cpu": 32 << 20}
TILE_BYTES_ELSEWHERE = 256 << 20


class TorchOps(ConvStack, Ops):
    """aten's functions on the tensors of one device. No autograd graph is built; a tensor that requires grad is data.

    Of the CPU it has those under autocast only, which NumPy's kernels know nothing of.

    Args:
        device: a torch.device.
    """

    def __init__(self, device):
        super().__init__(array_api_compat.torch)
        self.device, self.asynchronous = device, device.type != "cpu"
        self.name = "torch" if device.type == "cpu" else f"torch:{device}"

    @classmethod
    def of(cls, array):
        if is_recording():
            return _recording
        if array.is_cpu and reduced("cpu") is None:
            return _host()
        return _on_device(array.device)

    @classmethod
    def on(cls, device):
        try:
            return cls.of(torch.empty(0, device=device or "cpu"))  # "cuda" is the current one of them
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(f"PyTorch finds no device {device!r}: {str(error).splitlines()[0]}") from None

    # ---- arrays

    def is_float(self, X):
        return X.dtype in (torch.float32, torch.float64)

    def detach(self, X):
        return X.detach()

    def zero_(self, arrays):
        torch._foreach_zero_(arrays)  # in one call: one by one takes seven times as long, 0.1 ms for 64 small tensors

    def asarray(self, data, like):
        return torch.tensor(data, dtype=like.dtype, device=like.device)

    def full(self, N, value, like):
        return torch.full((N,), value, dtype=like.dtype, device=like.device)

    def from_numpy(self, data):
        return torch.tensor(data, device=self.device)

    def to_numpy(self, X):
        return X.detach().cpu().numpy()

    def inverse(self, M):
        if self.device.type == "mps":  # which has no float64
            return torch.linalg.inv(M.cpu().double()).to(M)
        return torch.linalg.inv_ex(M.double())[0].to(M.dtype)  # inv waits for the device to see whether there is one

    def copy_channels_last(self, X):
        with torch.no_grad():
            last = torch.empty((X.shape[0], *X.shape[2:], X.shape[1]), dtype=X.dtype, device=X.device)
            return last.permute(0, X.ndim - 1, *range(1, X.ndim - 1)).copy_(X)

    def checksum(self, X):
        bits = self.rows(X.detach()).reshape(-1).view(torch.int32 if X.dtype == torch.float32 else torch.int64)
        odd = torch.arange(1, 2 * bits.shape[0], 2, device=X.device)  # so that an exchange of two numbers is seen
        return tuple(X.shape), int((bits * odd).sum())

    def free_memory(self):
        if self.device.type != "cuda":
            return super().free_memory()
        free, _ = torch.cuda.mem_get_info(self.device)
        held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(
            self.device
        )  # by PyTorch, and unused
        return free + held

    # ---- the channel mix, in full precision of the dtype as long as torch.backends.cuda.matmul.allow_tf32 is off

    def mix_(self, X, M, b):
        R = self.rows(X)
        X.copy_(self.images(torch.addcmul(b, R, M) if M.ndim == 1 else torch.addmm(b, R, M.T), X.shape))

    def mix_vjp_(self, dZ, Z, M, Minv, b):
        dR, R = self.rows(dZ), self.rows(Z)
        db = dR.sum(0)
        if M.ndim == 1:
            R, dX = torch.addcmul(-Minv * b, R, Minv), dR * M
            dM = (dR * R).sum(0)
        else:
            R, dX = torch.addmm(-(Minv @ b), R, Minv.T), dR @ M
            dM = dR.T @ R
        Z.copy_(self.images(R, Z.shape))
        dZ.copy_(self.images(dX, dZ.shape))
        return dM, db

    # ---- the coupling

    def log_scale(self, raw, scale):
        a = log_bound(scale)
        if scale[0] == "bounded":
            return (raw * (1 / a)).tanh_().mul_(a)
        return torch.nn.functional.logsigmoid(raw + 2 * (scale[0] == "sigmoid")).add_(a)

    def couple_(self, x2, h, scale):
        t, raw = h.chunk(2, 1)
        log_s = self.log_scale(raw, scale)
        logdet = log_s.flatten(1).sum(1)
        x2.add_(t).mul_(log_s.exp_())
        return logdet

    def uncouple_(self, z2, h, scale):
        t, raw = h.chunk(2, 1)
        log_s = self.log_scale(raw, scale).neg_()
        logdet = log_s.flatten(1).sum(1)
        z2.mul_(log_s.exp_()).sub_(t)
        return logdet

    def couple_vjp_(self, dz2, z2, h, scale, dlogdet):
        t, raw = h.chunk(2, 1)
        log_s = self.log_scale(raw, scale)
        dh = torch.empty_like(h)
        dt, draw = dh.chunk(2, 1)
        torch.mul(dz2, z2, out=draw).add_(dlogdet.reshape(-1, *[1] * (h.ndim - 1))).mul_(
            self.log_scale_slope(log_s, scale)
        )
        s = log_s.exp_()
        z2.div_(s).sub_(t)
        dt.copy_(dz2.mul_(s))
        return dh

    # ---- tiles

    def tiles(self, shape, floats_per_position, reach, weights):
        most = TILE_BYTES.get(self.device.type, TILE_BYTES_ELSEWHERE) // (4 * floats_per_position)
        return _tiles(tuple(shape), most, reach)

    def at_work(self):
        return in_full(self.device.type)

    def precision(self):
        kind = self.device.type
        return functools.partial(
            torch.autocast, kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind)
        )

    def in_full_precision(self):
        return never_reduced(self.device.type)


#: kind of device -> the class of its operations, where it is another than TorchOps.
CLASSES = {}


@functools.cache
def _on_device(device):
    return CLASSES.get(device.type, TorchOps)(device)


@functools.cache
def _host():
    from .host import HostOps

    return HostOps()


@functools.lru_cache(maxsize=1024)
def _tiles(shape, most, reach):
    return tile.tiles_of(shape, shape[0], most, reach)


_recording = RecordingOps()
