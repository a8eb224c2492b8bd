"""The ablation: what its trainings share and differ in, which of them are run, and the table."""

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from transformers_tcm.training import PhotoArguments, TCMTrainingArguments, parse_recipe


@pytest.fixture
def arguments(tmp_path: Path) -> argparse.Namespace:
    names = ("images", "annotations", "eval_list", "rendered")
    return argparse.Namespace(**{name: Path(name) for name in names}, output_dir=tmp_path)


def option(run: object, name: str) -> str:
    """The value that a training is given; the last one counts."""
    command = run.command
    return command[len(command) - command[::-1].index(f"--{name}")]


def finish(run: object, hmean: float) -> None:
    """Leave behind what a training leaves."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "eval_results.json").write_text(json.dumps({"eval_hmean": hmean}))
    (run.folder / "model.safetensors").touch()


def test_rows_differ_in_variant_share_and_seed_alone(script: ModuleType, arguments: argparse.Namespace) -> None:
    first = script.start(arguments, [])
    rows = script.rows(arguments, [], first)
    runs = [run for row in rows.values() for run in row]
    assert len(rows) == 6
    assert len({run.folder for run in runs}) == 12
    told = {
        (json.loads(option(run, "config_overrides"))["prompting"], float(option(run, "few_shot")), option(run, "seed"))
        for run in runs
    }
    assert told == {(v, s, seed) for v in ("none", "tcm", "fasttcm") for s in (1.0, 0.1) for seed in ("1", "2")}
    assert {option(run, "initial_weights") for run in runs} == {str(first.folder)}
    differing = ("config_overrides", "few_shot", "seed", "output_dir")

    def common(command: list[str]) -> list[str]:
        return [part for name, part in zip(["", *command], command, strict=False) if name[2:] not in differing]

    assert len({tuple(common(run.command)) for run in runs}) == 1
    assert json.loads(option(first, "config_overrides")) == {"prompting": "none"}
    assert "--train_images" not in first.command  # no real label before the rows


def test_further_arguments_reach_every_training(script: ModuleType, arguments: argparse.Namespace) -> None:
    further = ["--max_steps", "7"]
    first = script.start(arguments, further)
    runs = [first, *(run for row in script.rows(arguments, further, first).values() for run in row)]
    assert {option(run, "max_steps") for run in runs} == {"7"}


def test_recipe_and_command_are_understood(
    script: ModuleType, arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(script.EXAMPLE)
    from detection_recipe import ModelArguments

    row = script.rows(arguments, ["--use_cpu"], script.start(arguments, []))["tcm", 0.1][1]
    parsed = parse_recipe(ModelArguments, PhotoArguments, TCMTrainingArguments, arguments=row.command[2:])
    model, photos, training = parsed
    assert json.loads(model.config_overrides) == {"prompting": "tcm"}
    assert model.initial_weights == str(arguments.output_dir / "start")
    assert (photos.few_shot, photos.eval_list) == (0.1, "eval_list")
    assert (training.seed, training.do_train, training.do_eval) == (2, True, True)
    assert Path(training.output_dir) == row.folder


def test_complete_trainings_are_not_repeated(
    script: ModuleType, arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(command: Sequence[str], **settings: object) -> subprocess.CompletedProcess:
        assert settings["env"]["OMP_NUM_THREADS"] == "3"
        folder = Path(command[-1])
        ran.append(folder.name)
        (folder / "eval_results.json").write_text('{"eval_hmean": 0.5}')
        (folder / "model.safetensors").touch()
        return subprocess.CompletedProcess(command, returncode=0)

    monkeypatch.setattr(script.subprocess, "run", run)
    first = script.start(arguments, [])
    rows = script.rows(arguments, [], first)
    finish(rows["tcm", 1.0][0], 0.4)
    broken_off = rows["none", 0.1][1].folder
    broken_off.mkdir()
    (broken_off / "eval_results.json").write_text('{"eval_hmean": 0.9}')  # without its model
    script.train_all(first, rows, jobs=1, threads=3)
    assert ran[0] == "start"
    assert ran[1:6] == [f"{row}_seed1" for row in ("none_100", "fasttcm_100", "none_10", "tcm_10", "fasttcm_10")]
    assert len(ran) == 12
    assert broken_off.name in ran
    script.train_all(first, rows, jobs=1, threads=3)
    assert len(ran) == 12


def test_failed_training_names_its_log(
    script: ModuleType, arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], returncode=1)
    monkeypatch.setattr(script.subprocess, "run", lambda *_, **__: failed)
    first = script.start(arguments, [])
    with pytest.raises(SystemExit, match=r"exit code 1, see .*log\.txt"):
        script.train_all(first, script.rows(arguments, [], first), jobs=1, threads=1)


def test_table_holds_mean_and_both_values(script: ModuleType, arguments: argparse.Namespace) -> None:
    first = script.start(arguments, [])
    rows = script.rows(arguments, [], first)
    finish(first, 0.25)
    for run, hmean in zip(rows["tcm", 0.1], (0.5, 0.3), strict=True):
        finish(run, hmean)
    finish(rows["none", 1.0][0], 0.6)
    lines = script.table(rows, first).splitlines()
    assert lines[0] == "| score map | labels | hmean, mean | seed 1 | seed 2 |"
    assert lines[2] == "| none (plain DBNet) | 100% |  | 0.600 |  |"
    assert lines[6] == "| TCM | 10% | 0.400 | 0.500 | 0.300 |"
    assert lines[-1] == "Before, after rendered scenes alone: 0.250"
