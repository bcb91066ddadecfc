"""Draws: what conditioners drew in a pass through a layer, as a seed of dropout, for the pass back to use again."""

from .current import current, within


class Draws:
    """What conditioners that draw drew, in the order of their calls; the pass back takes it in the reverse order.

    Args:
        drawn: those of the pass before, or None on the way forth.
    """

    def __init__(self, drawn=None):
        self.drawn, self.again = list(drawn or ()), drawn is not None

    def of(self, net):
        if not self.again:
            drawn, walk = net.draw(), current.walk
            if drawn is not None and walk is not None and walk.strict is not None:
                raise ValueError("strict computes segments again, and a conditioner draws random numbers in each pass: put it in evaluation, "
                                 "with module.eval(), or set strict to None")
            if drawn is not None:
                self.drawn.append((net, drawn))
            return drawn
        if self.drawn and self.drawn[-1][0] is net:
            return self.drawn.pop()[1]
        drawn = net.draw()
        if drawn is not None:
            self.drawn.clear()  # these calls do not mirror those of the pass before
        return drawn


def draw_of(net):
    """What `net` draws for a pass over its tiles, and whether it has drawn it before; asked once, by the thread of the caller."""
    if not hasattr(net, "draw"):
        return None, False
    draws = current.draws
    return (net.draw(), False) if draws is None else (draws.of(net), draws.again)


class forth(within):
    """A context for a public pass forth through `layer`, which remembers what was drawn; a pass within another is a part of it.

    By itself it leaves nothing else: for `inverse`, which gives samples, and whose cost it spares.
    """

    def __init__(self, layer, kept=None, walk=None):
        self.layer, self.draws = layer, current.draws or Draws()
        super().__init__(layer=current.layer or layer, draws=self.draws, kept=kept, walk=walk)

    def __exit__(self, error, *where):
        super().__exit__()
        if error is None and current.draws is None:
            self.layer._draws = tuple(self.draws.drawn)


def back(layer, kept, walk):
    """A context for the pass back through `layer`, with the draws of the last one forth."""
    return within(layer=current.layer or layer, draws=current.draws or Draws(layer._draws), kept=kept, walk=walk)
