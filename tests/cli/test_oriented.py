"""`split-dota`, `detect-objects`, `merge-dota` and `evaluate --task oriented`."""

import json
from pathlib import Path

import pytest
from oriented_fakes import CONFIG, ColouredRegions, scene
from transformers import pipeline as real_pipeline
from typer.testing import CliRunner

from transformers_tcm import TCMImageProcessorPil
from transformers_tcm.cli.app import app
from transformers_tcm.instances import OrientedInstances
from transformers_tcm.rotated_boxes import boxes_to_quads

torch = pytest.importorskip("torch")

BOXES = torch.tensor([[60.0, 50.0, 60.0, 20.0, 0.5], [150.0, 100.0, 40.0, 16.0, -1.2], [250.0, 60.0, 50.0, 24.0, 0.0]])
LABELS = [0, 1, 0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images and labels in the form of DOTA, and a model for every name."""
    quads = list(boxes_to_quads(BOXES).numpy())
    for part in ("images", "labelTxt"):
        (tmp_path / part).mkdir()
    scene(300, 150, *zip(quads, LABELS, strict=True)).save(tmp_path / "images/P1.png")
    (tmp_path / "labelTxt/P1.txt").write_text(OrientedInstances(quads, labels=LABELS).to_dota(CONFIG.id2label))

    def fake(task: str, model: str, **settings: object) -> object:
        processor = TCMImageProcessorPil(do_resize=False)
        settings = {name: value for name, value in settings.items() if name != "device"}
        return real_pipeline(task, model=ColouredRegions(CONFIG), image_processor=processor, **settings)

    monkeypatch.setattr("transformers.pipeline", fake)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_cut_find_merge_and_evaluate(folder: Path) -> None:
    written = run("split-dota", "images", "--annotations", "labelTxt", "--size", "128", "--gap", "64")
    assert "of 1 images" in written
    assert "0 new patches" in run("split-dota", "images", "--annotations", "labelTxt", "--size", "128", "--gap", "64")
    run("detect-objects", "patches/images", "--model", "m", "--output", "found", "--quiet")
    assert "3 objects in 1 images" in run("merge-dota", "found")
    assert (folder / "merged/Task1.zip").exists()
    evaluated = run("evaluate", "--task", "oriented", "--images", "images", "--annotations", "labelTxt",
                    "--detections", "merged", "--output", "scores.json")  # fmt: skip
    assert "mean over classes" in evaluated
    assert json.loads((folder / "scores.json").read_text())["mean_average_precision"] == pytest.approx(1)


def test_full_images_are_cut_in_memory_and_a_model_is_evaluated_at_once(folder: Path) -> None:
    options = ("--model", "m", "--tile", "128", "--tile-overlap", "64")
    told = run("detect-objects", "images", *options, "--format", "dota", "--draw")
    assert "3 objects in 1 of 1 images" in told
    assert len((folder / "objects/Task1_ship.txt").read_text().splitlines()) == 2
    assert (folder / "objects/P1_objects.png").exists()
    evaluated = run("evaluate", "--task", "oriented", "--images", "images", "--annotations", "labelTxt", *options)
    assert "ship                     1.0000  2 objects" in evaluated


def test_what_cannot_start_says_why(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert "no images in empty" in run("split-dota", "empty", code=2)
    (folder / "found.jsonl").write_text("{}\n")
    assert "line 1: no result of detect-objects" in run("merge-dota", "found.jsonl", code=2)
    both = ("--images", "images", "--annotations", "labelTxt")
    assert "give either --model, or --detections" in run("evaluate", "--task", "oriented", *both, code=2)
    (folder / "bad.png").write_text("no image")
    assert "bad.png" in run("detect-objects", "bad.png", "images", "--model", "m", code=1)
