"""Pictures: images, densities and samples in two dimensions, curves. Each function returns a matplotlib Figure."""

from .classes import classes
from .curves import likelihood_terms, training_curves
from .images import image_grid, near_square, reconstructions
from .points import density, latent, path, samples

__all__ = [
    "classes",
    "density",
    "image_grid",
    "latent",
    "likelihood_terms",
    "near_square",
    "path",
    "reconstructions",
    "samples",
    "training_curves",
]
