"""FusedGroup: neighbouring layers of a Chain as one step, which an engine may compute in one call."""

import functools
import math
import weakref

import numpy as np

from ..core import InPlaceLayer, get_ops
from ..passes import TOLERANCE
from .spec import ConvSpec, DenseSpec

#: The most parameters of a group with several conditioners. Backward hooks, by which processes send gradients during
#: the backward pass, are called only when a whole group is done.
LARGEST = 1 << 18
#: The same for images. The gradients of a whole group are summed in one array, whose size must not grow with depth.
LARGEST_OF_IMAGES = 9000
#: The most channels of a fused matrix. From 64 channels on, a separate matrix product is faster.
CHANNELS = 48
#: The condition number above which a matrix amplifies rounding errors too much, for each dtype.
CONDITION = {np.dtype(kind): TOLERANCE / np.finfo(kind).eps for kind in ("float32", "float64")}

_plans = weakref.WeakKeyDictionary()  # group -> {plan class: plan}; a copied or unpickled group makes new plans


class FusedGroup(InPlaceLayer):
    """Neighbouring layers that describe what they compute (`specs`).

    If the engine has compiled functions for the group, and there is no condition, it computes the group in one call.
    Otherwise the layers are called one by one.

    Args:
        layers: Layers with the same number of channels.
    """

    uses_condition = False

    def __init__(self, layers):
        self.layers, self.channels = tuple(layers), layers[0].channels

    @property
    def known_as(self):
        return self.layers[0].known_as

    def check_shape(self, X, name="X"):
        self.layers[0].check_shape(X, name)

    def forward_(self, X, cond=None):
        return self._pass(X, cond, inverse=False)

    def inverse_logdet_(self, Z, cond=None):
        return self._pass(Z, cond, inverse=True)

    def backward_(self, dZ, Z, dlogdet, cond=None):
        return self._backward(dZ, Z, dlogdet, cond, inverse=False)

    def inverse_backward_(self, dX, X, dlogdet, cond=None):
        return self._backward(dX, X, dlogdet, cond, inverse=True)

    def explained(self, X, cond):
        reason = self._why_not(get_ops(X), X, cond)
        for layer in self.layers:
            for part, path, _ in layer.explained(X, cond):
                yield (part, "fused", "") if reason is None else (part, path, reason)

    def _why_not(self, ops, X, cond):
        """Returns why no compiled function computes this group on arrays like X; None if one does."""
        if cond is not None:
            return "fused groups take no condition"
        if ops.host_array(X) is None:
            return f"{ops.name} computes layer by layer"
        specs, Plan = self.specs_of_layers, _plan_class(X.ndim == 2)
        if specs is None or not Plan.does(specs):
            return "conditioners are dense ones for vectors, or stacks of convolutions for images"
        if self._plan(ops, X, cond) is None:
            return Plan.condition
        return None

    def _pass(self, X, cond, inverse):
        ops = get_ops(X)
        plan = self._plan(ops, X, cond)
        if plan is None:
            logdet = ops.full(X.shape[0], 0.0, X)
            for layer in reversed(self.layers) if inverse else self.layers:
                X, part = (layer.inverse_logdet_ if inverse else layer.forward_)(X, cond)
                logdet += part
            return X, logdet
        X, logdet, condition = plan.forward_(self, ops, X, inverse)
        if inverse:
            self._check_condition(condition, plan.dtype)
        return X, logdet

    def _backward(self, dZ, Z, dlogdet, cond, inverse):
        ops = get_ops(Z)
        plan = self._plan(ops, Z, cond)
        plan = plan and plan.with_gradients()
        if plan is None:
            for layer in self.layers if inverse else reversed(self.layers):
                dZ, Z = (layer.inverse_backward_ if inverse else layer.backward_)(dZ, Z, dlogdet, cond)
            return dZ, Z
        dX, X, condition = plan.backward_(self, ops, dZ, Z, dlogdet, inverse)
        self._check_condition(condition, plan.dtype)
        return dX, X

    @property
    def specs_of_layers(self):
        """The specs of all layers; None if a layer has none now.

        It is the same list object until a part of a layer is replaced.
        """
        return self.derived("specs", self._specs_of_layers)

    def _specs_of_layers(self):
        specs = [fusable_specs(layer) for layer in self.layers]
        return [spec for some in specs for spec in some] if all(specs) else None

    def _plan(self, ops, X, cond):
        """Returns the plan for arrays like X; None if no compiled function computes this group on them."""
        x = None if cond is not None else ops.host_array(X)
        if x is None:
            return None
        Plan = _plan_class(X.ndim == 2)
        plans = _plans.get(self)
        if plans is None:
            plans = _plans[self] = {}
        plan = plans.get(Plan)
        if plan is None or plan.dtype != x.dtype or not plan.is_of(self.specs_of_layers):
            specs = self.specs_of_layers
            if specs is None or not Plan.does(specs):
                return None
            plan = plans[Plan] = Plan(specs, X.shape[1], x.dtype)
        return plan if plan.find_parameters() and plan.takes(ops, x) else None

    def _check_condition(self, bound, dtype):
        """Has the layers check their condition numbers if their upper bound, `bound`, is too large for the dtype."""
        if not bound < CONDITION[dtype]:
            for layer in self.layers:
                layer.check_condition()


@functools.cache
def _plan_class(vectors):
    """Returns VectorPlan or ImagePlan, which import Numba: they are imported with the first array, not with invnet."""
    if vectors:
        from .vector_plan import VectorPlan

        return VectorPlan
    from .image_plan import ImagePlan

    return ImagePlan


def fusable_specs(layer):
    """Returns the specs of a layer; an empty list if no compiled function computes it, or if it is faster alone."""
    specs = layer.specs()
    return specs if all(map(_is_fusable, specs)) else []


def _is_fusable(spec):
    if spec.kind in ("lu", "full", "householder"):
        return spec.states[0].data.shape[-1] <= CHANNELS
    return spec.kind != "spline" or isinstance(spec.conditioner, DenseSpec)


def group_neighbours(layers, one_conditioner=False):
    """Puts as many neighbouring layers as possible into FusedGroups. A single layer with a conditioner is a group too.

    Args:
        layers: Layers in the order in which they are applied.
        one_conditioner: whether a group ends after a layer with a conditioner, so that the states between can be
            stored. The results have the same bits.

    Returns:
        a list of FusedGroups, and of layers that are not fused.
    """
    # Of the present group: its layers, its number of parameters, and whether it has conditioners, and those of images.
    steps, group, size, conditioned, images = [], [], 0, False, False

    def end():
        nonlocal group, size, conditioned, images
        if group:
            steps.append(FusedGroup(group) if len(group) > 1 or conditioned else group[0])
        group, size, conditioned, images = [], 0, False, False

    for layer in layers:
        specs = fusable_specs(layer)
        if not specs:
            end()
            steps.append(layer)
            continue
        numbers, has_conditioner = (
            sum(math.prod(p.data.shape) for p in layer.parameters()),
            specs[-1].conditioner is not None,
        )
        of_images = any(isinstance(spec.conditioner, ConvSpec) for spec in specs)
        most = LARGEST_OF_IMAGES if images or of_images else LARGEST
        first = has_conditioner and not conditioned  # it joins the layers before it, however large it is
        if group and ((size + numbers > most and not first) or layer.channels != group[-1].channels):
            end()
        group.append(layer)
        size, conditioned, images = size + numbers, conditioned or has_conditioner, images or of_images
        if one_conditioner and conditioned:
            end()
    end()
    return steps
