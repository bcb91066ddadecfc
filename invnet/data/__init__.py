"""Data: integer images, how they are loaded, quantised and dequantised, what simple models make of them; densities."""

from .baselines import gaussian, independent_histograms
from .densities import Banana, Checkerboard, EightGaussians, Mixture, Pinwheel, TwoMoons
from .energies import Energy
from .images import Images, split
from .loaders import digits, folder, load, npz
from .quantise import dequantise, quantise
from .target import Target

__all__ = ["Banana", "Checkerboard", "EightGaussians", "Energy", "Images", "Mixture", "Pinwheel", "Target", "TwoMoons",
           "dequantise", "digits", "folder", "gaussian", "independent_histograms", "load", "npz", "quantise", "split"]
