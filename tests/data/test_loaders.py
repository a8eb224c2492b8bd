"""Loaders: both formats, declared features, and errors that name file and line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transformers_tcm.data.loaders import load_icdar2015, load_jsonl, row_to_instances, save_jsonl, text_features
from transformers_tcm.instances import TextInstances

LINE = "1,2,11,2,11,6,1,6,word\n"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folders `images` (three photos, one no photo) and `gt`."""
    (tmp_path / "images").mkdir()
    (tmp_path / "gt").mkdir()
    for index, suffix in enumerate(("jpg", "png", "JPG"), start=1):
        Image.new("RGB", (20 + index, 10)).save(tmp_path / "images" / f"img_{index}.{suffix}")
        (tmp_path / "gt" / f"gt_img_{index}.txt").write_text("\ufeff" + LINE * (index - 1), encoding="utf-8")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"")
    return tmp_path


def load(photos: Path, **selection: object):
    return load_icdar2015(photos / "images", str(photos / "gt"), **selection)


def test_load_icdar2015(photos) -> None:
    (photos / "gt" / "gt_img_2.txt").write_text(LINE + "3,4,9,4,9,8,3,8,###\r\n1,1,5,1,5,5,1,5\n", encoding="utf-8")
    dataset = load(photos)
    assert dataset.features == text_features()
    assert dataset["image_id"][:] == ["img_1.jpg", "img_2.png", "img_3.JPG"]
    row = dataset[1]
    assert row["image"].size == (22, 10)
    assert row["texts"] == ["word", "###", None]
    assert row["ignore"] == [False, True, False]
    instances = row_to_instances(row)
    assert instances.polygons[1].tolist() == [[3, 4], [9, 4], [9, 8], [3, 8]]
    assert len(row_to_instances(dataset[0])) == 0


def test_photos_are_referred_to_and_not_copied(photos) -> None:
    from datasets import Image as ImageFeature

    stored = load(photos).cast_column("image", ImageFeature(decode=False))[0]["image"]
    assert stored == {"path": str(photos / "images" / "img_1.jpg"), "bytes": None}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"include": ["img_3.JPG", "img_1.jpg"]}, ["img_1.jpg", "img_3.JPG"]),
        ({"include": ["img_2"]}, ["img_2.png"]),
        ({"exclude": ["img_2.png", "img_1"]}, ["img_3.JPG"]),
        ({"include": ["img_1", "img_2"], "exclude": ["img_2"]}, ["img_1.jpg"]),
    ],
)
def test_include_and_exclude(photos, selection, expected) -> None:
    assert load(photos, **selection)["image_id"][:] == expected
    files = {}
    for name, listed in selection.items():
        files[name] = photos / f"{name}.txt"
        files[name].write_text("\n".join(listed) + "\n\n", encoding="utf-8")
    assert load(photos, **files)["image_id"][:] == expected


def test_only_chosen_photos_need_annotations(photos) -> None:
    (photos / "gt" / "gt_img_2.txt").unlink()
    assert len(load(photos, exclude=["img_2"])) == 2
    with pytest.raises(FileNotFoundError, match=r"img_2\.png: expected .*gt_img_2\.txt"):
        load(photos)


def test_missing_files_are_named(photos, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`images`: no such folder: .*nowhere"):
        load_icdar2015(tmp_path / "nowhere", photos / "gt")
    with pytest.raises(FileNotFoundError, match=r"`annotations`: no such folder: .*nowhere"):
        load_icdar2015(photos / "images", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"1 listed photos are not in .*images: img_9"):
        load(photos, exclude=["img_9", "img_1"])
    with pytest.raises(FileNotFoundError, match="no photo to load"):
        load(photos, include=[])
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        load(photos, include=photos / "absent.txt")


@pytest.mark.parametrize("bad", ["1,2,3,4,5,6,word", "1,2,3,4,5,6,7,inf,word"])
def test_bad_icdar_lines_are_named(photos, bad: str) -> None:
    (photos / "gt" / "gt_img_3.txt").write_text(f"{LINE}{bad}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"gt_img_3\.txt, line 2: expected `x1,y1"):
        load(photos)


def test_other_encodings_are_refused(photos) -> None:
    (photos / "gt" / "gt_img_1.txt").write_bytes("1,2,11,2,11,6,1,6,café".encode("latin-1"))
    with pytest.raises(ValueError, match=r"gt_img_1\.txt: not a UTF-8 text file"):
        load(photos)


def test_save_jsonl_writes_what_load_jsonl_reads(photos) -> None:
    annotations = [
        TextInstances([[[0, 0], [9, 0.5], [9, 5]], np.ones((7, 2))], texts=["caf\u00e9\u2028", None], ignore=[0, 1]),
        TextInstances([]),
    ]
    images = [photos / "images" / "img_3.JPG", photos / "images" / "img_1.jpg"]
    save_jsonl(photos / "words.jsonl", images, annotations)
    first = json.loads((photos / "words.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert first["image"] == "images/img_3.JPG"
    dataset = load_jsonl(str(photos / "words.jsonl"))
    assert dataset.features == text_features()
    assert dataset["image_id"][:] == ["img_3.JPG", "img_1.jpg"]
    assert dataset[0]["image"].size == (23, 10)
    assert row_to_instances(dataset[0]).to_json() == annotations[0].to_json()
    assert len(row_to_instances(dataset[1])) == 0


def test_jsonl_needs_no_texts_and_no_ignore(photos) -> None:
    square = [[0, 0], [5, 0], [5, 5], [0, 5]]
    line = json.dumps({"image": "images/img_1.jpg", "polygons": [square], "source": "elsewhere"})
    (photos / "words.jsonl").write_text(f"{line}\n\n", encoding="utf-8")
    row = load_jsonl(photos / "words.jsonl")[0]
    assert (row["polygons"], row["texts"], row["ignore"]) == ([square], [None], [False])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polygons": [[[0, 0], [1, 1]]]}, r"polygon 0 has shape \(2, 2\)"),
        ({"polygons": [[[0, 0], [1, 1], [2]]]}, "something else than numbers"),
        ({"polygons": [[[0, 0], [1, 1], [2, "x"]]]}, "something else than numbers"),
        ({"polygons": [[[0, 0], [1, 1], [2, None]]]}, "NoneType|NaN"),
        ({"polygons": None}, 'expected an object with "image"'),
        ({"image": 3}, 'expected an object with "image"'),
        ({"texts": []}, "`texts` has 0 entries for 1 polygons"),
        ({"texts": [3]}, r"entry 0 of `texts` is 3; expected a string"),
        ({"ignore": [True, False]}, "`ignore` has 2 entries for 1 polygons"),
    ],
)
def test_bad_json_lines_are_named(photos, change, message: str) -> None:
    good = {"image": "images/img_1.jpg", "polygons": [[[0, 0], [5, 0], [5, 5]]]}
    lines = [json.dumps(good), json.dumps({**good, **change})]
    (photos / "words.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"words\.jsonl, line 2: .*({message})"):
        load_jsonl(photos / "words.jsonl")


def test_lines_that_are_no_json_are_named(photos) -> None:
    for line in ('{"image": ', "[]"):
        (photos / "words.jsonl").write_text(line, encoding="utf-8")
        with pytest.raises(ValueError, match=r"words\.jsonl, line 1: "):
            load_jsonl(photos / "words.jsonl")


def test_missing_photos_of_json_lines_are_named(photos) -> None:
    (photos / "words.jsonl").write_text('{"image": "images/img_7.jpg", "polygons": []}', encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"words\.jsonl, line 1: no such image: .*img_7\.jpg"):
        load_jsonl(photos / "words.jsonl")
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"):
        load_jsonl(photos / "absent.jsonl")


def test_other_forms_of_lines_are_told_from_the_file(photos) -> None:
    arc = ",".join(f"{x},{y}" for x, y in [(i, 2) for i in range(7)] + [(6 - i, 6) for i in range(7)])
    (photos / "gt" / "gt_img_1.txt").write_bytes(f"{arc},OPEN\r{arc}\r\ufeff{arc},####SHOP\r".encode())
    (photos / "gt" / "gt_img_2.txt").write_text('1, 2, 11, 6, "A"\n', encoding="utf-8")
    dataset = load(photos)
    assert [len(polygon) for polygon in dataset[0]["polygons"]] == [14, 14, 14]
    assert dataset[0]["texts"] == ["OPEN", None, "SHOP"]
    assert dataset[1]["polygons"] == [[[1, 2], [11, 2], [11, 6], [1, 6]]]
    assert dataset[1]["texts"] == ["A"]


def test_hidden_files_of_macos_are_no_photos_and_heic_is_named(photos) -> None:
    (photos / "images" / "._img_1.jpg").write_bytes(b"\x00\x05\x16\x07")
    assert len(load(photos)) == 3
    (photos / "images" / "img_4.heic").touch()
    with pytest.raises(ValueError, match=r"1 photos in .* are HEIC.*pillow-heif.*img_4\.heic"):
        load(photos)
    assert len(load(photos, exclude=["img_4"])) == 3


def test_photos_in_subfolders_are_hinted_at(photos) -> None:
    with pytest.raises(FileNotFoundError, match=r"0 there; there are some in its subfolders, such as .*images"):
        load_icdar2015(photos, photos / "gt")


def test_accents_are_composed_in_names_and_words(photos) -> None:
    (photos / "images" / "img_1.jpg").rename(photos / "images" / "cafe\u0301.jpg")
    (photos / "gt" / "gt_caf\u00e9.txt").write_text("1,2,11,2,11,6,1,6,cafe\u0301\n", encoding="utf-8")
    [row] = load(photos, include=["caf\u00e9"])
    assert row_to_instances(row).texts == ["caf\u00e9"]
    line = json.dumps({"image": "images/caf\u00e9.jpg", "polygons": []}, ensure_ascii=False)
    (photos / "words.jsonl").write_text(f"{line}\r\ufeff{line}", encoding="utf-8")
    assert len(load_jsonl(photos / "words.jsonl")) == 2


def test_illegible_words_of_json_lines_do_not_count_unless_it_is_said(photos) -> None:
    row = {"image": "images/img_1.jpg", "polygons": [[[0, 0], [5, 0], [5, 5]]] * 2, "texts": ["### ", "A"]}
    lines = [json.dumps(row), json.dumps({**row, "ignore": [False, False]})]
    (photos / "words.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert load_jsonl(photos / "words.jsonl")["ignore"][:] == [[True, False], [False, False]]
