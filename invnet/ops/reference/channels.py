"""Maps of the channels: mixing them by a matrix, splitting and joining them, and moving positions to channels."""


class Channels:
    """Operations on the channels of an array, at every position."""

    # ---- the channel mix, in place

    def inverse(self, M):
        """Computes the inverse of M in double precision, since every layer rebuilds its input with it.

        The inverse of a singular matrix is NaN.
        """
        try:
            return self.astype(self.xp.linalg.inv(self.astype(M, "float64")), M.dtype)
        except (ValueError, RuntimeError):  # NumPy and PyTorch raise these for a singular matrix
            return self.xp.full_like(M, self.xp.nan)

    def log_abs_det(self, M):
        """Returns log|det M|, a 0-d array."""
        return self.xp.linalg.slogdet(M)[1]

    def condition_bound(self, M, Minv):
        """Returns |M| |Minv| in the Frobenius norm, an upper bound of the condition number of M, as a Python number.

        It is 0.0 if nothing is rebuilt, or if it would have to wait for a device.
        """
        if self.asynchronous or not self.guarded:
            return 0.0
        m, n = (self.astype(self.xp.reshape(A, (-1,)), "float64") for A in (M, Minv))
        return float((m @ m) * (n @ n)) ** 0.5

    def mix_(self, X, M, b):
        """Overwrites X with M x + b at every position; M is (C, C), or (C,) for a diagonal."""
        R = self.rows(X)
        X[...] = self.images((R * M if M.ndim == 1 else R @ M.T) + b, X.shape)

    def mix_vjp_(self, dZ, Z, M, Minv, b):
        """Overwrites Z with X = Minv (Z - b), and dZ with dX; returns dM, of the shape of M, and db."""
        dR, R = self.rows(dZ), self.rows(Z) - b
        db = self.xp.sum(dR, axis=0)
        if M.ndim == 1:
            R, dX = R * Minv, dR * M
            dM = self.xp.sum(dR * R, axis=0)
        else:
            R, dX = R @ Minv.T, dR @ M
            dM = dR.T @ R
        Z[...], dZ[...] = self.images(R, Z.shape), self.images(dX, Z.shape)
        return dM, db

    # ---- part of the channels

    def split_(self, X, C1):
        """Returns the first C1 channels. They may share memory with X, so X must not be used until `join_`."""
        return self.copy_channels_last(X[:, :C1])

    def join_(self, X, z1):
        """Returns X with z1 in place of the channels that `split_` returned."""
        X[:, : z1.shape[1]] = z1
        return X

    # ---- space to depth

    def squeeze_(self, X):
        """Maps (N, C, *spatial) to (N, C * 2**d, *spatial / 2); the new channel is c * 2**d + offset in the block.

        It may overwrite X.
        """
        xp, d = self.xp, X.ndim - 2
        N, C, *spatial = X.shape
        half = [s // 2 for s in spatial]
        blocks = xp.reshape(xp.permute_dims(X, (0, *range(2, X.ndim), 1)), (N, *[k for s in half for k in (s, 2)], C))
        order = (0, *range(1, 2 * d, 2), 2 * d + 1, *range(2, 2 * d + 1, 2))
        return self.images(xp.reshape(xp.permute_dims(blocks, order), (-1, C * 2**d)), (N, C * 2**d, *half))

    def unsqueeze_(self, Z):
        """The inverse of squeeze_."""
        xp, d = self.xp, Z.ndim - 2
        N, C, *half = Z.shape
        C = C // 2**d
        blocks = xp.reshape(xp.permute_dims(Z, (0, *range(2, Z.ndim), 1)), (N, *half, C, *[2] * d))
        order = (0, *[k for i in range(d) for k in (1 + i, d + 2 + i)], d + 1)
        return self.images(xp.reshape(xp.permute_dims(blocks, order), (-1, C)), (N, C, *[2 * s for s in half]))
