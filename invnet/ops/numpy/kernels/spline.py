"""The spline of numbers that lie along a row, and its gradient, for use inside compiled functions; and kernels that do
rows of samples so.

The parameters of a row are rows too: K logits of widths, K of heights, K - 1 of slopes. So every loop is over samples
and has no branches. What is known of a number's bin lies in `at`, each for MANY samples: at a distance that LLVM knows
when it compiles, since of arrays that might overlap it vectorises loops over a few alone.
"""

import math

import numpy as np

from .exponentials import log, log1p, split
from .simple import inner, kernel

#: samples at one time, at most
MANY = 256
#: Where in `at` lie: the number of the bin, or -1 outside; xi; its width and height; the slopes at its ends and how
#: these change with their parameters: these are kept for the gradient. And scratch: the value, the left and lower knot,
#: those of the next bin.
BIN, XI, W, H, D0, D1, S0, S1, VALUE, X, Y, NEXT_X, NEXT_Y, SIZE = range(0, 14 * MANY, MANY)
MOST, TOTAL = X, Y
DX, DV, DW, DH, G0, G1, MEAN_X, MEAN_Y = X, Y, W, H, S0, S1, NEXT_X, NEXT_Y  # gradients, in memory that is free by then


@inner
def softmax(Q, q, pitch, n, K, at):
    """K rows at q become their softmax."""
    most = at.dtype.type(-math.inf)
    for i in range(n):
        at[MOST + i] = most
        at[TOTAL + i] = 0
    for k in range(K):
        logits = Q[q + k * pitch : q + k * pitch + n]
        for i in range(n):
            at[MOST + i] = max(at[MOST + i], logits[i])
    for k in range(K):
        logits = Q[q + k * pitch : q + k * pitch + n]
        for i in range(n):
            power, p = split(logits[i] - at[MOST + i])
            logits[i] = power * p + power
            at[TOTAL + i] += logits[i]
    for k in range(K):
        shares = Q[q + k * pitch : q + k * pitch + n]
        for i in range(n):
            shares[i] /= at[TOTAL + i]


@inner
def bins(v, Q, q, pitch, K, bound, least, inverse, at):
    """The bin of each value of v, among the knots in x, or in y where `inverse`; the parameters of the slopes at its
    ends go to D0 and D1.
    """
    n, real = v.size, v.dtype.type
    base, scale = real(2 * bound * least), real(2 * bound * (1 - K * least))
    low, high = real(-bound), real(bound)
    for i in range(n):
        inside = (v[i] > low) & (v[i] < high)
        at[VALUE + i] = v[i] if inside else real(0)
        at[NEXT_X + i] = at[NEXT_Y + i] = low
        at[D0 + i] = at[D1 + i] = 0
    for k in range(K):
        widths, heights = Q[q + k * pitch : q + k * pitch + n], Q[q + (K + k) * pitch : q + (K + k) * pitch + n]
        number = real(k)
        for i in range(n):
            x, y, w, h = at[NEXT_X + i], at[NEXT_Y + i], base + scale * widths[i], base + scale * heights[i]
            here = at[VALUE + i] >= (y if inverse else x)  # true of the first
            at[BIN + i] = number if here else at[BIN + i]
            at[X + i] = x if here else at[X + i]
            at[Y + i] = y if here else at[Y + i]
            at[W + i] = w if here else at[W + i]
            at[H + i] = h if here else at[H + i]
            at[NEXT_X + i] = x + w
            at[NEXT_Y + i] = y + h
    for k in range(K - 1):
        slopes = Q[q + (2 * K + k) * pitch : q + (2 * K + k) * pitch + n]
        left, right = real(k), real(k + 1)
        for i in range(n):
            d = slopes[i]
            at[D1 + i] = d if at[BIN + i] == left else at[D1 + i]
            at[D0 + i] = d if at[BIN + i] == right else at[D0 + i]


@inner
def slope(d, least, zero, one):
    """A slope of its parameter, to which that of a slope of 1 was added, and its derivative."""
    power, p = split(-abs(d))
    e = power * p + power
    return least + max(d, zero) + log1p(e), (one if d > 0 else e) / (one + e)


@inner
def clip(x, low, high):
    """x between low and high; NaN stays."""
    return low if x < low else high if x > high else x


@inner
def root(eta, delta, d0, d1, one):
    """xi from 0 to 1 whose rise is eta."""
    t = delta * eta
    u = d0 * (one - eta) - d1 * eta
    b = u + t + t
    D = np.sqrt(u * u + (t + t) * (delta + delta) * (one - eta))
    above, below = (t + t, b + D) if b > 0 else (D - b, (delta - t - t - u) + (delta - t - t - u))
    return above / below


@inner
def rational_quadratic(v, Q, q, pitch, K, bound, least, inverse, sign, logdet, at):
    """The spline of v, or its inverse, in place, and sign log|det| added to logdet; of the rows at q widths and heights
    become shares.
    """
    n, real = v.size, v.dtype.type
    softmax(Q, q, pitch, n, K, at)
    softmax(Q, q + K * pitch, pitch, n, K, at)
    bins(v, Q, q, pitch, K, bound, least, inverse, at)
    zero, one, low, high, sign = real(0), real(1), real(-bound), real(bound), real(sign)
    lowest, flat = real(least), real(math.log(math.expm1(1 - least)))  # a parameter of zero is a slope of 1
    for i in range(n):
        at[D0 + i], at[S0 + i] = slope(at[D0 + i] + flat, lowest, zero, one)
        at[D1 + i], at[S1 + i] = slope(at[D1 + i] + flat, lowest, zero, one)
    if inverse:
        for i in range(n):
            h, d0, d1 = at[H + i], at[D0 + i], at[D1 + i]
            at[XI + i] = root(clip((at[VALUE + i] - at[Y + i]) / h, zero, one), h / at[W + i], d0, d1, one)
    else:
        for i in range(n):
            at[XI + i] = clip((at[VALUE + i] - at[X + i]) / at[W + i], zero, one)
    for i in range(n):
        w, h, d0, d1, xi = at[W + i], at[H + i], at[D0 + i], at[D1 + i], at[XI + i]
        delta, left = h / w, one - xi
        between = xi * left
        below = delta + (d0 + d1 - delta - delta) * between
        rest = d1 * xi * xi + (delta + delta) * between + d0 * left * left
        image = at[X + i] + w * xi if inverse else at[Y + i] + h * (delta * xi * xi + d0 * between) / below
        at[VALUE + i] = clip(image, low, high)
        at[X + i] = sign * log(delta * delta * rest / (below * below))
    for i in range(n):
        inside, number = (v[i] > low) & (v[i] < high), at[BIN + i]
        at[BIN + i] = number if inside else -one
        logdet[i] += at[X + i] if inside else zero
        v[i] = at[VALUE + i] if inside else v[i]


@inner
def rational_quadratic_vjp(d, Q, q, dQ, dq, pitch, K, bound, least, inverse, dlogdet, at):
    """The gradient of the spline, or of its inverse, after `rational_quadratic` in the other direction: d in place, and
    the rows at dq.
    """
    n, real = d.size, d.dtype.type
    zero, one, two, scale = real(0), real(1), real(2), real(2 * bound * (1 - K * least))
    for i in range(n):
        w, h, d0, d1, xi, inside = at[W + i], at[H + i], at[D0 + i], at[D1 + i], at[XI + i], at[BIN + i] >= 0
        dvalue, dl = d[i] if inside else zero, dlogdet[i] if inside else zero
        delta, left, turn = h / w, one - xi, one - two * xi
        between, curve = xi * left, d0 + d1 - two * delta
        below, rest = delta + curve * between, d1 * xi * xi + two * delta * between + d0 * left * left
        log_xi = two * (d1 * xi + delta * turn - d0 * left) / rest - two * curve * turn / below
        if inverse:  # then the gradients of the forward map for the two that it would return, with the sign turned
            dvalue, dl = -(dvalue - dl * log_xi / w) * below * below / (delta * delta * rest), -dl
        g = dvalue * h / (below * below)
        dxi = g * delta * rest + dl * log_xi
        ddelta = g * between * (d1 * xi * xi - d0 * left * left) + dl * (
            two / delta + two * between / rest - two * (one - two * between) / below
        )
        dd0 = g * between * (delta * left * left + d1 * between) + dl * (left * left / rest - two * between / below)
        dd1 = -g * between * (delta * xi * xi + d0 * between) + dl * (xi * xi / rest - two * between / below)
        # xi = (value - x) / w, delta = h / w, image = y + h rise; x and y are the sums of the sizes before
        at[DX + i], at[DV + i] = -dxi / w, dvalue
        at[DW + i], at[DH + i] = (
            -(dxi * xi + ddelta * delta) / w,
            dvalue * (delta * xi * xi + d0 * between) / below + ddelta / w,
        )
        at[G0 + i], at[G1 + i] = dd0 * at[S0 + i], dd1 * at[S1 + i]
        at[MEAN_X + i] = at[MEAN_Y + i] = 0
    for i in range(n):
        change = -at[DV + i] if inverse else -at[DX + i]
        d[i] = change if at[BIN + i] >= 0 else d[i]
    for k in range(K):
        widths, heights = Q[q + k * pitch : q + k * pitch + n], Q[q + (K + k) * pitch : q + (K + k) * pitch + n]
        number = real(k)
        for i in range(n):
            here, before = at[BIN + i] == number, at[BIN + i] > number
            at[MEAN_X + i] += widths[i] * (at[DW + i] if here else at[DX + i] if before else zero)
            at[MEAN_Y + i] += heights[i] * (at[DH + i] if here else at[DV + i] if before else zero)
    for k in range(K):
        number = real(k)
        for part, (one_bin, bins_before, mean) in enumerate(((DW, DX, MEAN_X), (DH, DV, MEAN_Y))):
            row = (part * K + k) * pitch
            shares, dlogits = Q[q + row : q + row + n], dQ[dq + row : dq + row + n]
            for i in range(n):
                here, before = at[BIN + i] == number, at[BIN + i] > number
                dsize = at[one_bin + i] if here else at[bins_before + i] if before else zero
                dlogits[i] = scale * shares[i] * (dsize - at[mean + i])
    for k in range(K - 1):
        dslopes, left, right = dQ[dq + (2 * K + k) * pitch : dq + (2 * K + k) * pitch + n], real(k), real(k + 1)
        for i in range(n):
            dslopes[i] = at[G1 + i] if at[BIN + i] == left else at[G0 + i] if at[BIN + i] == right else zero


# ---- rows of samples: numbers (rows, C), parameters (rows, C, 3 K - 1), of any strides


@inner
def turned(P, c, Q):
    """The parameters of a channel as rows."""
    for k in range(P.shape[2]):
        for i in range(P.shape[0]):
            Q[k * MANY + i] = P[i, c, k]


@kernel("void($[:,:], $[:,:,:], float64, float64, boolean, $[:,::1], $[::1])")
def spline(R, P, bound, least, inverse, S, logdet):
    """S of R, or R of S where `inverse`, and log|det| of the map taken, (rows,)."""
    (rows, C), K = R.shape, (P.shape[2] + 1) // 3
    v, Q, at = np.empty(MANY, R.dtype), np.empty(P.shape[2] * MANY, R.dtype), np.empty(SIZE, R.dtype)
    logdet[:] = 0
    for r in range(0, rows, MANY):
        n = min(MANY, rows - r)
        for c in range(C):
            turned(P[r : r + n], c, Q)
            for i in range(n):
                v[i] = R[r + i, c]
            rational_quadratic(
                v[:n], Q, 0, MANY, K, bound, least, inverse, -1.0 if inverse else 1.0, logdet[r : r + n], at
            )
            for i in range(n):
                S[r + i, c] = v[i]


@kernel("void($[:,:], $[:,:], $[:,:,:], float64, float64, $[:], boolean, $[:,::1], $[:,::1], $[:,:,:])")
def spline_vjp(dS, S, P, bound, least, dlogdet, inverse, dR, R, dP):
    """dR, R and dP, of S and the gradient dS in it; where `inverse`, S is of R and all else likewise."""
    (rows, C), K = S.shape, (P.shape[2] + 1) // 3
    v, d, dl, unused, at = (
        np.empty(MANY, S.dtype),
        np.empty(MANY, S.dtype),
        np.empty(MANY, S.dtype),
        np.empty(MANY, S.dtype),
        np.empty(SIZE, S.dtype),
    )
    Q, dQ = np.empty(P.shape[2] * MANY, S.dtype), np.empty(P.shape[2] * MANY, S.dtype)
    for r in range(0, rows, MANY):
        n = min(MANY, rows - r)
        for i in range(n):
            dl[i] = dlogdet[r + i]
        for c in range(C):
            turned(P[r : r + n], c, Q)
            for i in range(n):
                v[i], d[i] = S[r + i, c], dS[r + i, c]
            rational_quadratic(v[:n], Q, 0, MANY, K, bound, least, not inverse, 0.0, unused, at)
            rational_quadratic_vjp(d[:n], Q, 0, dQ, 0, MANY, K, bound, least, inverse, dl, at)
            for i in range(n):
                R[r + i, c], dR[r + i, c] = v[i], d[i]
            for k in range(P.shape[2]):
                for i in range(n):
                    dP[r + i, c, k] = dQ[k * MANY + i]
