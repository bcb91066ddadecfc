"""Replayed randomness: a conditioner that draws random numbers, as dropout does, gets the same ones when a pass
evaluates it again.
"""

from .context import current


class RngReplay:
    """The random states that conditioners drew in a pass, in the order of their calls.

    A forward pass records them. Its backward reads them from the last to the first, and a segment that is computed
    again reads its own from the first to the last.

    Args:
        recorded: the (conditioner, random state) pairs of the pass that this one goes back through; None records.
        missing: the method whose call must come before a backward that finds nothing recorded.
    """

    def __init__(self, recorded=None, missing=None):
        self.recording = recorded is None
        self.recorded = [] if recorded is None else recorded
        self.position, self.forward, self.missing = len(self.recorded), False, missing

    @property
    def is_random(self):
        """Whether anything was random: a module in training may take no random numbers."""
        return any(getattr(state, "random", True) for _, state in self.recorded)

    def seek(self, position, forward):
        """Reads on from here."""
        self.position, self.forward = position, forward

    def random_state_of(self, net):
        """The random state of this call of `net`, or None where it draws nothing; whether it was recorded before; and
        whether it should have been.
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
    """A conditioner for the tiles of one call, with the random numbers of each.

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
        """Whether the tiles are to be evaluated in their order."""
        return getattr(self.state, "in_order", False)

    def of(self, i):
        """The conditioner for the tile of number i."""
        return self.net if self.state is None else self.net.with_rng(self.state, i, self.again)

    def check(self):
        """ValueError where an evaluation took random numbers that its forward pass did not leave."""
        if self.missing and self.state is not None and getattr(self.state, "random", True):
            raise ValueError(
                f"the conditioner draws random numbers, and backward needs those of the pass that gave its argument: "
                f"call {self.call} "
                f"right before it, with no other {self.call} between, or put the conditioner in evaluation with "
                f"module.eval()"
            )
