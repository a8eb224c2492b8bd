"""`transformers-tcm evaluate`: figures of a detector on annotated photos."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from transformers_tcm import TextInstances
from transformers_tcm.cli import app
from transformers_tcm.data.loaders import save_jsonl
from transformers_tcm.pipelines import TextDetectionPipeline

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


def test_a_damaged_photo_is_one_line_and_not_a_traceback(photos: Path, found: list) -> None:
    (photos / "images" / "a.png").write_bytes(b"no picture")
    done = evaluate("--jsonl", photos / "photos.jsonl")
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert "error:" in done.output
