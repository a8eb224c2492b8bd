"""Readers of oriented objects: DOTA, YOLO-OBB, HRSC2016 and DIOR-R."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transformers_tcm.data.objects import class_names, row_to_objects
from transformers_tcm.data.readers import load_dior_r, load_dota, load_hrsc2016, load_yolo_obb
from transformers_tcm.dota import parse_dota, parse_yolo_obb
from transformers_tcm.instances import OrientedInstances

SHIP = "10.0 12.0 50.0 20.0 46.0 40.0 6.0 32.0 ship 0\n"
CAR = "60 60 80 60 80 70 60 70 small-vehicle 1\n"
QUADS = np.float32([[[10, 12], [50, 20], [46, 40], [6, 32]], [[60, 60], [80, 60], [80, 70], [60, 70]]])


def put(folder: Path, name: str, text: str, size: tuple[int, int] = (100, 80)) -> None:
    for part in ("images", "labels"):
        (folder / part).mkdir(exist_ok=True)
    Image.new("RGB", size).save(folder / "images" / f"{name}.png")
    (folder / "labels" / f"{name}{'.xml' if text.startswith('<') else '.txt'}").write_text(text)


@pytest.mark.parametrize("header", ["", "imagesource:GoogleEarth\ngsd:0.146\n", "gsd:null\n", "\ufeffimagesource:x\n"])
def test_dota_with_and_without_header(tmp_path: Path, header: str) -> None:
    put(tmp_path, "P0001", header + SHIP + CAR)
    put(tmp_path, "P0002", header)
    dataset = load_dota(tmp_path / "images", tmp_path / "labels")
    assert dataset["image_id"] == ["P0001.png", "P0002.png"]
    objects = row_to_objects(dataset[0])
    np.testing.assert_array_equal(objects.polygons, QUADS)
    assert [class_names(dataset)[label] for label in objects.labels] == ["ship", "small-vehicle"]
    assert objects.ignored.tolist() == [False, True]
    assert len(row_to_objects(dataset[0], use_difficult=False)) == 1
    assert len(row_to_objects(dataset[1])) == 0
    assert len(load_dota(tmp_path / "images", tmp_path / "labels", with_empty=False)) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3 ship 0", "line 1 has 5 fields"),
        (SHIP.replace("10.0", "ten", 1), "line 1: .*are no eight numbers"),
        (SHIP.replace("10.0", "nan", 1), "NaN or infinite"),
        (SHIP.replace(" 0\n", " 3\n"), "`difficult` is '3'"),
        (SHIP.replace("ship", "boat"), "classes boat are not among the labels"),
    ],
)
def test_dota_names_the_file_and_what_is_wrong(tmp_path: Path, line: str, message: str) -> None:
    put(tmp_path, "P0001", line)
    with pytest.raises(ValueError, match=rf"P0001.txt: .*{message}"):
        load_dota(tmp_path / "images", tmp_path / "labels")


def test_missing_labels_are_named(tmp_path: Path) -> None:
    put(tmp_path, "P0001", SHIP)
    (tmp_path / "labels" / "P0001.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no annotation file for .*P0001.png: expected .*P0001\.txt"):
        load_dota(tmp_path / "images", tmp_path / "labels")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_dota(tmp_path / "photos", tmp_path / "labels")


def test_dota_lines_round_trip() -> None:
    objects = OrientedInstances(list(QUADS), labels=[6, 4], ignore=[False, True])
    names = {4: "small-vehicle", 6: "ship"}
    again = OrientedInstances.from_dota(objects.to_dota(names), {name: label for label, name in names.items()})
    np.testing.assert_allclose(again.polygons, objects.polygons)
    assert again.labels.tolist() == [6, 4]
    assert again.ignored.tolist() == [False, True]
    assert [one.difficult for one in parse_dota(SHIP.replace(" 0\n", " 2\n") + SHIP.rsplit(" ", 1)[0])] == [2, 0]


def test_yolo_obb_tells_classes_by_name_and_scales_by_the_image(tmp_path: Path) -> None:
    objects = OrientedInstances(list(QUADS), labels=[1, 10])
    put(tmp_path, "a", objects.to_yolo_obb(100, 80))
    names = "\n".join(
        f"  {index}: {name}" for index, name in enumerate(["plane", "ship", *"cdefghij", "small vehicle"])
    )
    (tmp_path / "dota.yaml").write_text(f"path: .\ntrain: images\nval: images\nnames:\n{names}\n")
    dataset = load_yolo_obb(tmp_path / "dota.yaml", "val")
    found = row_to_objects(dataset[0])
    np.testing.assert_allclose(found.polygons, QUADS, atol=1e-3)
    assert [class_names(dataset)[label] for label in found.labels] == ["ship", "small-vehicle"]
    with pytest.raises(ValueError, match="no entry 'test'"):
        load_yolo_obb(tmp_path / "dota.yaml", "test")
    with pytest.raises(ValueError, match="line 1 is 'ship 0 0'"):
        parse_yolo_obb("ship 0 0", 10, 10)


def test_hrsc2016_angles_are_clockwise_radians(tmp_path: Path) -> None:
    box = {"cx": 50, "cy": 40, "w": 40, "h": 10, "ang": np.pi / 6}
    fields = "".join(f"<mbox_{name}>{value}</mbox_{name}>" for name, value in box.items())
    put(tmp_path, "1", f"<HRSC_Image><HRSC_Objects><HRSC_Object>{fields}</HRSC_Object></HRSC_Objects></HRSC_Image>")
    dataset = load_hrsc2016(tmp_path / "images", tmp_path / "labels")
    quad = row_to_objects(dataset[0]).polygons[0]
    assert class_names(dataset) == ["ship"]
    along = quad[1] - quad[0]
    np.testing.assert_allclose(along, [40 * np.cos(np.pi / 6), 20], rtol=1e-5)
    np.testing.assert_allclose(quad.mean(axis=0), [50, 40], rtol=1e-5)


def test_dior_r_gives_corners_and_lower_case_names(tmp_path: Path) -> None:
    corners = ("left_top", "right_top", "right_bottom", "left_bottom")
    fields = "".join(
        f"<{axis}_{corner}>{value}</{axis}_{corner}>"
        for corner, point in zip(corners, QUADS[0].tolist(), strict=True)
        for axis, value in zip("xy", point, strict=True)
    )
    put(tmp_path, "1", f"<a><object><name>Ship</name><robndbox>{fields}</robndbox></object></a>")
    dataset = load_dior_r(tmp_path / "images", tmp_path / "labels")
    np.testing.assert_array_equal(row_to_objects(dataset[0]).polygons[0], QUADS[0])
    assert [class_names(dataset)[label] for label in dataset[0]["labels"]] == ["ship"]
    put(tmp_path, "1", "<a><object><name>Boat</name></object></a>")
    with pytest.raises(ValueError, match=r"1\.xml: 'boat' is none of the classes"):
        load_dior_r(tmp_path / "images", tmp_path / "labels")
