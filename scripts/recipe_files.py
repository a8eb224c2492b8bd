"""The recipes of `hub_configs/` and the page of their commands, out of the table of `published_rows`."""

import json
from pathlib import Path
from typing import Any

import yaml
from published_rows import PHOTOS, Recipe, Stage, rows

from transformers_tcm.data.known_datasets import KNOWN_DATASETS

__all__ = ["commands_of", "reproduction", "write_recipes"]

_PER_DEVICE = 16
_SCRIPTS = {
    "detection": "examples/text-detection/run_text_detection.py",
    "spotting": "examples/text-spotting/run_text_spotting.py",
    "oriented": "examples/oriented-object-detection/run_oriented_detection.py",
}
_SPOTTERS = ("abinetpp", "masktextspotter3", "abcnet", "testr", "deepsolo")
_PATCHES = "--train_images patches/images --train_annotations patches/labelTxt"
# What no paper says, and every stage needs.
_RUN = {
    "do_train": True,
    "bf16": True,
    "seed": 1,
    "dataloader_num_workers": 8,
    "dataloader_persistent_workers": True,
    "ema_decay": 0.0,
    "logging_steps": 50,
    "eval_strategy": "no",
    "save_strategy": "steps",
    "save_steps": 1000,
    "save_total_limit": 2,
}


def task_of(folder: str) -> str:
    """What a row is for: `detection`, `spotting` or `oriented`."""
    if folder.endswith("-dota"):
        return "oriented"
    return "spotting" if folder.split("-")[1] in _SPOTTERS else "detection"


def stages(recipe: Recipe) -> dict[str, Stage]:
    """The stages of a row by the names of their files."""
    if recipe.pretraining is None:
        return {"training": recipe.finetuning}
    return {"pretraining": recipe.pretraining, "finetuning": recipe.finetuning}


def settings_of(folder: str, name: str, stage: Stage) -> dict[str, Any]:
    """Everything that a recipe file says."""
    per_device = min(stage.batch, _PER_DEVICE)
    photos = [PHOTOS[one] for one in stage.sets]
    shares = stage.shares or [round(count / sum(photos), 6) for count in photos]
    data = {"train_sets": list(stage.sets), "train_weights": list(shares)} if stage.sets else {}
    length = {} if "epochs" in stage.settings else {"max_steps": stage.steps}
    batch = {"per_device_train_batch_size": per_device, "gradient_accumulation_steps": stage.batch // per_device}
    # A fused model cannot be trained on.
    fuse = {"fuse": False} if name == "pretraining" else {}
    return {"config_name": f"hub_configs/{folder}", **data, **stage.settings, **length, **batch, **fuse, **_RUN}


def write_recipes(target: Path) -> None:
    """The files of all stages of all rows, in the rows' folders."""
    for folder, recipe in rows().items():
        for name, stage in stages(recipe).items():
            head = (
                f"# {name.capitalize()} of {folder}, with the settings on record; docs/reproduce.md has the commands."
            )
            open_points = f"\n# Not so: {recipe.open_points}." if recipe.open_points else ""
            accumulated = stage.batch > _PER_DEVICE
            batch = "\n# The published batch is that of 8 devices: there, without accumulation." if accumulated else ""
            text = yaml.safe_dump(settings_of(folder, name, stage), sort_keys=False, width=120)
            (target / folder / f"{name}.yaml").write_text(f"{head}{open_points}{batch}\n{text}", encoding="utf-8")


def commands_of(folder: str) -> str:
    """The commands that train, judge and publish a row, as a block of Markdown."""
    task, recipe = task_of(folder), rows()[folder]
    data = _PATCHES if task == "oriented" else "--data_root /data/text"
    lines, start = [], "--clip RN50.pt"
    for name in stages(recipe):
        output = f"runs/{folder}/{name}"
        lines.append(f"python {_SCRIPTS[task]} hub_configs/{folder}/{name}.yaml \\")
        lines.append(f"    {data} {start} --output_dir {output}")
        start = f"--model_name_or_path {output}"
    lines += _judging(folder, recipe, output)
    lines.append(f"python scripts/push_to_hub.py hub_configs/{folder} --weights {output} --repo-id org/{folder}")
    return "\n".join(["```bash", *lines, "```"])


def _judging(folder: str, recipe: Recipe, model: str) -> list[str]:
    task = task_of(folder)
    if task == "oriented":
        return [
            f"transformers-tcm detect-objects test/images --model {model} --tile 1024 --output found",
            "transformers-tcm merge-dota found --output submission",
        ]
    evaluate = f"transformers-tcm evaluate --dataset {recipe.test_set} --root /data/text --model {model}"
    if task == "detection":
        return [f"{evaluate} --protocol iou", f"{evaluate} --protocol best-iou --box-threshold 0.3"]
    lexicons = ("none", *KNOWN_DATASETS[recipe.test_set].lexicons)
    return [f"{evaluate} --protocol e2e --lexicon {lexicon}" for lexicon in lexicons]


def reproduction() -> str:
    """docs/reproduce.md."""
    trainings, figures, blocks = [], [], []
    hours = json.loads(Path(__file__).with_name("training_hours.json").read_text(encoding="utf-8"))
    for folder, recipe in rows().items():
        for name, stage in stages(recipe).items():
            sets = ", ".join(stage.sets) or "DOTA-v1.0"
            steps = f"{stage.steps:,}" if stage.sets else "12 epochs"
            crops = f"{stage.steps * stage.batch:,}" if stage.sets else "12 x patches"
            cells = [folder, name, sets, steps, stage.batch, crops, hours[folder][name]]
            trainings.append(f"| {' | '.join(map(str, cells))} |")
        figure, source = recipe.published or ("not on record", "")
        figures.append(f"| {folder} | {figure} | {source} | not run | {recipe.open_points} |")
        blocks.append(f"### {folder}\n\n{commands_of(folder)}")
    parts = {"stages": "\n".join(trainings), "figures": "\n".join(figures), "commands": "\n\n".join(blocks)}
    return (Path(__file__).with_name("reproduce_page.md")).read_text(encoding="utf-8").format(**parts)
