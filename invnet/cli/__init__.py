"""The command line: invnet train, invnet sample, invnet evaluate, invnet bench."""

from .parser import main

__all__ = ["main"]
