"""ActivationCache: what conditioners computed in a forward pass, as much as a budget of memory holds, for the backward
pass after it.
"""


class ActivationCache:
    """Entries of couplings in the order of their calls; a backward pass takes them in the reverse order.

    What saves the most multiplications for its bytes stays: of a multiscale net the coarsest levels, which come last.

    Args:
        budget: bytes.
        memory: where the engine puts what is kept, of its `lasting_memory`.
        before: the ActivationCache of the forward pass before, whose choices hold again while the calls are the same;
            or None.
    """

    def __init__(self, budget, memory, before=None):
        self.budget, self.memory, self.used, self._entries = budget, memory, 0, []
        self._choices = {} if before is None or before.budget != budget else before.choices
        self.choices = {}

    def place(self, owner, size, worth):
        """A list to fill for a call of `owner`, or None where there is no room for `size` bytes of that worth."""
        call = len(self.choices)
        lesser = sorted((e for e in self._entries if e.value is not None and e.worth < worth), key=lambda e: e.worth)
        room = self.used - sum(e.size for e in lesser) + size <= self.budget
        chosen = room and self._choices.get(call, (size, True)) != (size, False)
        while chosen and self.used + size > self.budget:
            self._forget(lesser.pop(0))
        self._entries.append(_Entry(owner, call, size, worth, [] if chosen else None))
        self.choices[call] = size, chosen
        self.used += size if chosen else 0
        return self._entries[-1].value

    def _forget(self, entry):
        self.used -= entry.size
        entry.value, self.choices[entry.call] = None, (entry.size, False)

    def take(self, owner):
        """What the last call left, or None; whose calls do not mirror the forward pass gets nothing more."""
        if not self._entries or self._entries[-1].owner is not owner:
            self._entries.clear()
            return None
        return self._entries.pop().value


class _Entry:
    def __init__(self, owner, call, size, worth, value):
        self.owner, self.call, self.size, self.worth, self.value = owner, call, size, worth, value
