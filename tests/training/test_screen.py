"""What a training says."""

import logging
from pathlib import Path

import pytest
from training_fakes import Photos, detector, random_crops, training_arguments

from transformers_tcm.training import TCMTrainer, describe_run
from transformers_tcm.training.screen import evaluation_line


def test_one_screen_tells_model_recipe_data_and_sizes(tmp_path: Path) -> None:
    arguments = training_arguments(tmp_path / "out", max_steps=3, per_device_train_batch_size=2)
    screen = describe_run(detector(), arguments, random_crops(6), Photos(3), "recipes/mine.yaml", "bundled")
    lines = dict(line.split(maxsplit=1) for line in screen.splitlines())
    assert lines["model"].startswith("FastTCM with DBNet, a detector, from bundled: ")
    assert lines["recipe"].startswith("recipes/mine.yaml: 3 steps of 2 images")
    assert "2 photos with 4 words in crops of" in lines["train"]
    assert screen.count("\n") == 5
    assert f"{tmp_path / 'out'}, a checkpoint" in lines["output"]
    nothing = describe_run(detector(), arguments, None, None)
    assert "evaluate on  nothing\n" in nothing
    assert "of the command line: 3 steps" in nothing
    assert "a detector, new: " in nothing


def test_logs_are_in_the_bar_and_evaluations_on_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"max_steps": 2, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 2, "disable_tqdm": False}
    arguments = training_arguments(tmp_path, **changes)
    trainer = TCMTrainer(
        model=detector(),
        args=arguments,
        train_dataset=Photos(),
        eval_dataset=Photos(2),
        image_processor=Photos.processor,
    )
    trainer.train()
    said = capsys.readouterr()
    [line] = [line for line in said.out.splitlines() if line.strip()]
    assert line.startswith("step 2: loss ")
    assert "hmean" in line
    assert "loss=" in said.err
    assert "{'loss'" not in said.out + said.err


def test_figures_of_the_computer_are_left_out() -> None:
    metrics = {"eval_hmean": 0.5, "eval_end_to_end_hmean": 0.25, "eval_runtime": 3.0, "eval_samples_per_second": 2.0}
    assert evaluation_line({**metrics, "epoch": 1.0}, 40) == "step 40: hmean 0.5000, end to end hmean 0.2500"


def test_logs_of_transformers_name_the_folder_where_the_files_will_be(tmp_path: Path) -> None:
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        detector().save_pretrained(tmp_path / "mine")
        Photos.processor.save_pretrained(tmp_path / "mine")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert f"Model weights saved in {tmp_path / 'mine' / 'model.safetensors'}" in records
    assert not any("incomplete" in record for record in records)
