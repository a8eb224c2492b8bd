"""The text detection examples, run as a user would."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import datasets
import numpy as np
import pytest
import torch
from tiny_settings import LEARNING

from transformers_tcm import AutoModelForTextDetection, TCMImageProcessor, TextInstances
from transformers_tcm.data.loaders import load_jsonl, save_jsonl
from transformers_tcm.training import PhotoArguments, TCMTrainingArguments, parse_recipe

FOLDER = Path(__file__).parents[2] / "examples" / "text-detection"
NOTING = Path(__file__).parents[1] / "noted_photos.py"
TRAINER, NO_TRAINER = "run_text_detection.py", "run_text_detection_no_trainer.py"


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


def run(script: str, *arguments: object, launcher: tuple[str, ...] = ()) -> None:
    command = [sys.executable, *launcher, str(FOLDER / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]


def plain_log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def values(log: list[dict[str, float]], name: str) -> list[float]:
    return [entry[name] for entry in log if name in entry]


def write_recipe(photos: Path, **changes: Any) -> Path:
    """Twenty steps on the photos of the fixture."""
    settings = {
        "config_overrides": LEARNING,
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
        **changes,
    }
    recipe = photos / "recipe.json"
    recipe.write_text(json.dumps(settings), encoding="utf-8")
    return recipe


def test_twenty_steps_on_four_images_lower_the_loss(photos: Path) -> None:
    recipe = write_recipe(photos)
    jsonl = ["--train_jsonl", photos / "photos.jsonl"]
    run(TRAINER, recipe, "--output_dir", photos / "out", "--max_grad_norm", 5, *jsonl)
    history = json.loads((photos / "out" / "trainer_state.json").read_text())["log_history"]
    losses = values(history, "loss")
    assert len(losses) == len(values(history, "images_per_second")) == 20
    assert np.mean(losses[-4:]) < 0.85 * np.mean(losses[:2])
    assert {"eval_hmean", "eval_loss"} <= json.loads((photos / "out" / "eval_results.json").read_text()).keys()
    model = AutoModelForTextDetection.from_pretrained(photos / "out")
    assert model.config.fused
    assert model.config.vision_config.width == 8


@pytest.mark.slow
def test_the_plain_loop_trains_evaluates_and_resumes(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of the trainer: a falling loss, figures, a fused model, checkpoints to go on from with more steps."""
    settings = {"eval_strategy": "steps", "eval_steps": 10, "save_steps": 10, "negative_ratio": 2.0}
    out = ["--output_dir", str(photos / "out"), "--max_grad_norm", "5", "--lr_scheduler_type", "constant"]
    # Without a falling rate, that of the other recipe is too high to last.
    settings["learning_rate"] = 0.003
    arguments = [NO_TRAINER, str(write_recipe(photos, **settings)), *out]
    script = load(NO_TRAINER.removesuffix(".py"), monkeypatch)
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    log = plain_log(photos / "out")
    losses = values(log, "loss")
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, 21))
    assert min(values(log, "images_per_second")) > 0
    assert np.mean(losses[-4:]) < 0.95 * np.mean(losses[:2])
    assert len(values(log, "eval_hmean")) == len(values(log, "eval_loss")) == 3
    model = AutoModelForTextDetection.from_pretrained(photos / "out")
    assert model.config.fused
    assert model.config.head_config["negative_ratio"] == 2.0
    assert TCMImageProcessor.from_pretrained(photos / "out").head_type == "dbnet"
    monkeypatch.setattr(sys, "argv", [*arguments, "--max_steps", "23", "--resume_from_checkpoint", "last"])
    script.main()
    log = plain_log(photos / "out")
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, 24))
    assert values(log, "loss")[:20] == losses
    assert np.mean(values(log, "loss")[20:]) < 0.95 * np.mean(losses[:2])


@pytest.mark.usefixtures("streams_that_end_at_once")
@pytest.mark.parametrize("script", [TRAINER, NO_TRAINER])
def test_streamed_photos_train_for_as_many_steps_as_asked_for(
    script: str, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", photos / "cache")
    (photos / "named").mkdir()
    load_jsonl(photos / "photos.jsonl").to_parquet(photos / "named" / "train.parquet")
    recipe = write_recipe(photos, train_images=[], train_annotations=[], max_steps=3, save_steps=2)
    named = ["--dataset_name", photos / "named", "--streaming", "true", "--per_device_train_batch_size", "2"]
    monkeypatch.setattr(sys, "argv", [script, *map(str, [recipe, "--output_dir", photos / "out", *named])])
    load(script.removesuffix(".py"), monkeypatch).main()
    assert "a stream of photos in crops of 160 x 160" in capsys.readouterr().out
    assert (photos / "out" / "checkpoint-2").is_dir()
    assert AutoModelForTextDetection.from_pretrained(photos / "out").config.fused


@pytest.mark.slow
def test_two_processes(photos: Path) -> None:
    """The script under a launcher: two processes share the batches of a step and save one model."""
    recipe = write_recipe(photos, max_steps=2, bf16=False, per_device_eval_batch_size=1)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    run(NO_TRAINER, recipe, "--output_dir", photos / "two", "--per_device_train_batch_size", 2, launcher=launcher)
    log = plain_log(photos / "two")
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2]
    assert len(values(log, "eval_hmean")) == 1
    assert AutoModelForTextDetection.from_pretrained(photos / "two").config.fused


@pytest.mark.slow
@pytest.mark.parametrize(("script", "files"), [(TRAINER, 4), (NO_TRAINER, 3)])
def test_two_processes_stream_different_photos(
    script: str, files: int, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass of eight photos, of which a step takes two for each process; four shards are shared as they are."""
    rows = load_jsonl(photos / "photos.jsonl")
    rows = datasets.concatenate_datasets([rows, rows])
    rows = rows.remove_columns("texts").add_column("texts", [[f"a{index}", f"b{index}"] for index in range(8)])
    (photos / "named").mkdir()
    for index in range(files):
        rows.shard(files, index).to_parquet(photos / "named" / f"train-{index}.parquet")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(photos / "cache"))
    monkeypatch.setenv("NOTED_PHOTOS", str(photos))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    changes = {"train_images": [], "train_annotations": [], "eval_jsonl": None, "do_eval": False, "bf16": False}
    recipe = write_recipe(photos, **changes, max_steps=2, per_device_train_batch_size=2)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(NOTING))
    named = ["--dataset_name", photos / "named", "--streaming", "true", "--output_dir", photos / "out"]
    run(script, recipe, *named, launcher=launcher)
    parts = [(photos / f"{process}.txt").read_text().split("\n")[:4] for process in range(2)]
    assert sorted(parts[0] + parts[1]) == [f"a{index} b{index}" for index in range(8)]
    assert AutoModelForTextDetection.from_pretrained(photos / "out").config.fused


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as a module, with its neighbours importable."""
    monkeypatch.syspath_prepend(str(FOLDER))
    specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    script = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, name, script)
    specification.loader.exec_module(script)
    return script


@pytest.mark.parametrize("script", [TRAINER, NO_TRAINER])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train_images", "photos"], "one --train_annotations folder for each"),
        ([], "nothing to train on"),
        (["--train_images", "nowhere", "--train_annotations", "nowhere"], "no such folder"),
        (["--negative_ratio", "0"], "has to be positive, got 0.0"),
        (
            ["--preset", "tiny", "--config_overrides", '{"head_type": "abcnet"}', "--negative_ratio", "3"],
            "leave it out",
        ),
    ],
)
def test_bad_arguments_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, arguments: list[str], message: str
) -> None:
    module = load(script.removesuffix(".py"), monkeypatch)
    common = ["--output_dir", str(tmp_path), "--max_steps", "1", "--use_cpu", "--do_train"]
    if "--config_overrides" not in arguments:
        common += ["--config_overrides", json.dumps(LEARNING)]
    monkeypatch.setattr(sys, "argv", [script, *common, *arguments])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        module.main()


def test_negative_ratio_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other settings of the head stay those of the checkpoint."""
    recipe = load("detection_recipe", monkeypatch)
    model, processor = recipe.ModelArguments(config_overrides=json.dumps(LEARNING)).load()
    assert model.head.settings.negative_ratio == 3.0
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, _ = recipe.ModelArguments(model_name_or_path=str(tmp_path), negative_ratio=5.0).load()
    assert again.head.settings == replace(model.head.settings, negative_ratio=5.0)
    assert torch.equal(again.model.meta_query, model.model.meta_query)


def readme_commands() -> list[list[str]]:
    """The trainings of the guide, split into words, `$data` filled in."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    lines = (
        "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ").splitlines()
    )
    [data] = [line.split("=", 1)[1].strip('"') for line in lines if line.startswith("data=")]
    return [shlex.split(line.replace("$data", data)) for line in lines if "run_text_detection" in line]


def test_the_guide_gives_arguments_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load("detection_recipe", monkeypatch)
    monkeypatch.chdir(FOLDER)
    commands = readme_commands()
    assert len(commands) >= 9
    for command in commands:
        script = next(place for place, word in enumerate(command) if word.startswith("run_text_detection"))
        assert Path(command[script]).is_file()
        classes = (recipe.ModelArguments, PhotoArguments, TCMTrainingArguments)
        _, photos, training = parse_recipe(*classes, arguments=[*command[script + 1 :], "--use_cpu", "true"])
        assert photos.train_images or photos.train_jsonl
        assert training.num_items > 0


@pytest.mark.slow
def test_the_first_training_of_the_guide_runs(tmp_path: Path) -> None:
    command = readme_commands()[0]
    assert command[:2] == ["python", TRAINER]
    recipe, *arguments = command[2:]
    arguments[arguments.index("--output_dir") + 1] = str(tmp_path)
    for name in ("--train_jsonl", "--eval_jsonl"):
        place = arguments.index(name) + 1
        arguments[place] = str((FOLDER / arguments[place]).resolve())
    run(TRAINER, FOLDER / recipe, *arguments)
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [2, 4, 6, 8, 10]
    assert "eval_hmean" in json.loads((tmp_path / "eval_results.json").read_text())
    assert AutoModelForTextDetection.from_pretrained(tmp_path).config.fused
