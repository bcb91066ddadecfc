"""Numba kernels of the layers that bend every row alone, planar, radial and spline, each beside its reference in reference.py.

All is computed in float64, whatever the dtype of the arrays. Exponentials are taken in passes over float64 arrays, without
branches, which LLVM vectorises: 1.2 ns each where libm's takes 6. With x = n log 2 + r, exp(x) = 2^n exp(r), where |r| is at
most log(2) / 2 and Taylor's series short; 2^n is made of its bits.
"""

import math

import numpy as np
from numba import njit

from .kernels import kernel

# ---- exponentials

ROUND, ONE = 1.5 * 2.0**52, 1023 << 52  # what leaves a number's integer part in its last bits; the bits of 1.0
LOG2E, LN2, LN2_REST = 1 / math.log(2), 0.693147180369123816490, 1.90821492927058770002e-10  # LN2 has 32 bits, n LN2 is exact
TAYLOR = tuple(1 / math.factorial(k) for k in range(2, 14))  # of exp, up to log(2) / 2 to within 5e-18

helper = njit(nogil=True, cache=True, error_model="numpy")  # for float64 alone, so that the cache has one version of each


@helper
def split(x):
    """2^n and exp(r) - 1, for x <= 0; below -700 as at -700."""
    x = -700.0 if x < -700 else x  # NaN stays
    y = x * LOG2E + ROUND
    n = y - ROUND
    r = (x - n * LN2) - n * LN2_REST
    p = TAYLOR[11]
    for k in range(10, -1, -1):
        p = p * r + TAYLOR[k]
    return np.int64((np.float64(y).view(np.int64) << 52) + ONE).view(np.float64), p * r * r + r


@helper
def clip(x, low, high):
    """x between low and high; NaN stays."""
    return low if x < low else high if x > high else x


@helper
def exp_pass(X):
    """X <= 0 becomes exp(X)."""
    for i in range(X.size):
        power, p = split(X[i])
        X[i] = power * p + power


@helper
def tanh_pass(V, T, Q):
    """T = tanh(V) of V >= 0, and Q = 1 - T^2 without cancellation: both from E = exp(-2 V) - 1."""
    for i in range(V.size):
        power, p = split(-2 * V[i])
        E = power * p + (power - 1)
        over = 1 / (2 + E)
        T[i] = -E * over
        Q[i] = 4 * (power * p + power) * over * over


# ---- planar: a block of rows at a time, in passes; the search of a root takes 18 ns a row, with libm's tanh 80

BLOCK = 256  # rows
STEEP = 4.0  # the largest slope to which x = z - uh t is good enough


@helper
def root_pass(Y, s, LOW, HIGH, V, T, Q):
    """V >= 0 with V + (s - 1) tanh(V) = Y, of Y >= 0, and T and Q of V; LOW and HIGH are scratch, the bracket of the root.

    Halley's method, which is Newton's with the second derivative, from that end of the bracket that lies on the good side by
    convexity; where a step would leave the bracket, its middle is taken.
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


@helper
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


@helper
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
    A, Y, V, T, Q = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    LOW, HIGH = np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, R.shape[0], BLOCK):
        rows = min(BLOCK, R.shape[0] - start)
        for i in range(rows):
            A[i] = b[0]
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
                x[c] = R[start + i, c] + uh[c] * t
            if inverse and s > STEEP:
                along(math.copysign(V[i], A[i]) - b[0], w, over_n, x)
            for c in range(C):
                R[start + i, c] = x[c]


@kernel("void($[:,:], $[:,:], $[::1], $[::1], $[::1], $[::1], boolean, $[::1], $[::1], $[::1])")
def planar_backward(dR, R, u, w, b, dlogdet, inverse, du, dw, db):
    """R becomes X and dR the gradient in it, or Z and that in Z where `inverse`; du, dw and db are set."""
    C, uh, x, u, w = R.shape[1], np.empty(R.shape[1]), np.empty(R.shape[1]), u.astype(np.float64), w.astype(np.float64)
    s, slope, k, over_n = steered(u, w, uh)
    m, dm, dv_sum, duh, dv_x = s - 1, 0.0, 0.0, np.zeros(C), np.zeros(C)
    A, Y, V, T, Q = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    LOW, HIGH = np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, R.shape[0], BLOCK):
        rows = min(BLOCK, R.shape[0] - start)
        for i in range(rows):
            A[i] = b[0]
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


# ---- radial: with r = |x - x0|, z - x0 = stretch (x - x0) where stretch = (s + r) / (alpha + r)


@helper
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
def radial_backward(dR, R, x0, theta, dlogdet, inverse, dx0, dtheta):
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


# ---- the spline: a number needs all of its softmax, whose exponentials are one pass over a block of numbers, but two slopes only

EXPONENTIALS = 2048  # of a block


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
def slope_of(a, least):
    return least + max(a, 0.0) + math.log1p(math.exp(-abs(a)))


@helper
def shares_of(P, start, count, K, shares):
    """The shares of the bins' widths and heights, for the numbers of `count` rows from `start`, one after the other."""
    i = 0
    for r in range(start, start + count):
        for c in range(P.shape[1]):
            for j in range(2 * K):
                shares[i] = P[r, c, j]
                i += 1
    softmaxes(shares[:i], K)


@helper
def bin_of(value, bound, least, axis, q, K):
    """The bin k of a value among the knots in x (axis 0) or in y (axis 1), and its x, y, w, h; q are the shares of all bins."""
    x = y = -bound
    for k in range(K):
        w = 2 * bound * (least + (1 - K * least) * q[k])
        h = 2 * bound * (least + (1 - K * least) * q[K + k])
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
    return (D - b) / (2 * (delta * (1 - 2 * eta) - u))


@kernel("void($[:,:], $[:,:,:], float64, float64, boolean, $[:,::1], $[::1])")
def spline(R, P, bound, least, inverse, S, logdet):
    """S of R, or R of S where `inverse`, and log|det| of the map taken, (rows,)."""
    rows, C, K = P.shape[0], P.shape[1], (P.shape[2] + 1) // 3
    size, zero = max(1, EXPONENTIALS // (2 * K * C)), math.log(math.expm1(1 - least))  # softplus(zero) + least = 1
    shares = np.empty(size * C * 2 * K)
    for start in range(0, rows, size):
        count = min(size, rows - start)
        shares_of(P, start, count, K, shares)
        i = 0
        for r in range(start, start + count):
            total = 0.0
            for c in range(C):
                value, q = np.float64(R[r, c]), shares[i:i + 2 * K]
                i += 2 * K
                S[r, c] = value
                if not -bound < value < bound:
                    continue
                k, x, y, w, h = bin_of(value, bound, least, 1 if inverse else 0, q, K)
                d0 = slope_of(zero + P[r, c, 2 * K + k - 1], least) if k > 0 else 1.0
                d1 = slope_of(zero + P[r, c, 2 * K + k], least) if k < K - 1 else 1.0
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


@kernel("void($[:,:], $[:,:], $[:,:,:], float64, float64, $[:], boolean, $[:,::1], $[:,::1], $[:,:,:])")
def spline_backward(dS, S, P, bound, least, dlogdet, inverse, dR, R, dP):
    """dR, R and dP, of S and the gradient dS in it; where `inverse`, S is of R and all else likewise."""
    rows, C, K = P.shape[0], P.shape[1], (P.shape[2] + 1) // 3
    size, zero = max(1, EXPONENTIALS // (2 * K * C)), math.log(math.expm1(1 - least))  # softplus(zero) + least = 1
    shares, scale = np.empty(size * C * 2 * K), 2 * bound * (1 - K * least)
    for start in range(0, rows, size):
        count = min(size, rows - start)
        shares_of(P, start, count, K, shares)
        i = 0
        for r in range(start, start + count):
            for c in range(C):
                value, dvalue, dl, q = np.float64(S[r, c]), np.float64(dS[r, c]), np.float64(dlogdet[r]), shares[i:i + 2 * K]
                i += 2 * K
                R[r, c], dR[r, c] = value, dvalue
                for j in range(3 * K - 1):
                    dP[r, c, j] = 0
                if not -bound < value < bound:
                    continue
                k, x, y, w, h = bin_of(value, bound, least, 0 if inverse else 1, q, K)
                d0 = slope_of(zero + P[r, c, 2 * K + k - 1], least) if k > 0 else 1.0
                d1 = slope_of(zero + P[r, c, 2 * K + k], least) if k < K - 1 else 1.0
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
                    dP[r, c, 2 * K + k - 1] = dd0 * -math.expm1(least - d0)
                if k < K - 1:
                    dd1 = -g * between * (delta * xi * xi + d0 * between) + dl * (xi * xi / rest - 2 * between / below)
                    dP[r, c, 2 * K + k] = dd1 * -math.expm1(least - d1)
