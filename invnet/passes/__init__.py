"""What a forward pass saves for its backward pass, and how drift is measured and healed.

| file | what it holds |
|---|---|
| [policy.py](policy.py) | the settings of users, and what a pass saves because of them |
| [saved.py](saved.py) | `SavedPass`: all that one pass saves |
| [activation_cache.py](activation_cache.py) | activations of conditioners, within a budget |
| [trace.py](trace.py), [drift.py](drift.py) | states to compare with, and what was measured |
| [replay.py](replay.py) | random states of conditioners |
| [healing.py](healing.py) | the recomputation of a backward pass that drifted too far |
| [backward_hook.py](backward_hook.py) | a function that is called after each layer's backward |
| [context.py](context.py) | which of these belong to the pass that is running |
"""

from .context import evaluation
from .drift import TOLERANCE
from .policy import BackwardPolicy, name_in_pass

__all__ = ["TOLERANCE", "BackwardPolicy", "evaluation", "name_in_pass"]
