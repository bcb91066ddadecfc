"""What a public pass through a layer leaves for its backward, and who looks on.

policy.py has the settings that users know, and says what a pass leaves; saved.py is what it left: activations
(activation_cache.py), states to compare with
(trace.py, drift.py), random states of conditioners (replay.py). healing.py computes
a backward again that drifted too far; backward_hook.py has a function called after each layer. context.py says what of
this belongs to the pass that runs.
"""

from .context import evaluation
from .drift import TOLERANCE
from .policy import BackwardPolicy, name_in_pass

__all__ = ["TOLERANCE", "BackwardPolicy", "evaluation", "name_in_pass"]
