"""The contracts: Parameter, Module, Layer, Isometry and Conditioner."""

from ..deprecated import renamed
from ..ops import float_dtype, get_ops
from .conditioner import Conditioner
from .conditions import given_condition
from .gradients import as_dlogdet, check_gradient, same_engine
from .layer import SHAPES, InPlaceLayer, Isometry, Layer
from .module import Module
from .parameters import Buffer, Condition, Gradient, Parameter, condition_array, condition_rows, other_gradients

__all__ = [
    "Buffer",
    "Condition",
    "Conditioner",
    "Gradient",
    "InPlaceLayer",
    "Isometry",
    "Layer",
    "Module",
    "Parameter",
    "SHAPES",
    "as_dlogdet",
    "check_gradient",
    "condition_array",
    "condition_rows",
    "float_dtype",
    "given_condition",
    "other_gradients",
    "get_ops",
    "same_engine",
]

__getattr__ = renamed(__name__, {"Net": "invnet.core.Conditioner"})
