"""`transformers-tcm evaluate`: figures of a detector or a spotter on annotated photos."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from public_data_sets import unpack, unpack_lexicons
from spotting_fakes import tiny_spotter_config
from typer.testing import CliRunner

from transformers_tcm import TCMForTextSpotting, TCMImageProcessorPil, TextInstances
from transformers_tcm.cli import app
from transformers_tcm.data.known_datasets import load_text_dataset
from transformers_tcm.data.loaders import save_jsonl
from transformers_tcm.pipelines import TextDetectionPipeline, TextSpottingPipeline

WORD = np.float32([[20, 20], [80, 20], [80, 50], [20, 50]])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos with a word each, in both formats."""
    (tmp_path / "images").mkdir()
    (tmp_path / "gt").mkdir()
    paths = [tmp_path / "images" / name for name in ("a.png", "b.png")]
    instances = TextInstances([WORD], texts=["SALE"], ignore=np.array([False]))
    for path in paths:
        PIL.Image.new("RGB", (120, 80), "grey").save(path)
        (tmp_path / "gt" / f"gt_{path.stem}.txt").write_text(instances.to_icdar(), encoding="utf-8")
    save_jsonl(tmp_path / "photos.jsonl", paths, [instances] * 2)
    return tmp_path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list:
    """What the detector says it finds in each image."""
    detections: list = []
    monkeypatch.setattr(TextDetectionPipeline, "__call__", lambda self, image: detections)
    return detections


def evaluate(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_figures_and_report(photos: Path, found: list) -> None:
    found += [{"polygon": WORD.tolist(), "score": 0.9}, {"polygon": (WORD + 30).tolist(), "score": 0.8}]
    done = evaluate("--jsonl", photos / "photos.jsonl", "--output", photos / "report.json")
    assert done.exit_code == 0, done.output
    assert "precision 0.5000  recall 1.0000  hmean 0.6667" in done.output
    report = json.loads((photos / "report.json").read_text())
    assert report["hmean"] == pytest.approx(2 / 3)
    assert [image["image_id"] for image in report["images"]] == ["a.png", "b.png"]
    assert report["seconds_per_image"] > 0


def test_photos_can_be_read_in_tiles(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles: list = []
    monkeypatch.setattr(
        TextDetectionPipeline, "__call__", lambda self, image: tiles.append(self._preprocess_params["tile"]) or []
    )
    assert evaluate("--jsonl", photos / "photos.jsonl", "--tile", 512).exit_code == 0
    assert tiles == [512, 512]


def test_folders_with_a_list(photos: Path, found: list) -> None:
    (photos / "val.txt").write_text("b.png\n", encoding="utf-8")
    folders = ("--images", photos / "images", "--annotations", photos / "gt")
    done = evaluate(*folders, "--include", photos / "val.txt")
    assert done.exit_code == 0, done.output
    assert "hmean 0.0000" in done.output
    assert "1 images" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to evaluate on"),
        (["--jsonl", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--images", "nowhere", "--annotations", "nowhere"], "no such folder"),
    ],
)
def test_missing_photos_are_named(arguments: list[str], message: str) -> None:
    done = evaluate(*arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_files_without_photos_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    done = evaluate("--jsonl", tmp_path / "empty.jsonl")
    assert done.exit_code == 2
    assert f"nothing to evaluate on: there is no photo in {tmp_path / 'empty.jsonl'}" in done.output


def test_a_damaged_photo_is_one_line_and_not_a_traceback(photos: Path, found: list) -> None:
    (photos / "images" / "a.png").write_bytes(b"no picture")
    done = evaluate("--jsonl", photos / "photos.jsonl")
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert "error:" in done.output


@pytest.fixture(scope="module")
def spotter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spotter")
    torch.manual_seed(0)
    TCMForTextSpotting(tiny_spotter_config()).save_pretrained(folder)
    TCMImageProcessorPil(text_threshold=0.5).save_pretrained(folder)
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list:
    """What the spotter says it reads in each image."""
    words: list = []
    monkeypatch.setattr(TextSpottingPipeline, "__call__", lambda self, image: words)
    return words


def word(polygon: np.ndarray, text: str) -> dict:
    return {"polygon": polygon.tolist(), "score": 0.9, "text": text, "text_score": 0.8}


def test_a_spotter_is_known_by_its_architecture_and_has_three_figures(photos: Path, spotter: Path, read: list) -> None:
    read += [word(WORD, "sale"), word(WORD + 30, "SALE")]
    done = evaluate("--jsonl", photos / "photos.jsonl", "--model", spotter, "--output", photos / "report.json")
    assert done.exit_code == 0, done.output
    assert [line.split("precision")[0].strip() for line in done.stdout.splitlines()[:3]] == [
        "detection",
        "end to end",
        "word spotting",
    ]
    assert done.stdout.count("precision 0.5000  recall 1.0000  hmean 0.6667") == 3
    report = json.loads((photos / "report.json").read_text())
    assert report["hmean"] == report["end_to_end"]["hmean"] == report["word_spotting"]["hmean"]
    assert len(report["end_to_end"]["images"]) == 2


def test_a_word_read_wrongly_counts_as_found_but_not_end_to_end(photos: Path, spotter: Path, read: list) -> None:
    read.append(word(WORD, "SAFE"))
    done = evaluate("--jsonl", photos / "photos.jsonl", "--model", spotter)
    assert [line.partition("hmean ")[2] for line in done.stdout.splitlines()[:3]] == [
        "1.0000  (DetectionIoU, lexicon: none)",
        "0.0000  (EndToEnd, lexicon: none)",
        "0.0000  (WordSpotting, lexicon: none)",
    ]


def test_a_spotter_can_be_measured_as_a_detector(photos: Path, spotter: Path, found: list, read: list) -> None:
    found.append({"polygon": WORD.tolist(), "score": 0.9})
    done = evaluate("--jsonl", photos / "photos.jsonl", "--model", spotter, "--task", "detection")
    assert done.stdout.startswith("precision 1.0000  recall 1.0000  hmean 1.0000  (DetectionIoU)\n")


def test_options_for_reading_reach_the_spotter(
    photos: Path, spotter: Path, read: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict = {}
    original = TextSpottingPipeline._sanitize_parameters
    monkeypatch.setattr(
        TextSpottingPipeline,
        "_sanitize_parameters",
        lambda self, **given: taken.update(given) or original(self, **given),
    )
    (photos / "words.txt").write_text("SALE\n", encoding="utf-8")
    options = ("--lexicon", photos / "words.txt", "--lexicon-rule", "nearest", "--text-threshold", "0.25")
    options += ("--no-language-model",)
    done = evaluate("--jsonl", photos / "photos.jsonl", "--model", spotter, *options)
    assert done.exit_code == 0, done.output
    assert list(taken["lexicon"]) == ["SALE"]
    assert taken["lexicon_rule"] == "nearest"
    assert taken["text_threshold"] == 0.25
    assert taken["use_language_model"] is False


def test_words_without_transcription_are_named(photos: Path, spotter: Path) -> None:
    save_jsonl(photos / "boxes.jsonl", [photos / "images" / "b.png"], [TextInstances([WORD])])
    done = evaluate("--jsonl", photos / "boxes.jsonl", "--model", spotter)
    assert done.exit_code == 2
    assert "b.png has words without a transcription" in done.output
    assert "--task detection" in done.output


def test_a_lexicon_does_nothing_for_a_detector(photos: Path) -> None:
    (photos / "words.txt").write_text("SALE\n", encoding="utf-8")
    done = evaluate("--jsonl", photos / "photos.jsonl", "--lexicon", photos / "words.txt")
    assert done.exit_code == 2
    assert "unknown arguments of the text-detection pipeline: lexicon" in done.output


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What the models say by the lowest score that is asked for; `None` is their own."""
    words: dict = {}
    for kind in (TextDetectionPipeline, TextSpottingPipeline):
        monkeypatch.setattr(kind, "__call__", lambda self, image, box_threshold=None: words[box_threshold])
    return words


def test_report_of_a_detector(photos: Path, spotter: Path, scored: dict) -> None:
    found = [{"polygon": WORD.tolist(), "score": 0.9}]
    # The threshold of the model is 0.6.
    scored |= {None: found, 0.3: [*found, {"polygon": (WORD + 30).tolist(), "score": 0.4}]}
    options = ("--model", spotter, "--task", "detection", "--report", photos / "new" / "failures")
    done = evaluate("--jsonl", photos / "photos.jsonl", *options)
    assert done.exit_code == 0, done.output
    page = photos / "new" / "failures" / "index.html"
    assert f"failures shown in {page}" in done.stdout
    figures = "precision 1.0000  recall 1.0000  hmean 1.0000  (DetectionIoU)\n"
    assert done.stdout.startswith(figures), "figures are those without a page"
    source = page.read_text(encoding="utf-8")
    assert "Text detection: figures and failures" in source
    assert "2 matched and 2 unmatched detections; the threshold is 0.6" in source
    assert "<dt>size</dt><dd>longest edge 1333, shortest edge 736</dd>" in source
    assert "<dt>polygon</dt><dd>no</dd>" in source
    assert "text_threshold" not in source


def test_report_of_a_spotter_with_its_settings(photos: Path, spotter: Path, scored: dict) -> None:
    scored |= {None: [word(WORD, "SAFE")], 0.35: [word(WORD, "SAFE")]}
    (photos / "words.txt").write_text("SALE\nSAFE\n", encoding="utf-8")
    options = ("--model", spotter, "--lexicon", photos / "words.txt", "--box-threshold", "0.7", "--size", "640")
    done = evaluate("--jsonl", photos / "photos.jsonl", *options, "--report", photos, "--report-images", "1")
    assert done.exit_code == 0, done.output
    source = (photos / "index.html").read_text(encoding="utf-8")
    shown = source.count("read <bdi>SAFE</bdi> / label <bdi>SALE</bdi>")
    assert shown == 1, "two photos fail in the same way, one is wanted"
    assert sorted(path.name for path in (photos / "photos").iterdir()) == ["01-001.jpg", "01.jpg"]
    for name, value in {"box_threshold": 0.7, "size": 640, "text_threshold": 0.5, "lexicon": "2 words"}.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in source
    assert f"<dt>model</dt><dd>{spotter}</dd>" in source


def test_report_with_tiles_names_no_size_of_the_model(photos: Path, spotter: Path, scored: dict) -> None:
    scored |= {None: [], 0.3: []}
    done = evaluate("--jsonl", photos / "photos.jsonl", "--model", spotter, "--tile", 64, "--report", photos)
    assert done.exit_code == 0, done.output
    source = (photos / "index.html").read_text(encoding="utf-8")
    assert "<dt>tile</dt><dd>64</dd>" in source
    assert "<dt>size</dt>" not in source


def test_without_report_there_is_no_second_run(photos: Path, scored: dict) -> None:
    scored[None] = []
    done = evaluate("--jsonl", photos / "photos.jsonl")
    assert done.exit_code == 0, done.output
    assert "failures" not in done.stdout
    assert not list(photos.rglob("*.html"))


def test_a_report_that_cannot_be_written_is_named_before_the_run(photos: Path, scored: dict) -> None:
    done = evaluate("--jsonl", photos / "photos.jsonl", "--report", photos / "photos.jsonl" / "failures")
    assert done.exit_code == 2
    assert "photos.jsonl" in done.output
    assert not scored


def test_a_public_data_set_is_judged_by_its_protocol(tmp_path: Path, found: list) -> None:
    unpack(tmp_path, "total-text", "test")
    truth = load_text_dataset("total-text", tmp_path, "test")[0]
    # One word in two detections: a split, which IoU does not credit and DetEval does with 0.8.
    left, right = (np.array(truth["polygons"][1], np.float32) for _ in range(2))
    middle = (left[:, 0].min() + left[:, 0].max()) / 2
    left[:, 0], right[:, 0] = left[:, 0].clip(max=middle), right[:, 0].clip(min=middle)
    found += [{"polygon": half.tolist(), "score": 0.9} for half in (left, right)]
    options = ("--dataset", "total-text", "--root", tmp_path)
    split = evaluate(*options, "--protocol", "deteval", "--output", tmp_path / "figures.json")
    assert "precision 0.8000  recall 0.4000  hmean 0.5333  (DetEvalTotalText)" in split.output, split.output
    assert json.loads((tmp_path / "figures.json").read_text())["protocols"] == {"detection": "DetEvalTotalText"}
    assert "recall 0.0000  hmean 0.0000  (DetectionIoU)" in evaluate(*options, "--protocol", "iou").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "total-text"], "say with --root where it lies"),
        (
            ["--dataset", "td500", "--protocol", "deteval", "--root", "."],
            "for td500, only iou, best-iou; it is known for icdar",
        ),
        (["--jsonl", "photos.jsonl", "--protocol", "deteval"], "there is no protocol 'deteval' without a data set"),
        (["--jsonl", "photos.jsonl", "--protocol", "e2e"], "--protocol e2e is for models that read"),
        (
            ["--dataset", "ctw1500", "--protocol", "cleval", "--root", "."],
            "for ctw1500, only iou, best-iou, e2e",
        ),
    ],
)
def test_protocols_that_do_not_fit_are_named(arguments: list[str], message: str) -> None:
    done = evaluate(*arguments)
    assert (done.exit_code, message in done.stderr) == (2, True), done.output


def test_streamed_data_sets_are_no_test_sets(tmp_path: Path) -> None:
    unpack(tmp_path, "synthtext", "train")
    done = evaluate("--dataset", "synthtext", "--root", tmp_path, "--split", "train")
    assert (done.exit_code, "synthtext is streamed, for training" in done.stderr) == (2, True)


def test_end_to_end_figures_name_protocol_and_lexicon(tmp_path: Path, spotter: Path, read: list) -> None:
    unpack(tmp_path, "total-text", "test")
    truth = load_text_dataset("total-text", tmp_path, "test")[0]
    read += [word(np.float32(polygon), text) for polygon, text in zip(truth["polygons"], truth["texts"], strict=True)]
    done = evaluate("--dataset", "total-text", "--root", tmp_path, "--protocol", "e2e", "--model", spotter)
    lines = done.output.splitlines()
    assert lines[0].endswith("hmean 1.0000  (DetectionIoU, lexicon: none)"), done.output
    assert lines[1].startswith("end to end")
    assert lines[1].endswith("(WordSpotting, lexicon: none)")


@pytest.fixture
def lexicons_used(monkeypatch: pytest.MonkeyPatch) -> list:
    """The words that each photo was read with; what is read is the first of them."""
    used: list = []

    def call(self, image, lexicon=None):
        used.append(sorted(lexicon or self._forward_params["lexicon"]))
        return [word(WORD, used[-1][0])]

    monkeypatch.setattr(TextSpottingPipeline, "__call__", call)
    return used


@pytest.mark.parametrize(
    ("lexicon", "rule", "words"),
    [
        ("strong", "strong, within 2.5", ["Genaxis", "Theatre"]),
        ("weak", "weak, within 2.5", ["Genaxis Theatre"]),
        ("generic", "generic, nearest", ["Cinema", "Theatre"]),
    ],
)
def test_lexicons_are_read_from_the_files_of_the_data_set(
    tmp_path: Path, spotter: Path, lexicons_used: list, lexicon: str, rule: str, words: list[str]
) -> None:
    folder = unpack(tmp_path, "icdar2015", "test")
    unpack_lexicons(folder, "icdar2015")
    options = ("--dataset", "icdar2015", "--root", tmp_path, "--protocol", "e2e", "--model", spotter)
    done = evaluate(*options, "--lexicon", lexicon)
    assert done.exit_code == 0, done.output
    assert lexicons_used == [words]
    assert f"(EndToEnd, lexicon: {rule})" in done.stdout
    done = evaluate(*options, "--lexicon", lexicon, "--lexicon-rule", "within", "--max-distance", 1)
    assert f"lexicon: {lexicon}, within 1)" in done.stdout, done.output


def test_a_lexicon_that_is_not_there_is_named(tmp_path: Path, spotter: Path, read: list) -> None:
    folder = unpack(tmp_path, "total-text", "test")
    options = ("--dataset", "total-text", "--root", tmp_path, "--protocol", "e2e", "--model", spotter, "--lexicon")
    assert "there is full, or give a file with a word a line" in evaluate(*options, "strong").output
    assert "there is no lexicon weak_voc_pair_list.txt or" in evaluate(*options, "full").output
    unpack_lexicons(folder, "total-text")
    assert "(WordSpotting, lexicon: full, nearest)" in evaluate(*options, "full").output
    (tmp_path / "words.txt").write_text("ALEX\n", encoding="utf-8")
    assert "lexicon: 1 words, within 1.5)" in evaluate(*options, tmp_path / "words.txt").output
    assert "(WordSpotting, lexicon: none)" in evaluate(*options, "none").output


def test_every_line_of_ctw1500_counts_in_detection_alone(tmp_path: Path, found: list) -> None:
    unpack(tmp_path, "ctw1500", "test")
    polygon = load_text_dataset("ctw1500", tmp_path, "test")[0]["polygons"][0]
    found.append({"polygon": polygon, "score": 0.9})
    done = evaluate("--dataset", "ctw1500", "--root", tmp_path, "--protocol", "iou")
    assert "recall 0.5000  hmean 0.6667  (EveryLineIoU)" in done.output, "the other line is illegible"


def test_protocols_with_results_of_their_own(photos: Path, spotter: Path, read: list, found: list) -> None:
    found += [word(WORD, "SALE"), {**word(WORD + 30, "SALE"), "score": 0.4}]
    read += found
    best = evaluate("--jsonl", photos / "photos.jsonl", "--protocol", "best-iou")
    assert "hmean 1.0000  (BestOfThresholdsIoU, threshold 0.5 chosen on these photos)" in best.output
    by_characters = evaluate("--jsonl", photos / "photos.jsonl", "--protocol", "cleval", "--model", spotter)
    heads = [line.split("precision")[0].strip() for line in by_characters.output.splitlines()[:2]]
    assert heads == ["detection", "end to end"]
    assert by_characters.output.count("(CLEval, lexicon: none)") == 2
    assert evaluate("--jsonl", photos / "photos.jsonl", "--protocol", "cleval").output.count("CLEval") == 1
