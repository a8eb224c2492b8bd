"""`transformers-tcm serve` until it would listen; tests/serving has what comes then."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from fastapi import FastAPI
from spotting_fakes import tiny_spotter_config
from training_fakes import detector
from typer.testing import CliRunner

from transformers_tcm import TCMForTextSpotting, TCMImageProcessorPil, TextDetectionPipeline
from transformers_tcm.cli import app, service
from transformers_tcm.serving import server


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["serve", *map(str, arguments)])


@pytest.fixture(scope="module")
def spotter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spotter")
    TCMForTextSpotting(tiny_spotter_config()).save_pretrained(folder)
    TCMImageProcessorPil(size={"longest_edge": 96}).save_pretrained(folder)
    return folder


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FastAPI, str, int]]:
    """What would have been served, and where."""
    calls: list[tuple[FastAPI, str, int]] = []

    def run_server(app: FastAPI, host: str, port: int, announce: Callable[[str], None], log_level: str) -> None:
        calls.append((app, host, port))
        announce(f"http://{host}:{port}")

    monkeypatch.setattr("transformers_tcm.serving.server.run_server", run_server)
    return calls


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[TextDetectionPipeline]:
    """The pipelines that were loaded."""
    pipelines: list[TextDetectionPipeline] = []

    def load(*arguments: Any) -> TextDetectionPipeline:
        pipelines.append(original(*arguments))
        return pipelines[-1]

    original = service.load_pipeline
    monkeypatch.setattr(service, "load_pipeline", load)
    return pipelines


def paths(application: FastAPI) -> set[str]:
    return set(application.openapi()["paths"])


def test_options_are_those_of_the_pipeline(
    spotter: Path, served: list[tuple[FastAPI, str, int]], loaded: list[TextDetectionPipeline]
) -> None:
    options = "--host 0.0.0.0 --port 9000 --dtype bfloat16 --text-threshold 0.3 --size 64 --decoding max_candidates=5"
    result = run("--model", spotter, *options.split())
    assert result.exit_code == 0, result.output
    assert f"serving {spotter} at http://0.0.0.0:9000/spot;" in result.stdout
    [(application, host, port)] = served
    assert (host, port) == ("0.0.0.0", 9000)
    assert paths(application) == {"/spot", "/healthz", "/metrics"}
    [pipeline] = loaded
    assert pipeline.model.dtype == torch.bfloat16
    assert pipeline._preprocess_params == {"size": 64}
    assert pipeline._forward_params == {"text_threshold": 0.3, "max_candidates": 5}


def test_a_detector_is_served_as_one(tmp_path: Path, served: list[tuple[FastAPI, str, int]]) -> None:
    detector(num_context_tokens=2).save_pretrained(tmp_path)
    TCMImageProcessorPil(size={"longest_edge": 96}).save_pretrained(tmp_path)
    result = run("--model", tmp_path, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert "/detect" in paths(served[0][0])
    result = run("--model", tmp_path, "--text-threshold", 0.5)
    assert result.exit_code == 2
    assert "text_threshold" in result.stderr


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "find_spec", lambda name: None if name == "fastapi" else object())
    result = run()
    assert result.exit_code == 2
    assert "not installed (fastapi): pip install 'transformers-tcm[serve]'" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--queue", "0"], "--queue"), (["--max-distance", "2"], "--lexicon"), (["--decoding", "x"], "NAME=VALUE")],
)
def test_what_cannot_start_says_why(options: list[str], said: str) -> None:
    result = run(*options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_models_of_oriented_objects_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "task_of", lambda model: "oriented")
    result = run("--model", "planes")
    assert result.exit_code == 2
    assert "planes finds oriented objects" in result.stderr


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        server.run_server(FastAPI(), "127.0.0.1", other.getsockname()[1], announce=print)
