"""What a plain training loop on Accelerate keeps on disk: its figures and checkpoints to resume from."""

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

from ..models.tcm.modeling_tcm import TCMForTextDetection
from .ema import ExponentialMovingAverage
from .interruption import StopRequest, last_checkpoint
from .trainer import TCMTrainingArguments

__all__ = ["RunFolder"]

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"
# Of the first object that a loop registers for checkpointing; a checkpoint gets its name when it is complete.
STATE_FILE = "custom_checkpoint_0.pkl"


class RunFolder:
    """The `output_dir` of a training: `log.jsonl`, and `checkpoint-N` with all that the accelerator was told of.

    Args:
        accelerator: an `Accelerator`; what belongs into checkpoints was prepared by it or registered with it.
        arguments: name the folder, how many checkpoints to keep and which one to resume from.
        image_processor: saved with every model and every checkpoint.
    """

    def __init__(self, accelerator: Any, arguments: TCMTrainingArguments, image_processor: Any):
        self.accelerator, self.arguments, self.image_processor = accelerator, arguments, image_processor
        self.path = Path(str(arguments.output_dir))
        self.path.mkdir(parents=True, exist_ok=True)

    def include(self, model: TCMForTextDetection, scheduler: Any, ema: ExponentialMovingAverage) -> None:
        """Let checkpoints hold the schedule, the averages, and what makes a model of them: the settings.

        The schedule is not to be prepared by the accelerator, which would move it on by a step for each process.
        """
        self.accelerator.register_for_checkpointing(scheduler)

        def save(models: Any, weights: Any, folder: str) -> None:
            if self.accelerator.is_main_process:
                ema.save(folder)
                model.config.save_pretrained(folder)
                self.image_processor.save_pretrained(folder)

        def load(models: Any, folder: str) -> None:
            if not ema.load(folder):
                raise FileNotFoundError(f"{folder} holds no averaged weights; expected a checkpoint of this script")

        self.accelerator.register_save_state_pre_hook(save)
        self.accelerator.register_load_state_pre_hook(load)

    @property
    def hides_progress(self) -> bool:
        """Whether this process is to show no bar."""
        return self.arguments.disable_tqdm or not self.accelerator.is_main_process

    def is_due(self, what: str, step: int) -> bool:
        """Whether to log ("logging"), evaluate ("eval") or save ("save") after an optimizer step."""
        if getattr(self.arguments, f"{what}_strategy") != "steps":
            return False
        every = getattr(self.arguments, f"{what}_steps")
        every = math.ceil(every * self.arguments.max_steps) if every < 1 else int(every)  # a share, or a number
        return step % every == 0

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Print figures and add them to `log.jsonl`."""
        if self.accelerator.is_main_process:
            line = json.dumps({"step": step, **figures})
            logger.info(line)
            with (self.path / LOG_FILE).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def log_evaluation(self, step: int, metrics: dict[str, float], model: TCMForTextDetection) -> None:
        """Log an evaluation, and save the model if it is the best so far and `load_best_model_at_end` asks for that.

        Raises:
            ValueError: if `metric_for_best_model` is none of the metrics.
        """
        if self.arguments.load_best_model_at_end:
            name = self._best_metric
            if name not in metrics:
                raise ValueError(f"--metric_for_best_model has to be one of {sorted(metrics)}, got {name!r}")
            values, better = self._values(name), max if self.arguments.greater_is_better else min
            if not values or better(*values, metrics[name]) != better(values):
                self.save_model(model)
        self.log(step, metrics)

    def save_model(self, model: TCMForTextDetection) -> None:
        """Write weights, configuration and image processor, from one process."""
        if self.accelerator.is_main_process:
            model.save_pretrained(self.path)
            self.image_processor.save_pretrained(self.path)

    def load_best(self, model: TCMForTextDetection) -> bool:
        """Give a model the weights of the best evaluation, if `load_best_model_at_end` is set and there was one."""
        self.accelerator.wait_for_everyone()  # the first process writes the model
        if not self.arguments.load_best_model_at_end or not self._values(self._best_metric):
            return False
        model.load_state_dict(type(model).from_pretrained(self.path, dtype="float32").state_dict())
        return True

    def end_step(self, step: int, stop: StopRequest) -> None:
        """Save a checkpoint where it is due, or where the process was asked to stop, and let it stop then."""
        stopping = stop.agreed(self.accelerator)
        if self.is_due("save", step) or (stopping and self.arguments.save_strategy != "no"):
            self.save_checkpoint(step)
        if stopping:
            stop.deliver()

    def save_checkpoint(self, step: int) -> None:
        """Write what `resume` needs, and drop the oldest checkpoints beyond `save_total_limit`."""
        folder = self.path / f"checkpoint-{step}"
        # Renamed when complete, so that a full disk leaves the checkpoints that there are as they were.
        incomplete = self.path / f"incomplete-{folder.name}"
        self.accelerator.save_state(str(incomplete))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            if folder.exists():  # of a run that went on from an earlier step
                shutil.rmtree(folder)
            incomplete.rename(folder)
            checkpoints = sorted(self.path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
            for old in checkpoints[: -(self.arguments.save_total_limit or len(checkpoints))]:
                shutil.rmtree(old)

    def resume(self) -> int:
        """Go back to the checkpoint that the arguments name, and drop what the log says of later steps.

        Returns:
            Optimizer steps that the checkpoint has behind it, 0 without one.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
        """
        name, step = self.arguments.resume_from_checkpoint, 0
        if name == "last":
            name = last_checkpoint(self.path, STATE_FILE)
        if name:
            if not (Path(name) / STATE_FILE).is_file():
                raise FileNotFoundError(f"{name} is no checkpoint of this script: it lacks {STATE_FILE}")
            self.accelerator.load_state(name)
            step = int(Path(name).name.removeprefix("checkpoint-"))
        if self.accelerator.is_main_process:
            kept = [json.dumps(entry) + "\n" for entry in self._entries() if name and entry["step"] <= step]
            (self.path / LOG_FILE).write_text("".join(kept), encoding="utf-8")
        return step

    @property
    def _best_metric(self) -> str:
        return "eval_" + str(self.arguments.metric_for_best_model).removeprefix("eval_")

    def _values(self, name: str) -> list[float]:
        """The values of a figure in the log."""
        return [entry[name] for entry in self._entries() if name in entry]

    def _entries(self) -> list[dict[str, float]]:
        """What the log holds."""
        log = self.path / LOG_FILE
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
