"""Kernels of the planar layer, each beside its reference in reference/pointwise.py: rows (positions, channels), a block
of them at a time.

All is computed in float64, whatever the dtype of the arrays. A block goes through in passes without branches: the
search of a root takes 18 ns a row, with libm's tanh 80.
"""

import math

import numpy as np

from .exponentials import split
from .simple import inner, kernel

BLOCK = 256  # rows
STEEP = 4.0  # the largest slope to which x = z - uh t is good enough


@inner
def tanh_pass(V, T, Q):
    """T = tanh(V) of V >= 0, and Q = 1 - T^2 without cancellation: both from E = exp(-2 V) - 1."""
    for i in range(V.size):
        power, p = split(-2 * V[i])
        E = power * p + (power - 1)
        over = 1 / (2 + E)
        T[i] = -E * over
        Q[i] = 4 * (power * p + power) * over * over


@inner
def root_pass(Y, s, LOW, HIGH, V, T, Q):
    """V >= 0 with V + (s - 1) tanh(V) = Y, of Y >= 0, and T and Q of V; LOW and HIGH are scratch, the bracket of the
    root.

    Halley's method, which is Newton's with the second derivative, from that end of the bracket that lies on the good
    side by convexity; where a step would leave the bracket, its middle is taken.
    """
    m = s - 1
    for i in range(Y.size):
        one, other = Y[i] - m, Y[i] / s if s > 1e-6 else Y[i] + 1
        V[i] = max(one, other) if m > 0 else min(one, other)
        LOW[i], HIGH[i] = min(V[i], Y[i]), max(V[i], Y[i])
    for _ in range(100):
        tanh_pass(V, T, Q)
        going = 0
        for i in range(Y.size):
            v, t, q = V[i], T[i], Q[i]
            f, slope = Y[i] - (v - t) - s * t, t * t + s * q
            step = f * slope / (slope * slope - f * m * t * q + 1e-300)
            LOW[i] = v if f > 0 else LOW[i]
            HIGH[i] = v if f < 0 else HIGH[i]
            step = step if (v + step >= LOW[i]) & (v + step <= HIGH[i]) else (LOW[i] + HIGH[i]) / 2 - v
            # Convergence is cubic: after a step of 5e-6 V comes none. Where f is rounding alone, steps say nothing.
            going |= (abs(step) > 5e-6 * v) & (abs(f) > 1e-15 * (v + Y[i]))
            V[i] = v + step
            T[i] = t + q * step * (1 - t * step)
            Q[i] = q * (1 - step * (2 * t - (3 * t * t - 1) * step))
        if not going:
            break


@inner
def bent_pass(R, w, b, s, back, scratch):
    """A = w.x + b of rows R, and T = tanh(V) and Q = 1 - T^2 of V = |A|; or `back`, from Z, V and these of the root to
    which |A| belongs.
    """
    A, Y, V, T, Q, LOW, HIGH = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5], scratch[6]
    rows = R.shape[0]
    for i in range(rows):
        A[i] = b
        for c in range(w.size):
            A[i] += R[i, c] * w[c]
        Y[i] = abs(A[i])
    if back:
        root_pass(Y[:rows], s, LOW, HIGH, V[:rows], T, Q)
    else:
        tanh_pass(Y[:rows], T, Q)
    return A, V, T, Q


@inner
def steered(u, w, uh):
    """uh = u + k w with w.uh = s - 1, s = softplus(w.u); gives s, its slope in w.u, k and 1 / w.w."""
    a, n = 0.0, 0.0
    for c in range(w.size):
        a += u[c] * w[c]
        n += w[c] * w[c]
    e = math.exp(-abs(a))
    s, slope, over_n = max(a, 0.0) + math.log1p(e), (1.0 if a > 0 else e) / (1 + e), 1 / n
    if n < 2.3e-308:  # w is zero
        s, slope, over_n = 1.0, 0.0, 0.0
    k = (s - 1 - a) * over_n
    for c in range(w.size):
        uh[c] = u[c] + k * w[c]
    return s, slope, k, over_n


@inner
def along(a, w, over_n, x):
    """Moves x along w to w.x = a, which is known better than by x = z - uh t where uh t is much larger than x."""
    for c in range(x.size):
        a -= w[c] * x[c]
    for c in range(x.size):
        x[c] += a * over_n * w[c]


@kernel("void($[:,:], $[::1], $[::1], $[::1], boolean, $[::1])")
def planar(R, u, w, b, inverse, det):
    """R becomes Z, or X where `inverse`; det (rows,) is that of the layer at X."""
    C, uh, x, u, w = R.shape[1], np.empty(R.shape[1]), np.empty(R.shape[1]), u.astype(np.float64), w.astype(np.float64)
    s, _, _, over_n = steered(u, w, uh)
    scratch = np.empty((7, BLOCK))
    for start in range(0, R.shape[0], BLOCK):
        rows = min(BLOCK, R.shape[0] - start)
        A, V, T, Q = bent_pass(R[start : start + rows], w, b[0], s, inverse, scratch)
        for i in range(rows):
            det[start + i] = T[i] * T[i] + s * Q[i]
            t = math.copysign(T[i], -A[i] if inverse else A[i])
            for c in range(C):
                x[c] = R[start + i, c] + uh[c] * t
            if inverse and s > STEEP:
                along(math.copysign(V[i], A[i]) - b[0], w, over_n, x)
            for c in range(C):
                R[start + i, c] = x[c]


@kernel("void($[:,:], $[:,:], $[::1], $[::1], $[::1], $[::1], boolean, $[::1], $[::1], $[::1])")
def planar_vjp(dR, R, u, w, b, dlogdet, inverse, du, dw, db):
    """R becomes X and dR the gradient in it, or Z and that in Z where `inverse`; du, dw and db are set."""
    C, uh, x, u, w = R.shape[1], np.empty(R.shape[1]), np.empty(R.shape[1]), u.astype(np.float64), w.astype(np.float64)
    s, slope, k, over_n = steered(u, w, uh)
    m, dm, dv_sum, duh, dv_x = s - 1, 0.0, 0.0, np.zeros(C), np.zeros(C)
    scratch = np.empty((7, BLOCK))
    for start in range(0, R.shape[0], BLOCK):
        rows = min(BLOCK, R.shape[0] - start)
        A, V, T, Q = bent_pass(R[start : start + rows], w, b[0], s, not inverse, scratch)
        for i in range(rows):
            r, q, t = start + i, Q[i], math.copysign(T[i], A[i])
            det, dl, g = t * t + s * q, np.float64(dlogdet[r]), 0.0
            for c in range(C):
                g += uh[c] * dR[r, c]
            dv = q * (g - 2 * m * t * dl / det)
            if inverse:  # the gradients of the forward map for the two that it would return, with the sign turned
                dv, dl, t = -dv / det, -dl, -t
            dm += dl * q / det
            dv_sum += dv
            for c in range(C):
                x[c] = R[r, c] - uh[c] * t
            if not inverse and s > STEEP:
                along(math.copysign(V[i], A[i]) - b[0], w, over_n, x)
            for c in range(C):
                before = R[r, c]
                R[r, c] = x[c]
                dv_x[c] += dv * (before if inverse else R[r, c])
                if inverse:
                    dR[r, c] += w[c] * dv
                    duh[c] += t * dR[r, c]
                else:
                    duh[c] += t * dR[r, c]
                    dR[r, c] += w[c] * dv
    dk = 0.0  # uh = u + k w with k = (s - 1 - a) / n, a = w.u, n = w.w and s = softplus(a)
    for c in range(C):
        dk += duh[c] * w[c]
    da = (dm + dk * over_n) * slope - dk * over_n
    for c in range(C):
        du[c] = duh[c] + da * w[c]
        dw[c] = dv_x[c] + k * duh[c] + da * u[c] - 2 * dk * k * over_n * w[c]
    db[0] = dv_sum
