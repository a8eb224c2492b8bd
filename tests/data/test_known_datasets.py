"""Public data sets by name, each from a tree as its archives unpack."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from public_data_sets import UNPACKED, unpack

from transformers_tcm.data.known_datasets import (
    KNOWN_DATASETS,
    folder_of,
    known_dataset,
    load_text_dataset,
    missing_parts,
)
from transformers_tcm.data.loaders import text_features, with_random_access


def test_every_split_of_every_set_has_a_fixture() -> None:
    assert set(UNPACKED) == {(name, split) for name, known in KNOWN_DATASETS.items() for split in known.splits}


@pytest.mark.parametrize(("name", "split"), UNPACKED)
def test_every_split_is_read(name: str, split: str, tmp_path: Path) -> None:
    unpacked = UNPACKED[name, split]
    folder = unpack(tmp_path, name, split)
    assert missing_parts(name, folder, split) == []
    rows = load_text_dataset(name, tmp_path, split)
    assert rows.features == text_features()
    read = [tuple(zip(row["texts"], row["ignore"], strict=True)) for row in rows]
    assert read == list(unpacked.words)
    assert all(row["image"].size == (1000, 500) for row in rows)
    assert next(iter(load_text_dataset(name, folder, split)))["texts"] == [text for text, _ in unpacked.words[0]]


@pytest.mark.parametrize(("name", "split"), UNPACKED)
def test_what_is_missing_is_named_with_its_source(name: str, split: str, tmp_path: Path) -> None:
    folder = unpack(tmp_path, name, split)
    known = KNOWN_DATASETS[name]
    for place in UNPACKED[name, split].labels.values():
        (folder / place).unlink()
        if (folder / place).parent != folder and not list((folder / place).parent.iterdir()):
            (folder / place).parent.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        load_text_dataset(name, tmp_path, split)
    message = str(caught.value)
    if name in ("td500", "tr400"):  # labels lie among the photos
        assert "IMG_0030.gt" in message
    else:
        assert known.url in message
        assert known.splits[split].annotations[0] in message


def test_names_are_found_however_they_are_written(tmp_path: Path) -> None:
    assert known_dataset("Total_Text") is KNOWN_DATASETS["total-text"]
    with pytest.raises(ValueError, match=r"no data set 'imagenet' is known; there are icdar2013, "):
        known_dataset("imagenet")
    with pytest.raises(ValueError, match=r"ICDAR 2019 ArT has no split 'test'; there are train"):
        load_text_dataset("art", tmp_path, "test")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_text_dataset("art", tmp_path / "nowhere")
    assert folder_of("art", tmp_path) is None


@pytest.mark.parametrize("name", ["art", "synthtext"])
def test_photos_are_chosen_by_a_list(name: str, tmp_path: Path) -> None:
    unpack(tmp_path, name, "train")
    stem = Path(UNPACKED[name, "train"].photos[1]).stem
    (tmp_path / "list.txt").write_text(f"{stem}.jpg\n\n", encoding="utf-8")
    for include in ([stem], tmp_path / "list.txt"):
        assert [row["image_id"] for row in load_text_dataset(name, tmp_path, include=include)] == [f"{stem}.jpg"]


def test_listed_photos_that_are_not_there_are_named(tmp_path: Path) -> None:
    folder = unpack(tmp_path, "nighttime-art", "test")
    with pytest.raises(FileNotFoundError, match="1 listed photos are not in the data set: gt_9"):
        load_text_dataset("nighttime-art", tmp_path, "test", include=["gt_1", "gt_9.jpg"])
    (folder / "nighttime.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no nighttime\.txt in .*the list of names comes from the authors"):
        load_text_dataset("nighttime-art", tmp_path, "test")
    assert len(load_text_dataset("nighttime-art", tmp_path, "test", include=["gt_0"])) == 1


def test_the_wrong_orientation_of_a_photo_of_total_text_is_left_out(tmp_path: Path) -> None:
    folder = unpack(tmp_path, "total-text", "test")
    labels = folder / "txt_format" / "Test" / "poly_gt_img11.txt"
    labels.with_name("poly_gt_img651.txt").write_bytes(labels.read_bytes())
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for name in ("img11.jpg", "img651.jpg"):
        PIL.Image.fromarray(pixels).save(folder / "Images" / "Test" / name, exif=exif)
    upright, stored = load_text_dataset("total-text", tmp_path, "test")
    assert (upright["image_id"], stored["image_id"]) == ("img11.jpg", "img651.jpg")
    assert upright["image"].size == (40, 60)
    assert stored["image"].size == (60, 40)
    assert np.asarray(stored["image"])[20, 5].min() > 200


def test_streamed_photos_can_be_drawn_at_random(tmp_path: Path) -> None:
    unpack(tmp_path, "synthtext", "train")
    streamed = load_text_dataset("synthtext", tmp_path)
    table = with_random_access(streamed)
    assert table.features == text_features()
    assert [row["texts"] for row in table] == [row["texts"] for row in streamed]
    assert table[1]["image"].size == (1000, 500)
    assert with_random_access(table) is table
