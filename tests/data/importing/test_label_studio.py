"""Label Studio's JSON.

The fixture has the fields of a project exported as JSON (labelstud.io/guide/task_format, labelstud.io/guide/export)
from the template for OCR (docs.humansignal.com/templates/optical_character_recognition: shape, label and text of a
region are results with the same id). Percentages and pixels are those of the example in
docs.humansignal.com/includes/image_units; a turned rectangle that of docs.humansignal.com/templates/image_bbox, by
which the top-left corner stays.
"""

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from transformers_tcm.data.importing import ImportedLabels, import_photos, read_export

EXPORT = Path(__file__).parents[2] / "fixtures" / "label_exports" / "label_studio.json"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    sizes = {"moon walk.jpg": (600, 403), "photos/shop.png": (200, 100), "wall.jpg": (64, 48)}
    for name, size in sizes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PIL.Image.new("RGB", size).save(tmp_path / name)
    return tmp_path


def load(photos: Path, export: Path = EXPORT, **settings: object) -> ImportedLabels:
    return import_photos(read_export(export, text_field="transcription", **settings), photos)


def test_photos_are_found_under_uploaded_local_and_linked_names(photos: Path) -> None:
    labels = load(photos)
    assert labels.images == [photos / "moon walk.jpg", photos / "photos" / "shop.png", photos / "wall.jpg"]
    assert [len(instances) for instances in labels.annotations] == [2, 3, 0]
    assert labels.summary == "3 photos (1 without any), 5 words, 4 with text, 1 ignored"


def test_percentages_become_pixels(photos: Path) -> None:
    word, outline = load(photos).annotations[0].polygons
    left, top, right, bottom = 31.98, 94.9871, 31.98 + 174.96, 94.9871 + 125.9778
    np.testing.assert_allclose(word, [[left, top], [right, top], [right, bottom], [left, bottom]], rtol=1e-5)
    # Drawn counter-clockwise; the first point stays.
    np.testing.assert_allclose(outline, [[163.2, 166.2375], [288, 132.99], [288, 251.875], [154.5, 284.115]], rtol=1e-5)


def test_rectangles_turn_clockwise_about_their_top_left_corner(photos: Path) -> None:
    (turned, *_) = load(photos).annotations[1].polygons
    half = np.sqrt(0.5)
    expected = [[100, 60], [100 + 20 * half, 60 + 20 * half], [100, 60 + 40 * half], [100 - 20 * half, 60 + 20 * half]]
    np.testing.assert_allclose(turned, expected, rtol=1e-6)


def test_texts_belong_to_the_region_of_the_same_id(photos: Path) -> None:
    labels = load(photos)
    # Two submissions make one text; the text area for comments is another one.
    assert labels.annotations[0].texts == ["Moonwalker", "Hello there"]
    assert labels.annotations[1].texts == ["SALE", None, "###"]


def test_choices_and_illegible_texts_mark_what_does_not_count(photos: Path) -> None:
    assert load(photos).annotations[1].ignored.tolist() == [False, False, True]
    assert load(photos, ignore=["illegible"]).annotations[1].ignored.tolist() == [False, True, True]


def test_what_is_left_out_is_reported(photos: Path) -> None:
    assert load(photos).problems == [
        "task 1, region b5sp3TyXPo: ellipselabels: only rectangles and polygons can be taken over",
        "task 4: it has no annotation",
        f"task 5: no photo '/data/upload/1/0a1b2c3d-gone.jpg' in {photos}",
    ]


def test_several_text_areas_have_to_be_told_apart(photos: Path, tmp_path: Path) -> None:
    # "transcription" is what the template calls it.
    assert [photo.place for photo in read_export(EXPORT)] == [f"task {number}" for number in range(1, 6)]
    renamed = tmp_path / "renamed.json"
    renamed.write_text(EXPORT.read_text().replace('"transcription"', '"wording"'))
    with pytest.raises(ValueError, match=r"several text fields, comment, wording; say which .*--text-field"):
        read_export(renamed)
    with pytest.raises(ValueError, match=r"no text field 'word'; there are comment, transcription"):
        read_export(EXPORT, text_field="word")


def changed(tmp_path: Path, **changes: object) -> Path:
    """The second task with its first result changed."""
    task = json.loads(EXPORT.read_text())[1]
    task["annotations"][0]["result"][0] |= changes
    path = tmp_path / "changed.json"
    # A single object, as cloud storage keeps each task.
    path.write_text(json.dumps(task), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image_rotation": 90}, "drawn while the photo was turned"),
        ({"item_index": 1}, "drawn on a further photo"),
        ({"value": {"x": 1, "y": 1, "width": 5}}, r"cannot be read: KeyError\('height'\)"),
        ({"value": {"x": None, "y": 1, "width": 5, "height": 5}}, "cannot be read: TypeError"),
        ({"value": {"x": float("nan"), "y": 1, "width": 5, "height": 5}}, "a coordinate is NaN or infinite"),
        ({"type": "polygonlabels", "value": {"points": [[1, 1], [2, 2]]}}, "at least 3 points"),
        ({"type": "polygonlabels", "value": {"points": [[1, 1], [2]]}}, "cannot be read: ValueError"),
        ({"original_width": 100, "original_height": 200}, r"has 200 x 100 pixels, but the labels are for 100 x 200"),
        ({"original_width": "wide"}, "not of the form of an exported task"),
    ],
)
def test_what_cannot_be_taken_over_is_named(photos: Path, tmp_path: Path, changes: dict, problem: str) -> None:
    labels = import_photos(read_export(changed(tmp_path, **changes)), photos)
    (found,) = labels.problems
    assert found.startswith("task 2")
    assert re.search(problem, found)


def test_sizes_are_those_of_the_photo_where_the_export_has_none(photos: Path, tmp_path: Path) -> None:
    task = json.loads(EXPORT.read_text())[1]
    for result in task["annotations"][0]["result"]:
        del result["original_width"], result["original_height"]
    (tmp_path / "old.json").write_text(json.dumps([task]), encoding="utf-8")
    old = load(photos, tmp_path / "old.json").annotations[0]
    assert old.to_json() == load(photos).annotations[1].to_json()


def test_the_ground_truth_wins_over_newer_annotations(photos: Path, tmp_path: Path) -> None:
    task = json.loads(EXPORT.read_text())[1]
    task["annotations"][1]["ground_truth"] = True
    (tmp_path / "checked.json").write_text(json.dumps([task]), encoding="utf-8")
    labels = import_photos(read_export(tmp_path / "checked.json"), photos)
    np.testing.assert_allclose(labels.annotations[0].boxes, [[2, 1, 4, 2]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "no JSON"),
        ("[1, 2]", "no list of tasks"),
        ("[]", "an empty list"),
        ('[{"image": "a.jpg", "bbox": []}]', r"export the project as JSON \(not JSON-MIN\)"),
        ('{"data": ', "no JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "export.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"export\.json: .*{message}"):
        read_export(tmp_path / "export.json", "label-studio")


@pytest.mark.parametrize("value", [None, 3, "x", [], [3], {"x": 3}])
@pytest.mark.parametrize("key", ["data", "annotations"])
def test_tasks_of_another_form_do_not_stop_the_others(photos: Path, tmp_path: Path, key: str, value: object) -> None:
    tasks = json.loads(EXPORT.read_text())[1:3]
    tasks[0][key] = value
    (tmp_path / "odd.json").write_text(json.dumps(tasks), encoding="utf-8")
    labels = import_photos(read_export(tmp_path / "odd.json"), photos)
    assert labels.images == [photos / "wall.jpg"]
    assert len(labels.problems) == 1
