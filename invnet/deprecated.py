"""Old names of what was renamed; they work until 0.3, and warn."""

import importlib
import warnings


def renamed(module, names):
    """A module's `__getattr__` for names that it has no more.

    Args:
        module: the name of the module.
        names: the path of what has taken the place of each, such as "invnet.Conditioner", by the old name.
    """

    def __getattr__(name):
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is {names[name]} now; the old name goes with invnet 0.3", DeprecationWarning, stacklevel=2
        )
        path, _, attribute = names[name].rpartition(".")
        return getattr(importlib.import_module(path), attribute)

    return __getattr__
