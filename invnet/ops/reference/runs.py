"""A run: neighbours of a chain, which an engine may do in one call; here layer by layer."""


class Runs:
    """A run of layers and its gradients; `run` has them as `run.layers`."""

    def run_(self, run, X, cond, inverse):
        """Z and logdet, or with `inverse` X and logdet of the inverse; X may be overwritten."""
        logdet = self.fill(X.shape[0], 0.0, X)
        for layer in reversed(run.layers) if inverse else run.layers:
            X, part = (layer.inverse_logdet_ if inverse else layer.forward_)(X, cond)
            logdet += part
        return X, logdet

    def run_backward_(self, run, dZ, Z, dlogdet, cond, inverse):
        """dX and X, or with `inverse` dZ and Z of dX and X; both arrays may be overwritten. Adds to the parameters' gradients."""
        for layer in run.layers if inverse else reversed(run.layers):
            dZ, Z = (layer.inverse_backward_ if inverse else layer.backward_)(dZ, Z, dlogdet, cond)
        return dZ, Z
