"""Numba kernels of the rational quadratic spline, each beside its reference in reference.py, which has the names.

All is computed in float64, whatever the dtype of the arrays. A number needs all of its softmax, whose exponentials are one pass
over a block of numbers, but only two of its slopes.
"""

import math

import numpy as np

from .elementary import clip, exp_pass, helper
from .kernels import kernel
from .reference import LEAST, ZERO_IS_SLOPE_ONE

BLOCK = 2048  # exponentials


@helper
def softmaxes(q, K):
    """Each K numbers of q become their softmax."""
    for i in range(0, q.size, K):
        most = q[i]
        for j in range(i + 1, i + K):
            most = max(most, q[j])
        for j in range(i, i + K):
            q[j] -= most
    exp_pass(q)
    for i in range(0, q.size, K):
        total = 0.0
        for j in range(i, i + K):
            total += q[j]
        over = 1 / total
        for j in range(i, i + K):
            q[j] *= over


@helper
def slope(logit):
    a = logit + ZERO_IS_SLOPE_ONE
    return LEAST + max(a, 0.0) + math.log1p(math.exp(-abs(a)))


@helper
def bin_of(value, bound, axis, q, K):
    """The bin k of a value among the knots in x (axis 0) or in y (axis 1), and its x, y, w, h; q are the shares of all bins."""
    x = y = -bound
    for k in range(K):
        w = 2 * bound * (LEAST + (1 - K * LEAST) * q[k])
        h = 2 * bound * (LEAST + (1 - K * LEAST) * q[K + k])
        if k == K - 1 or value < (y + h if axis else x + w):
            break
        x += w
        y += h
    return k, x, y, w, h


@helper
def root(eta, delta, d0, d1):
    """xi from 0 to 1 whose rise is eta."""
    u = d0 * (1 - eta) - d1 * eta
    b = u + 2 * delta * eta
    D = math.sqrt(u * u + 4 * delta * delta * eta * (1 - eta))
    if b > 0:
        return 2 * delta * eta / (b + D)
    return (D - b) / (2 * (delta - d0 + (d0 + d1 - 2 * delta) * eta))


@kernel("void($[:,:], $[:,:,:], float64, boolean, $[:,::1], $[::1])")
def spline(R, P, bound, inverse, S, logdet):
    """S of R, or R of S where `inverse`, and log|det| of the map taken, (rows,)."""
    rows, C, K = P.shape[0], P.shape[1], (P.shape[2] + 1) // 3
    size = max(1, BLOCK // (2 * K * C))
    shares = np.empty(size * C * 2 * K)
    for start in range(0, rows, size):
        count = min(size, rows - start)
        i = 0
        for r in range(start, start + count):
            for c in range(C):
                for j in range(2 * K):
                    shares[i] = P[r, c, j]
                    i += 1
        softmaxes(shares[:i], K)
        i = 0
        for r in range(start, start + count):
            total = 0.0
            for c in range(C):
                value, q = np.float64(R[r, c]), shares[i:i + 2 * K]
                i += 2 * K
                S[r, c] = value
                if not -bound <= value <= bound:
                    continue
                k, x, y, w, h = bin_of(value, bound, 1 if inverse else 0, q, K)
                d0 = slope(P[r, c, 2 * K + k - 1]) if k > 0 else 1.0
                d1 = slope(P[r, c, 2 * K + k]) if k < K - 1 else 1.0
                delta = h / w
                if inverse:
                    xi = root(clip((value - y) / h, 0.0, 1.0), delta, d0, d1)
                else:
                    xi = clip((value - x) / w, 0.0, 1.0)
                left = 1 - xi
                between = xi * left
                below = delta + (d0 + d1 - 2 * delta) * between
                rest = d1 * xi * xi + 2 * delta * between + d0 * left * left
                after = x + w * xi if inverse else y + h * (delta * xi * xi + d0 * between) / below
                S[r, c] = clip(after, -bound, bound)
                total += math.log(delta * delta * rest / (below * below))
            logdet[r] = -total if inverse else total


@kernel("void($[:,:], $[:,:], $[:,:,:], float64, $[::1], boolean, $[:,::1], $[:,::1], $[:,:,:])")
def spline_backward(dS, S, P, bound, dlogdet, inverse, dR, R, dP):
    """dR, R and dP, of S and the gradient dS in it; where `inverse`, S is of R and all else likewise."""
    rows, C, K = P.shape[0], P.shape[1], (P.shape[2] + 1) // 3
    size = max(1, BLOCK // (2 * K * C))
    shares, scale = np.empty(size * C * 2 * K), 2 * bound * (1 - K * LEAST)
    for start in range(0, rows, size):
        count = min(size, rows - start)
        i = 0
        for r in range(start, start + count):
            for c in range(C):
                for j in range(2 * K):
                    shares[i] = P[r, c, j]
                    i += 1
        softmaxes(shares[:i], K)
        i = 0
        for r in range(start, start + count):
            for c in range(C):
                value, dvalue, dl, q = np.float64(S[r, c]), np.float64(dS[r, c]), np.float64(dlogdet[r]), shares[i:i + 2 * K]
                i += 2 * K
                R[r, c], dR[r, c] = value, dvalue
                for j in range(3 * K - 1):
                    dP[r, c, j] = 0
                if not -bound <= value <= bound:
                    continue
                k, x, y, w, h = bin_of(value, bound, 0 if inverse else 1, q, K)
                d0 = slope(P[r, c, 2 * K + k - 1]) if k > 0 else 1.0
                d1 = slope(P[r, c, 2 * K + k]) if k < K - 1 else 1.0
                delta = h / w
                if inverse:
                    xi = clip((value - x) / w, 0.0, 1.0)
                else:
                    xi = root(clip((value - y) / h, 0.0, 1.0), delta, d0, d1)
                left = 1 - xi
                between = xi * left
                below = delta + (d0 + d1 - 2 * delta) * between
                rest = d1 * xi * xi + 2 * delta * between + d0 * left * left
                rise = (delta * xi * xi + d0 * between) / below
                log_xi = 2 * (d1 * xi + delta * (1 - 2 * xi) - d0 * left) / rest - 2 * (d0 + d1 - 2 * delta) * (1 - 2 * xi) / below
                after = y + h * rise if inverse else x + w * xi
                R[r, c] = clip(after, -bound, bound)
                if inverse:  # then the gradients of the forward map for the two that it would return, with the sign turned
                    dvalue = (dvalue - dl * log_xi / w) * below * below / (delta * delta * rest)
                    dR[r, c] = dvalue
                    dvalue, dl = -dvalue, -dl
                g = dvalue * h / (below * below)
                dxi = g * delta * rest + dl * log_xi
                ddelta = g * between * (d1 * xi * xi - d0 * left * left) + dl * (2 / delta + 2 * between / rest - 2 * (1 - 2 * between) / below)
                dx = -dxi / w  # of the left knot; of the value it is the opposite
                dw, dh = -(dxi * xi + ddelta * delta) / w, dvalue * rise + ddelta / w
                if not inverse:
                    dR[r, c] = -dx
                # xi = (value - x) / w, delta = h / w, after = y + h rise; x and y are the sums of the sizes before
                mean_x, mean_y = q[k] * dw, q[K + k] * dh
                for j in range(k):
                    mean_x += q[j] * dx
                    mean_y += q[K + j] * dvalue
                for j in range(K):
                    dP[r, c, j] = scale * q[j] * ((dx if j < k else dw if j == k else 0.0) - mean_x)
                    dP[r, c, K + j] = scale * q[K + j] * ((dvalue if j < k else dh if j == k else 0.0) - mean_y)
                if k > 0:
                    dd0 = g * between * (delta * left * left + d1 * between) + dl * (left * left / rest - 2 * between / below)
                    dP[r, c, 2 * K + k - 1] = dd0 * -math.expm1(LEAST - d0)
                if k < K - 1:
                    dd1 = -g * between * (delta * xi * xi + d0 * between) + dl * (xi * xi / rest - 2 * between / below)
                    dP[r, c, 2 * K + k] = dd1 * -math.expm1(LEAST - d1)
