"""`scripts/export_model.py` and `scripts/push_to_hub.py`, as far as no Hub is needed."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from tiny_settings import SETTINGS
from transformers import AutoModel

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.hub.model_card import CardDetails
from transformers_tcm.hub.publishing import write_repository

ROOT = Path(__file__).parents[2]
FIGURES = {
    "precision": 0.8,
    "recall": 0.6,
    "hmean": 0.6857,
    "end_to_end": {"precision": 0.5, "recall": 0.4, "hmean": 0.4444},
    "word_spotting": {"precision": 0.55, "recall": 0.45, "hmean": 0.495},
}
WORDS = {"words": {"words": 12, "accuracy_ignore_case": 0.75, "accuracy": 0.7, "character_error_rate": 0.1}}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    script(name).main()


@pytest.fixture(scope="module", params=["detector", "spotter"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its text tower, as training leaves it."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    if request.param == "spotter":
        recognizer = {"channels": [8, 16, 16], "num_blocks": [0, 1, 0]}
        TCMForTextSpotting(TCMConfig(**SETTINGS, recognizer=recognizer)).save_pretrained(folder)
    else:
        TCMForTextDetection(TCMConfig(**SETTINGS)).save_pretrained(folder)
    TCMImageProcessor(size={"longest_edge": 160}).save_pretrained(folder)
    return folder


def test_export_and_card(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = trained.name.startswith("spotter")
    target = tmp_path / "fasttcm-small"
    settings = {"box_threshold": 0.47, **({"text_threshold": 0.3} if reads else {})}
    run(monkeypatch, "export_model", trained, target, "--processor", json.dumps(settings))
    model = AutoModel.from_pretrained(target)
    assert (model.dtype, model.config.fused) == (torch.bfloat16, True)
    (tmp_path / "evaluation.json").write_text(json.dumps(FIGURES))
    (tmp_path / "words.json").write_text(json.dumps(WORDS))
    figures = ("--figures", tmp_path / "evaluation.json", tmp_path / "words.json")
    stages = ("--stages", *(f"stage {number}" for number in range(1, 10)))
    run(monkeypatch, "export_model", "--card-only", target, *figures, *stages)
    card = ModelCard.load(target / "README.md")
    values = [result.metric_value for result in card.data.eval_results]
    assert values == ([0.6857, 0.4444, 0.75] if reads else [0.6857])
    assert card.data.license == "apache-2.0"
    for text in ("| `box_threshold` | 0.47 |", "0.800 | 0.600 | 0.686", "stage 2", "bundled_model_path"):
        assert text in card.text
    assert (target / "example.jpg").is_file()
    before = (target / "README.md").read_bytes()
    run(monkeypatch, "export_model", "--card-only", target)
    assert (target / "README.md").read_bytes() == before


def test_export_needs_a_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "export_model", tmp_path)


def test_dry_run_says_what_would_be_uploaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = ROOT / "hub_configs" / "fasttcm-dbnet-tiny"
    arguments = (folder, "--repo-id", "org/fasttcm-dbnet", "--dry-run", "--output", tmp_path)
    run(monkeypatch, "push_to_hub", *arguments, "--max-shard-size", "8MB")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{len(said) - 1} files would be uploaded to org/fasttcm-dbnet:"
    listed = {line.split()[-1]: int(line.split()[0].replace(",", "")) for line in said[1:]}
    assert listed == {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert {"model-00001-of-00002.safetensors", "model.safetensors.index.json"} <= listed.keys()
    # Everything but the card, which names the repository, is what is in `hub_configs`.
    for path in folder.iterdir():
        if path.suffix == ".jpg":
            assert_alike(tmp_path / path.name, path)
        else:
            assert path.name == "README.md" or (tmp_path / path.name).read_bytes() == path.read_bytes()


def assert_alike(first: Path, second: Path) -> None:
    """Outlines in a picture may be off by a pixel where the model ran in another number type."""
    pixels = [np.asarray(Image.open(path).convert("RGB"), np.float32) for path in (first, second)]
    assert pixels[0].shape == pixels[1].shape
    assert np.abs(pixels[0] - pixels[1]).mean() < 1


def test_dry_run_warns_of_placeholders(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(monkeypatch, "push_to_hub", trained, "--repo-id", "org/mine", "--dry-run")
    warnings = capsys.readouterr().err
    assert "warning: --repo-id org/mine: 'org' stands for your user name or organisation" in warnings
    assert "warning: README.md: nobody has described on what data" in warnings
    assert "warning: README.md: it states no licence" in warnings
    details = CardDetails(text="## Data\n\nPhotos of <your town>, TODO: how many.\n", license="mit")
    weights = tmp_path / "weights"
    model = TCMForTextDetection.from_pretrained(trained)
    write_repository(weights, model, TCMImageProcessor.from_pretrained(trained), details, "anna/mine")
    run(monkeypatch, "push_to_hub", weights, "--repo-id", "anna/mine", "--dry-run")
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "warning: README.md: '<your town>' is a placeholder",
        "warning: README.md: 'TODO' is a placeholder",
    ]


def test_a_trained_folder_is_published_as_it_is(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = ("--repo-id", "org/mine", "--dry-run", "--output", tmp_path)
    run(monkeypatch, "push_to_hub", trained, *arguments)
    assert (tmp_path / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.eval_results is None
    assert "org/mine" in card.text


def test_the_card_of_bundled_weights_says_nothing_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = ROOT / "hub_configs" / "fasttcm-dbnet-tiny"
    weights, output = tmp_path / "weights", tmp_path / "output"
    model = TCMForTextDetection(TCMConfig.from_pretrained(config))
    model.save_pretrained(weights)
    arguments = ("--weights", weights, "--repo-id", "org/mine", "--dry-run", "--output", output)
    run(monkeypatch, "push_to_hub", config, *arguments)
    card = ModelCard.load(output / "README.md")
    assert card.data.eval_results is None
    assert card.data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("folder", "arguments", "error"),
    [
        ("fasttcm-dbnet-td500", [], r"no weights of fasttcm-dbnet-td500; give a folder with --weights"),
        (
            "fasttcm-dbnet-td500",
            ["--weights", "{bundled}"],
            r"is not a model of .*td500: they differ in decoder_hidden",
        ),
        ("fasttcm-dbnet-td500", ["--weights", "{folder}"], r"has no model\.safetensors"),
        ("missing", [], r"missing has no config\.json; give one of the folders in hub_configs/, or that of a"),
    ],
)
def test_errors_of_push_to_hub(folder: str, arguments: list[str], error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "hub_configs" / folder
    bundled = ROOT / "src" / "transformers_tcm" / "bundled" / "fasttcm-dbnet-tiny"
    given = [argument.format(bundled=bundled, folder=path) for argument in arguments]
    with pytest.raises(SystemExit, match=error):
        run(monkeypatch, "push_to_hub", path, "--repo-id", "org/any", "--dry-run", *given)
