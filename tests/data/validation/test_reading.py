"""Lenient reading: what the loaders read is read alike; where they stop, reading goes on and tells."""

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.data.loaders import load_icdar2015, load_jsonl
from transformers_tcm.data.validation import Finding, check_photos, read_icdar2015_labels, read_jsonl_labels

LINE = "1,2,11,2,11,6,1,6,word\n"
SQUARE = [[0, 0], [5, 0], [5, 5], [0, 5]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folders `images` (three photos, one no photo) and `gt`."""
    (tmp_path / "images").mkdir()
    (tmp_path / "gt").mkdir()
    for index, suffix in enumerate(("jpg", "png", "JPG"), start=1):
        PIL.Image.new("RGB", (20 + index, 10)).save(tmp_path / "images" / f"img_{index}.{suffix}")
        (tmp_path / "gt" / f"gt_img_{index}.txt").write_text("\ufeff" + LINE * (index - 1), encoding="utf-8")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"")
    return tmp_path


def told(findings: list[Finding]) -> list[tuple[str, str, int | None]]:
    return [(finding.kind, finding.file.name, finding.line) for finding in findings]


def test_what_the_icdar_loader_reads_is_read_alike(photos: Path) -> None:
    lines = LINE + "\n3,4,9,4,9,8,3,8,###\r\n1,1,5,1,5,5,1,5\n1,1,5,1,5,5,1,5,a,b\u2028c"
    (photos / "gt" / "gt_img_2.txt").write_bytes(lines.encode())
    read, findings = read_icdar2015_labels(photos / "images", str(photos / "gt"))
    assert findings == []
    rows = load_icdar2015(photos / "images", photos / "gt")
    assert [photo.image.name for photo in read] == rows["image_id"][:]
    for photo, row in zip(read, rows, strict=True):
        assert [word.polygon.tolist() for word in photo.words] == row["polygons"]
        assert [word.text for word in photo.words] == row["texts"]
        assert [word.ignore for word in photo.words] == row["ignore"]
    assert [word.line for word in read[1].words] == [1, 3, 4, 5]


def test_all_bad_lines_of_all_files_are_told(photos: Path) -> None:
    bad = "1,2,3,4,5,6,word\n"
    (photos / "gt" / "gt_img_1.txt").write_text(f"{bad}{LINE}{bad}", encoding="utf-8")
    (photos / "gt" / "gt_img_2.txt").write_bytes("1,2,11,2,11,6,1,6,café".encode("latin-1"))
    (photos / "gt" / "gt_img_3.txt").write_text(f"{LINE}x,2,3,4,5,6,7,8,word\n1,2,3,4,5,6,7,nan,a\n", encoding="utf-8")
    read, findings = read_icdar2015_labels(photos / "images", photos / "gt")
    assert told(findings) == [
        ("unreadable-labels", "gt_img_1.txt", 1),
        ("unreadable-labels", "gt_img_1.txt", 3),
        ("unreadable-labels", "gt_img_2.txt", None),
        ("unreadable-labels", "gt_img_3.txt", 2),
    ]
    assert [len(photo.words) for photo in read] == [1, 0, 2]
    assert ("not-finite", "gt_img_3.txt", 3) in told(check_photos(read, findings).findings)


def test_photos_without_labels_and_labels_without_photos(photos: Path) -> None:
    (photos / "gt" / "gt_img_1.txt").rename(photos / "gt" / "img_1.txt")
    (photos / "gt" / "gt_img_2.txt").rename(photos / "gt" / "gt_img_9.txt")
    _, findings = read_icdar2015_labels(photos / "images", photos / "gt")
    assert told(findings) == [
        ("missing-photo", "gt_img_9.txt", None),
        ("missing-labels", "img_1.jpg", None),
        ("missing-labels", "img_2.png", None),
    ]
    assert findings[1].message.endswith("; img_1.txt is there: rename it")


def test_a_list_of_photos_limits_what_is_looked_at(photos: Path) -> None:
    (photos / "gt" / "gt_img_1.txt").unlink()
    (photos / "gt" / "gt_img_9.txt").write_text("", encoding="utf-8")
    (photos / "val.txt").write_text("img_2\n\nimg_3.JPG\nimg_7\n", encoding="utf-8")
    read, findings = read_icdar2015_labels(photos / "images", photos / "gt", photos / "val.txt")
    assert [photo.image.name for photo in read] == ["img_2.png", "img_3.JPG"]
    assert told(findings) == [("missing-photo", "val.txt", 4)]


def test_folders_have_to_be_there_and_hold_something(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*nowhere"):
        read_icdar2015_labels(tmp_path / "nowhere", photos / "gt")
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        read_icdar2015_labels(photos / "images", photos / "gt", photos / "absent.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="neither a photo"):
        read_icdar2015_labels(tmp_path / "empty", tmp_path / "empty")


def write(photos: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (photos / "words.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return photos / "words.jsonl"


def test_what_the_jsonl_loader_reads_is_read_alike(photos: Path) -> None:
    first = {"image": "images/img_3.JPG", "polygons": [SQUARE, SQUARE[:3]], "texts": ["a\u2028b", None]}
    path = write(photos, {**first, "ignore": [True, False]}, "", {"image": "images/img_1.jpg", "polygons": []})
    read, findings = read_jsonl_labels(str(path))
    assert findings == []
    for photo, row in zip(read, load_jsonl(path), strict=True):
        assert photo.image.name == row["image_id"]
        assert [word.polygon.tolist() for word in photo.words] == row["polygons"]
        assert [word.text for word in photo.words] == row["texts"]
        assert [word.ignore for word in photo.words] == row["ignore"]
    assert [(photo.line, [word.number for word in photo.words]) for photo in read] == [(1, [1, 2]), (3, [])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polygons": [3]}, "word 1: a polygon is a list of points, not 3"),
        ({"polygons": [[[0, 0], [1, 1], [2]]]}, "word 1: .*inhomogeneous"),
        ({"polygons": [[[0, 0], [1, 1], [2, "x"]]]}, "word 1: could not convert"),
        ({"polygons": [[[0, 0], [1, 1], [2, 10**400]]]}, "word 1: .*too large"),
        ({"polygons": [[0, 1, 2]]}, r"word 1: a polygon is a list of points \[x, y\], got shape \(3,\)"),
        ({"polygons": None}, 'expected an object with "image"'),
        ({"image": 3}, 'expected an object with "image"'),
        ({"texts": []}, '"texts" has to be a list with one entry for each of the 1 polygons'),
        ({"texts": "a"}, '"texts" has to be a list'),
        ({"texts": [3]}, "word 1: a word is a string or null, not 3"),
        ({"ignore": [True, False]}, '"ignore" has to be a list'),
        ({"ignore": ["no"]}, 'word 1: "ignore" is true or false, not no'),
    ],
)
def test_bad_json_lines_are_told_and_the_others_read(photos: Path, change: dict, message: str) -> None:
    good = {"image": "images/img_1.jpg", "polygons": [SQUARE]}
    read, findings = read_jsonl_labels(write(photos, {**good, **change}, {**good, "image": "images/img_2.png"}))
    assert told(findings) == [("unreadable-labels", "words.jsonl", 1)]
    assert re.match(message, findings[0].message)
    assert read[-1].image.name == "img_2.png"
    assert len(read[-1].words) == 1


@pytest.mark.parametrize("polygon", [[], [[1, 1]], [[0, 0], [None, 1], [2, 2]]])
def test_what_can_be_read_is_left_to_the_checks(photos: Path, polygon: list) -> None:
    read, findings = read_jsonl_labels(write(photos, {"image": "images/img_1.jpg", "polygons": [polygon]}))
    assert findings == []
    assert read[0].words[0].polygon.shape == (len(polygon), 2)
    assert len(check_photos(read).findings) == 1


@pytest.mark.parametrize("line", ['{"image": ', "[]", "[" * 100_000, "NaN"])
def test_lines_that_are_no_objects_are_told(photos: Path, line: str) -> None:
    good = {"image": "images/img_1.jpg", "polygons": [SQUARE]}
    read, findings = read_jsonl_labels(write(photos, line, good))
    assert told(findings) == [("unreadable-labels", "words.jsonl", 1)]
    assert len(read) == 1


@pytest.mark.parametrize("name", ["images/img_7.jpg", "", "images", "\0", "x" * 5000])
def test_missing_photos_are_told(photos: Path, name: str) -> None:
    path = write(photos, {"image": name, "polygons": []}, {"image": "images/img_1.jpg", "polygons": []})
    read, findings = read_jsonl_labels(path)
    assert told(findings) == [("missing-photo", "words.jsonl", 1)]
    assert len(read) == 1


def test_photos_of_a_folder_that_no_line_names(photos: Path) -> None:
    path = write(photos, {"image": "images/img_1.jpg", "polygons": []}, {"image": "images/img_1.jpg", "polygons": []})
    read, findings = read_jsonl_labels(path, photos / "images")
    assert told(findings) == [("missing-labels", "img_2.png", None), ("missing-labels", "img_3.JPG", None)]
    # The photo that two lines name:
    assert told(check_photos(read).findings) == [("duplicate-photo", "words.jsonl", 2)]


def test_files_have_to_be_there_and_hold_something(photos: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*absent\.jsonl"):
        read_jsonl_labels(photos / "absent.jsonl")
    with pytest.raises(FileNotFoundError, match=r"words\.jsonl is empty"):
        read_jsonl_labels(write(photos, "\n"))
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*nowhere"):
        read_jsonl_labels(write(photos, "{}"), photos / "nowhere")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=3),
)
rows = st.fixed_dictionaries(
    {"image": st.just("photo.png"), "polygons": st.lists(json_values, max_size=3)},
    optional={"texts": json_values, "ignore": json_values},
)


@given(row=rows | json_values)
def test_no_row_raises(row: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-row"
    folder.mkdir(exist_ok=True)
    PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "photo.png")
    (folder / "any.jsonl").write_text(json.dumps(row), encoding="utf-8")
    report = check_photos(*read_jsonl_labels(folder / "any.jsonl"))
    assert report.photos or report.findings
