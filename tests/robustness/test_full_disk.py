"""A disk that is full in the middle of a save leaves what was saved before."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from training_fakes import Photos, detector, random_crops, state, training_arguments
from transformers import get_constant_schedule
from transformers.trainer import TRAINER_STATE_NAME

from transformers_tcm import TCMForTextDetection, TCMImageProcessor
from transformers_tcm.saving import atomic_write
from transformers_tcm.training import ExponentialMovingAverage, RunFolder, TCMTrainer, last_checkpoint
from transformers_tcm.training.run_folder import STATE_FILE


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """No file grows beyond so many bytes; the system refuses the rest in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("free", [100, 20_000])
def test_a_saved_model_stays(tmp_path: Path, free: int) -> None:
    """With room for nothing, or for the configuration but not for the weights."""
    model = detector()
    model.save_pretrained(tmp_path)
    before = contents(tmp_path)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(Exception, match=r"(?i)too large|file size|os error"), full_disk(free):
        model.save_pretrained(tmp_path)
    assert contents(tmp_path) == before
    model.save_pretrained(tmp_path)
    saved = TCMForTextDetection.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in state(model).items())
    assert not list(tmp_path.glob(".incomplete*"))


def test_saved_settings_of_an_image_processor_stay(tmp_path: Path) -> None:
    TCMImageProcessor().save_pretrained(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(OSError, match="too large"), full_disk(50):
        TCMImageProcessor(threshold=0.5).save_pretrained(tmp_path)
    assert contents(tmp_path) == before
    assert TCMImageProcessor(threshold=0.5).save_pretrained(tmp_path) == [str(tmp_path / "preprocessor_config.json")]
    assert TCMImageProcessor.from_pretrained(tmp_path).threshold == 0.5


def test_weights_in_one_file_and_in_shards_replace_each_other(tmp_path: Path) -> None:
    model = detector()
    for size in ("50GB", "400KB", "900KB", "50GB"):
        with torch.no_grad():
            next(model.parameters()).add_(1)
        model.save_pretrained(tmp_path, max_shard_size=size)
        saved = TCMForTextDetection.from_pretrained(tmp_path).state_dict()
        assert all(torch.equal(saved[name], tensor) for name, tensor in state(model).items())
        assert (tmp_path / "model.safetensors").exists() == (size == "50GB")
    assert len(list(tmp_path.glob("model*.safetensors*"))) == 1


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    for name in ("README.md", "model.safetensors", "old.txt"):
        (tmp_path / name).write_text("old")
    with atomic_write(tmp_path, ("model*",)) as folder:
        (folder / "README.md").write_text("new")
    assert {name: content.decode() for name, content in contents(tmp_path).items()} == {
        "README.md": "new",
        "model.safetensors": "old",
        "old.txt": "old",
    }


def run_loop(folder: Path, **changes: Any) -> None:
    """Two steps of a plain loop, which moves nothing but the averages."""
    arguments = training_arguments(folder, max_steps=2, save_steps=1, **changes)
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(detector())
    ema = ExponentialMovingAverage(model, 0.5)
    run = RunFolder(accelerator, arguments, Photos.processor)
    run.include(model, get_constant_schedule(torch.optim.SGD(model.parameters())), ema)
    for step in range(run.resume(), 2):
        ema.update(model)
        run.save_checkpoint(step + 1)


def run_trainer(folder: Path, **changes: object) -> None:
    arguments = training_arguments(folder, max_steps=2, save_steps=1, **changes)
    trainer = TCMTrainer(
        detector(), arguments, train_dataset=random_crops(arguments.num_items), image_processor=Photos.processor
    )
    trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)


@pytest.mark.parametrize(("run", "complete"), [(run_loop, STATE_FILE), (run_trainer, TRAINER_STATE_NAME)])
def test_checkpoints_of_a_training_stay(tmp_path: Path, run: object, complete: str) -> None:
    """The save of step 2 fails, also where it would replace a checkpoint; what is resumed is a complete one."""
    assert callable(run)
    run(tmp_path)
    before = contents(tmp_path / "checkpoint-1")
    first = str(tmp_path / "checkpoint-1")
    with pytest.raises(Exception, match=r"(?i)too large|file size|os error|write|failed"), full_disk(30_000):
        run(tmp_path, resume_from_checkpoint=first)
    assert contents(tmp_path / "checkpoint-1") == before
    newest = last_checkpoint(tmp_path, complete)
    assert newest is not None
    run(tmp_path, resume_from_checkpoint=first)
    assert last_checkpoint(tmp_path, complete) == str(tmp_path / "checkpoint-2")
    assert not list(tmp_path.glob("incomplete*"))
