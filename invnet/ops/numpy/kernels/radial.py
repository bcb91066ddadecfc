"""Kernels of the radial layer, each beside its reference in reference/pointwise.py: rows (positions, channels), in
float64.

With r = |x - x0|, z - x0 = stretch (x - x0) where stretch = (s + r) / (alpha + r).
"""

import math

import numpy as np

from .simple import inner, kernel


@inner
def radius(rho, alpha, s):
    """r >= 0 with r (s + r) / (alpha + r) = rho: the root of r^2 + (s - rho) r - alpha rho, without cancellation."""
    h = rho - s
    D = math.sqrt(h * h + 4 * alpha * rho)
    return (h + D) / 2 if h > 0 else 2 * alpha * rho / (D - h + 1e-300)


@kernel("void($[:,:], $[::1], $[::1], boolean, $[::1])")
def radial(R, x0, theta, inverse, logdet):
    """R becomes Z, or X where `inverse`; logdet (rows,) is that of the map taken."""
    C, x0, alpha, s = R.shape[1], x0.astype(np.float64), np.float64(theta[0]), np.float64(theta[1])
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


@kernel("void($[:,:], $[:,:], $[::1], $[::1], $[::1], boolean, $[::1], $[::1])")
def radial_vjp(dR, R, x0, theta, dlogdet, inverse, dx0, dtheta):
    """R becomes X and dR the gradient in it, or Z and that in Z where `inverse`; dx0 and dtheta are set."""
    C, x0, alpha, s = R.shape[1], x0.astype(np.float64), np.float64(theta[0]), np.float64(theta[1])
    dalpha, ds, shift = 0.0, 0.0, np.zeros(C)
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
        dalpha += -g * stretch * h + dl * (s / q + 2 * r / q - (C + 1) * h)
        ds += g * h + dl * ((C - 1) / (s + r) + alpha / q)
        for c in range(C):
            d, before = R[i, c] - x0[c], dR[i, c]
            after = before * (1 / stretch if inverse else stretch) + along * d
            shift[c] += before - after
            dR[i, c] = after
            R[i, c] = x0[c] + d * factor
    dtheta[0], dtheta[1], dx0[:] = dalpha, ds, shift
