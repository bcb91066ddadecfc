"""Files: a model is one safetensors file, arrays and the architecture as text. Nothing is unpickled."""

import glob
import hashlib
import inspect
import json
import os
import pathlib
import platform
import uuid

import numpy as np

from .core import Module

FORMAT = "invnet-1"


def save(net, path):
    """Writes architecture and weights of a model of invnet, or of your own Module, to `path` (.safetensors).

    Raises:
        TypeError: it is no Module, or an argument of its constructor is not a number, a text, an array, a Module or a list of these.
    """
    if not isinstance(net, Module):
        raise TypeError(f"save takes a Module, such as a layer or a Flow; got {net!r}")
    write(path, net.state_dict(), {"architecture": architecture(net)})


def load(path):
    """The model that `save` wrote, with bit-identical output.

    Raises:
        ValueError: the file is damaged, is no model of invnet, or holds a class that is not imported.
    """
    arrays, text = read(path)
    if "architecture" not in text:
        raise ValueError(f"{path} holds no model: its entries are {sorted(text)}")
    try:
        net = build(text["architecture"])
    except (TypeError, AttributeError, LookupError, OverflowError, RecursionError, MemoryError) as error:  # of arguments that no save() wrote
        raise ValueError(f"{path} cannot be built as its architecture says: {type(error).__name__}: {error}") from None
    if not isinstance(net, Module):
        raise ValueError(f"{path} holds no model: its architecture is {net!r}")
    # A training keeps its own arrays in the file too, under names with a slash, which no model has.
    restore(net, {name: array for name, array in arrays.items() if "/" not in name}, path)
    return net


def restore(net, arrays, path):
    """Loads the state that was read from `path`, with the dtypes that it was written with."""
    kinds = {array.dtype for name, array in arrays.items() if array.dtype.kind == "f"}
    if len(kinds) == 1 and net.dtype is not None and kinds != {np.dtype(net.dtype)}:
        net.to(dtype=kinds.pop().name)
    try:
        net.load_state_dict(arrays)
    except ValueError as error:
        raise ValueError(f"{path} does not fit its architecture: {error}") from None


def write(path, arrays, text):
    """Writes arrays by name and JSON values by name, atomically: a kill at any moment leaves the old file whole."""
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.array(array, order="C", copy=None) for name, array in arrays.items()}
    metadata = {name: json.dumps(value) for name, value in text.items()}
    replace_file(path, to_bytes(arrays, {"format": FORMAT, "digest": digest(arrays, metadata), **metadata}))


def digest(arrays, metadata):
    """A checksum of all that a file holds: safetensors itself would load a flipped bit as another number."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    for name in sorted(metadata):
        total.update(f"{name} {metadata[name]}".encode())
    return total.hexdigest()


def replace_file(path, data):
    """Makes `data` the content of a file, atomically: the bytes go to a file beside it, which then takes its name.

    A write that was killed leaves such a file behind, which the next one removes.

    Raises:
        FileNotFoundError: the folder does not exist.
        OSError: the disk is full, or the folder read-only; an old file stays as it was.
    """
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} in")
    _remove_what_kills_left(path)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kept = "; the file of that name is as it was before" if path.exists() else ""
        raise OSError(error.errno, f"{path} cannot be written: {error.strerror or error}{kept}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_what_kills_left(path):
    """Removes the temporary files of processes of this machine that are no more; others may be writing the same file now."""
    import psutil

    for left in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(platform.node())}.*.tmp"):
        pid = left.name.split(".")[-3]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)


def read(path):
    """The arrays and the JSON values of a file that `write` made.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or was not written by invnet.
    """
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                found = metadata.get("format")
                raise ValueError(f"{path} was not written by invnet: its format is {found!r}, not {FORMAT!r}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    text = {name: value for name, value in metadata.items() if name not in ("format", "digest")}
    if metadata.get("digest") != digest(arrays, text):
        raise ValueError(f"{path} is damaged: its checksum does not fit what it holds")
    try:
        return arrays, {name: json.loads(value) for name, value in text.items()}
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def architecture(net):
    """What `describe` gives for a model, from which `build` makes one with the same parts.

    Raises:
        TypeError: a part was replaced, so that it would make others; or as in `save`.
    """
    description = describe(net)
    if net.is_altered() and _structure(build(description)) != _structure(net):
        raise TypeError(f"a part of this {type(net).__name__} was replaced after it was made, and its constructor makes another from its "
                        "arguments: build a Chain of the parts, or derive a class that makes them, or save the state_dict()")
    return description


def _structure(net):
    """Class and arguments of every module within, and the name and shape of every array: equal where two models have the same parts."""
    modules, found = [net], []
    for module in modules:
        parameters = inspect.signature(type(module).__init__).parameters.values()
        given = {p.name: p.default for p in parameters if p.default is not p.empty} | module.arguments()
        plain = {name: describe(value) for name, value in given.items() if name != "seed" and not _has_modules(value)}
        found.append((type(module), plain))
        modules += module.modules_within()
    return found, [(name, tuple(state.data.shape)) for name, state in net.named_state()]


def _has_modules(value):
    return isinstance(value, Module) or (isinstance(value, (tuple, list)) and any(map(_has_modules, value)))


def describe(value, seen=None):
    """A Module and its constructor's arguments as JSON values; a Module that came before is {"same": its number}."""
    seen = {} if seen is None else seen
    if isinstance(value, Module):
        if id(value) in seen:
            return {"same": seen[id(value)]}
        parameters = inspect.signature(type(value).__init__).parameters.values()
        given = {name: describe(argument, seen) for name, argument in value.arguments().items()}
        repeated = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
        seen[id(value)] = len(seen)
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"class": kind, "repeated": repeated, "arguments": given}
    if isinstance(value, np.random.Generator):
        return None  # the weights that it drew are in the file
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [describe(item, seen) for item in value]
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"an architecture is made of numbers, texts, arrays, Modules of invnet and lists of them; got {repr(value).splitlines()[0]}: "
                    "derive a class whose constructor takes such arguments only, or save the state_dict()")


def build(description, made=None):
    """The Module that `describe` described, of a class that is already imported."""
    made = [] if made is None else made
    if isinstance(description, list):
        return [build(item, made) for item in description]
    if not isinstance(description, dict):
        return description
    if description.keys() == {"same"}:
        if not isinstance(description["same"], int) or not 0 <= description["same"] < len(made):
            raise ValueError(f"an architecture names module {description['same']} where only {len(made)} are made")
        return made[description["same"]]
    classes = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in _subclasses(Module)}
    if not {"class", "arguments", "repeated"} <= description.keys():
        raise ValueError(f"an architecture has class, arguments and repeated; got {sorted(description)}")
    if description["class"] not in classes:
        raise ValueError(f"the class {description['class']!r} is unknown; import the module that defines it first")
    arguments = {name: build(value, made) for name, value in description["arguments"].items()}
    repeated = arguments.pop(description["repeated"], ()) if description["repeated"] else ()
    try:
        made.append(classes[description["class"]](*repeated, **arguments))
    except TypeError as error:  # of an argument that the class has no more
        raise ValueError(f"{description['class']} cannot be built as described: {error}") from None
    return made[-1]


def _subclasses(cls):
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
