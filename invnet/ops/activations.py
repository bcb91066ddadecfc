"""The activations of conditioners: their names, and from which array each one's derivative is found."""

ACTIVATIONS = ("relu", "leaky_relu", "softplus", "silu", "gelu", "tanh")

#: Those whose derivative at A needs A. That of the others is found from H = act(A), so that A can be overwritten.
FROM_ARGUMENT = frozenset({"silu", "gelu"})
