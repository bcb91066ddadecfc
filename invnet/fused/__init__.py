"""Fusion: neighbouring layers that describe what they compute become one group, and a plan by which an engine does it
in one call.

| file | what it holds |
|---|---|
| [spec.py](spec.py) | what a layer and its conditioner compute: `LayerSpec`, `DenseSpec`, `ConvSpec` |
| [group.py](group.py) | which neighbours become a `FusedGroup`, and what it does where an engine has no such kernels |
| [vector_plan.py](vector_plan.py), [image_plan.py](image_plan.py) | a group as tables that compiled functions read |
| [addresses.py](addresses.py) | where the group's parameters and gradients lie |
"""

from .group import FusedGroup, group_neighbours
from .spec import ConvSpec, DenseSpec, LayerSpec

__all__ = ["ConvSpec", "DenseSpec", "FusedGroup", "LayerSpec", "group_neighbours"]
