"""labelme: the fixture is a file as labelme 5.4 writes it on Windows, with a polygon, a rectangle and a flag."""

import json
from pathlib import Path

import PIL.Image
import pytest

from transformers_tcm.data.loaders import row_to_instances
from transformers_tcm.data.readers import load_labelme

FIXTURE = Path(__file__).parents[2] / "fixtures" / "readers" / "labelme" / "street.json"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    for folder in ("photos", "labels"):
        (tmp_path / folder).mkdir()
    PIL.Image.new("RGB", (100, 80)).save(tmp_path / "photos" / "street.png")
    (tmp_path / "labels" / "street.json").write_bytes(FIXTURE.read_bytes())
    return tmp_path / "labels"


def test_polygons_rectangles_words_and_flags(labelled: Path) -> None:
    [row] = load_labelme(labelled)
    instances = row_to_instances(row)
    assert instances.polygons[0].tolist() == [[10.5, 10], [50, 12], [50, 25], [10, 24]]
    assert instances.polygons[1].tolist() == [[60, 40], [90, 40], [90, 60], [60, 60]]
    assert instances.texts == ["SALE", "text", "###"]
    assert instances.ignored.tolist() == [False, True, True]
    assert load_labelme(labelled, word_label="text")[0]["texts"] == [None, "OPEN", None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape_type": "circle"}, r"street\.json: shape 1 is a circle"),
        ({"points": [[1, 1], [2, 2]]}, r"street\.json: shape 1 is a polygon of shape \(2, 2\)"),
        ({"points": "x"}, r"street\.json: could not convert"),
    ],
)
def test_shapes_that_are_no_outline_are_named(labelled: Path, change: dict, message: str) -> None:
    content = json.loads(FIXTURE.read_text(encoding="utf-8"))
    content["shapes"][0] |= change
    (labelled / "street.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_labelme(labelled)


def test_files_have_to_be_there_and_of_labelme(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "street.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"street\.json: no such image: .*street\.png"):
        load_labelme(labelled)
    with pytest.raises(FileNotFoundError, match="no JSON files of labelme in"):
        load_labelme(tmp_path)
    (labelled / "street.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r'street\.json: expected an object with "imagePath"'):
        load_labelme(labelled)
