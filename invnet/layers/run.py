"""Run: neighbours of a chain as one step, which an engine may do in one call."""

from math import prod

import numpy as np

from ..core import Buffer, Gradient, InPlaceLayer, get_ops
from ..ops.stage import stages_of
from ..passes.drift import TOLERANCE
from .channel_affine import ChannelAffine

#: Numbers of a run's parameters at most, if it has more than one conditioner: what watches a pass, as several processes do that send their
#: gradients meanwhile, hears of a run when all of it is done.
LARGEST = 1 << 18
#: The same of images, whose gradients are summed for a run at a time, in memory that is not to grow with depth.
LARGEST_OF_IMAGES = 9000
#: The condition number of a mix from which rounding errors become too large.
CONDITION = {np.dtype(kind): TOLERANCE / np.finfo(kind).eps for kind in ("float32", "float64")}


class Run(InPlaceLayer):
    """Layers one after the other, all of which tell an engine what they compute (`stages`); what Chain makes of neighbours.

    Args:
        layers: Layers of the same number of channels.
    """

    uses_condition = False

    def __init__(self, layers):
        self.layers, self.channels = tuple(layers), layers[0].channels

    @property
    def known_as(self):
        return self.layers[0].known_as

    @property
    def version(self):
        """While this is the same, no array of a parameter has another in its place."""
        return Buffer.replaced

    @property
    def stages_of_layers(self):
        """The stages of all layers, or None where one of them has none now; the same list until a part of a layer is replaced."""
        return self.derived("stages", self._stages)

    def _stages(self):
        stages = [stages_of(layer) for layer in self.layers]
        return [stage for some in stages for stage in some] if all(stages) else None

    @property
    def gradients_version(self):
        """While this is the same, no gradient has another array in its place."""
        return Gradient.replaced

    def check_conditions(self, bound, dtype):
        """Has the mixes look at their condition numbers, where these are at most `bound`, and that is too large for a dtype."""
        if not bound < CONDITION[dtype]:
            for layer in self.layers:
                if isinstance(layer, ChannelAffine):
                    layer.inverse_of(layer.affine()[0])

    def check_shape(self, X, name="X"):
        self.layers[0].check_shape(X, name)

    def forward_(self, X, cond=None):
        return get_ops(X).run_(self, X, cond, False)

    def inverse_logdet_(self, Z, cond=None):
        return get_ops(Z).run_(self, Z, cond, True)

    def backward_(self, dZ, Z, dlogdet, cond=None):
        return get_ops(Z).run_backward_(self, dZ, Z, dlogdet, cond, False)

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        return get_ops(X).run_backward_(self, dX, X, dlogdet, cond, True)


def with_runs(layers, one_conditioner=False):
    """The layers, as many neighbours as tell what they compute as one Run; one with a conditioner is a run alone too.

    With `one_conditioner` a run ends after a layer that has one: the same bits, and states between that can be looked at.
    """
    steps, run, size, conditioned, images = [], [], 0, False, False  # of the run: its numbers, and what conditioners it has

    def end():
        nonlocal run, size, conditioned, images
        if run:
            steps.append(Run(run) if len(run) > 1 or conditioned else run[0])
        run, size, conditioned, images = [], 0, False, False

    for layer in layers:
        stages = stages_of(layer)
        if not stages:
            end()
            steps.append(layer)
            continue
        numbers, has_conditioner = sum(prod(p.data.shape) for p in layer.parameters()), stages[-1].owner is not None
        of_images = any(stage.owner is not None and not stage.units for stage in stages)
        most = LARGEST_OF_IMAGES if images or of_images else LARGEST
        first = has_conditioner and not conditioned  # it joins the mixes before it, however large it is
        if run and ((size + numbers > most and not first) or layer.channels != run[-1].channels):
            end()
        run.append(layer)
        size, conditioned, images = size + numbers, conditioned or has_conditioner, images or of_images
        if one_conditioner and conditioned:
            end()
    end()
    return steps
