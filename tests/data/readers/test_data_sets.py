"""Readers of data sets, on small files in the form in which the data sets come."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from transformers_tcm.data.readers import (
    load_coco,
    load_coco_text,
    load_ctw1500,
    load_mlt,
    load_text_ocr,
    load_total_text,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "readers"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def test_ctw1500_has_fourteen_points_a_word(images: Path) -> None:
    PIL.Image.new("RGB", (100, 80)).save(images / "1001.jpg")
    [row] = load_ctw1500(images, FIXTURES / "ctw1500")
    assert [len(polygon) for polygon in row["polygons"]] == [14, 14]
    assert row["polygons"][0][6] == [70, 20]
    assert (row["texts"], row["ignore"]) == (["SALE & MORE", "###"], [False, True])


def test_bad_boxes_of_ctw1500_are_named(images: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"1001\.xml: no such image: .*1001\.jpg"):
        load_ctw1500(images, FIXTURES / "ctw1500")
    with pytest.raises(FileNotFoundError, match="no XML or text files"):
        load_ctw1500(images, tmp_path)
    PIL.Image.new("RGB", (100, 80)).save(images / "1001.jpg")
    text = (FIXTURES / "ctw1500" / "1001.xml").read_text(encoding="utf-8")
    (tmp_path / "1001.xml").write_text(text.replace("5,50,8,50", "5,50,8"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"1001\.xml, box 2: expected <segs>"):
        load_ctw1500(images, tmp_path)


def test_total_text_has_lines_of_x_and_y(images: Path) -> None:
    PIL.Image.new("RGB", (400, 400)).save(images / "img11.jpg")
    [row] = load_total_text(images, FIXTURES / "total_text")
    assert [len(polygon) for polygon in row["polygons"]] == [6, 4, 4]
    assert row["polygons"][0][1] == [161, 323]
    assert (row["texts"], row["ignore"]) == (["the", "ALEX'S", "###"], [False, False, True])


@pytest.mark.parametrize("bad", ["x: [[1 2 3]], y: [[1 2]], ornt: [u'c'], transcriptions: [u'a']", "1,2,3"])
def test_bad_lines_of_total_text_are_named(images: Path, tmp_path: Path, bad: str) -> None:
    with pytest.raises(FileNotFoundError, match="no photos in"):
        load_total_text(images, tmp_path)
    PIL.Image.new("RGB", (400, 400)).save(images / "img11.jpg")
    with pytest.raises(FileNotFoundError, match=r"expected .*poly_gt_img11\.txt"):
        load_total_text(images, tmp_path)
    (tmp_path / "poly_gt_img11.txt").write_text(f"{bad}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"poly_gt_img11\.txt, line 1: expected `x: "):
        load_total_text(images, tmp_path)


def test_total_text_of_matlab_has_a_table(images: Path) -> None:
    PIL.Image.new("RGB", (400, 400)).save(images / "img12.jpg")
    [row] = load_total_text(images, FIXTURES / "total_text")
    assert [len(polygon) for polygon in row["polygons"]] == [6, 4, 4]
    assert row["polygons"][0][1] == [161, 323]
    assert (row["texts"], row["ignore"]) == (["the", "ALEX'S", "###"], [False, False, True])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"other": [[1.0]]}, r"poly_gt_img12\.mat: expected a file of Matlab with the table `polygt`"),
        ({"polygt": [["x:", [1, 2, 3], "y:", [1, 2], "word", "c"]]}, r"row 1: 3 numbers x and 2 numbers y"),
        (b"text", r"poly_gt_img12\.mat: expected a file of Matlab"),
    ],
    ids=["another table", "an odd row", "no such file"],
)
def test_bad_tables_of_total_text_are_named(images: Path, tmp_path: Path, table: Any, message: str) -> None:
    from scipy.io import savemat

    PIL.Image.new("RGB", (400, 400)).save(images / "img12.jpg")
    if isinstance(table, bytes):
        (tmp_path / "poly_gt_img12.mat").write_bytes(table)
    else:
        cells = {name: np.empty((len(rows), len(rows[0])), dtype=object) for name, rows in table.items()}
        for name, rows in table.items():
            for row, column in np.ndindex(cells[name].shape):
                cells[name][row, column] = rows[row][column]
        savemat(tmp_path / "poly_gt_img12.mat", cells)
    with pytest.raises(ValueError, match=message):
        load_total_text(images, tmp_path)


def test_mlt_has_a_script_before_the_word(images: Path) -> None:
    PIL.Image.new("RGB", (100, 80)).save(images / "img_1.jpg")
    [row] = load_mlt(images, FIXTURES / "mlt")
    assert row["texts"] == ["Hotel, Bar", "فندق", "###", "###"]
    assert row["ignore"] == [False, False, True, True]
    assert row["polygons"][0] == [[10, 10], [60, 12], [60, 30], [10, 28]]
    [latin] = load_mlt(images, FIXTURES / "mlt", scripts=["Latin"])
    assert latin["ignore"] == [False, True, True, True]


def test_mlt_of_2019_names_its_files_as_the_photos(images: Path, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (100, 80)).save(images / "tr_img_00001.jpg")
    (tmp_path / "tr_img_00001.txt").write_text("0,0,9,0,9,9,0,9,Korean,\uac00\n", encoding="utf-8")
    assert load_mlt(images, tmp_path)[0]["texts"] == ["\uac00"]


@pytest.mark.parametrize("line", ["0,0,9,0,9,9,0,9,a", "0,0,9,0,9,9,0,9,Klingon,a", "0,0,9,0,9,9,0,x,Latin,a"])
def test_bad_lines_of_mlt_are_named(images: Path, tmp_path: Path, line: str) -> None:
    PIL.Image.new("RGB", (100, 80)).save(images / "img_1.jpg")
    with pytest.raises(FileNotFoundError, match=r"expected gt_img_1\.txt or img_1\.txt"):
        load_mlt(images, tmp_path)
    (tmp_path / "gt_img_1.txt").write_text(f"0,0,9,0,9,9,0,9,Latin,a\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"gt_img_1\.txt, line 2: expected `x1,y1,.*,script,word`"):
        load_mlt(images, tmp_path)
    with pytest.raises(ValueError, match="no scripts of MLT: runic; there are arabic"):
        load_mlt(images, tmp_path, scripts=["Runic"])


@pytest.fixture
def coco_photos(images: Path) -> Path:
    for name in ("COCO_train2014_000000390310.jpg", "COCO_train2014_000000217925.jpg", "a4ea732cd3d5948a.jpg"):
        PIL.Image.new("RGB", (100, 80)).save(images / name)
    return images


def test_coco_text_has_masks_and_legibility(coco_photos: Path) -> None:
    train, val = load_coco_text(coco_photos, FIXTURES / "coco_text" / "cocotext.v2.json")
    assert (train["texts"], train["ignore"]) == (["try", None], [False, True])
    assert train["polygons"] == [[[10.5, 10], [40, 12], [40, 24], [10.5, 22]], [[50, 10], [70, 10], [60, 20]]]
    assert val["texts"] == ["out"]
    [only] = load_coco_text(coco_photos, FIXTURES / "coco_text" / "cocotext.v2.json", split="val")
    assert only["image_id"] == "COCO_train2014_000000217925.jpg"
    with pytest.raises(FileNotFoundError, match=r"no images of 'test', there are those of \['train', 'val'\]"):
        load_coco_text(coco_photos, FIXTURES / "coco_text" / "cocotext.v2.json", split="test")


def test_text_ocr_has_points_and_words_that_nobody_could_read(coco_photos: Path) -> None:
    [row] = load_text_ocr(coco_photos, FIXTURES / "text_ocr" / "TextOCR_0.1_train.json")
    assert (row["texts"], row["ignore"]) == (["Performance", "."], [False, True])
    assert row["polygons"][0] == [[10, 10], [50, 12], [49.5, 24], [10, 22]]


def test_coco_has_lists_of_images_and_annotations(coco_photos: Path, tmp_path: Path) -> None:
    words = [
        {"id": 7, "image_id": 1, "bbox": [10, 20, 30, 10], "segmentation": [], "text": "box", "category_id": 1},
        {"id": 8, "image_id": 1, "bbox": [0, 0, 9, 9], "segmentation": {"counts": [81], "size": [9, 9]}, "iscrowd": 1},
    ]
    photos = [{"id": 1, "file_name": "a4ea732cd3d5948a.jpg"}, {"id": 2, "file_name": "COCO_train2014_000000390310.jpg"}]
    file = tmp_path / "coco.json"
    file.write_text(json.dumps({"images": photos, "annotations": words}))
    one, without = load_coco(coco_photos, file)
    assert one["polygons"] == [[[10, 20], [40, 20], [40, 30], [10, 30]], [[0, 0], [9, 0], [9, 9], [0, 9]]]
    assert (one["texts"], one["ignore"]) == (["box", None], [False, True])
    assert without["polygons"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"words\.json: no JSON: .*line 1"),
        ("[]", r'words\.json: expected "imgs" and "anns"'),
        ('{"images": [], "annotations": []}', r"words\.json: no images"),
        ('{"images": [{"id": 1}], "annotations": [{"id": 5, "image_id": 2}]}', r"annotation 5: there is no image 2"),
        (
            '{"images": [{"id": 1}], "annotations": [{"id": 5, "image_id": 1, "bbox": [1, 2]}]}',
            r"words\.json, annotation 5: object 1: expected a `segmentation`",
        ),
        ('{"images": [{"id": 1, "file_name": "x.jpg"}]}', r"words\.json, image 1: no such image"),
    ],
)
def test_what_coco_cannot_be_is_named(images: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "words.json").write_text(content, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_coco(images, tmp_path / "words.json")
