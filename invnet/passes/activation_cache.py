"""ActivationCache: activations of conditioners that forward stores for backward, within a memory budget."""


class ActivationCache:
    """Entries of couplings in the order of their calls. The backward pass takes them in reverse order.

    If not all fit, those are stored that save the most multiplications for their bytes. In a multiscale network these
    are the coarsest levels, which come last.

    Args:
        budget: the number of bytes.
        memory: the engine's memory for stored arrays, from its `lasting_memory`.
        before: the ActivationCache of the previous forward pass, or None. Its choices are used again while the calls
            are the same.
    """

    def __init__(self, budget, memory, before=None):
        self.budget, self.memory, self.used, self._entries = budget, memory, 0, []
        self._choices = {} if before is None or before.budget != budget else before.choices
        self.choices = {}

    def place(self, owner, size, worth):
        """Returns an empty list for the activations of a call of `owner`, or None if they are not to be stored.

        Args:
            owner: the layer.
            size: how many bytes they need.
            worth: how many multiplications each stored number saves.
        """
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
        """Removes and returns the activations of the last call; None if they were not stored.

        If backward does not mirror the forward pass, the cache is emptied.
        """
        if not self._entries or self._entries[-1].owner is not owner:
            self._entries.clear()
            return None
        return self._entries.pop().value


class _Entry:
    def __init__(self, owner, call, size, worth, value):
        self.owner, self.call, self.size, self.worth, self.value = owner, call, size, worth, value
