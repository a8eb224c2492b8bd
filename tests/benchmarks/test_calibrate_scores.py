"""`calibrate_scores.py`: what is stored with a spotter says how often its readings are right."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from transformers_tcm import TCMImageProcessor, TextInstances

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def calibrate() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import calibrate_scores
    finally:
        sys.path.remove(str(BENCHMARKS))
    return calibrate_scores


def square(place: int) -> np.ndarray:
    corner = np.float32([20 * (place % 10), 20 * (place // 10)])
    return corner + np.float32([[0, 0], [12, 0], [12, 12], [0, 12]])


@pytest.fixture
def validation(tmp_path: Path) -> tuple[Path, Path]:
    """A set of pictures and a report on them: of 50 readings in each the longer and the clearer ones are mostly right,
    which their scores promise of all."""
    rng = np.random.default_rng(0)
    rows, detections = [], {}
    for number in range(40):
        lengths, looks = rng.integers(1, 9, 50), rng.uniform(0.3, 0.95, 50)
        right = rng.random(50) < 1 / (1 + np.exp(4 - 2 * np.log(lengths) - np.log(looks / (1 - looks))))
        words: list[str | None] = ["a" * length for length in lengths.tolist()]
        read: list[str | None] = [
            word if good else "?" * len(word or "") for word, good in zip(words, right, strict=True)
        ]
        polygons = [square(place) for place in range(50)]
        row: dict[str, Any] = {**TextInstances(polygons, texts=words).to_json(), "group": "sign", "turn": 0}
        rows.append({**row, "image": f"{number}.png"})
        found = TextInstances(polygons, scores=np.full(50, 0.8), texts=read, text_scores=looks)
        detections[f"{number}.png"] = found.to_json()
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"detections": {"spotter": detections}}), encoding="utf-8")
    return tmp_path, report


def test_what_speaks_for_readings_is_found_out(
    calibrate: ModuleType,
    validation: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, report = validation
    TCMImageProcessor(text_threshold=0.0).save_pretrained(tmp_path / "model")
    arguments = ["--set", folder, "--report", report, "--model", tmp_path / "model", "--text-threshold", "0.3"]
    monkeypatch.setattr(sys, "argv", ["calibrate_scores.py", *map(str, arguments)])
    calibrate.main()
    given, reported = capsys.readouterr().out.split("\n")[1:3]
    assert float(given.rsplit(" ", 1)[1]) > 0.1
    assert "calibration error 0.0" in reported
    stored = TCMImageProcessor.from_pretrained(tmp_path / "model")
    assert stored.text_threshold == 0.3
    assert stored.score_calibration["text_score"] == pytest.approx(1, abs=0.3)
    assert stored.score_calibration["length"] == pytest.approx(2, abs=0.3)
    with pytest.raises(SystemExit, match="calibrated already"):
        calibrate.main()
