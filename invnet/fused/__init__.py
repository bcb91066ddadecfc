"""Fusion: an engine computes neighbouring layers in one call.

Layers describe what they compute by specs. Neighbours with specs become a FusedGroup, and the group makes a plan:
tables of numbers that compiled functions read.

| file | what it holds |
|---|---|
| [spec.py](spec.py) | `LayerSpec`, `DenseSpec`, `ConvSpec`: descriptions of layers and conditioners |
| [group.py](group.py) | `FusedGroup`; which neighbours become one, and what it does without compiled functions |
| [vector_plan.py](vector_plan.py), [image_plan.py](image_plan.py) | the plans of groups for vectors and for images |
| [addresses.py](addresses.py) | the addresses of the group's parameters and gradients |
"""

from .group import FusedGroup, group_neighbours
from .spec import ConvSpec, DenseSpec, LayerSpec

__all__ = ["ConvSpec", "DenseSpec", "FusedGroup", "LayerSpec", "group_neighbours"]
