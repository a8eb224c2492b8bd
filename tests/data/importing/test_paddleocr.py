"""Labels of PaddleOCR and PPOCRLabel.

The lines for img_61 and img_24, and what "###" means, are those of PaddleOCR's documentation on data sets for detection
(doc/doc_en/dataset/ocr_datasets_en.md in PaddlePaddle/PaddleOCR); `fileState.txt` and `rec_gt.txt` are described in the
README of PFCCLab/PPOCRLabel, as is the name "TEMPORARY" of a new box. PPOCRLabel also saves `difficult`.
"""

import json
from pathlib import Path

import PIL.Image
import pytest

from transformers_tcm.data.importing import ImportedLabels, import_photos, read_export
from transformers_tcm.data.word_crops import load_word_crops

FOLDER = Path(__file__).parents[2] / "fixtures" / "label_exports" / "ppocrlabel"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The folder that was opened in PPOCRLabel, without its `fileState.txt`."""
    folder = tmp_path / "ch4_test_images"
    folder.mkdir()
    for number in (61, 24, 30):
        PIL.Image.new("L", (1280, 720)).save(folder / f"img_{number}.jpg")
    (folder / "Label.txt").write_bytes((FOLDER / "Label.txt").read_bytes())
    return folder


def load(photos: Path, form: str = "auto") -> ImportedLabels:
    return import_photos(read_export(photos / "Label.txt", form), photos)


def test_outlines_texts_and_what_does_not_count(photos: Path) -> None:
    labels = load(photos)
    assert labels.problems == []
    assert labels.images == [photos / f"img_{number}.jpg" for number in (61, 24, 30)]
    first, second, _ = labels.annotations
    assert first.polygons[0].tolist() == [[310, 104], [416, 141], [418, 216], [312, 179]]
    assert (first.texts, first.ignored.tolist()) == (["MASA", "###"], [False, True])
    assert second.texts == ["CONVERSE", "blurred", None, "CURVED"]
    assert second.ignored.tolist() == [False, True, False, False]
    assert len(second.polygons[3]) == 6


def test_only_confirmed_photos_are_taken_where_ppocrlabel_says_which(photos: Path) -> None:
    (photos / "fileState.txt").write_bytes((FOLDER / "fileState.txt").read_bytes())
    labels = load(photos)
    assert labels.images == [photos / "img_61.jpg", photos / "img_24.jpg"]
    assert labels.problems == [
        "line 3 (ch4_test_images/img_30.jpg): nobody confirmed its labels in PPOCRLabel (fileState.txt)"
    ]


def test_lists_of_words_need_no_import(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rec_gt\.txt needs no import: --train_words"):
        read_export(FOLDER / "rec_gt.txt")
    (tmp_path / "crop_img").mkdir()
    for name in ("img_61_crop_0.jpg", "img_24_crop_0.jpg"):
        PIL.Image.new("L", (40, 16)).save(tmp_path / "crop_img" / name)
    (tmp_path / "rec_gt.txt").write_bytes((FOLDER / "rec_gt.txt").read_bytes())
    assert [word.text for word in load_word_crops(tmp_path / "rec_gt.txt")] == ["MASA", "CONVERSE"]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ('[{"transcription": "a", "points": [[1, 1], [2, 2]]}]', "word 1: an outline needs at least 3 points"),
        ('[{"transcription": "a", "points": [[1, 1], [2, 2], [3]]}]', 'word 1: expected "transcription" and "points"'),
        ('[{"transcription": "a", "points": [[1, 1], [2, NaN], [3, 4]]}]', "word 1: a coordinate is NaN or infinite"),
        ('[{"transcription": "a", "points": [[1, 1], [2, 1e300], [3, 4]]}]', "word 1: a coordinate is NaN or infinite"),
        ('[{"points": [[1, 1], [2, 2], [3, 3]]}]', 'word 1: expected "transcription" and "points"'),
        ("[3]", 'word 1: expected "transcription" and "points"'),
        ('{"transcription": "a"}', "expected a list after the tab, got dict"),
        ('[{"transcription"', "no JSON after the tab"),
        ("[" * 100_000, "no JSON after the tab"),
        ("", "no JSON after the tab"),
    ],
)
def test_what_cannot_be_taken_over_is_named(photos: Path, labels: str, problem: str) -> None:
    good = json.dumps([{"transcription": "ok", "points": [[0, 0], [9, 0], [9, 5], [0, 5]]}])
    lines = f"img_24.jpg\t{good}\nimg_61.jpg\t{labels}\n"
    (photos / "Label.txt").write_text(lines, encoding="utf-8")
    found = load(photos, "paddleocr")
    assert found.annotations[0].texts == ["ok"]
    (line,) = found.problems
    assert line.startswith("line 2 (img_61.jpg)")
    assert problem in line


def test_other_encodings_are_refused(photos: Path) -> None:
    (photos / "Label.txt").write_bytes('img_24.jpg\t[{"transcription": "café"}]'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"Label\.txt: not a UTF-8 text file"):
        load(photos)


@pytest.mark.parametrize("key", ["difficult", "Difficult", "illegibility"])
@pytest.mark.parametrize(
    ("value", "difficult"),
    [(True, True), (1, True), ("1", True), ("True", True), ("yes", True), (0, False), ("false", False), (None, False)],
)
def test_difficult_words_do_not_count_however_it_is_written(
    photos: Path, key: str, value: object, difficult: bool
) -> None:
    word = {"transcription": "a", "points": [[0, 0], [9, 0], [9, 5], [0, 5]], key: value}
    (photos / "Label.txt").write_text(f"img_24.jpg\t{json.dumps([word])}\n", encoding="utf-8")
    assert load(photos).annotations[0].ignored.tolist() == [difficult]


def test_other_values_of_difficult_are_told(photos: Path) -> None:
    word = {"transcription": "a", "points": [[0, 0], [9, 0], [9, 5], [0, 5]], "difficult": "maybe"}
    (photos / "Label.txt").write_text(f"img_24.jpg\t{json.dumps([word])}\n", encoding="utf-8")
    assert load(photos).problems == ["line 1 (img_24.jpg), word 1: \"difficult\" is 'maybe'; expected true or false"]


def test_classes_of_fields_mark_words(photos: Path) -> None:
    word = {"transcription": "a", "points": [[0, 0], [9, 0], [9, 5], [0, 5]], "key_cls": "noise"}
    (photos / "Label.txt").write_text(f"img_24.jpg\t{json.dumps([word])}\n", encoding="utf-8")
    labels = import_photos(read_export(photos / "Label.txt", ignore=["Noise", "nois"]), photos)
    assert labels.annotations[0].ignored.tolist() == [True]
    assert labels.unmatched(["Noise", "nois"]) == ["nois"]
    with pytest.raises(ValueError, match="no text field 'word'"):
        read_export(photos / "Label.txt", text_field="word")
