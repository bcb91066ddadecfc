"""backward_hook: a function that a backward pass calls after each layer."""

from .context import within


def backward_hook(observe):
    """Returns a context in which each Chain calls observe(layer, dX, X) after the backward of each of its steps.

    If Chains are nested, `observe` is called for the steps of the inner Chain first, and then for the inner Chain. It
    is not called for layers inside a conditioner.

    Args:
        observe: a function of
            layer: the step, which may be several layers that are computed as one. The gradients of its parameters are
                complete for this use of the layer;
            dX: the gradient with respect to its input;
            X: its rebuilt input. The pass overwrites dX and X afterwards; `observe` must not change them.
    """
    return within(hook=observe)
