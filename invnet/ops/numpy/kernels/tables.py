"""A group's parameters as compiled functions take them. records.py says what the rows of its tables hold.

`prepare` gathers the parameters of all layers, and what they parametrise, in one array P. The gradients in P are an
array G; `prepare_vjp` adds to the parameters' own gradients what these make of them. Parameters are found by their
addresses, so that a call has as many arguments for a hundred of them as for one.
"""

import math

from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from .matrices import add, copy, invert, reflect, reflect_vjp, square, times, triangles
from .simple import ONE, ZERO, inner

#: kind of a layer -> its number
KINDS = {"scale": 0, "lu": 1, "full": 2, "householder": 3, "permute": 4, "affine": 5, "spline": 5, "convolutional": 6}
SCALE, LU, FULL, HOUSEHOLDER, PERMUTE, CONDITIONED, CONVOLUTIONAL = range(7)


@intrinsic
def _pointer(typing, address):
    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), build


@inner
def numbers_at(address, size, like):
    """The array of `size` numbers at an address, of the dtype of `like`."""
    return carray(_pointer(address), size, like.dtype)


@inner
def uncounted(A):
    """A contiguous array without Numba's count of who has it, which a slice changes twice, 5 ns each: a quarter of a
    small step.
    """
    return carray(_pointer(A.ctypes.data), A.shape, A.dtype)


@inner
def prepare(P, addresses, table, layers, index, C, inverses, reflections):
    """Fills P, and the permutations in `index`, of the mixes' inverses where these are wanted; gives the logdet of all
    that is the same for every sample, and the largest |M| |Minv| of inverses, which is a bound of their condition
    numbers.

    `reflections` is True where mixes have some, else None: then what these take is not compiled.
    """
    logdet, worst, n = 0.0, 1.0, C * C
    for s in range(table.shape[0]):
        t = table[s]
        kind, p, states = t.kind, P[t.offset :], addresses[t.state :]
        if kind == SCALE:
            log_s, b = numbers_at(states[0], C, P), numbers_at(states[1], C, P)
            for c in range(C):
                scale = math.exp(log_s[c])
                p[c], p[C + c], p[2 * C + c] = scale, 1 / scale, b[c]
                logdet += log_s[c]
        elif kind == PERMUTE:
            copy(numbers_at(states[0], C, index), ZERO, index, t.order, C)
        elif kind == CONVOLUTIONAL:  # whose weights serve where they lie
            continue
        elif kind == CONDITIONED:
            for l in range(t.first, t.last + 1):
                h, i = layers[l], 2 * (l - t.first)
                copy(numbers_at(states[i], h.bias - h.weights, P), ZERO, P, h.weights, h.bias - h.weights)
                copy(numbers_at(states[i + 1], h.units, P), ZERO, P, h.bias, h.units)
        elif kind == HOUSEHOLDER:
            if reflections is not None:
                reflect(numbers_at(states[0], t.groups * C, P), t.groups, C, p, inverses)
        else:
            if kind == LU:
                log_s = numbers_at(states[2], C, P)
                lower, upper = triangles(
                    numbers_at(states[0], n, P), numbers_at(states[1], n, P), log_s, numbers_at(states[4], C, P), C
                )
                copy(
                    times(
                        numbers_at(states[3], n, P),
                        C,
                        ONE,
                        times(lower, C, ONE, upper, C, ONE, C, C, C),
                        C,
                        ONE,
                        C,
                        C,
                        C,
                    ),
                    ZERO,
                    p,
                    ZERO,
                    n,
                )
            else:
                copy(numbers_at(states[0], n, P), ZERO, p, ZERO, n)
            if kind == LU and not inverses:
                logdet += numbers_at(states[2], C, P).sum()
                continue
            logdet += invert(p, C, p[n:])
            bound = math.sqrt(square(p, n) * square(p[n:], n))
            worst = max(worst, bound if bound < math.inf else math.inf)  # of NaN too
    return logdet, worst


@inner
def prepare_vjp(P, G, dlogdet, addresses, gradients, table, layers, C, reflections):
    """Adds to the gradients of the parameters, at the addresses `gradients`, those of what `prepare` made of them, G,
    and of logdet.
    """
    n = C * C
    for s in range(table.shape[0]):
        t = table[s]
        kind, p, dM, states, grads = t.kind, P[t.offset :], G[t.offset :], addresses[t.state :], gradients[t.state :]
        if kind == SCALE:
            dlog_s, db = numbers_at(grads[0], C, P), numbers_at(grads[1], C, P)
            for c in range(C):
                dlog_s[c] += dM[c] * p[c] + dlogdet
                db[c] += dM[2 * C + c]
        elif kind == CONDITIONED or kind == CONVOLUTIONAL:
            for l in range(t.first, t.last + 1):
                h, i = layers[l], 2 * (l - t.first)
                add(G, h.weights, numbers_at(grads[i], h.bias - h.weights, P))
                add(G, h.bias, numbers_at(grads[i + 1], h.units, P))
        elif kind == LU:
            lower, upper = triangles(
                numbers_at(states[0], n, P),
                numbers_at(states[1], n, P),
                numbers_at(states[2], C, P),
                numbers_at(states[4], C, P),
                C,
            )
            dLU = times(numbers_at(states[3], n, P), ONE, C, dM, C, ONE, C, C, C)
            dlower, dupper = times(dLU, C, ONE, upper, ONE, C, C, C, C), times(lower, ONE, C, dLU, C, ONE, C, C, C)
            dL, dU, dlog_s = numbers_at(grads[0], n, P), numbers_at(grads[1], n, P), numbers_at(grads[2], C, P)
            for i in range(C):
                dlog_s[i] += dupper[i * C + i] * upper[i * C + i] + dlogdet
                for j in range(i):
                    dL[i * C + j] += dlower[i * C + j]
                for j in range(i + 1, C):
                    dU[i * C + j] += dupper[i * C + j]
        elif kind == FULL:
            dW = numbers_at(grads[0], n, P)
            for i in range(C):
                for j in range(C):
                    dW[i * C + j] += dM[i * C + j] + dlogdet * p[n + j * C + i]
        elif kind == HOUSEHOLDER:
            if reflections is not None:
                reflect_vjp(
                    numbers_at(states[0], t.groups * C, P), t.groups, C, dM, numbers_at(grads[0], t.groups * C, P)
                )
