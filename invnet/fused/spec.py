"""Specs: descriptions of layers and conditioners. They refer to Parameters, but not to an array library or engine."""

from typing import NamedTuple


class ConvSpec(NamedTuple):
    """A conditioner for images that is a stack of convolutions.

    Args:
        layers: for each layer (shape of the weights, activation, transposed), as in the operation `conv_stack`.
        parameters: the weights and the bias of each layer, alternately.
        floats_per_position, kept_per_position, reach: the attributes of the Conditioner.
    """

    layers: tuple
    parameters: tuple
    floats_per_position: int
    kept_per_position: int
    reach: int

    def maps(self, C_in, C_out):
        """Returns whether it maps C_in channels to C_out."""
        (first, _, turned), (last, _, turned_last) = self.layers[0], self.layers[-1]
        return (first[-1 if turned else -2], last[-2 if turned_last else -1]) == (C_in, C_out)


class DenseSpec(NamedTuple):
    """A dense conditioner, with units in the order in which they can be computed.

    The channels form groups, which are changed one after the other. Step g computes the units of every layer that
    depend only on the groups before g, including the outputs for group g; then group g is changed. In a coupling, x1 is
    the first group, which is not changed, and x2 the second. In an autoregressive layer, each channel is a group.

    Args:
        parameters: the weights (in, out) and the bias of each layer, alternately.
        activations: the activation of each layer; None for the last.
        ends: ends[layer][step] is how many units of a layer precede a step; a last entry has their total. Layer 0 is
            the input.
        inputs, outputs: the order of the input channels and of the outputs. The outputs for a group are all t, then all
            raw; or all spline parameters of its first channel, then those of the next.
        conv: the same conditioner as a stack of 1x1 convolutions; None if it is none.
    """

    parameters: tuple
    activations: tuple
    ends: tuple
    inputs: tuple
    outputs: tuple
    conv: ConvSpec | None = None

    def maps(self, C_in, C_out):
        """Returns whether it maps C_in channels to C_out in one step."""
        return (self.ends[0], self.ends[-1]) == ((0, 0, C_in), (0, 0, C_out))


class LayerSpec(NamedTuple):
    """What a layer computes.

    Args:
        kind: "scale", "lu", "full", "householder", "permute", "affine" or "spline".
        states: its Parameters and Buffers, without those of its conditioner.
        conditioner: the DenseSpec or ConvSpec of a layer of kind "affine" or "spline".
        order: the order in which such a layer changes the channels.
        groups: how many channels in that order precede each step; a last entry has their total.
        reads_z: whether the conditioner sees Z instead of X, if they differ.
        scale: the scale of an affine layer, as in the operation `couple_`.
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
