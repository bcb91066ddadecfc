"""Data: integer images, how they are loaded, quantised and dequantised, what simple models make of them; densities."""

from .arrays import npy, npz
from .baselines import gaussian, independent_histograms
from .densities import Banana, Checkerboard, EightGaussians, Mixture, Pinwheel, TwoMoons
from .energies import Energy
from .folders import folder
from .images import Images, split
from .loaders import digits, load
from .quantise import dequantise, quantise
from .records import cifar
from .target import Target

__all__ = [
    "Banana",
    "Checkerboard",
    "EightGaussians",
    "Energy",
    "Images",
    "Mixture",
    "Pinwheel",
    "Target",
    "TwoMoons",
    "cifar",
    "dequantise",
    "digits",
    "folder",
    "gaussian",
    "independent_histograms",
    "load",
    "npy",
    "npz",
    "quantise",
    "split",
]
