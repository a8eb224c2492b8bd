"""The examples of oriented detection, run as a user would, on scenes of two coloured rectangles."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from oriented_fakes import CONFIG, OVERRIDES, scene

from transformers_tcm import AutoModelForOrientedObjectDetection, OrientedInstances, TCMImageProcessor
from transformers_tcm.rotated_boxes import boxes_to_quads
from transformers_tcm.training import TCMTrainingArguments, parse_recipe

FOLDER = Path(__file__).parents[2] / "examples" / "oriented-object-detection"


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("images", "labelTxt"):
        (tmp_path / part).mkdir()
    for index in range(4):
        centers, angles = rng.uniform(25, 71, (2, 2)), rng.uniform(-1.5, 1.5, (2, 1))
        boxes = torch.tensor(np.hstack([centers, [[30, 12], [24, 14]], angles]), dtype=torch.float32)
        quads = list(boxes_to_quads(boxes).numpy())
        scene(96, 96, *zip(quads, (0, 1), strict=True)).save(tmp_path / "images" / f"P{index}.png")
        objects = OrientedInstances(quads, labels=[0, 1])
        (tmp_path / "labelTxt" / f"P{index}.txt").write_text(objects.to_dota(CONFIG.id2label))
    return tmp_path


@pytest.mark.parametrize(
    "script",
    [
        "run_oriented_detection.py",
        pytest.param("run_oriented_detection_no_trainer.py", marks=pytest.mark.slow),
    ],
)
def test_ten_steps_lower_the_loss_and_save_a_fused_model(patches: Path, script: str) -> None:
    settings = {
        "config_overrides": OVERRIDES,
        "classes": list(CONFIG.id2label.values()),
        "max_steps": 10,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "use_cpu": True,
        "logging_steps": 1,
        "ema_decay": 0,
        "warmup_steps": 1,
        "dataloader_num_workers": 0,
        "eval_strategy": "no",
        "save_strategy": "no",
    }
    for split in ("train", "eval"):
        settings |= {f"{split}_images": str(patches / "images"), f"{split}_annotations": str(patches / "labelTxt")}
    recipe = json.loads(json.dumps(settings))
    (patches / "recipe.json").write_text(json.dumps({**_yaml("tiny"), **recipe}))
    command = [sys.executable, str(FOLDER / script), str(patches / "recipe.json"), "--output_dir", str(patches / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    if script.endswith("no_trainer.py"):
        log = [json.loads(line) for line in (patches / "out/log.jsonl").read_text().splitlines()]
    else:
        log = json.loads((patches / "out/trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == 10
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert any("eval_mean_average_precision" in entry for entry in log) or (patches / "out/eval_results.json").exists()
    model = AutoModelForOrientedObjectDetection.from_pretrained(patches / "out")
    assert model.config.fused
    assert list(model.config.id2label.values()) == ["ship", "small-vehicle"]
    assert TCMImageProcessor.from_pretrained(patches / "out").head_type == "rotated_fcos"


def _yaml(name: str) -> dict[str, object]:
    import yaml

    return yaml.safe_load((FOLDER / "recipes" / f"{name}.yaml").read_text())


@pytest.mark.parametrize("recipe", sorted(path.stem for path in (FOLDER / "recipes").glob("*.yaml")))
def test_recipes_are_understood(recipe: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from oriented_recipe import DataArguments, ModelArguments

    path = str(FOLDER / "recipes" / f"{recipe}.yaml")
    more = ["--output_dir", str(tmp_path), "--use_cpu", "--bf16", "false"]
    detector, data, arguments = parse_recipe(
        ModelArguments, DataArguments, TCMTrainingArguments, arguments=[path, *more]
    )
    if recipe != "tiny":
        assert (data.epochs, arguments.max_grad_norm, arguments.image_encoder_scale) == (12, 0.1, 0.3)
        assert detector.head_type == recipe
