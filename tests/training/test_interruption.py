"""Runs that are stopped and resumed take the steps of an unbroken one, to the last bit."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_fakes import Photos, at_forward, detector, random_crops, spotter, state, training_arguments

from transformers_tcm import TCMForTextDetection
from transformers_tcm.training import (
    ExponentialMovingAverage,
    StopRequest,
    TCMTrainer,
    last_checkpoint,
)

STEPS = 5


class StoppedError(Exception):
    """The process would have ended here."""


@pytest.fixture(autouse=True)
def survive() -> Iterator[None]:
    """SIGTERM raises `StoppedError`."""

    def stop(number: int, frame: Any) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


class Outcome:
    """Weights, averages, losses by step and the random numbers that would come next."""

    def __init__(self, model: nn.Module, ema: ExponentialMovingAverage, losses: dict[int, float]):
        self.weights = state(model)
        self.averages = {name: average.clone() for name, average in ema.averages.items()}
        self.updates = ema.num_updates
        self.losses = losses
        self.random = torch.rand(4)

    def assert_equal(self, other: "Outcome", from_step: int) -> None:
        assert self.losses == {step: loss for step, loss in other.losses.items() if step > from_step}
        assert self.losses
        for mine, theirs in ((self.weights, other.weights), (self.averages, other.averages)):
            assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
        assert self.updates == other.updates
        assert torch.equal(self.random, other.random)


def settings(**changes: Any) -> dict[str, Any]:
    """Two batches a step, a falling rate, crops made in another process."""
    return {
        "max_steps": STEPS,
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "polynomial",
        "warmup_steps": 2,
        "max_grad_norm": 1.0,
        "dataloader_num_workers": 1,
        "save_steps": 100,
        **changes,
    }


def run_trainer(
    folder: Path, make: Callable[[], TCMForTextDetection], stop_at: int | None = None, **changes: Any
) -> Outcome:
    arguments = training_arguments(folder, **settings(**changes))
    model = make()
    torch.manual_seed(5)  # a resumed process starts with other random numbers
    run = TCMTrainer(
        model, arguments, train_dataset=random_crops(arguments.num_items), image_processor=Photos.processor
    )
    if stop_at is not None:
        at_forward(model, 2 * stop_at - 1, lambda: signal.raise_signal(signal.SIGTERM))
    run.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
    # The log of a resumed run begins with that of the checkpoint.
    losses = {entry["step"]: entry["loss"] for entry in run.state.log_history if "loss" in entry}
    first = 0 if arguments.resume_from_checkpoint is None else run._initial_global_step
    assert run.ema is not None
    return Outcome(run.model, run.ema, {step: loss for step, loss in losses.items() if step > first})


def noisy_detector() -> TCMForTextDetection:
    return detector(decoder_dropout=0.2)


def noisy_spotter() -> TCMForTextDetection:
    return spotter(dropout=0.2, jitter=0.2)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcome]:
    """Runs each unbroken training once."""

    @cache
    def run(runner: Callable[..., Outcome], make: Callable[[], TCMForTextDetection], **changes: Any) -> Outcome:
        return runner(tmp_path_factory.mktemp("whole"), make, **changes)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [1, 3, 4])
@pytest.mark.parametrize("make", [noisy_detector, noisy_spotter])
def test_a_resumed_trainer_equals_an_unbroken_one(
    tmp_path: Path, unbroken: Callable[..., Outcome], make: Callable[[], TCMForTextDetection], stop_at: int
) -> None:
    whole = unbroken(run_trainer, make)
    with pytest.raises(StoppedError):
        run_trainer(tmp_path / "broken", make, stop_at)
    assert [path.name for path in (tmp_path / "broken").glob("checkpoint-*")] == [f"checkpoint-{stop_at}"]
    resumed = run_trainer(tmp_path / "broken", make, resume_from_checkpoint="last")
    resumed.assert_equal(whole, from_step=stop_at)


@pytest.mark.slow
def test_a_killed_run_repeats_the_steps_since_the_last_checkpoint(
    tmp_path: Path, unbroken: Callable[..., Outcome]
) -> None:
    """Nothing was saved at the moment of the break, as after a power cut."""

    def crash() -> None:
        raise StoppedError

    def crashing_detector() -> TCMForTextDetection:
        model = noisy_detector()
        at_forward(model, 8, crash)
        return model

    whole = unbroken(run_trainer, noisy_detector)
    with pytest.raises(StoppedError):
        run_trainer(tmp_path / "broken", crashing_detector, save_steps=2)
    resumed = run_trainer(tmp_path / "broken", noisy_detector, save_steps=2, resume_from_checkpoint="last")
    resumed.assert_equal(whole, from_step=2)


@pytest.mark.parametrize("loads", ["resumed", "best"])
def test_a_checkpoint_with_other_names_of_weights_is_loaded_whole(tmp_path: Path, loads: str) -> None:
    """Files of spotters pack the projections of the recogniser's attention into one, as `save_pretrained` leaves it."""
    saved, loaded = (
        TCMTrainer(
            spotter(), training_arguments(tmp_path), train_dataset=random_crops(2), image_processor=Photos.processor
        )
        for _ in range(2)
    )
    for tensor in saved.model.state_dict().values():
        tensor += 1
    folder = str(tmp_path / "checkpoint-1")
    saved.save_model(folder, _internal_call=True)
    if loads == "resumed":
        loaded._load_from_checkpoint(folder)
    else:
        loaded.state.best_model_checkpoint = folder
        loaded._load_best_model()
    assert load_file(Path(folder) / "model.safetensors").keys() != saved.model.state_dict().keys()
    for name, tensor in saved.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name


def test_last_needs_no_checkpoint(tmp_path: Path) -> None:
    outcome = run_trainer(
        tmp_path, noisy_detector, max_steps=3, resume_from_checkpoint="last", dataloader_num_workers=0
    )
    assert sorted(outcome.losses) == [1, 2, 3]


def test_the_newest_complete_checkpoint(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere", "done") is None
    for name, complete in (("checkpoint-9", True), ("checkpoint-10", True), ("checkpoint-11", False)):
        (tmp_path / name).mkdir()
        if complete:
            (tmp_path / name / "done").touch()
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-best" / "done").touch()
    assert last_checkpoint(tmp_path, "done") == str(tmp_path / "checkpoint-10")


class OneProcess:
    num_processes = 1


def test_a_signal_waits_until_it_is_delivered() -> None:
    request = StopRequest()
    with request.listening():
        assert not request.agreed(OneProcess())
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.agreed(OneProcess())
        with pytest.raises(StoppedError):
            request.deliver()


def test_a_second_signal_is_obeyed_at_once() -> None:
    with StopRequest().listening():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StoppedError):
            signal.raise_signal(signal.SIGTERM)


def test_what_is_ignored_stays_ignored() -> None:
    """A shell has SIGINT ignored by what it starts in the background."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    request = StopRequest()
    try:
        with request.listening():
            signal.raise_signal(signal.SIGTERM)
            assert not request.agreed(OneProcess())
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_put_back_and_other_threads_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    handlers = []

    def listen() -> None:
        with StopRequest().listening():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    listen()
    assert handlers[0] is before
    assert handlers[1] is not before
    assert signal.getsignal(signal.SIGTERM) is before
