"""Damaged folders of models are refused by name, and nothing in them runs."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_fakes import detector
from transformers import AutoImageProcessor, AutoModel, pipeline
from typer.testing import CliRunner

from transformers_tcm import AutoModelForTextDetection, TCMForTextDetection, TCMImageProcessor
from transformers_tcm.cli import app

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"


class Malicious:
    """Makes a folder when unpickled carelessly."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    detector().save_pretrained(folder)
    TCMImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "model"))


def assert_refused(folder: Path, message: str) -> None:
    for load in (TCMForTextDetection.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(ValueError, match=message):
            load(folder)


@pytest.mark.parametrize("kept", [0, 4, 0.1, 0.5, 0.999])
def test_weights_that_are_cut_off(folder: Path, kept: float) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    assert_refused(folder, rf"the weights in {folder} cannot be read: a file is truncated.*Nothing in it was executed")


@pytest.mark.parametrize("seed", range(3))
def test_weights_of_random_bytes(folder: Path, seed: int) -> None:
    (folder / WEIGHTS).write_bytes(np.random.default_rng(seed).bytes(5000))
    assert_refused(folder, "cannot be read")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_model.bin"])
@pytest.mark.parametrize("write", ["pickle", "zip", "legacy"])
def test_a_pickle_in_place_of_weights_is_not_executed(folder: Path, tmp_path: Path, name: str, write: str) -> None:
    (folder / WEIGHTS).unlink()
    content = {"weight": torch.zeros(2), "meta": Malicious(tmp_path / "trace")}
    if write == "pickle":
        (folder / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, folder / name, _use_new_zipfile_serialization=write == "zip")
    assert_refused(folder, "cannot be read")
    assert not (tmp_path / "trace").exists()


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(OSError, match=f"no file named {WEIGHTS}"):
        TCMForTextDetection.from_pretrained(folder)


def test_the_command_line_says_so_in_a_line(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\x80\x04")
    photo = folder / "photo.png"
    photo.write_bytes(b"")
    result = CliRunner().invoke(app, ["detect", str(photo), "--model", str(folder), "--output", str(folder / "out")])
    assert result.exit_code == 2
    assert "cannot be read: a file is truncated" in result.output
    assert "Traceback" not in result.output


def with_entries(path: Path, entries: dict[str, Any]) -> None:
    """Change entries of a JSON file; `a.b` is the entry b of a."""
    settings = json.loads(path.read_text())
    for name, value in entries.items():
        *outer, last = name.split(".")
        inner = settings
        for key in outer:
            inner = inner[key]
        inner[last] = value
    path.write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"head_type": "nosuch"}, "unknown `head_type` 'nosuch'; choose one of dbnet"),
        ({"head_type": ["dbnet"]}, "'head_type' expected str"),
        ({"head_config": {"nosuch": 1}}, "`head_config` does not fit the head 'dbnet': .*nosuch"),
        ({"head_config": {"neck_channels": "16"}}, "`head_config` does not fit the head 'dbnet'"),
        ({"head_config": {"neck_channels": -16}}, "`neck_channels` must be a positive multiple of 4"),
        ({"head_config": "x"}, "'head_config' with value 'x'"),
        ({"recognizer": {"nosuch": 1}}, "`recognizer` does not fit: .*nosuch"),
        ({"recognizer": {"hidden_size": -16}}, "`hidden_size` is -16; expected a number of at least 1"),
        ({"recognizer": []}, "'recognizer'"),
        ({"decoder_hidden_size": -16}, "`decoder_hidden_size` of TCMConfig must be positive, got -16"),
        ({"decoder_hidden_size": "16"}, "'decoder_hidden_size' expected int"),
        ({"decoder_num_heads": 0}, "`decoder_num_heads` of TCMConfig must be positive, got 0"),
        ({"decoder_num_heads": -2}, "`decoder_num_heads` of TCMConfig must be positive"),
        ({"decoder_num_layers": -1}, "`decoder_num_layers` of TCMConfig must be positive"),
        ({"decoder_dropout": 5}, r"`decoder_dropout` must lie in \[0, 1\]"),
        ({"temperature": float("nan")}, "`temperature` of TCMConfig must be positive, got nan"),
        ({"prompting": "x"}, "'prompting' expected one of"),
        ({"fused": "yes"}, "'fused' expected bool"),
        ({"prompts": []}, "`prompt_token_ids` must hold one list for each of 0 prompts"),
        ({"prompt_token_ids": [[10**8] * 14]}, r"`prompt_token_ids` must lie in \[0, 49408\)"),
        ({"prompt_token_ids": [[-5] * 14]}, "`prompt_token_ids` must lie in"),
        ({"id2label": "x"}, "no configuration of a TCM model"),
        ({"vision_config": [1]}, "'vision_config'"),
        ({"vision_config.width": -4}, "`width` must be even and positive"),
        ({"vision_config.depths": [1, 1]}, "stage"),
        ({"vision_config.num_channels": -3}, "`num_channels` of TCMVisionConfig must be positive"),
        ({"vision_config.num_attention_heads": 0}, "`num_attention_heads` of TCMVisionConfig must be positive"),
        ({"vision_config.num_attention_heads": -4}, "`num_attention_heads` of TCMVisionConfig must be positive"),
        ({"vision_config.batch_norm_eps": -1.0}, "`batch_norm_eps` of TCMVisionConfig must be positive"),
        ({"text_config.hidden_size": "8"}, "'hidden_size' expected int"),
        ({"text_config.hidden_size": -8}, "`hidden_size` of CLIPTextConfig must be positive"),
        ({"text_config.num_attention_heads": 0}, "no configuration of a TCM model"),
        ({"text_config.num_hidden_layers": -1}, "`num_hidden_layers` of CLIPTextConfig must be positive"),
        ({"text_config.vocab_size": 100}, "`prompt_token_ids` must lie in"),
    ],
)
def test_settings_of_a_model_that_cannot_be(folder: Path, entries: dict[str, Any], message: str) -> None:
    with_entries(folder / CONFIG, entries)
    with pytest.raises(ValueError, match=message):
        AutoModelForTextDetection.from_pretrained(folder)


@pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR])
@pytest.mark.parametrize("content", [b"", b'{"a":', b"\xff\x00\x80" * 50])
def test_settings_that_are_no_json(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    load: Any = AutoModelForTextDetection if name == CONFIG else AutoImageProcessor
    # Bytes that are no UTF-8 are a ValueError of transformers for the image processor.
    with pytest.raises((OSError, UnicodeDecodeError), match=rf"{name}' is not a valid JSON file|can't decode byte"):
        load.from_pretrained(folder)


def test_weights_that_do_not_fit_the_settings(folder: Path) -> None:
    with_entries(folder / CONFIG, {"decoder_hidden_size": 32})
    with pytest.raises(RuntimeError, match="mismatched"):
        TCMForTextDetection.from_pretrained(folder)


def test_a_folder_without_settings_of_the_image_processor(folder: Path) -> None:
    (folder / PREPROCESSOR).unlink()
    with pytest.raises(OSError, match=PREPROCESSOR):
        pipeline("text-detection", model=str(folder))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"threshold": "a"}, "'threshold' .*expected float, got str"),
        ({"box_threshold": -1}, "`box_threshold` is -1; expected a number"),
        ({"threshold": float("nan")}, "`threshold` is nan"),
        ({"max_candidates": "x"}, "'max_candidates' expected int, got str"),
        ({"unclip_ratio": "x"}, "`unclip_ratio`|'unclip_ratio'"),
        ({"unclip_ratio": float("inf")}, "`unclip_ratio` is inf"),
        ({"size": "x"}, "size"),
        ({"size": {"longest_edge": -5}}, "expected positive numbers of pixels"),
        ({"size_divisor": -32}, "`size_divisor` is -32"),
        ({"image_mean": "abc"}, "`image_mean` is abc"),
        ({"image_std": [0, 0, 0]}, "`image_std` .* one positive deviation"),
        ({"rescale_factor": "a"}, "`rescale_factor` a"),
    ],
)
def test_settings_of_an_image_processor_that_cannot_be(folder: Path, entries: dict[str, Any], message: str) -> None:
    with_entries(folder / PREPROCESSOR, entries)
    with pytest.raises(ValueError, match=message):
        AutoImageProcessor.from_pretrained(folder)(np.zeros((4, 5, 3), np.uint8))
