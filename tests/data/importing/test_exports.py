"""From an export to labels: which photo is meant, its size, the order of the points, what format a file has."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm import geometry
from transformers_tcm.data.importing import ExportedPhoto, ExportedWord, import_photos, read_export
from transformers_tcm.data.importing.exports import rectangle, word_or_none

FIXTURES = Path(__file__).parents[2] / "fixtures" / "label_exports"
SQUARE = np.array([[0.0, 0.0], [8.0, 0.0], [8.0, 4.0], [0.0, 4.0]])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name in ("1.png", "b/1.png", "caf\u00e9.png", "../secret.png"):
        PIL.Image.new("L", (20, 10)).save(folder / name)
    return folder


def exported(name: str, *outlines: np.ndarray) -> ExportedPhoto:
    return ExportedPhoto("photo", (name,), lambda width, height: [ExportedWord("word", points) for points in outlines])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1.png", "1.png"),
        ("a/1.png", "1.png"),
        ("x/b/1.png", "b/1.png"),
        (r"C:\labels\b\1.png", "b/1.png"),
        ("/data/upload/1.png", "1.png"),
        ("b/../1.png", "b/1.png"),
        ("caf\u00e9.png", "caf\u00e9.png"),
    ],
)
def test_photos_are_found_by_the_longest_end_of_their_path(photos: Path, name: str, found: str) -> None:
    assert import_photos([exported(name)], photos).images == [photos / found]


@pytest.mark.parametrize("name", ["../secret.png", "b/../../secret.png", "/secret.png", "b", "", ".", "\0", "x" * 5000])
def test_nothing_but_photos_of_the_folder_is_found(photos: Path, name: str) -> None:
    labels = import_photos([exported(name)], photos)
    assert labels.images == []
    assert len(labels.problems) == 1


def test_an_absolute_path_does_not_leave_the_folder(photos: Path) -> None:
    assert import_photos([exported(str(photos.parent / "secret.png"))], photos).images == []


def test_a_photo_is_labelled_once(photos: Path) -> None:
    labels = import_photos([exported("x/1.png", SQUARE), exported("y/1.png")], photos)
    assert [len(instances) for instances in labels.annotations] == [1]
    assert labels.problems == [f"photo: {photos / '1.png'} has labels already, those of photo"]


def test_sizes_are_those_of_the_upright_photo(photos: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    PIL.Image.new("L", (20, 10)).save(photos / "turned.jpg", exif=exif)
    seen: list[tuple[int, int]] = []
    photo = ExportedPhoto("photo", ("turned.jpg",), lambda width, height: seen.append((width, height)) or [], (10, 20))
    assert import_photos([photo], photos).problems == []
    assert seen == [(10, 20)]


def test_photos_that_cannot_be_read_are_named(photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"no photo")
    (problem,) = import_photos([exported("broken.png")], photos).problems
    assert "broken.png is no photo that can be read" in problem


def test_counter_clockwise_outlines_are_turned_round_and_keep_their_start(photos: Path) -> None:
    counter = np.concatenate([SQUARE[:1], SQUARE[:0:-1]])
    assert geometry.signed_area(counter) < 0
    labels = import_photos([exported("1.png", counter, SQUARE[[2, 3, 0, 1]])], photos)
    assert labels.annotations[0].polygons[0].tolist() == SQUARE.tolist()
    # Where a clockwise one starts is left to the labeller,
    assert labels.annotations[0].polygons[1].tolist() == SQUARE[[2, 3, 0, 1]].tolist()
    # unless told otherwise.
    reordered = import_photos([exported("1.png", counter, SQUARE[[2, 3, 0, 1]])], photos, reorder=True)
    assert [polygon.tolist() for polygon in reordered.annotations[0].polygons] == [SQUARE.tolist()] * 2


sizes = st.floats(1, 100)


@given(st.floats(-100, 100), st.floats(-100, 100), sizes, sizes, st.floats(-720, 720), st.sampled_from([0.0, 0.5]))
def test_turned_rectangles_keep_pivot_size_and_direction(x, y, width, height, degrees, pivot) -> None:
    corners = rectangle(x, y, width, height, degrees, (pivot, pivot))
    assert geometry.signed_area(corners) == pytest.approx(width * height)
    along, down = corners[1] - corners[0], corners[3] - corners[0]
    np.testing.assert_allclose(corners[0] + pivot * (along + down), [x + pivot * width, y + pivot * height], atol=1e-9)
    turned = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    np.testing.assert_allclose(along, width * turned, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("SALE", "SALE"),
        (" two\n words ", "two words"),
        ("  ", None),
        ("", None),
        (None, None),
        (2015, "2015"),
        (True, None),
        ([], None),
        ("\ud800", "?"),
    ],
)
def test_transcriptions_are_one_line_that_utf_8_can_hold(text: object, word: str | None) -> None:
    assert word_or_none(text) == word


def test_the_folder_and_the_file_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*nowhere"):
        import_photos([], tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*absent\.json"):
        read_export(tmp_path / "absent.json")


@pytest.mark.parametrize("content", ["", "x,y,z", "some words", "\x00\xff"])
def test_unknown_formats_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match="neither Label Studio's JSON nor CVAT's XML nor PaddleOCR's lines"):
        read_export(tmp_path / "labels")
    with pytest.raises(ValueError, match=r"format is 'coco'; expected one of auto, label-studio, cvat, paddleocr"):
        read_export(tmp_path / "labels", "coco")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=3),
)


@given(path=st.integers(0, 200), value=json_values, form=st.sampled_from(["label-studio", "paddleocr"]))
def test_any_value_anywhere_is_taken_refused_or_reported(
    path: int, value: object, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One value of an export is replaced by something else."""
    folder = tmp_path_factory.getbasetemp() / "any-value"
    folder.mkdir(exist_ok=True)
    PIL.Image.new("L", (1280, 720)).save(folder / "img_24.jpg")
    PIL.Image.new("L", (200, 100)).save(folder / "shop.png")
    if form == "paddleocr":
        line = (FIXTURES / "ppocrlabel" / "Label.txt").read_text(encoding="utf-8").split("\n")[1]
        name, tab, labels = line.partition("\t")
        text = f"{name}{tab}{json.dumps(replaced(json.loads(labels), path, value))}"
    else:
        tasks = json.loads((FIXTURES / "label_studio.json").read_text(encoding="utf-8"))[1:2]
        text = json.dumps(replaced(tasks, path, value))
    (folder / "export").write_text(text, encoding="utf-8")
    try:
        photos = read_export(folder / "export", form)
    except ValueError:
        # Of the file as a whole, as the other tests know it.
        return
    labels = import_photos(photos, folder)
    assert labels.images or labels.problems


def replaced(tree: object, index: int, value: object) -> object:
    """A tree of JSON with node number `index`, modulo their number, in its place."""
    nodes: list[tuple] = [([tree], 0)]
    for holder, key in nodes:
        child = holder[key]
        if isinstance(child, dict | list):
            nodes += [(child, inner) for inner in (child if isinstance(child, dict) else range(len(child)))]
    holder, key = nodes[index % len(nodes)]
    holder[key] = value
    return nodes[0][0][0]
