"""Stage: what a layer tells an engine that does a run of layers in one call."""

from typing import NamedTuple


class Units(NamedTuple):
    """A dense conditioner, its units in the order in which they can be computed.

    Channels come in groups, one after the other. In step g come the units of every layer that see the channels of the
    groups before g alone, the outputs for group g among them; then group g is changed. In a coupling x1 is the first group,
    which nothing changes, and x2 the second; in an autoregressive layer each channel is a group.

    Args:
        parameters: weights (in, out) and bias of each layer, in turn.
        activations: of each layer, the last of which has None.
        ends: for the input and each layer, how many units come before each step, and in all: [layer][step].
        inputs, outputs: the order in which the inputs' channels and the outputs come; each group's outputs are
            all t, then all raw, or all parameters of the first channel's spline, then the next.
    """

    parameters: tuple
    activations: tuple
    ends: tuple
    inputs: tuple
    outputs: tuple


class Convolutions(NamedTuple):
    """A conditioner of images that is a stack of convolutions, as the operation `network` has it.

    Args:
        layers: of each (shape of the weights, activation, transposed).
        parameters: weights and bias of each layer, in turn.
    """

    layers: tuple
    parameters: tuple

    def maps(self, C_in, C_out):
        """Whether it is a map from so many channels to so many."""
        (first, _, turned), (last, _, turned_last) = self.layers[0], self.layers[-1]
        return (first[-1 if turned else -2], last[-2 if turned_last else -1]) == (C_in, C_out)


class Stage(NamedTuple):
    """A layer.

    Args:
        kind: "scale", "lu", "full", "householder", "permute", "affine" or "spline".
        states: its Parameters and Buffers, without a conditioner's.
        units: of an affine one and of splines its conditioner's Units, None where it is none of vectors.
        owner, net: the layer that has the conditioner as `net`, and that one.
        channels: the order in which such a one changes the channels, and `groups` how many come before each step, and in all.
        reads_z: whether the conditioner sees Z and not X, where these differ.
        scale: of an affine one, as in the operation `couple_`.
        spline: of splines, how many bins one has and the bound of its domain.
        convolutions: of an affine coupling its conditioner's Convolutions, None where it is none of images.
    """

    kind: str
    states: tuple = ()
    units: Units = None
    owner: object = None
    net: object = None
    channels: tuple = ()
    groups: tuple = ()
    reads_z: bool = False
    scale: tuple = ()
    spline: tuple = ()
    convolutions: Convolutions = None


def stages_of(layer):
    """The stages of a layer; an empty list where its class does not say so itself, as a subclass may compute something else."""
    return layer.stages() if "stages" in vars(type(layer)) else []


def units_of(net):
    """The Units of a conditioner, or None where its class does not say so itself."""
    return net.units() if "units" in vars(type(net)) else None


def convolutions_of(net):
    """The Convolutions of a conditioner, or None where its class does not say so itself."""
    return net.convolutions() if "convolutions" in vars(type(net)) else None
