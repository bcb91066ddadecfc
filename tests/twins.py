"""Plain PyTorch twins of invnet's layers, conditioners and Glow: the papers' formulas, differentiated by autograd.

`twin_of(thing)` gives the twin and its leaves, {name: tensor}, copies of the parameters of `thing` under their names.
The twin of a layer maps (X, cond) to (Z, logdet), that of a conditioner maps (x, cond) to y. A new layer adds its
formula here, once each way, and a row to TWINS.
"""

import copy
import math
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from cases import Plain

import invnet
from invnet.torch import TorchNet

torch.set_num_threads(1)  # the arrays are tiny

# ---- formulas


def positions(X):
    return math.prod(X.shape[2:])


def each_sample(value, X):
    """One number for all samples as (N,)."""
    return value * torch.ones(X.shape[0], dtype=X.dtype)


def along_channels(v, X):
    """(C,) shaped to broadcast against X."""
    return v.reshape(1, -1, *[1] * (X.ndim - 2))


def actnorm(X, log_s, b):
    return along_channels(log_s.exp(), X) * X + along_channels(b, X), each_sample(positions(X) * log_s.sum(), X)


def actnorm_inverse(Z, log_s, b):
    return (Z - along_channels(b, Z)) / along_channels(log_s.exp(), Z), each_sample(-positions(Z) * log_s.sum(), Z)


def householder_matrix(V):
    W = torch.eye(V.shape[1], dtype=V.dtype)
    for v in V:
        W = W @ (torch.eye(len(v), dtype=V.dtype) - 2 * torch.outer(v, v) / torch.dot(v, v))
    return W


def lu_matrix(P, L, U, sign, log_s):
    return P @ (L.tril(-1) + torch.eye(len(log_s), dtype=L.dtype)) @ (U.triu(1) + torch.diag(sign * log_s.exp()))


def mix(X, W, orthogonal=False):
    """W x at every position; the determinant of an orthogonal matrix is 1 or -1."""
    logdet = 0.0 if orthogonal else positions(X) * torch.linalg.slogdet(W)[1]
    return torch.einsum("ij,nj...->ni...", W, X), each_sample(logdet, X)


def split(X):
    """The first ceil(C/2) channels, and the others."""
    C1 = -(-X.shape[1] // 2)
    return X[:, :C1], X[:, C1:]


def total(X):
    """Sums each sample."""
    return X.flatten(1).sum(1)


def log_scale(raw, scale, bound):
    if scale == "sigmoid":
        return torch.log(torch.sigmoid(raw + 2))
    if scale == "doubled":
        return torch.log(2 * torch.sigmoid(raw))
    return math.log(bound) * torch.tanh(raw / math.log(bound))


def affine(x2, h, scale, bound):
    t, raw = h.chunk(2, dim=1)
    log_s = log_scale(raw, scale, bound)
    return (x2 + t) * log_s.exp(), total(log_s)


def affine_inverse(z2, h, scale, bound):
    t, raw = h.chunk(2, dim=1)
    log_s = log_scale(raw, scale, bound)
    return z2 / log_s.exp() - t, -total(log_s)


def logit(X, alpha):
    p = alpha + (1 - 2 * alpha) * X
    return torch.log(p / (1 - p)), total(math.log(1 - 2 * alpha) - torch.log(p * (1 - p)))


def logit_inverse(Z, alpha):
    p = torch.sigmoid(Z)
    return (p - alpha) / (1 - 2 * alpha), total(torch.log(p * (1 - p)) - math.log(1 - 2 * alpha))


def rows(X):
    """(N * positions, C)."""
    return torch.movedim(X, 1, -1).reshape(-1, X.shape[1])


def images(R, shape):
    """Rows as (N, C, *spatial)."""
    return torch.movedim(R.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def by_rows(X, bend):
    """A map of rows (z, logdet of each row) as one of arrays."""
    R, logdet = bend(rows(X))
    return images(R, X.shape), logdet.reshape(X.shape[0], -1).sum(1)


def steered(u, w):
    """The u of an invertible planar layer."""
    a = torch.dot(w, u)
    return u + (F.softplus(a) - 1 - a) * w / torch.dot(w, w)


def planar(R, u, w, b):
    uh, t = steered(u, w), torch.tanh(R @ w + b)
    return R + t[:, None] * uh, torch.log(torch.abs(1 + torch.dot(w, uh) * (1 - t**2)))


def planar_inverse(R, u, w, b):
    uh = steered(u, w)
    m, c = torch.dot(w, uh), R @ w + b
    with torch.no_grad():  # v + m tanh(v) = c, bisected
        low, high = c - torch.abs(m) - 1e-3, c + torch.abs(m) + 1e-3
        for _ in range(80):
            v = (low + high) / 2
            below = v + m * torch.tanh(v) < c
            low, high = torch.where(below, v, low), torch.where(below, high, v)
        slope = 1 + m * (1 - torch.tanh(v) ** 2)
    v = v - (v + m * torch.tanh(v) - c) / slope  # a step of Newton's, through which the root has its derivatives
    t = torch.tanh(v)
    return R - t[:, None] * uh, -torch.log(torch.abs(1 + m * (1 - t**2)))


def radial_terms(log_alpha, beta):
    alpha = log_alpha.exp()
    return alpha, F.softplus(beta) - alpha


def radial(R, x0, log_alpha, beta):
    alpha, beta = radial_terms(log_alpha, beta)
    d = R - x0
    r = torch.linalg.norm(d, dim=1)
    h = 1 / (alpha + r)
    logdet = (R.shape[1] - 1) * torch.log(1 + beta * h) + torch.log(1 + beta * h - beta * h**2 * r)
    return R + (beta * h)[:, None] * d, logdet


def radial_inverse(R, x0, log_alpha, beta):
    alpha, b = radial_terms(log_alpha, beta)
    rho = torch.linalg.norm(R - x0, dim=1)
    half = (rho - alpha - b) / 2
    r = half + torch.sqrt(half**2 + alpha * rho)
    X = x0 + (R - x0) * (r / rho)[:, None]
    return X, -radial(X, x0, log_alpha, beta)[1]


def spline_knots(P, bound, least=1e-3):
    """Knots in x and in y and the slopes at them, of parameters (..., 3 K - 1)."""
    K = (P.shape[-1] + 1) // 3
    knots = []
    for logits in (P[..., :K], P[..., K : 2 * K]):
        sizes = 2 * bound * (least + (1 - least * K) * torch.softmax(logits, dim=-1))
        knots.append(F.pad(torch.cumsum(sizes, dim=-1), (1, 0)) - bound)
    slopes = least + F.softplus(P[..., 2 * K :] + math.log(math.exp(1 - least) - 1))
    return *knots, F.pad(slopes, (1, 1), value=1.0)


def spline(x, P, bound, inverse=False):
    """Rational quadratic pieces of numbers x with their parameters P (..., 3 K - 1): the image and the log slope."""
    inside = (x > -bound) & (x < bound)
    v = torch.where(inside, x, torch.zeros_like(x))
    knots_x, knots_y, slopes = spline_knots(P, bound)
    k = torch.sum(v[..., None] >= (knots_y if inverse else knots_x)[..., 1:-1], dim=-1, keepdim=True)
    at = lambda values: torch.gather(values, -1, k)[..., 0]
    x0, y0, d0 = at(knots_x), at(knots_y), at(slopes)
    x1, y1, d1 = at(knots_x[..., 1:]), at(knots_y[..., 1:]), at(slopes[..., 1:])
    w, h = x1 - x0, y1 - y0
    s = h / w
    if inverse:
        a = h * (s - d0) + (v - y0) * (d1 + d0 - 2 * s)
        b = h * d0 - (v - y0) * (d1 + d0 - 2 * s)
        c = -s * (v - y0)
        xi = 2 * c / (-b - torch.sqrt(b**2 - 4 * a * c))
    else:
        xi = (v - x0) / w
    below = s + (d1 + d0 - 2 * s) * xi * (1 - xi)
    y = xi * w + x0 if inverse else y0 + h * (s * xi**2 + d0 * xi * (1 - xi)) / below
    log_slope = torch.log(s**2 * (d1 * xi**2 + 2 * s * xi * (1 - xi) + d0 * (1 - xi) ** 2) / below**2)
    return torch.where(inside, y, x), torch.where(inside, -log_slope if inverse else log_slope, torch.zeros_like(x))


def corners(d):
    """Where the 2**d members of a block lie, in the order of their channels."""
    return [(..., *(slice(o, None, 2) for o in offsets)) for offsets in product((0, 1), repeat=d)]


def squeeze(X):
    return torch.stack([X[corner] for corner in corners(X.ndim - 2)], dim=2).flatten(1, 2)


def unsqueeze(Z):
    d = Z.ndim - 2
    X = torch.zeros(Z.shape[0], Z.shape[1] // 2**d, *[2 * size for size in Z.shape[2:]], dtype=Z.dtype)
    for j, corner in enumerate(corners(d)):
        X[corner] = Z[:, j :: 2**d]
    return X


ACTIVATIONS = {
    "relu": F.relu,
    "leaky_relu": lambda A: F.leaky_relu(A, 0.01),
    "silu": F.silu,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "tanh": torch.tanh,
}
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def convolve(x, W):
    """Same-size convolution, zeros outside, with W (*kernel, in, out), or, where in > out, the transposed one with W
    (*kernel, out, in); without kernel axes a linear map at each position."""
    d, narrows = W.ndim - 2, x.shape[1] > W.shape[-2]
    if d == 0:
        return torch.einsum("nj...,ij->ni..." if narrows else "nj...,ji->ni...", x, W)
    padding = [k // 2 for k in W.shape[:-2]]
    return (TRANSPOSED if narrows else CONVOLUTIONS)[d](x, torch.movedim(W, (-1, -2), (0, 1)), padding=padding)


def conditioner(x, cond, W, b, V, activation):
    for i, (Wi, bi) in enumerate(zip(W, b)):
        A = convolve(x, Wi) + along_channels(bi, x)
        if i == 0 and cond is not None and cond.ndim == 2:
            A = A + (cond @ V).reshape(-1, A.shape[1], *[1] * (A.ndim - 2))
        elif i == 0 and cond is not None:
            while cond.shape[2:] != x.shape[2:]:
                cond = squeeze(cond)
            A = A + torch.einsum("nk...,kc->nc...", cond, V)
        x = ACTIVATIONS[activation](A) if i < len(W) - 1 else A
    return x


# ---- twins: forward and inverse of each layer, both with their own logdet


def options(thing):
    """All arguments of a constructor by name."""
    return thing.architecture()


class ActNormTwin:
    def __init__(self, layer, leaf):
        self.log_s, self.b = leaf(layer.log_s), leaf(layer.b)

    def forward(self, X, cond):
        return actnorm(X, self.log_s, self.b)

    def inverse(self, Z, cond):
        return actnorm_inverse(Z, self.log_s, self.b)


class Conv1x1Twin:
    def __init__(self, layer, leaf):
        self.kind = options(layer)["parametrisation"]
        names = {"full": "W", "householder": "V", "lu": "P L U sign log_s"}[self.kind]
        self.weights = [leaf(getattr(layer, name)) for name in names.split()]

    def matrix(self):
        return {"full": lambda W: W, "householder": householder_matrix, "lu": lu_matrix}[self.kind](*self.weights)

    def forward(self, X, cond):
        return mix(X, self.matrix(), self.kind == "householder")

    def inverse(self, Z, cond):
        return mix(Z, torch.linalg.inv(self.matrix()), self.kind == "householder")


class AdditiveCouplingTwin:
    def __init__(self, layer, leaf):
        self.net = TWINS[type(layer.net)](layer.net, leaf)

    def forward(self, X, cond):
        x1, x2 = split(X)
        return torch.cat([x1, x2 + self.net.forward(x1, cond)], dim=1), each_sample(0.0, X)

    def inverse(self, Z, cond):
        z1, z2 = split(Z)
        return torch.cat([z1, z2 - self.net.forward(z1, cond)], dim=1), each_sample(0.0, Z)


class AffineCouplingTwin(AdditiveCouplingTwin):
    def __init__(self, layer, leaf):
        super().__init__(layer, leaf)
        self.scale = options(layer)["scale"], options(layer)["bound"]

    def forward(self, X, cond):
        x1, x2 = split(X)
        z2, logdet = affine(x2, self.net.forward(x1, cond), *self.scale)
        return torch.cat([x1, z2], dim=1), logdet

    def inverse(self, Z, cond):
        z1, z2 = split(Z)
        x2, logdet = affine_inverse(z2, self.net.forward(z1, cond), *self.scale)
        return torch.cat([z1, x2], dim=1), logdet


class AutoregressiveAffineTwin:
    """The recurrence channel by channel, in the order of the net."""

    couple, uncouple = staticmethod(affine), staticmethod(affine_inverse)

    def __init__(self, layer, leaf):
        self.net, o = TWINS[type(layer.net)](layer.net, leaf), options(layer)
        self.scale, self.fast = (o["scale"], o["bound"]), o["fast"]

    def forward(self, X, cond):
        if self.fast == "forward":
            return self.couple(X, self.net.forward(X, cond), *self.scale)
        return self.recurrence(self.couple, X, cond)

    def inverse(self, Z, cond):
        if self.fast == "inverse":
            return self.uncouple(Z, self.net.forward(Z, cond), *self.scale)
        return self.recurrence(self.uncouple, Z, cond)

    def recurrence(self, step, given, cond):
        found = [torch.zeros_like(given[:, i]) for i in range(given.shape[1])]
        for i in self.net.order:
            h = self.net.forward(torch.stack(found, dim=1), cond)
            found[i] = step(given, h, *self.scale)[0][:, i]
        found = torch.stack(found, dim=1)
        return found, step(given, self.net.forward(found, cond), *self.scale)[1]


class PermuteTwin:
    def __init__(self, layer, leaf):
        self.order = torch.tensor(np.array(options(layer)["order"]))

    def forward(self, X, cond):
        return X[:, self.order], each_sample(0.0, X)

    def inverse(self, Z, cond):
        X = torch.zeros_like(Z)
        X[:, self.order] = Z
        return X, each_sample(0.0, Z)


class SplitTokensTwin:
    def __init__(self, layer, leaf):
        self.pattern, self.inverted = layer.pattern, layer.inverted

    def mask(self, H, W):
        """The positions of the first half."""
        mask = torch.zeros(H, W, dtype=torch.bool)
        for i in range(H):
            for j in range(W):
                odd = {"checkerboard": (i + j) % 2, "rows": i % 2, "columns": j % 2}[self.pattern]
                mask[i, j] = odd == int(self.inverted)
        return mask

    def forward(self, X, cond):
        mask, (N, C, H, W) = self.mask(*X.shape[2:]), X.shape
        halves = [X[:, :, m].transpose(1, 2).reshape(N, H, W, C // 2).permute(0, 3, 1, 2) for m in (mask, ~mask)]
        return torch.cat(halves, dim=1), each_sample(0.0, X)

    def inverse(self, Z, cond):
        mask, (N, C, H, W), X = self.mask(*Z.shape[2:]), Z.shape, torch.zeros_like(Z)
        for m, half in zip((mask, ~mask), Z.chunk(2, 1)):
            X[:, :, m] = half.permute(0, 2, 3, 1).reshape(N, H * W // 2, C).transpose(1, 2)
        return X, each_sample(0.0, Z)


class TorchNetTwin:
    def __init__(self, net, leaf):
        self.module, self.leaves = net.module, {name: leaf(state) for name, state in net._within()}

    def forward(self, x, cond):
        return torch.func.functional_call(self.module, self.leaves, (x,) if cond is None else (x, cond))


class LogitTwin:
    def __init__(self, layer, leaf):
        self.alpha = options(layer)["alpha"]

    def forward(self, X, cond):
        return logit(X, self.alpha)

    def inverse(self, Z, cond):
        return logit_inverse(Z, self.alpha)


class PlanarTwin:
    def __init__(self, layer, leaf):
        self.parameters = leaf(layer.u), leaf(layer.w), leaf(layer.b)

    def forward(self, X, cond):
        return by_rows(X, lambda R: planar(R, *self.parameters))

    def inverse(self, Z, cond):
        return by_rows(Z, lambda R: planar_inverse(R, *self.parameters))


class RadialTwin:
    def __init__(self, layer, leaf):
        self.parameters = leaf(layer.x0), leaf(layer.log_alpha), leaf(layer.beta)

    def forward(self, X, cond):
        return by_rows(X, lambda R: radial(R, *self.parameters))

    def inverse(self, Z, cond):
        return by_rows(Z, lambda R: radial_inverse(R, *self.parameters))


class LeakyReLUTwin:
    def __init__(self, layer, leaf):
        self.slope = options(layer)["slope"]

    def bend(self, X, slope):
        return torch.where(X < 0, slope * X, X), total(math.log(slope) * (X < 0).to(X.dtype))

    def forward(self, X, cond):
        return self.bend(X, self.slope)

    def inverse(self, Z, cond):
        return self.bend(Z, 1 / self.slope)


class StaircaseTwin:
    def __init__(self, layer, leaf):
        self.nets = [twin_with(net, leaf) for net in layer.nets]

    def forward(self, X, cond):
        parts = X.chunk(len(self.nets) + 1, dim=1)
        shifted = [x + net.forward(before, cond) for net, before, x in zip(self.nets, parts, parts[1:])]
        return torch.cat([parts[0], *shifted], dim=1), each_sample(0.0, X)

    def inverse(self, Z, cond):
        parts = list(Z.chunk(len(self.nets) + 1, dim=1))
        for k, net in enumerate(self.nets):
            parts[k + 1] = parts[k + 1] - net.forward(parts[k], cond)
        return torch.cat(parts, dim=1), each_sample(0.0, Z)


class PlanarNetTwin:
    def __init__(self, net, leaf):
        self.u, self.w, self.b = leaf(net.u), leaf(net.w), leaf(net.b)

    def forward(self, x, cond):
        return images(rows(x) + torch.tanh(rows(x) @ self.w + self.b)[:, None] * self.u, x.shape)


class RadialNetTwin:
    def __init__(self, net, leaf):
        self.x0, self.log_alpha, self.beta = leaf(net.x0), leaf(net.log_alpha), leaf(net.beta)

    def forward(self, x, cond):
        d = rows(x) - self.x0
        return images(rows(x) + self.beta * d / (self.log_alpha.exp() + d.norm(dim=1, keepdim=True)), x.shape)


class SplineCouplingTwin(AdditiveCouplingTwin):
    def __init__(self, layer, leaf):
        super().__init__(layer, leaf)
        self.bins, self.bound = options(layer)["bins"], options(layer)["bound"]

    def both(self, X, cond, inverse):
        x1, x2 = split(X)
        P = self.net.forward(x1, cond).unflatten(1, (x2.shape[1], 3 * self.bins - 1)).movedim(2, -1)
        z2, log_slope = spline(x2, P, self.bound, inverse)
        return torch.cat([x1, z2], dim=1), total(log_slope)

    def forward(self, X, cond):
        return self.both(X, cond, False)

    def inverse(self, Z, cond):
        return self.both(Z, cond, True)


class AutoregressiveSplineTwin(AutoregressiveAffineTwin):
    """The same recurrence with the spline: of h the j-th numbers belong to the j-th parameter."""

    def __init__(self, layer, leaf):
        self.net, o = TWINS[type(layer.net)](layer.net, leaf), options(layer)
        self.scale, self.fast = (o["bound"],), o["fast"]

    @staticmethod
    def couple(X, h, bound, inverse=False):
        P = torch.movedim(h.unflatten(1, (-1, X.shape[1])), 1, -1)
        Z, log_slope = spline(X, P, bound, inverse)
        return Z, total(log_slope)

    @classmethod
    def uncouple(cls, Z, h, bound):
        return cls.couple(Z, h, bound, True)


class SqueezeTwin:
    def __init__(self, layer, leaf):
        pass

    def forward(self, X, cond):
        return squeeze(X), each_sample(0.0, X)

    def inverse(self, Z, cond):
        return unsqueeze(Z), each_sample(0.0, Z)


class ReverseTwin:
    def __init__(self, layer, leaf):
        inner = twin_with(layer.layer, leaf)
        self.forward, self.inverse = inner.inverse, inner.forward


class ExactTwin:
    """Without rounding."""

    def __init__(self, layer, leaf):
        inner = twin_with(layer.layer, leaf)
        self.forward, self.inverse = inner.forward, inner.inverse


class UnsqueezeTwin(SqueezeTwin):
    forward, inverse = SqueezeTwin.inverse, SqueezeTwin.forward


class ChainTwin:
    def __init__(self, layer, leaf):
        self.layers = [twin_with(each, leaf) for each in layer.layers]

    def forward(self, X, cond):
        logdet = each_sample(0.0, X)
        for layer in self.layers:
            X, part = layer.forward(X, cond)
            logdet = logdet + part
        return X, logdet

    def inverse(self, Z, cond):
        logdet = each_sample(0.0, Z)
        for layer in reversed(self.layers):
            Z, part = layer.inverse(Z, cond)
            logdet = logdet + part
        return Z, logdet


class FactorOutTwin:
    def __init__(self, layer, leaf):
        self.prior = twin_with(layer.prior, leaf) if layer.prior is not None else ChainTwin(invnet.Chain(), leaf)
        self.inner = twin_with(layer.inner, leaf)

    def forward(self, X, cond):
        X, logdet = self.prior.forward(X, cond)
        x1, x2 = split(X)
        z1, part = self.inner.forward(x1, cond)
        return torch.cat([z1, x2], dim=1), logdet + part

    def inverse(self, Z, cond):
        z1, x2 = split(Z)
        x1, logdet = self.inner.inverse(z1, cond)
        X, part = self.prior.inverse(torch.cat([x1, x2], dim=1), cond)
        return X, logdet + part


class GlowTwin(ChainTwin):
    """Glow's forward as in the paper's figure 2: a loop over levels that collects what leaves, weights found by
    name.
    """

    def __init__(self, net, leaf):
        super().__init__(net, leaf)  # for the inverse
        self.o = options(net)
        self.weights = {name: leaf(state) for name, state in net.named_state()}

    def net(self, name, x, cond):
        count = sum(key.startswith(f"{name}.net.W.") for key in self.weights)
        W, b = ([self.weights[f"{name}.net.{kind}.{i}"] for i in range(count)] for kind in "Wb")
        return conditioner(x, cond, W, b, self.weights.get(f"{name}.net.V"), self.o["activation"])

    def matrix(self, name):
        if self.o["mix"] == "lu":
            return lu_matrix(*(self.weights[f"{name}.{factor}"] for factor in ("P", "L", "U", "sign", "log_s")))
        return (
            householder_matrix(self.weights[f"{name}.V"])
            if self.o["mix"] == "householder"
            else self.weights[f"{name}.W"]
        )

    def step(self, prefix, i, x, cond):
        x, logdet1 = actnorm(x, self.weights[f"{prefix}{i}.log_s"], self.weights[f"{prefix}{i}.b"])
        x, logdet2 = mix(x, self.matrix(f"{prefix}{i + 1}"), self.o["mix"] == "householder")
        x1, x2 = split(x)
        h = self.net(f"{prefix}{i + 2}", x1, cond)
        z2, logdet3 = (
            affine(x2, h, self.o["scale"], self.o["bound"]) if self.o["coupling"] == "affine" else (x2 + h, 0.0)
        )
        return torch.cat([x1, z2], dim=1), logdet1 + logdet2 + logdet3

    def forward(self, X, cond):
        logdet, left, prefix, spatial = each_sample(0.0, X), [], "layers.", self.o["ndim"] > 0
        for level in range(1, self.o["levels"] + 1):
            X = squeeze(X) if spatial else X
            end = spatial + 3 * self.o["steps"]
            for i in range(spatial, end, 3):
                X, part = self.step(prefix, i, X, cond)
                logdet = logdet + part
            if level < self.o["levels"]:
                X, leaves = split(X)
                if self.o["prior"]:  # what leaves is normal given what stays: mean -t, deviation 1/s
                    h = self.net(f"{prefix}{end}.prior", X, cond)
                    leaves, part = affine(leaves, h, self.o["scale"], self.o["bound"])
                    logdet = logdet + part
                left.append(leaves)
                prefix += f"{end}.inner.layers."
        Z = unsqueeze(X) if spatial else X
        for leaves in reversed(left):
            Z = torch.cat([Z, leaves], dim=1)
            Z = unsqueeze(Z) if spatial else Z
        return Z, logdet


class ConditionerTwin:
    def __init__(self, net, leaf):
        self.W, self.b = [leaf(W) for W in net.W], [leaf(b) for b in net.b]
        self.V, self.activation = None if net.V is None else leaf(net.V), options(net)["activation"]

    def forward(self, x, cond):
        return conditioner(x, cond, self.W, self.b, self.V, self.activation)


class MaskedTwin(ConditionerTwin):
    """Weights that are zero where a unit may not see another, by the rule of the paper, one pair at a time."""

    def __init__(self, net, leaf):
        super().__init__(net, leaf)
        o = options(net)
        C, first = o["channels"], 0 if o["cond_channels"] else min(1, o["channels"] - 1)
        self.order = list(range(C)) if o["order"] is None else list(o["order"])
        channels = [self.order.index(i) + 1 for i in range(C)]
        widths = [len(b.detach()) for b in self.b]
        degrees = [
            channels,
            *([first + j * (C - first) // n for j in range(n)] for n in widths[:-1]),
            channels * o["outputs"],
        ]
        for i, (before, after) in enumerate(zip(degrees, degrees[1:])):
            last = i == len(self.W) - 1
            sees = [[float(m < d if last else m <= d) for d in after] for m in before]
            self.W[i] = self.W[i] * torch.tensor(sees, dtype=self.W[i].dtype)


TWINS = {
    invnet.ActNorm: ActNormTwin,
    invnet.AdditiveCoupling: AdditiveCouplingTwin,
    invnet.AffineCoupling: AffineCouplingTwin,
    invnet.AutoregressiveAffine: AutoregressiveAffineTwin,
    invnet.AutoregressiveSpline: AutoregressiveSplineTwin,
    invnet.MAF: ChainTwin,
    invnet.IAF: ChainTwin,
    invnet.MaskedDenseNet: MaskedTwin,
    Plain: MaskedTwin,
    invnet.Chain: ChainTwin,
    invnet.Conv1x1: Conv1x1Twin,
    invnet.FactorOut: FactorOutTwin,
    invnet.Glow: GlowTwin,
    invnet.Exact: ExactTwin,
    invnet.Jet: ChainTwin,
    invnet.SplitTokens: SplitTokensTwin,
    TorchNet: TorchNetTwin,
    invnet.LeakyReLU: LeakyReLUTwin,
    invnet.Logit: LogitTwin,
    invnet.NSF: ChainTwin,
    invnet.Permute: PermuteTwin,
    invnet.Planar: PlanarTwin,
    invnet.PlanarFlow: ChainTwin,
    invnet.Radial: RadialTwin,
    invnet.RadialFlow: ChainTwin,
    invnet.RealNVP: ChainTwin,
    invnet.Reverse: ReverseTwin,
    invnet.Sigmoid: ReverseTwin,
    invnet.SplineCoupling: SplineCouplingTwin,
    invnet.Squeeze: SqueezeTwin,
    invnet.Unsqueeze: UnsqueezeTwin,
    invnet.ConvNet: ConditionerTwin,
    invnet.DenseNet: ConditionerTwin,
    invnet.PartitionedAdditiveCoupling: StaircaseTwin,
    invnet.PlanarNet: PlanarNetTwin,
    invnet.RadialNet: RadialNetTwin,
}


def twin_with(thing, leaf):
    return TWINS[type(thing)](thing, leaf)


def twin_of(thing):
    """The twin of a layer or conditioner as a function of (X, cond), and its leaves {name: tensor}."""
    tensors = {id(state): torch.tensor(state.data) for _, state in thing.named_state()}
    leaves = {name: tensors[id(p)].requires_grad_() for name, p in thing.named_parameters()}
    return twin_with(thing, lambda state: tensors[id(state)]).forward, leaves


# ---- the comparison

#: Relative to an array's norm: float64 rounds at 1e-16, a sum here has up to 1e4 terms and rebuilding X amplifies by up
#: to 1e2; a wrong term is of the order of the norm.
TOLERANCE = 1e-10


def randomised(thing, seed=0):
    """A copy with every entry of every parameter moved, the zeros of last layers and unused triangles too."""
    thing, rng = copy.deepcopy(thing), np.random.default_rng(seed)
    for p in thing.parameters():
        fan_in = math.prod(p.data.shape[:-1])
        p.data += 0.2 / math.sqrt(fan_in) * rng.standard_normal(p.data.shape)
    return thing


START = 0.5


def by_hand(thing, X, cond, dZ, dlogdet):
    """Everything that invnet computes of a layer or conditioner, by name.

    A backward adds to gradients: each has START before it, which is taken away afterwards.
    """
    holder = None if cond is None else invnet.Condition(cond)
    for gradient in (*(p.grad for p in thing.parameters()), *([] if holder is None else [holder.grad])):
        gradient[...] = START
    if isinstance(thing, invnet.Conditioner):
        y, pullback = thing.vjp(X, cond)
        found = {"forward": thing.forward(X, cond), "Z": y.copy()}
        found["dX"], dcond, gradients = pullback(dZ)
        names = [name for name, _ in thing.named_parameters()]
        found.update(zip(names, gradients, strict=True))
    else:
        found = dict(zip(("Z", "logdet"), thing.forward(X, cond)))
        found["dX"], found["X"] = thing.backward(dZ, found["Z"], dlogdet, holder)
        found.update((name, p.grad - START) for name, p in thing.named_parameters())
        dcond = holder and holder.grad - START
    return found if cond is None else {**found, "dcond": dcond}


def by_autograd(thing, X, cond, dZ, dlogdet):
    """The same of its twin."""
    twin, leaves = twin_of(thing)
    x, c = torch.tensor(X, requires_grad=True), None if cond is None else torch.tensor(cond, requires_grad=True)
    result = twin(x, c)
    if isinstance(thing, invnet.Conditioner):
        result.backward(torch.tensor(dZ))
        found = {"forward": result, "Z": result}
    else:
        Z, logdet = result
        weights = torch.as_tensor(-1 / len(X) if dlogdet is None else dlogdet, dtype=logdet.dtype)
        ((Z * torch.tensor(dZ)).sum() + (logdet * weights).sum()).backward()
        found = {"Z": Z, "logdet": logdet, "X": x}
    found.update({"dX": x.grad} if c is None else {"dX": x.grad, "dcond": c.grad})
    found.update((name, leaf.grad) for name, leaf in leaves.items())
    return {name: 0.0 if tensor is None else tensor.detach().numpy() for name, tensor in found.items()}


def assert_agrees(thing, X, cond=None, dlogdet="random", seed=0):
    """`thing` and its twin agree in everything, for a random dZ."""
    rng = np.random.default_rng(seed)
    Z = thing.forward(X, cond)
    dZ = rng.standard_normal((Z if isinstance(thing, invnet.Conditioner) else Z[0]).shape)
    if isinstance(dlogdet, str):
        dlogdet = rng.standard_normal(len(X))
    assert_same(by_hand(thing, X, cond, dZ, dlogdet), by_autograd(thing, X, cond, dZ, dlogdet))


def assert_same(found, expected):
    """Raises AssertionError, naming every array of `found` that differs from its namesake in `expected`."""
    assert found.keys() == expected.keys()
    wrong = []
    for name, want in expected.items():
        error, norm = np.linalg.norm(found[name] - want), np.linalg.norm(want)
        if not error <= TOLERANCE * norm:
            wrong.append(f"{name}: differs by {error:.3g}, of norm {norm:.3g}")
    if wrong:
        raise AssertionError("; ".join(wrong))
