import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from transformers_tcm.conversion import read_state_dict

TENSORS = {"visual.conv1.weight": torch.arange(6.0).reshape(2, 3), "logit_scale": torch.tensor(4.6)}


class Malicious:
    """Runs a command when unpickled carelessly."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


def assert_equal(read: dict[str, torch.Tensor]) -> None:
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize(
    "checkpoint",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3},
        {"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}},
    ],
    ids=["plain", "nested", "distributed"],
)
def test_torch_files(checkpoint: dict, tmp_path: Path) -> None:
    torch.save(checkpoint, tmp_path / "file.pt")
    assert_equal(read_state_dict(tmp_path / "file.pt"))


def test_legacy_torch_file(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "file.pt", _use_new_zipfile_serialization=False)
    assert_equal(read_state_dict(str(tmp_path / "file.pt")))


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "file.safetensors")
    assert_equal(read_state_dict(tmp_path / "file.safetensors"))


def test_torchscript_archive(
    torchscript: Callable[[dict[str, torch.Tensor]], torch.jit.ScriptModule], tmp_path: Path
) -> None:
    torchscript(TENSORS).save(str(tmp_path / "file.pt"))
    assert_equal(read_state_dict(tmp_path / "file.pt"))


def test_numpy_scalars_in_the_meta_data(tmp_path: Path) -> None:
    meta = {
        "lr": np.float64(0.1),
        "iter": np.int64(5),
        "done": np.bool_(True),
        "name": np.str_("x"),
        "type": np.dtype("f4"),
    }
    torch.save({"meta": meta, "state_dict": TENSORS}, tmp_path / "file.pth")
    assert_equal(read_state_dict(tmp_path / "file.pth"))


def test_numpy_scalars_by_the_name_of_numpy_1(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save({"meta": np.float64(0.1), "state_dict": TENSORS}, path, _use_new_zipfile_serialization=False)
    assert b"numpy._core.multiarray" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert_equal(read_state_dict(path))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_are_refused_by_name_and_not_built(zipped: bool, protocol: int, tmp_path: Path) -> None:
    path, trace = tmp_path / "file.pth", tmp_path / "trace"
    checkpoint = {"state_dict": TENSORS, "meta": Malicious(trace)}
    torch.save(checkpoint, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"file\.pth wants to build .*{os.mkdir.__module__}\.mkdir.*refused"):
        read_state_dict(path)
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_bare_pickles_are_refused(protocol: int, tmp_path: Path) -> None:
    path, trace = tmp_path / "file.pth", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Malicious(trace), protocol))
    with pytest.raises(ValueError, match=rf"{os.mkdir.__module__}\.mkdir"):
        read_state_dict(path)
    assert not trace.exists()


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_state_dict(tmp_path / "file.pth")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        read_state_dict(tmp_path / "nowhere.pt")


@pytest.mark.parametrize("name", ["file.pt", "file.safetensors"])
def test_empty_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"{name} is empty"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_file(kind: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / ("file.safetensors" if kind == "safetensors" else "file.pt")
    if kind == "safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [b"hello", b"{}", b"PK\x03\x04", b"\x80\x02", b"\xff\xd8\xff\xe0" * 50])
@pytest.mark.parametrize("name", ["file.pt", "file.safetensors"])
def test_other_files(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("checkpoint", [[1, 2], {}, torch.zeros(2), {"state_dict": {}}])
def test_files_without_named_tensors(checkpoint: object, tmp_path: Path) -> None:
    torch.save(checkpoint, tmp_path / "file.pt")
    with pytest.raises(ValueError, match="expected tensors by name"):
        read_state_dict(tmp_path / "file.pt")


def test_entries_that_are_no_tensors_are_named(tmp_path: Path) -> None:
    torch.save({**TENSORS, "optimizer": {"lr": 0.1}}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match="not tensors: optimizer"):
        read_state_dict(tmp_path / "file.pt")
