"""Readers of data sets, on small files in the form in which the data sets come."""

from pathlib import Path

import PIL.Image
import pytest

from transformers_tcm.data.readers import load_ctw1500, load_total_text

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
    with pytest.raises(FileNotFoundError, match="no XML files"):
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
