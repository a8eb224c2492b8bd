"""Data sets written to Parquet and to JSON lines, and read back."""

import shutil
from pathlib import Path

import PIL.Image
import pytest
from public_data_sets import UNPACKED, unpack

from transformers_tcm.data.exporting import write_jsonl, write_parquet
from transformers_tcm.data.known_datasets import load_text_dataset
from transformers_tcm.data.loaders import load_jsonl, load_named_dataset, text_features

SETS = [("total-text", "test"), ("synthtext", "train"), ("art", "train")]


@pytest.fixture(autouse=True)
def _no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize(("name", "split"), SETS)
def test_parquet_holds_the_photos(name: str, split: str, tmp_path: Path) -> None:
    folder = unpack(tmp_path, name, split)
    rows = list(load_text_dataset(name, tmp_path, split))
    files = write_parquet(load_text_dataset(name, tmp_path, split), tmp_path / "out", split)
    assert [file.name for file in files] == [f"{split}-00000.parquet"]
    shutil.rmtree(folder)
    back = load_named_dataset(str(tmp_path / "out"), split)
    assert back.features == text_features()
    for old, new in zip(rows, back, strict=True):
        assert new["image"].size == (1000, 500)
        assert {**old, "image": None} == {**new, "image": None}


def test_parquet_is_written_in_files_of_so_many_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers_tcm.data.exporting._BATCH_SIZE", 1)
    unpack(tmp_path, "art", "train")
    files = write_parquet(load_text_dataset("art", tmp_path), tmp_path / "out", "train", rows_per_file=1)
    assert [file.name for file in files] == ["train-00000.parquet", "train-00001.parquet"]
    assert load_named_dataset(str(tmp_path / "out"), "train")["image_id"][:] == ["gt_0.jpg", "gt_1.jpg"]


@pytest.mark.parametrize(("name", "split"), SETS)
def test_json_lines_name_photos_where_they_lie(name: str, split: str, tmp_path: Path) -> None:
    unpack(tmp_path, name, split)
    file = write_jsonl(load_text_dataset(name, tmp_path, split), tmp_path / "out", split)
    old, new = list(load_text_dataset(name, tmp_path, split)), list(load_jsonl(file))
    assert not (tmp_path / "out" / "images").exists()
    assert [row["image_id"] for row in new] == [Path(photo).name for photo in UNPACKED[name, split].photos]
    assert [row["polygons"] for row in new] == [row["polygons"] for row in old]
    assert [(row["texts"], row["ignore"]) for row in new] == [(row["texts"], row["ignore"]) for row in old]


def test_photos_without_a_file_are_written_beside_json_lines(tmp_path: Path) -> None:
    folder = unpack(tmp_path, "total-text", "test")
    photo, labels = folder / "Images/Test/img11.jpg", folder / "txt_format/Test/poly_gt_img11.txt"
    photo.rename(photo.with_name("img651.jpg"))
    labels.rename(labels.with_name("poly_gt_img651.txt"))
    [row] = load_jsonl(write_jsonl(load_text_dataset("total-text", tmp_path, "test"), tmp_path / "out", "test"))
    assert row["image"].size == PIL.Image.open(tmp_path / "out" / "images" / "img651.jpg").size == (1000, 500)


def test_nothing_is_left_of_an_empty_data_set(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("\n", encoding="utf-8")
    rows = load_text_dataset("jsonl", tmp_path)
    for write in (write_jsonl, write_parquet):
        with pytest.raises(ValueError, match="there is no photo to write"):
            write(rows, tmp_path / "out", "train")
    assert list((tmp_path / "out").iterdir()) == []
