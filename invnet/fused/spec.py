"""Specs: what a layer and its conditioner compute. They name Parameters, and no array library, engine or kernel."""

from typing import NamedTuple


class ConvSpec(NamedTuple):
    """A conditioner of images that is a stack of convolutions.

    Args:
        layers: (shape of the weights, activation, transposed) of each, as the operation `conv_stack` takes them.
        parameters: weights and bias of each layer, in turn.
        floats_per_position, kept_per_position, reach: those of the conditioner.
    """

    layers: tuple
    parameters: tuple
    floats_per_position: int
    kept_per_position: int
    reach: int

    def maps(self, C_in, C_out):
        """Whether it maps C_in channels to C_out."""
        (first, _, turned), (last, _, turned_last) = self.layers[0], self.layers[-1]
        return (first[-1 if turned else -2], last[-2 if turned_last else -1]) == (C_in, C_out)


class DenseSpec(NamedTuple):
    """A dense conditioner, its units in the order in which they can be computed.

    Channels come in groups, one after the other. In step g come the units of every layer that see the channels of the
    groups before g alone, the outputs for group g among them; then group g is changed. In a coupling x1 is the first
    group, which nothing changes, and x2 the second; in an autoregressive layer each channel is a group.

    Args:
        parameters: weights (in, out) and bias of each layer, in turn.
        activations: of each layer, the last of which has None.
        ends: for the input and each layer, how many units come before each step, and in all: [layer][step].
        inputs, outputs: the order in which the inputs' channels and the outputs come; each group's outputs are
            all t, then all raw, or all parameters of the first channel's spline, then the next.
        conv: the same conditioner as a stack of convolutions of one position, or None where it is none.
    """

    parameters: tuple
    activations: tuple
    ends: tuple
    inputs: tuple
    outputs: tuple
    conv: ConvSpec | None = None

    def maps(self, C_in, C_out):
        """Whether it maps C_in channels to C_out in one step."""
        return (self.ends[0], self.ends[-1]) == ((0, 0, C_in), (0, 0, C_out))


class LayerSpec(NamedTuple):
    """A layer.

    Args:
        kind: "scale", "lu", "full", "householder", "permute", "affine" or "spline".
        states: its Parameters and Buffers, without those of a conditioner.
        conditioner: the DenseSpec or ConvSpec of an affine layer or of one of splines.
        order: the order in which such a layer changes the channels, and `groups` how many come before each step, and in
            all.
        reads_z: whether the conditioner sees Z and not X, where these differ.
        scale: of an affine layer, as in the operation `couple_`.
        spline: the number of bins of a spline, and the bound of its domain.
    """

    kind: str
    states: tuple = ()
    conditioner: DenseSpec | ConvSpec | None = None
    order: tuple = ()
    groups: tuple = ()
    reads_z: bool = False
    scale: tuple = ()
    spline: tuple = ()

    @property
    def conv(self):
        """The conditioner of an affine layer as a ConvSpec, or None."""
        if self.kind != "affine":
            return None
        return self.conditioner.conv if isinstance(self.conditioner, DenseSpec) else self.conditioner
