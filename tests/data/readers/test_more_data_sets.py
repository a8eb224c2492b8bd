"""Outlines and mistakes of ArT, LSVT, TD500, SynthText and SynthText-150k."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from public_data_sets import FIXTURES

from transformers_tcm.data.loaders import photos_of
from transformers_tcm.data.readers import (
    load_art,
    load_ctw1500,
    load_synth_text,
    load_synth_text_150k,
    load_td500,
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    names = ("gt_0.jpg", "gt_1.jpg", "IMG_0030.JPG", "1001.jpg", "0060001.jpg", "8/ballet_106_0.jpg", "9/hut_1_0.jpg")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (100, 80)).save(folder / name)
    return folder


def test_art_has_outlines_of_any_number_of_points(images: Path) -> None:
    first, second = load_art(images, FIXTURES / "art" / "train_labels.json")
    assert [len(polygon) for polygon in first["polygons"]] == [8, 4]
    assert second["polygons"][0] == [[5, 5], [40, 5], [40, 25], [5, 25]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", r"labels\.json: expected an object with a list of words"),
        ("{", r"labels\.json: no JSON: .*line 1"),
        ('{"gt_0": [{"points": [[1, 2]]}]}', r"labels\.json, gt_0, word 1: expected \"transcription\" and \"points\""),
        ('{"gt_0": [{"transcription": "a", "points": [[1, 2], [3, 4]]}]}', r"gt_0: polygon 0 has shape \(2, 2\)"),
        ('{"gt_7": []}', r"labels\.json: no photos in .* for 1 names: gt_7"),
    ],
)
def test_what_art_cannot_be_is_named(images: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "labels.json").write_text(content, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_art(images, tmp_path / "labels.json")


def test_rectangles_of_td500_are_turned_clockwise_about_their_centre(images: Path) -> None:
    photo = images / "only" / "IMG_0030.JPG"
    photo.parent.mkdir()
    shutil.copy(images / "IMG_0030.JPG", photo)
    [row] = load_td500(photo.parent, FIXTURES / "td500")
    level, turned = np.array(row["polygons"])
    assert level.tolist() == [[40, 20], [100, 20], [100, 30], [40, 30]]
    # Of 80 x 20 pixels around (50, 50): what was the upper left corner is now the upper right one.
    np.testing.assert_allclose(turned, [[60, 10], [60, 90], [40, 90], [40, 10]], atol=1e-3)


def test_bad_lines_of_td500_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no photos in"):
        load_td500(tmp_path, tmp_path)
    PIL.Image.new("RGB", (100, 80)).save(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"expected .*a\.gt"):
        load_td500(tmp_path, tmp_path)
    (tmp_path / "a.gt").write_text("0 0 1 2 3 4 0\n0 0 1 2 3 4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.gt, line 2: expected `index difficult x y width height angle`"):
        load_td500(tmp_path, tmp_path)


def test_ctw1500_of_the_first_release_has_points_relative_to_a_corner(images: Path) -> None:
    [absolute] = load_ctw1500(images, FIXTURES / "ctw1500_test")
    [relative] = load_ctw1500(images, FIXTURES / "ctw1500_first_release")
    assert relative["polygons"][0] == absolute["polygons"][0]
    assert (relative["texts"], relative["ignore"]) == ([None], [False])


@pytest.mark.parametrize("line", ["1,2,3,####word", "1,2,x", ",".join("1" * 32) + ",####word"])
def test_bad_lines_of_ctw1500_are_named(images: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "1001.txt").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"1001\.txt, line 1: expected `x1,y1,…,x14,y14,####word`"):
        load_ctw1500(images, tmp_path)


def test_synth_text_is_streamed_word_by_word(images: Path) -> None:
    first, second = load_synth_text(images, FIXTURES / "synth_text" / "gt.mat")
    assert first["polygons"][0] == [[10, 5], [40, 5], [40, 15], [10, 15]]
    assert first["polygons"][2][0] == [40, 35]
    assert second["polygons"] == [[[10, 5], [40, 5], [40, 15], [10, 15]]]


def test_what_synth_text_cannot_be_is_named(images: Path, tmp_path: Path) -> None:
    from scipy.io import savemat

    with pytest.raises(FileNotFoundError, match="no such file"):
        load_synth_text(images, tmp_path / "gt.mat")
    (tmp_path / "gt.mat").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"gt\.mat: expected a file of Matlab with imnames, wordBB, txt"):
        next(iter(load_synth_text(images, tmp_path / "gt.mat")))

    def cell(value: Any) -> np.ndarray:
        table = np.empty((1, 1), dtype=object)
        table[0, 0] = value
        return table

    columns = {"imnames": cell("gt_0.jpg"), "wordBB": cell(np.zeros((2, 4))), "txt": cell(np.array(["two words"]))}
    savemat(tmp_path / "gt.mat", columns)
    with pytest.raises(ValueError, match=r"gt_0\.jpg: expected boxes \(2, 4, 2\) for 2 words, got \(2, 4, 1\)"):
        next(iter(load_synth_text(images, tmp_path / "gt.mat")))
    savemat(tmp_path / "gt.mat", columns | {"imnames": cell("other.jpg")})
    with pytest.raises(FileNotFoundError, match=r"gt\.mat: no such image: .*other\.jpg"):
        next(iter(load_synth_text(images, tmp_path / "gt.mat")))


def test_bezier_curves_become_outlines(images: Path) -> None:
    [row] = load_synth_text_150k(images, FIXTURES / "synth_text_150k" / "train.json", num_points=4)
    assert row["polygons"][0] == [[10, 20], [70, 20], [70, 40], [10, 40]]
    [fine] = load_synth_text_150k(images, FIXTURES / "synth_text_150k" / "train.json")
    # The middle of a curve weighs its inner control points with 3/4, its ends with 1/4: 20/4 + 10 * 3/4.
    assert min(y for _, y in fine["polygons"][0]) == pytest.approx(12.5, abs=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bezier_pts": [1, 2]}, r"annotation 1: expected 16 numbers `bezier_pts`, got 2"),
        ({"image_id": 5}, r"annotation 1: there is no image 5"),
    ],
)
def test_what_curves_cannot_be_is_named(images: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = json.loads((FIXTURES / "synth_text_150k" / "train.json").read_text(encoding="utf-8"))
    content["annotations"][0] |= change
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        next(iter(load_synth_text_150k(images, tmp_path / "train.json")))


def test_photos_of_several_folders_are_sorted_by_name(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.png"):
        (tmp_path / name).parent.mkdir()
        PIL.Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert [photo.name for photo in photos_of([tmp_path / "a", tmp_path / "b"])] == ["1.png", "2.png"]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        photos_of([tmp_path / "c"])
