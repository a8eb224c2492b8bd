"""Reading checkpoint files without executing anything in them."""

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["read_state_dict"]

_SCALAR: Any = np.float64(0).__reduce__()[0]
# What mmcv writes besides tensors and plain containers. numpy 2 renamed the module, files keep the name of their day.
_ALLOWED: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?SU"},
]


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Tensors by name of a TorchScript archive, a `torch.save` file or a safetensors file.

    A state dict nested under `"state_dict"`, or under `"model"` (detectron2), is taken out, and the prefix `module.` of
    distributed training removed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty, truncated, no checkpoint, or wants to build objects other than tensors, plain
            containers and numpy scalars; the message names their class.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected a checkpoint")
    try:
        loaded = _reader(path)(path)
    except OSError:
        raise
    except Exception as error:  # a parser of damaged files may raise anything
        raise ValueError(_explain(path, error)) from error
    return _tensors_of(loaded, path)


def _reader(path: Path) -> Callable[[Path], Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file
    return _read_torchscript if _is_torchscript(path) else _read_pickle


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    state_dict: dict[str, torch.Tensor] = torch.jit.load(path, map_location="cpu").state_dict()
    return state_dict


def _read_pickle(path: Path) -> Any:
    with torch.serialization.safe_globals(_ALLOWED):
        return torch.load(path, map_location="cpu", weights_only=True)


def _explain(path: Path, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        # Newer protocols than `torch.save` uses are not read at all, but what they refer to can be told.
        names = [refused[1]] if refused else _global_names(path)
        if names:
            return (
                f"{path} wants to build {', '.join(names)}, which was refused and not executed; expected tensors, "
                "plain containers and numpy scalars, written by `torch.save` with its default protocol. Load the file "
                "where it is trusted and save its state dict alone"
            )
    return f"{path} cannot be read as a checkpoint: it is truncated or of another kind"


def _global_names(path: Path) -> list[str]:
    """Classes and functions that pickles of newer protocols refer to, read without unpickling."""
    steps = [step for step in _pickle_steps(path) if step[0] != "MEMOIZE"]
    return [
        f"{module}.{name}"
        for (_, module), (_, name), (code, _) in zip(steps, steps[1:], steps[2:], strict=False)
        if code == "STACK_GLOBAL" and isinstance(module, str) and isinstance(name, str)
    ]


def _pickle_steps(path: Path) -> Iterator[tuple[str, Any]]:
    """Names and arguments of the instructions in a file's pickles, of which the older `torch.save` writes several."""
    stream = io.BytesIO(path.read_bytes())
    with suppress(ValueError, zipfile.BadZipFile):  # where the pickles end and raw numbers begin
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                stream = io.BytesIO(b"".join(archive.read(name) for name in pickled))
        while True:
            for code, argument, _ in pickletools.genops(stream):
                yield code.name, argument


def _tensors_of(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    for name in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"{path} holds a {type(loaded).__name__}; expected tensors by name")
    others = [str(name) for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ValueError(f"{path} is no state dict: these entries are not tensors: {', '.join(others[:10])}")
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}
