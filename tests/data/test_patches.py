"""Patches of large images on disk, and submissions of what is found in them."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transformers_tcm.data.patches import PADDING, PatchSettings, read_task1, split_images, write_task1
from transformers_tcm.dota import parse_dota
from transformers_tcm.instances import OrientedInstances

SETTINGS = PatchSettings(sizes=(128,), gaps=(32,))
LABELS = (
    "imagesource:x\ngsd:1\n"
    "10 10 30 10 30 20 10 20 ship 0\n"
    "90 40 120 40 120 60 90 60 plane 1\n"  # in the overlap of two patches
    "120 100 136 100 136 110 120 110 ship 0\n"  # half of it in the first patch, all in the second
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (128, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "P1.png")
    (tmp_path / "labels" / "P1.txt").write_text(LABELS)
    return tmp_path


def split(folder: Path, workers: int = 1) -> list[tuple[str, int]]:
    return list(split_images(folder / "images", folder / "labels", folder / "out", SETTINGS, workers))


def test_patches_hold_their_part_of_the_image_and_whole_objects(folder: Path) -> None:
    assert split(folder) == [("P1.png", 2)]
    assert sorted(path.name for path in (folder / "out/images").iterdir()) == [
        "P1__128__0___0.png",
        "P1__128__72___0.png",
    ]
    whole = np.asarray(Image.open(folder / "images/P1.png"))
    patch = np.asarray(Image.open(folder / "out/images/P1__128__72___0.png"))
    np.testing.assert_array_equal(patch, whole[:, 72:200])
    first, second = (parse_dota((folder / "out/labelTxt" / f"P1__128__{x}___0.txt").read_text()) for x in (0, 72))
    assert [(one.name, one.difficult) for one in first] == [("ship", 0), ("plane", 1)]
    assert [(one.name, one.difficult) for one in second] == [("plane", 1), ("ship", 0)]
    np.testing.assert_array_equal(second[0].polygon[0], [18, 40])


def test_small_images_are_padded_and_objects_that_are_cut_off_marked(folder: Path) -> None:
    Image.new("RGB", (100, 90), (1, 2, 3)).save(folder / "images" / "P1.png")
    (folder / "labels" / "P1.txt").write_text("-5 0 15 0 15 10 -5 10 ship 0\n")
    split(folder)
    patch = np.asarray(Image.open(folder / "out/images/P1__128__0___0.png"))
    assert patch.shape == (128, 128, 3)
    assert patch[89, 99].tolist() == [1, 2, 3]
    assert patch[90, 0].tolist() == patch[0, 100].tolist() == list(PADDING)
    [ship] = parse_dota((folder / "out/labelTxt/P1__128__0___0.txt").read_text())
    assert ship.difficult == 2
    np.testing.assert_array_equal(ship.polygon[0], [-5, 0])


def test_a_run_that_was_interrupted_goes_on_in_several_processes(folder: Path) -> None:
    split(folder)
    (folder / "out/labelTxt/P1__128__72___0.txt").unlink()
    Image.new("RGB", (128, 128)).save(folder / "images" / "P2.png")
    (folder / "labels" / "P2.txt").write_text("")
    assert sorted(split(folder, workers=2)) == [("P1.png", 1), ("P2.png", 1)]
    assert sorted(split(folder)) == [("P1.png", 0), ("P2.png", 0)]
    assert not list((folder / "out").rglob("*.part"))


def test_images_without_labels_are_cut_alone(folder: Path) -> None:
    assert list(split_images(folder / "images", None, folder / "out", SETTINGS)) == [("P1.png", 2)]
    assert not (folder / "out/labelTxt").exists()


def test_what_keeps_it_from_cutting_is_named(folder: Path) -> None:
    (folder / "labels/P1.txt").write_text("1 2 ship")
    with pytest.raises(ValueError, match=r"P1\.txt, line 1 has 3 fields"):
        split(folder)
    (folder / "labels/P1.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected .*P1\.txt"):
        split(folder)
    with pytest.raises(FileNotFoundError, match="no images"):
        list(split_images(folder / "labels", None, folder / "out"))


def test_submissions_have_a_file_for_each_class_with_full_scores(tmp_path: Path) -> None:
    quad = np.float32([[1, 2], [11, 2], [11, 7], [1, 7]])
    found = [
        ("P1", OrientedInstances([quad, quad + 20], scores=[0.123456789, 0.5], labels=[0, 1])),
        ("P2", OrientedInstances([], scores=[], labels=[])),
    ]
    archive = write_task1(tmp_path / "merged", found, {0: "ship", 1: "plane", 2: "harbor"})
    with zipfile.ZipFile(archive) as files:
        assert sorted(files.namelist()) == ["Task1_harbor.txt", "Task1_plane.txt", "Task1_ship.txt"]
        line = files.read("Task1_ship.txt").decode().split()
    assert line[0] == "P1"
    assert float(line[1]) == pytest.approx(0.123456789, abs=1e-8)
    assert line[2:4] == ["1.00", "2.00"]
    again, names = read_task1(tmp_path / "merged")
    assert names == ["harbor", "plane", "ship"]
    assert sorted(names[label] for label in again["P1"].labels) == ["plane", "ship"]
    with pytest.raises(FileNotFoundError, match=r"no files Task1_CLASS.txt"):
        read_task1(tmp_path)
