"""Files of results: words in all formats."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transformers_tcm import TextInstances
from transformers_tcm.cli.result_files import ResultWriter, SpottingFormat
from transformers_tcm.data.loaders import load_jsonl

QUAD = [[10.4, 10.6], [50.0, 10.0], [50.0, 20.0], [10.0, 20.0]]
CURVED = [[10.0, 40.0], [30.0, 38.0], [50.0, 40.0], [50.0, 50.0], [10.0, 50.0]]
WORDS = ["1,5 €", "", "„Straße“"]


def detections(texts: list[str] | None) -> list[dict]:
    polygons = [QUAD, QUAD, CURVED]
    found = [{"score": 0.51234, "label": "text", "box": {}, "polygon": polygon} for polygon in polygons]
    return (
        found
        if texts is None
        else [
            {**one, "text": text, "text_score": 0.25, "line": index // 2}
            for index, (one, text) in enumerate(zip(found, texts, strict=True))
        ]
    )


@pytest.fixture
def write(tmp_path: Path):
    image = Image.new("RGB", (60, 60))
    image.save(tmp_path / "street.png")

    def write(form: SpottingFormat, found: list[dict]) -> Path:
        writer = ResultWriter(tmp_path / "out", form, [tmp_path / "street.png"], force=True)
        writer.prepare()
        writer.write(tmp_path / "street.png", image, found)
        [file] = (tmp_path / "out").iterdir()
        return file

    return write


def test_words_in_json(write) -> None:
    text = write("json", detections(WORDS)).read_text(encoding="utf-8")
    found = json.loads(text)["instances"]
    assert [one["text"] for one in found] == WORDS
    assert found[0]["text_score"] == 0.25
    assert found[0]["score"] == 0.512
    assert "„Straße“" in text


def test_words_in_icdar_lines_follow_four_corners(write) -> None:
    text = write("icdar", detections(WORDS)).read_text(encoding="utf-8")
    assert text.splitlines()[0] == "10,11,50,10,50,20,10,20,1,5 €"
    read = TextInstances.from_icdar(text)
    assert read.texts == ["1,5 €", None, "„Straße“"]
    np.testing.assert_allclose(read.polygons[2], [[10, 38], [50, 38], [50, 50], [10, 50]], atol=1)


def test_icdar_lines_without_words_keep_their_points(write) -> None:
    lines = write("icdar", detections(None)).read_text(encoding="utf-8").splitlines()
    assert [len(line.split(",")) for line in lines] == [8, 8, 10]


@pytest.mark.parametrize("words", [WORDS, None])
def test_words_in_json_lines_are_what_the_loader_reads(write, words: list[str] | None) -> None:
    file = write("jsonl", detections(words))
    row = load_jsonl(file)[0]
    assert row["texts"] == (words or [None] * 3)
    assert ("text_scores" in json.loads(file.read_text(encoding="utf-8"))) == (words is not None)


@pytest.mark.parametrize("words", [["1,000", '"quoted"', "Latin,a"], None])
def test_icdar_lines_are_read_back_as_they_were_found(write, words: list[str] | None) -> None:
    read = TextInstances.from_icdar(write("icdar", detections(words)).read_text(encoding="utf-8"))
    assert read.texts == (words or [None, None, ""])
    assert [len(polygon) for polygon in read.polygons] == ([4, 4, 4] if words else [4, 4, 5])


def test_triangles_are_no_form_of_any_competition(write) -> None:
    found = [{"score": 0.5, "label": "text", "box": {}, "polygon": QUAD[:3]}]
    [polygon] = TextInstances.from_icdar(write("icdar", found).read_text(encoding="utf-8")).polygons
    assert len(polygon) == 4


def test_words_in_lines_of_text(write) -> None:
    text = write("text", detections(["GRAND", "OPENING", "„Straße“"])).read_text(encoding="utf-8")
    assert text == "GRAND OPENING\n„Straße“\n"
    assert write("text", []).read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("form", ["json", "icdar", "jsonl", "text"])
def test_results_of_an_earlier_run_are_kept_unless_forced(tmp_path: Path, form: SpottingFormat) -> None:
    image, folder = Image.new("RGB", (60, 60)), tmp_path / "out"
    writer = ResultWriter(folder, form, [Path("street.png")], draw=True)
    writer.prepare()
    writer.write(Path("street.png"), image, detections(WORDS))
    table, picture = writer.files("street")
    with pytest.raises(FileExistsError, match=f"{table.name} is there already.*--force"):
        ResultWriter(folder, form, [Path("b/street.jpg")])
    ResultWriter(folder, form, [Path("b/street.jpg")], force=True)
    table.unlink()
    ResultWriter(folder, form, [Path("b/street.jpg")])
    with pytest.raises(FileExistsError, match=picture.name):
        ResultWriter(folder, form, [Path("b/street.jpg")], draw=True)
