"""Replayed randomness: a conditioner that draws random numbers, such as dropout, gets the same in a recomputation."""

from .context import current


class RngReplay:
    """The random states that conditioners drew in a pass, in the order of their calls.

    A forward pass records them. Its backward reads them from the last to the first, and a segment that is computed
    again reads its own from the first to the last.

    Args:
        recorded: the (conditioner, random state) pairs of the forward pass, for its backward; None for a pass that
            records.
        missing: the method that must be called before a backward, for an error if nothing was recorded.
    """

    def __init__(self, recorded=None, missing=None):
        self.recording = recorded is None
        self.recorded = [] if recorded is None else recorded
        self.position, self.forward, self.missing = len(self.recorded), False, missing

    @property
    def is_random(self):
        """Whether random numbers were drawn. A module in training mode may draw none."""
        return any(getattr(state, "random", True) for _, state in self.recorded)

    def seek(self, position, forward):
        """Continues reading at this position, in this direction."""
        self.position, self.forward = position, forward

    def random_state_of(self, net):
        """Returns the random state for this call of `net`, whether this is a repeated call, and whether it was missing.

        The state is None if the conditioner draws no random numbers.
        """
        if self.recording:
            state = net.rng_state()
            if state is not None:
                self.recorded.append((net, state))
                self.position += 1
            return state, False, False
        i = self.position if self.forward else self.position - 1
        if 0 <= i < len(self.recorded) and self.recorded[i][0] is net:
            self.position += 1 if self.forward else -1
            return self.recorded[i][1], True, False
        return net.rng_state(), True, True


class TileNets:
    """Gives the conditioner for each tile of one call, with the random numbers of the tile.

    Args:
        net: the conditioner.
    """

    def __init__(self, net):
        self.net, self.state, self.again, self.missing = net, None, False, False
        if not hasattr(net, "rng_state"):
            return
        rng = current().rng
        self.state, self.again, self.missing = (
            (net.rng_state(), False, False) if rng is None else rng.random_state_of(net)
        )
        self.call = rng and rng.missing

    @property
    def in_order(self):
        """Whether the tiles must be evaluated in their order."""
        return getattr(self.state, "in_order", False)

    def of(self, i):
        """Returns the conditioner for tile number i."""
        return self.net if self.state is None else self.net.with_rng(self.state, i, self.again)

    def check(self):
        """Raises ValueError if backward needed random numbers that no forward pass recorded."""
        if self.missing and self.state is not None and getattr(self.state, "random", True):
            raise ValueError(
                f"the conditioner draws random numbers, and backward needs those of the pass that gave its argument: "
                f"call {self.call} "
                f"right before it, with no other {self.call} between, or put the conditioner in evaluation with "
                f"module.eval()"
            )
