"""The command line: invnet train, invnet sample, invnet evaluate."""

from .parser import main

__all__ = ["main"]
