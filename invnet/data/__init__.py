"""Data: integer images, how they are loaded, quantised and dequantised, and what simple models make of them."""

from .baselines import gaussian, independent_histograms
from .images import Images, split
from .loaders import digits, folder, load, npz
from .quantise import dequantise, quantise

__all__ = ["Images", "dequantise", "digits", "folder", "gaussian", "independent_histograms", "load", "npz", "quantise",
           "split"]
