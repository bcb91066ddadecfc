"""Stacks of convolutions. Each convolution is one matrix product of rows."""

from itertools import product


class ConvStack:
    """A stack of convolutions and its gradient."""

    # The weights (*kernel, narrow, wide) form a matrix M (taps * narrow, wide). If the number of channels increases,
    # the taps of the input are gathered and multiplied by M. If it decreases (`transposed`), the input times M^T has
    # one column for each tap and channel, and these are shifted and added: the transpose of the first case.

    def conv_stack(self, X, layers, parameters, added=None, keep=True):
        """Returns Y = act(W_k * ... act(W_1 * X + added + b_1) ... + b_k), and a tape for conv_stack_vjp.

        Args:
            X: (N, C_in, *spatial).
            layers: for each layer (shape of the weights, activation, transposed), hashable.
            parameters: the weights and the bias of each layer, alternately.
            added: rows (n, C), each of which is added at N * positions / n consecutive positions; or None.
            keep: whether the tape is needed.
        """
        tapes = []
        for i, (_, activation, transposed) in enumerate(layers):
            X, tape = self._convolve(X, *parameters[2 * i : 2 * i + 2], activation, transposed, None if i else added)
            if keep:
                tapes.append(tape)
        return X, (tapes, None if added is None else added.shape[0])

    def conv_stack_vjp(self, dY, tape, layers, parameters):
        """Returns dX, the gradients of the parameters, and that of `added` or None. It may overwrite dY."""
        (tapes, groups), gradients, dadded = tape, [], None
        for (_, activation, transposed), W, saved in zip(reversed(layers), reversed(parameters[::2]), reversed(tapes)):
            dY, dW, db, dA = self._convolve_vjp(dY, saved, W, activation, transposed)
            gradients += [db, dW]
        if groups is not None:
            dadded = self.xp.sum(self._grouped(dA, groups), axis=1)
        return dY, gradients[::-1], dadded

    def _convolve(self, X, W, b, activation, transposed, added):
        T, A = self._products(X, W, transposed)
        A = A + b
        if added is not None:
            A = self.xp.reshape(self._grouped(A, added.shape[0]) + added[:, None, :], A.shape)
        H, S = self.activate(A, activation)
        return self.images(H, (X.shape[0], H.shape[1], *X.shape[2:])), (T, S)

    def _products(self, X, W, transposed):
        """Returns the rows that W is multiplied by, which its gradient needs, and W * X as rows."""
        kernel, M = W.shape[:-2], self.xp.reshape(W, (-1, W.shape[-1]))
        if transposed:
            T = self.rows(X)
            return T, self.rows(self.shift_add(T @ M.T, (X.shape[0], W.shape[-2], *X.shape[2:]), kernel))
        T = self.taps(X, kernel)
        return T, T @ M

    def _grouped(self, R, groups):
        """Returns rows as an array (groups, rows of a group, C)."""
        return self.xp.reshape(R, (groups, R.shape[0] // max(1, groups), R.shape[1]))

    def _convolve_vjp(self, dY, tape, W, activation, transposed):
        (T, S), kernel, M = tape, W.shape[:-2], self.xp.reshape(W, (-1, W.shape[-1]))
        dA = self.activate_vjp(self.rows(dY), S, activation)
        if transposed:
            columns = self.taps(self.images(dA, dY.shape), kernel)
            dX = self.images(columns @ M, (dY.shape[0], W.shape[-1], *dY.shape[2:]))
            dW = columns.T @ T
        else:
            dX = self.shift_add(dA @ M.T, (dY.shape[0], W.shape[-2], *dY.shape[2:]), kernel)
            dW = T.T @ dA
        return dX, self.xp.reshape(dW, W.shape), self.xp.sum(dA, axis=0), dA

    def taps(self, X, kernel):
        """Returns the neighbours of each position as columns (N * positions, taps * C), channels fastest; 0 outside."""
        columns = []
        for offsets in self._offsets(kernel):
            T = self.xp.zeros_like(X)
            here, there = self._overlap(offsets, X.shape)
            T[here] = X[there]
            columns.append(self.rows(T))
        return self.xp.concat(columns, axis=1)

    def shift_add(self, T, shape, kernel):
        """The transpose of taps: columns (N * positions, taps * C) to an array of `shape` (N, C, *spatial)."""
        C, X = shape[1], None
        for j, offsets in enumerate(self._offsets(kernel)):
            part = self.images(T[:, j * C : (j + 1) * C], shape)
            if X is None:
                X = self.xp.zeros_like(part)
            here, there = self._overlap(offsets, shape)
            X[there] += part[here]
        return X

    @staticmethod
    def _offsets(kernel):
        return product(*(range(-(k // 2), k // 2 + 1) for k in kernel))

    @staticmethod
    def _overlap(offsets, shape):
        """Returns slices `here` and `there`, both inside, such that position there = here + offset."""
        here, there = [slice(None)] * 2, [slice(None)] * 2
        for o, size in zip(offsets, shape[2:]):
            here.append(slice(max(0, -o), max(0, size - max(0, o))))
            there.append(slice(max(0, o), max(0, size + min(0, o))))
        return tuple(here), tuple(there)
