"""Numba kernels of the planar and the radial layer, each beside its reference in reference.py.

All is computed in float64, whatever the dtype of the arrays. The planar layer goes through blocks of rows in passes over
small arrays and without branches, which LLVM vectorises: the search of a root takes 18 ns a row then, with libm's tanh 80.
"""

import math

import numpy as np

from .elementary import helper, tanh_pass
from .kernels import kernel

BLOCK = 256  # rows


@helper
def root_pass(Y, s, LOW, HIGH, V, T, Q):
    """V >= 0 with V + (s - 1) tanh(V) = Y, of Y >= 0, and T and Q of V; LOW and HIGH are scratch, the bracket of the root.

    Halley's method, which is Newton's with the second derivative, from that end of the bracket that lies on the good side by
    convexity; where a step would leave the bracket, its middle is taken.
    """
    m = s - 1
    for i in range(Y.size):
        bound, other = Y[i] - m, Y[i] / (s + 1e-300)
        V[i] = max(bound, other) if m > 0 else min(bound, other)
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
            Q[i] = q - 2 * t * q * step + q * (3 * t * t - 1) * step * step
        if not going:
            break


@helper
def steered(u, w, uh):
    """uh = u + k w with w.uh = s - 1, s = softplus(w.u); gives s, its slope in w.u, k and 1 / w.w."""
    a, n = 0.0, 0.0
    for c in range(w.size):
        a += u[c] * w[c]
        n += w[c] * w[c]
    e = math.exp(-abs(a))
    s, slope, over_n = max(a, 0.0) + math.log1p(e), (1.0 if a > 0 else e) / (1 + e), 1 / n
    if n == 0:
        s, slope, over_n = 1.0, 0.0, 0.0
    k = (s - 1 - a) * over_n
    for c in range(w.size):
        uh[c] = u[c] + k * w[c]
    return s, slope, k, over_n


@kernel("void($[:,:], float64[::1], float64[::1], float64, boolean, $[::1])")
def planar(R, u, w, b, inverse, det):
    """R becomes Z, or X where `inverse`; det (rows,) is that of the layer at X."""
    C, uh = R.shape[1], np.empty(R.shape[1])
    s, _, _, _ = steered(u, w, uh)
    A, Y, V, T, Q = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    LOW, HIGH = np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, R.shape[0], BLOCK):
        rows = min(BLOCK, R.shape[0] - start)
        for i in range(rows):
            A[i] = b
            for c in range(C):
                A[i] += R[start + i, c] * w[c]
            Y[i] = abs(A[i])
        if inverse:
            root_pass(Y[:rows], s, LOW, HIGH, V[:rows], T, Q)
        else:
            tanh_pass(Y[:rows], T, Q)
        for i in range(rows):
            det[start + i] = T[i] * T[i] + s * Q[i]
            t = math.copysign(T[i], -A[i] if inverse else A[i])
            for c in range(C):
                R[start + i, c] += uh[c] * t


@kernel("void($[:,:], $[:,:], float64[::1], float64[::1], float64, $[::1], boolean, float64[::1], float64[::1], float64[::1])")
def planar_backward(dR, R, u, w, b, dlogdet, inverse, du, dw, db):
    """R becomes X and dR the gradient in it, or Z and that in Z where `inverse`; adds to du, dw and db."""
    C, uh, duh = R.shape[1], np.empty(R.shape[1]), np.zeros(R.shape[1])
    s, slope, k, over_n = steered(u, w, uh)
    m, dm = s - 1, 0.0
    A, Y, V, T, Q = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    LOW, HIGH = np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, R.shape[0], BLOCK):
        rows = min(BLOCK, R.shape[0] - start)
        for i in range(rows):
            A[i] = b
            for c in range(C):
                A[i] += R[start + i, c] * w[c]
            Y[i] = abs(A[i])
        if inverse:
            tanh_pass(Y[:rows], T, Q)
        else:
            root_pass(Y[:rows], s, LOW, HIGH, V[:rows], T, Q)
        for i in range(rows):
            r, q, t = start + i, Q[i], math.copysign(T[i], A[i])
            det, dl, g = t * t + s * q, np.float64(dlogdet[r]), 0.0
            for c in range(C):
                g += uh[c] * dR[r, c]
            dv = q * (g - 2 * m * t * dl / det)
            if inverse:  # the gradients of the forward map for the two that it would return, with the sign turned
                dv, dl, t = -dv / det, -dl, -t
            dm += dl * q / det
            db[0] += dv
            for c in range(C):
                before = R[r, c]
                R[r, c] -= uh[c] * t
                dw[c] += dv * (before if inverse else R[r, c])
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
        du[c] += duh[c] + da * w[c]
        dw[c] += k * duh[c] + da * u[c] - 2 * dk * k * over_n * w[c]



# ---- radial: with r = |x - x0|, z - x0 = stretch (x - x0) where stretch = (s + r) / (alpha + r)


@helper
def radius(rho, alpha, s):
    """r >= 0 with r (s + r) / (alpha + r) = rho: the root of r^2 + (s - rho) r - alpha rho, without cancellation."""
    h = rho - s
    D = math.sqrt(h * h + 4 * alpha * rho)
    return (h + D) / 2 if h > 0 else 2 * alpha * rho / (D - h + 1e-300)


@kernel("void($[:,:], float64[::1], float64, float64, boolean, $[::1])")
def radial(R, x0, alpha, s, inverse, logdet):
    """R becomes Z, or X where `inverse`; logdet (rows,) is that of the map taken."""
    C = R.shape[1]
    for i in range(R.shape[0]):
        r = 0.0
        for c in range(C):
            r += (R[i, c] - x0[c]) ** 2
        r = math.sqrt(r)
        if inverse:
            r = radius(r, alpha, s)
        stretch, h = (s + r) / (alpha + r), 1 / (alpha + r)
        ell = (C - 1) * math.log(stretch) + math.log(r * h * (r * h + 2 * alpha * h) + alpha * h * (s * h))
        logdet[i] = -ell if inverse else ell
        factor = 1 / stretch if inverse else stretch
        for c in range(C):
            R[i, c] = x0[c] + (R[i, c] - x0[c]) * factor


@kernel("void($[:,:], $[:,:], float64[::1], float64, float64, $[::1], boolean, float64[::1], float64[::1])")
def radial_backward(dR, R, x0, alpha, s, dlogdet, inverse, dx0, dalpha_ds):
    """R becomes X and dR the gradient in it, or Z and that in Z where `inverse`; adds to dx0 and to dalpha_ds (2,)."""
    C = R.shape[1]
    for i in range(R.shape[0]):
        r = 0.0
        for c in range(C):
            r += (R[i, c] - x0[c]) ** 2
        r = math.sqrt(r)
        if not inverse:
            r = radius(r, alpha, s)
        h, dl, g = 1 / (alpha + r), np.float64(dlogdet[i]), 0.0
        stretch, q = (s + r) * h, r * (r + 2 * alpha) + alpha * s
        factor = stretch if inverse else 1 / stretch  # from R - x0 to its new value
        over_r = (1 / r if r > 0 else 0.0) * (1 if inverse else factor)  # from R - x0 to the unit vector e
        dell_dr = (alpha - s) * h * ((C - 1) / (s + r) + 2 * alpha / q)
        for c in range(C):
            g += dR[i, c] * (R[i, c] - x0[c])
        if inverse:  # of Jacobian stretch I + (p - stretch) e e^T
            p = q * h * h
            along = over_r * (g * over_r * (1 / p - 1 / stretch) - dl * dell_dr / p)
            g = -(g / stretch + along * r * r)
            dl = -dl
        else:
            g *= factor
            along = over_r * (g * (alpha - s) * h * h + dl * dell_dr)
        dalpha_ds[0] += -g * stretch * h + dl * (s / q + 2 * r / q - (C + 1) * h)
        dalpha_ds[1] += g * h + dl * ((C - 1) / (s + r) + alpha / q)
        for c in range(C):
            d, before = R[i, c] - x0[c], dR[i, c]
            after = before * (1 / stretch if inverse else stretch) + along * d
            dx0[c] += before - after
            dR[i, c] = after
            R[i, c] = x0[c] + d * factor
