"""Watching: a function that a backward pass calls after each layer."""

from .context import within


def backward_hook(observe):
    """Within, a Chain calls observe(layer, dX, X) after each of its steps' backward, from the last to the first.

    `layer` is the step, which may stand for several layers that ran as one; its parameters' gradients have all terms of
    this use of it. X is its rebuilt input and dX the gradient there: arrays of the pass, which goes on to overwrite
    them, so that an observer looks at them now and changes nothing. Where Chains are nested, the steps of the inner one
    are announced first, and then the inner one itself. What runs within a conditioner is not announced.
    """
    return within(hook=observe)
