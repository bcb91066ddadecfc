"""ConvStack: a convolution is one product by cuBLAS, its taps before or after it, bias and activation one kernel."""

import math

import cupy

from ..activations import FROM_ARGUMENT
from . import settings
from .launch import axes, launch, parts_of, summed
from .products import product

KINDS = {None: 0, "relu": 1, "leaky_relu": 2, "softplus": 3, "silu": 4, "gelu": 5, "tanh": 6}


class ConvStack:
    # The tape of a convolution is its input, whose taps are gathered again in the backward pass, and S of activate_vjp.
    # The taps are 9 C numbers for each position where gathering them takes the time of reading C.

    def conv_stack(self, X, layers, parameters, added=None, keep=True):
        return super().conv_stack(
            self.copy_channels_last(X) if keep else X, layers, parameters, added, keep
        )  # what is kept must not change

    def _convolve(self, X, W, b, activation, transposed, added):
        kernel, M = W.shape[:-2], W.reshape(-1, W.shape[-1])
        if transposed:
            A = self.rows(self.shift_add(_product(self.rows(X), M.T), (X.shape[0], W.shape[-2], *X.shape[2:]), kernel))
        else:
            A = _product(self.taps(X, kernel), M)
        H = self._activate(A, b, added, activation)
        return self.images(H, (X.shape[0], H.shape[1], *X.shape[2:])), (X, A if activation in FROM_ARGUMENT else H)

    def _convolve_vjp(self, dY, tape, W, activation, transposed):
        (X, S), kernel, M = tape, W.shape[:-2], W.reshape(-1, W.shape[-1])
        dA, db = self._activate_vjp(self.rows(dY), S, activation)
        if transposed:
            columns = self.taps(self.images(dA, dY.shape), kernel)
            dX, dW = self.images(_product(columns, M), X.shape), _product(columns.T, self.rows(X))
        else:
            dW = _product(self.taps(X, kernel).T, dA)
            dX = self.shift_add(_product(dA, M.T), X.shape, kernel)
        return dX, dW.reshape(W.shape), db, dA

    def activate(self, A, activation):
        A = A.copy()
        H = self._activate(A, cupy.zeros(A.shape[1], A.dtype), None, activation)
        return H, A if activation in FROM_ARGUMENT else H

    def activate_vjp(self, dH, S, activation):
        return self._activate_vjp(dH.copy(), cupy.ascontiguousarray(S), activation)[0]

    def _activate(self, A, b, added, activation):
        """H = act(A + b + added); A becomes the argument of those FROM_ARGUMENT, else H."""
        (rows, C), H = A.shape, cupy.empty_like(A) if activation in FROM_ARGUMENT else A
        each = 1 if added is None else rows // max(1, added.shape[0])
        added = None if added is None else cupy.ascontiguousarray(added)
        launch(
            "activate", A.dtype.char, A.size, A, cupy.ascontiguousarray(b), added, each, rows, C, KINDS[activation], H
        )
        return H

    def _activate_vjp(self, dH, S, activation):
        """dA, in the memory of dH, and the sum of its rows."""
        (rows, C), dH = dH.shape, cupy.ascontiguousarray(dH)
        if activation is None:
            return dH, summed(dH, 1, rows, C)[0]
        parts = parts_of(rows)
        db = cupy.empty((parts, C), dH.dtype)
        launch("activate_vjp", dH.dtype.char, db.size, dH, S, rows, C, KINDS[activation], parts, db)
        return dH, summed(db, 1, parts, C)[0]

    def taps(self, X, kernel):
        if math.prod(kernel) == 1:
            return self.rows(X)
        X, strides, (N, C, *spatial) = axes(X)
        T = cupy.empty((N * math.prod(spatial), math.prod(kernel) * C), X.dtype)
        launch("taps", X.dtype.char, X.size, X, *strides, N, C, *spatial, *_three(kernel), T)
        return T

    def shift_add(self, T, shape, kernel):
        if math.prod(kernel) == 1:
            return self.images(T, shape)
        (N, C, *spatial), T = shape, cupy.ascontiguousarray(T)
        X = cupy.empty((N * math.prod(spatial), C), T.dtype)
        launch("shift_add", T.dtype.char, X.size, T, N, C, *_three(spatial), *_three(kernel), X)
        return self.images(X, shape)


def _product(A, B):
    return product(A, B, settings.tf32())


def _three(sizes):
    return (*[1] * (3 - len(sizes)), *sizes)
