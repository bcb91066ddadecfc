"""Files: a model is one safetensors file, arrays and the architecture as text. Nothing is unpickled."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import pathlib
import platform
import uuid
from typing import TYPE_CHECKING

import numpy as np

from .architecture import architecture, build
from .arguments import shown
from .core import Module
from .files_0_1 import upgraded

if TYPE_CHECKING:
    from typing import Any

    from .typing import Array, Path

#: what is written; of format "invnet-1", which 0.1 wrote, the architecture is read as if it were of this one
FORMAT, FORMATS = "invnet-2", ("invnet-1", "invnet-2")


def save(net: Module, path: Path) -> None:
    """Writes architecture and weights of a model of invnet, or of your own Module, to `path` (.safetensors).

    Raises:
        TypeError: it is no Module, or an argument of its constructor is not a number, a text, an array, a Module or a
            list of these.
    """
    if not isinstance(net, Module):
        raise TypeError(f"save takes a Module, such as a layer or a Flow; got {shown(net)}")
    write(path, net.state_dict(), {"architecture": architecture(net)})


def load(path: Path) -> Module:
    """The model that `save` wrote, with bit-identical output.

    Raises:
        ValueError: the file is damaged, is no model of invnet, was written by a newer version, or holds a class that is
            not imported or does not take the arguments that are there.
    """
    arrays, text = read(path)
    if "architecture" not in text:
        raise ValueError(f"{path} holds no model: its entries are {sorted(text)}")
    try:
        net = build(text["architecture"])
    except (
        TypeError,
        AttributeError,
        LookupError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:  # of arguments that no save() wrote
        raise ValueError(f"{path} cannot be built as its architecture says: {type(error).__name__}: {error}") from None
    if not isinstance(net, Module):
        raise ValueError(f"{path} holds no model: its architecture is {net!r}")
    # A training keeps its own arrays in the file too, under names with a slash, which no model has.
    restore(net, {name: array for name, array in arrays.items() if "/" not in name}, path)
    return net


def restore(net: Module, arrays: dict[str, Array], path: Path) -> None:
    """Loads the state that was read from `path`, with the dtypes that it was written with."""
    kinds = {array.dtype for name, array in arrays.items() if array.dtype.kind == "f"}
    if len(kinds) == 1 and net.dtype is not None and kinds != {np.dtype(net.dtype)}:
        net.to(dtype=kinds.pop().name)
    try:
        net.load_state_dict(arrays)
    except ValueError as error:
        raise ValueError(f"{path} does not fit its architecture: {error}") from None


def write(path: Path, arrays: dict[str, Array], text: Any) -> None:
    """Writes arrays by name and JSON values by name, atomically: a kill at any moment leaves the old file whole."""
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.array(array, order="C", copy=None) for name, array in arrays.items()}
    metadata = {name: json.dumps(value) for name, value in text.items()}
    replace_file(path, to_bytes(arrays, {"format": FORMAT, "digest": digest(arrays, metadata), **metadata}))


def digest(arrays: dict[str, Array], metadata: dict[str, str]) -> str:
    """A checksum of all that a file holds: safetensors itself would load a flipped bit as another number."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    for name in sorted(metadata):
        total.update(f"{name} {metadata[name]}".encode())
    return total.hexdigest()


def replace_file(path: Path, data: Array) -> None:
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
    """Removes the temporary files of processes of this machine that are no more; others may be writing the same file
    now.
    """
    import psutil

    for left in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(platform.node())}.*.tmp"):
        pid = left.name.split(".")[-3]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the JSON values of a file that `write` made; an architecture is that of the present format.

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
            found = metadata.get("format")
            if found not in FORMATS:
                written = (
                    "was written by a newer version of" if str(found).startswith("invnet-") else "was not written by"
                )
                raise ValueError(
                    f"{path} {written} invnet: its format is {found!r}; this version reads {' and '.join(FORMATS)}"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, a safetensors file is no dict
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    text = {name: value for name, value in metadata.items() if name not in ("format", "digest")}
    if metadata.get("digest") != digest(arrays, text):
        raise ValueError(f"{path} is damaged: its checksum does not fit what it holds")
    try:
        text = {name: json.loads(value) for name, value in text.items()}
        if found == "invnet-1" and "architecture" in text:
            text["architecture"] = upgraded(text["architecture"])
        return arrays, text
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
