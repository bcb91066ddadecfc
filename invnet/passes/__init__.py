"""What a public pass through a layer leaves for the pass back, and who looks on.

two_passes.py has the settings that users know; kept.py activations, drift.py states, draws.py what conditioners drew; watching.py
lets an observer look on. current.py says what of this belongs to the pass that runs in this thread.
"""

from .two_passes import TwoPasses, name_in_pass

__all__ = ["TwoPasses", "name_in_pass"]
