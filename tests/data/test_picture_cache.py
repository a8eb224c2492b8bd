"""Decoded pictures in memory and in a folder: the same pixels, decoded once, shared, never stale."""

import os
import pickle
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from transformers_tcm.data import picture_cache
from transformers_tcm.data.datasets import DecodedRows
from transformers_tcm.data.loaders import load_jsonl, save_jsonl
from transformers_tcm.data.picture_cache import decoded_pictures
from transformers_tcm.instances import TextInstances

WORD = np.float32([[1, 1], [9, 1], [9, 5], [1, 5]])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        PIL.Image.fromarray(rng.integers(0, 256, (8 + index, 12, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def refuse(*_: object) -> None:
    raise AssertionError("decoded")


def test_a_folder_gives_the_pictures_that_the_memory_gives(files: list[Path], cache: Path) -> None:
    in_memory, on_disk = decoded_pictures(files), decoded_pictures(files, cache)
    assert len(in_memory) == len(on_disk) == 3
    for one, two in zip(in_memory, on_disk, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not on_disk[0].flags.writeable


def test_the_second_start_decodes_nothing(files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.array(decoded_pictures(files, cache)[2])
    monkeypatch.setattr(picture_cache, "load_image", refuse)
    again = decoded_pictures(files, cache)
    np.testing.assert_array_equal(again[2], expected)
    # As it goes to processes that are not forked: a name, not the pixels.
    packed = pickle.dumps(again)
    assert len(packed) < expected.nbytes * 3
    np.testing.assert_array_equal(pickle.loads(packed)[2], expected)
    with pytest.raises(AssertionError, match="decoded"):
        decoded_pictures(files[:2], cache)


def test_a_file_that_has_changed_is_decoded_again(files: list[Path], cache: Path) -> None:
    decoded_pictures(files, cache)
    PIL.Image.new("RGB", (12, 8), (7, 7, 7)).save(files[0])
    os.utime(files[0], ns=(1, 1))
    assert (decoded_pictures(files, cache)[0] == 7).all()


def test_what_was_not_written_to_the_end_does_not_count(files: list[Path], cache: Path) -> None:
    whole = decoded_pictures(files, cache)
    whole.path.with_suffix(".npy").unlink()
    whole.path.write_bytes(b"half")
    assert decoded_pictures(files, cache)[1].shape == (9, 12, 3)
    assert sorted(path.suffix for path in cache.iterdir()) == [".npy", ".pixels"]


def test_a_missing_file_is_named(files: list[Path], cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        decoded_pictures([*files, cache / "none.png"], cache)


def test_rows_of_a_dataset_from_a_cache(files: list[Path], cache: Path, tmp_path: Path) -> None:
    save_jsonl(tmp_path / "labels.jsonl", files, [TextInstances([WORD], texts=["ab"])] * 3)
    rows = load_jsonl(tmp_path / "labels.jsonl")
    for cached, plain in zip(DecodedRows(rows, cache), DecodedRows(rows), strict=True):
        np.testing.assert_array_equal(cached["image"], plain["image"])
        assert cached["polygons"] == plain["polygons"]
    with pytest.raises(ValueError, match="photos in files, and one is a ndarray"):
        DecodedRows([{"image": np.zeros((4, 4, 3), np.uint8)}], cache)
