"""The example script, run as a user would."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from transformers_tcm import AutoModelForTextDetection, TextInstances
from transformers_tcm.data.loaders import save_jsonl

SCRIPT = Path(__file__).parents[2] / "examples" / "text-detection" / "run_text_detection.py"
OVERRIDES = {
    "vision_config": {"width": 8, "depths": [1, 1, 1, 1], "projection_dim": 32, "num_attention_heads": 4},
    "text_config": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "projection_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    "decoder_hidden_size": 32,
    "decoder_num_layers": 1,
    "head_config": {"neck_channels": 32, "hidden_channels": 8},
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photos with two words each, in the ICDAR-2015 format and as JSON lines."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    (tmp_path / "gt").mkdir()
    paths, annotations = [], []
    for index, words in enumerate([("EXIT", "SALE"), ("24h", "Cafe"), ("TAXI", "Books"), ("Bar", "PARK")]):
        image = rng.integers(60, 120, (240, 320, 3), dtype=np.uint8)
        polygons = []
        for row, word in enumerate(words):
            (width, height), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 1.4, 3)
            x, y = 30 + 40 * row, 80 + 90 * row
            cv2.putText(image, word, (x, y), cv2.FONT_HERSHEY_DUPLEX, 1.4, (255, 255, 255), 3)
            polygons.append([[x, y - height], [x + width, y - height], [x + width, y], [x, y]])
        paths.append(tmp_path / "images" / f"{index}.png")
        cv2.imwrite(str(paths[-1]), image)
        annotations.append(TextInstances(polygons, texts=list(words), ignore=np.array([False, False])))
        (tmp_path / "gt" / f"gt_{index}.txt").write_text(annotations[-1].to_icdar(), encoding="utf-8")
    (tmp_path / "val.txt").write_text("3.png\n", encoding="utf-8")
    save_jsonl(tmp_path / "photos.jsonl", paths, annotations)
    return tmp_path


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


def test_twenty_steps_on_four_images_lower_the_loss(photos: Path) -> None:
    recipe = photos / "recipe.json"
    settings = {
        "config_overrides": OVERRIDES,
        "train_images": [str(photos / "images")],
        "train_annotations": [str(photos / "gt")],
        "eval_jsonl": str(photos / "photos.jsonl"),
        "crop_size": 160,
        "do_train": True,
        "do_eval": True,
        "use_cpu": True,
        "bf16": True,
        "max_steps": 20,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 2,
        "learning_rate": 0.01,
        "ema_decay": 0.9,
        "logging_steps": 1,
        "seed": 7,
    }
    recipe.write_text(json.dumps(settings), encoding="utf-8")
    done = run(recipe, "--output_dir", photos / "out", "--train_jsonl", photos / "photos.jsonl", "--max_grad_norm", 5)
    assert done.returncode == 0, done.stderr[-3000:]
    history = json.loads((photos / "out" / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert len(losses) == 20
    assert np.mean(losses[-4:]) < 0.85 * np.mean(losses[:2])
    assert {"eval_hmean", "eval_loss"} <= json.loads((photos / "out" / "eval_results.json").read_text()).keys()
    model = AutoModelForTextDetection.from_pretrained(photos / "out")
    assert model.config.fused
    assert model.config.vision_config.width == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train_images", "photos"], "one --train_annotations folder for each"),
        ([], "nothing to train on"),
        (["--train_images", "nowhere", "--train_annotations", "nowhere"], "no such folder"),
    ],
)
def test_missing_data_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    specification = importlib.util.spec_from_file_location("run_text_detection", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "run_text_detection", script)
    specification.loader.exec_module(script)
    common = [
        "--output_dir",
        str(tmp_path),
        "--config_overrides",
        json.dumps(OVERRIDES),
        "--max_steps",
        "1",
        "--use_cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["run_text_detection.py", *common, *arguments])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        script.main()
