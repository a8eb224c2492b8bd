"""`make bench`: every engine has a row with its seconds and its accuracy, and int8 alone sees calibration photos."""

import argparse
import importlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench")


def arguments_of(bench: ModuleType, folder: Path, **changes: Any) -> argparse.Namespace:
    given = {"images": None, "annotations": None, "include": None, "photos": None, "calibration": bench.EXAMPLES}
    given |= {"engines": list(bench.ENGINES), "tasks": list(bench.MODELS), "rapidocr": False, "threads": 1}
    return argparse.Namespace(**{**given, "exports": folder, **changes})


def test_every_engine_has_seconds_and_accuracy(bench, monkeypatch, tmp_path):
    ((_, truth),) = bench.example_photos()

    def perfect(task: str, name: str, engine: str, *_: Any) -> Any:
        return bench.System([f"{name}, {engine}"], 1.0, lambda path: ([truth], 0.5), reads=task == "text-spotting")

    monkeypatch.setattr(bench, "engine_system", perfect)
    shown: list[str] = []
    measured = bench.bench(arguments_of(bench, tmp_path), shown.append)
    assert len(measured["rows"]) == len(bench.MODELS) * len(bench.ENGINES) == 10
    assert {row["detection"]["hmean"] for row in measured["rows"]} == {1.0}
    assert "| fasttcm-spotter-tiny, openvino int8 | 1.000 | 1.000 | 1.000 | 1.000 | 0.500 | 1.0 |" in shown[0]
    assert json.loads(json.dumps(measured))["photos"] == 1
    circles = ET.fromstring(bench.plot(measured["rows"])).findall("{*}circle")
    assert [circle.get("fill") == "none" for circle in circles].count(True) == len(bench.ENGINES)  # of the detectors


def test_only_int8_is_calibrated_and_engines_are_backends(bench, monkeypatch, tmp_path):
    exports, backends = [], []
    monkeypatch.setattr(bench, "exported", lambda *given: exports.append(given[2:]) or tmp_path)

    def own_system(task: str, folder: Path, backend: str = "torch") -> Any:
        backends.append(backend)
        return bench.System([], 1.0, lambda path: ([], 0.5))

    monkeypatch.setattr(bench, "own_system", own_system)
    for engine in bench.ENGINES:
        system = bench.engine_system("text-detection", "fasttcm-dbnet-tiny", engine, tmp_path, ["photo.jpg"])
        assert system.rows == [f"fasttcm-dbnet-tiny, {engine}"]
    assert backends == ["torch", "onnxruntime", "onnxruntime", "openvino", "openvino"]
    assert [bool(photos) for _, _, photos in exports] == [False, True, False, True]
