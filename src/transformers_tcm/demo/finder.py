"""A pipeline that remembers, and what it finds in a photo."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .. import register
from ..lexicon import Lexicon
from .memory import remember_outputs

__all__ = ["Finder", "Found", "lexicon_of", "text_finders"]


@dataclass(frozen=True)
class Found:
    """What was found in a photo.

    Args:
        photo: upright.
        instances: of the pipeline, in pixels of the photo.
        score_map: (h, w) in [0, 1] of the photo, what matches the prompt; `None` without prompting.
        probability_map: (h, w) in [0, 1] of the photo, the head's; `None` for heads without one.
    """

    photo: Image.Image
    instances: list[dict[str, Any]]
    score_map: np.ndarray | None
    probability_map: np.ndarray | None


class Finder:
    """A model that computes each photo once, however often the thresholds change.

    Args:
        task: of the pipeline, such as `"text-spotting"`.
        model: folder or Hub name; `None` takes the bundled one.
        device: such as `"cpu"`.
        size: longest edge at which photos are read.

    Raises:
        OSError: if there is no such model.
        TypeError, ValueError: for a model of another kind, such as an exported one.
    """

    def __init__(self, task: str, model: str | None = None, device: str | None = None, size: int | None = None):
        from transformers import pipeline

        register()
        self.task = task
        self.pipeline: Any = pipeline(task, model=model, device=device, size=size)  # type: ignore[call-overload]
        if not hasattr(self.pipeline.model, "head"):
            raise ValueError(f"{model} is an exported model, whose maps cannot be kept; take the one it was made of")
        remember_outputs(self.pipeline.model)
        # Hooks and memory belong to the model, which several visitors share.
        self._lock = threading.Lock()

    @property
    def reads(self) -> bool:
        """Whether it reads what it finds."""
        return self.task == "text-spotting"

    @property
    def classes(self) -> dict[int, str] | None:
        """Names of the classes of objects; `None` for text."""
        return self.pipeline.model.config.id2label if self.task == "oriented-object-detection" else None

    def defaults(self) -> dict[str, Any]:
        """The settings that can change without the network, as the model has them stored."""
        processor = self.pipeline.image_processor
        settings = dict(vars(processor.decoding_settings()))
        return {**settings, "text_threshold": processor.text_threshold or 0.0} if self.reads else settings

    def find(self, photo: Image.Image, **settings: Any) -> Found:
        """What the pipeline finds with these settings, see `TextSpottingPipeline.__call__`."""
        looks: list[tuple[Any, Any]] = []
        with self._lock:
            hook = self.pipeline.model.head.register_forward_hook(
                lambda head, inputs, maps: looks.append((inputs[0], maps))
            )
            try:
                result = self.pipeline(photo, output_score_maps=True, **settings)
            finally:
                hook.remove()
        # The first look is that at the full size.
        return Found(photo, result["instances"], result["score_map"], _probability_map(*looks[0]))


def _probability_map(inputs: Any, maps: Any) -> np.ndarray | None:
    """The part (h, w) of the first image in the head's map (B, 1, H, W)."""
    if maps.get("prob_map") is None:
        return None
    height, width = inputs.valid_sizes[0].tolist()
    values: np.ndarray = maps["prob_map"][0, 0, :height, :width].float().cpu().numpy()
    return values


def text_finders(model: str | None, device: str | None, size: int | None) -> dict[str, Finder]:
    """Finders by what they do: both bundled models, or the one that is given.

    Raises:
        ValueError: for a model of oriented objects.
    """
    read, only_find = "Find and read words", "Only find words"
    if model is None:
        return {
            read: Finder("text-spotting", None, device, size),
            only_find: Finder("text-detection", None, device, size),
        }
    from transformers import AutoConfig

    register()
    spots = AutoConfig.from_pretrained(model).is_spotter
    return {(read if spots else only_find): Finder("text-spotting" if spots else "text-detection", model, device, size)}


def lexicon_of(words: str) -> Lexicon | None:
    """The words of a text, separated by commas, spaces or line ends; `None` for none."""
    listed = words.replace(",", " ").split()
    return Lexicon(listed) if listed else None
