"""What every detection head provides. A head is one file, and one line in `heads/__init__.py`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from transformers.utils import ModelOutput

from ....instances import TextInstances
from ..recognition.language_model import CharacterLanguageModel
from ..strict_tcm import strict_frozen

__all__ = [
    "DecodingSettings",
    "DetectionHead",
    "HeadInputs",
    "Regions",
    "check_range",
    "level_maps",
    "split_by_image",
    "stacked",
    "valid_parts",
]

Labels = Mapping[str, torch.Tensor]
# What a head gave: its own output, or what is left of it behind ONNX or the pipelines of transformers.
Maps = Mapping[str, Any]


@strict_frozen
@dataclass(frozen=True)
class DecodingSettings:
    """How regions are read from a head's maps; each head has a subclass with what else it needs.

    The values of a checkpoint stand in its `preprocessor_config.json`; the defaults are for models without one.

    Args:
        box_threshold: lowest score of a detection, in [0, 1].
        max_candidates: regions looked at in one image.
        min_size: shortest side of a region, before it is grown where the head grows any, in pixels of the network's
            input.
        polygon: outlines that follow curved text instead of quads.
    """

    box_threshold: float | int = 0.6
    max_candidates: int = 1000
    min_size: float | int = 3
    polygon: bool = False

    def __post_init__(self) -> None:
        check_range(self, box_threshold=(0, 1), max_candidates=(1, None), min_size=(0, None))


def check_range(settings: Any, **bounds: tuple[float | None, float | None]) -> None:
    """Raise `ValueError` for a setting that is no finite number between a lowest and a highest value.

    Args:
        settings: any object.
        **bounds: for each attribute both values, `None` for no limit.
    """
    for name, (lowest, highest) in bounds.items():
        value = getattr(settings, name)
        expected = f"a number of at least {lowest}" if highest is None else f"a number between {lowest} and {highest}"
        is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        low = -np.inf if lowest is None else lowest
        if not is_number or not low <= value <= (np.finfo(float).max if highest is None else highest):
            raise ValueError(f"`{name}` is {value!r}; expected {expected}")


@dataclass(frozen=True)
class HeadInputs:
    """What a head can look at.

    Args:
        pyramid: C2 … C5 (B, C_i, H / stride, W / stride) at strides 4 … 32, the score map concatenated to C5.
        stem: (B, width, H/2, W/2) the image encoder's finest map.
        valid_sizes: (B, 2) height and width of each image within the padded input.
        pixel_mask: (B, H, W), 1 inside each image, 0 in the padding.
        score_map: (B, K, H/32, W/32); `None` without prompting.
    """

    pyramid: tuple[torch.Tensor, ...]
    stem: torch.Tensor
    valid_sizes: torch.Tensor
    pixel_mask: torch.Tensor | None = None
    score_map: torch.Tensor | None = None

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> "HeadInputs":
        """The same on a device, where accelerate runs the head on another one than the image encoder."""

        def moved(tensor: Any) -> Any:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        others = {name: moved(value) for name, value in vars(self).items() if name != "pyramid"}
        return HeadInputs(tuple(moved(level) for level in self.pyramid), **others)


@dataclass
class Regions:
    """The N regions that a head found in a batch, those of the first image first, in pixels of the network's input.

    Args:
        points: (sum of K_i, 2) float32 outlines, clockwise.
        counts: (N,) int64, the K_i.
        batch_indices: (N,) int64, the image that each region is in.
        scores: (N,) float32.
        labels: (N,) int64, classes.
        control_points: (N, 8, 2) the two cubic Bézier curves of each word, from a head that knows its sides.
        char_logits: (N, T, classes) from a head that reads.
    """

    points: torch.Tensor
    counts: torch.Tensor
    batch_indices: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    control_points: torch.Tensor | None = None
    char_logits: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.counts)

    @classmethod
    def from_outlines(
        cls,
        outlines: Sequence[Sequence[np.ndarray]],
        scores: Sequence[np.ndarray],
        labels: Sequence[np.ndarray] | None = None,
        control_points: Sequence[np.ndarray] | None = None,
    ) -> "Regions":
        """Regions of the outlines (K_i, 2) of each image, and what else is known of them, image by image.

        Without `labels` all are of class 0.
        """
        polygons = [polygon for image in outlines for polygon in image]
        counts = [len(image) for image in outlines]
        return cls(
            points=torch.from_numpy(np.concatenate([np.zeros((0, 2)), *polygons]).astype(np.float32)),
            counts=torch.tensor([len(polygon) for polygon in polygons], dtype=torch.int64),
            batch_indices=torch.arange(len(outlines)).repeat_interleave(torch.tensor(counts, dtype=torch.int64)),
            scores=_joined(scores, np.float32),
            labels=torch.zeros(len(polygons), dtype=torch.int64) if labels is None else _joined(labels, np.int64),
            control_points=None if control_points is None else _joined(control_points, np.float32, (8, 2)),
        )

    def polygons(self) -> list[np.ndarray]:
        """The outlines (K_i, 2)."""
        return [polygon.numpy() for polygon in self.points.cpu().split(self.counts.tolist())]

    @classmethod
    def joined(cls, parts: Sequence["Regions"]) -> "Regions":
        """The regions of all parts, one part after the other; what is not known of the first is not known of any."""
        values = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        joined: dict[str, Any] = {name: None if one[0] is None else torch.cat(one) for name, one in values.items()}
        return cls(**joined)

    def select(self, indices: Sequence[int]) -> "Regions":
        """The regions of these indices, in their order."""
        outlines = self.points.split(self.counts.tolist())
        chosen: dict[str, Any] = {
            field.name: None if (values := getattr(self, field.name)) is None else values[list(indices)]
            for field in fields(self)
            if field.name != "points"
        }
        return Regions(points=torch.cat([self.points[:0], *(outlines[index] for index in indices)]), **chosen)

    def to(self, device: torch.device) -> "Regions":
        """The same on a device."""
        moved: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        on_device: dict[str, Any] = {name: None if value is None else value.to(device) for name, value in moved.items()}
        return Regions(**on_device)


def _joined(parts: Sequence[np.ndarray], dtype: Any, shape: tuple[int, ...] = ()) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.zeros((0, *shape)), *parts]).astype(dtype))


class DetectionHead(nn.Module, ABC):
    """A detection head owns its neck and knows its targets, its loss and its decoding.

    Class attributes:
        config_class: dataclass of what shapes its weights and losses, `TCMConfig.head_config`.
        decoding_class: dataclass of what turns its maps into regions, `DecodingSettings` with more of its own.
        presets: `head_config` of the sizes "tiny", "small" and "base"; those left out are the defaults.
        display_name: how its paper calls it.
        paper: the paper.
        task: `"text"` or `"oriented"`.
        default_labels: names of the classes of a model that is given none.
        reads: whether it also reads what it finds; it then has a static method `read(char_logits, settings,
            language_model, text_threshold)`, the last two as in `Recognizer.decode`.
        rate_scales: learning rates of some of its modules relative to the others', by the ends of their names.
        score_map_loss: form of the auxiliary loss that goes with it: `"bce"`, `"dice"` or `"masked_bce"`.
        score_map_input: what is concatenated to C5: the `"cosine"` or the `"logits"` of the score map.
        keep_in_float32: names of layers whose activations or statistics exceed the reach of float16.

    Args:
        settings: an object of the `config_class`.
        in_channels: of C2 … C5, the score map in the last of them.
        num_classes: classes of the regions.
    """

    config_class: ClassVar[type]
    decoding_class: ClassVar[type[Any]]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    display_name: ClassVar[str]
    paper: ClassVar[str]
    task: ClassVar[str] = "text"
    default_labels: ClassVar[tuple[str, ...]] = ("text",)
    reads: ClassVar[bool] = False
    rate_scales: ClassVar[dict[str, float]] = {}
    score_map_loss: ClassVar[str]
    score_map_input: ClassVar[str] = "cosine"
    keep_in_float32: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Any, in_channels: Sequence[int], num_classes: int = 1):
        super().__init__()
        self.settings = settings
        # Of a head that reads, where its settings have one.
        self.language_model: CharacterLanguageModel | None = None

    @property
    def spelling(self) -> nn.Module | None:
        """Of a head that reads, the part that learns from words without pictures; see `Recognizer.spelling`."""
        return self.language_model

    def init_weights(self) -> None:
        """Weights that start other than those of every convolution and norm; set with `transformers.initialization`."""
        return

    @classmethod
    def default_decoding(cls, settings: Any) -> Any:
        """The decoding that fits the settings of a head, for an image processor that is made for it."""
        return cls.decoding_class()

    @abstractmethod
    def forward(self, inputs: HeadInputs, with_training_maps: bool = True) -> ModelOutput:
        """Maps, tensors or tuples of them by level; `with_training_maps` also what only the loss needs."""

    @abstractmethod
    def loss(self, maps: Any, labels: Labels) -> dict[str, torch.Tensor]:
        """Weighted scalar loss terms, whose sum is the head's loss, of the output of `forward` with training maps."""

    @staticmethod
    @abstractmethod
    def targets(
        instances: TextInstances, size: tuple[int, int], valid_size: tuple[int, int], settings: Any
    ) -> dict[str, np.ndarray]:
        """What the head learns of one image, made in the data workers; arrays of any shapes.

        The collator stacks what has one shape in all images of a batch and joins the rest along the first axis, see
        `stacked` and `split_by_image`.

        Args:
            instances: the image's text, in pixels of the network's input.
            size: height and width of the padded input.
            valid_size: of the image in it. What lies beyond is for the head to leave out.
            settings: an object of the `config_class`.
        """

    @staticmethod
    @abstractmethod
    def score_map_targets(labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
        """For the auxiliary loss: a map (B, K, h, w) of each class, or of text (B, 1, h, w), and where it counts."""

    @staticmethod
    @abstractmethod
    def decode(maps: Maps, valid_sizes: torch.Tensor, decoding: Any) -> Regions:
        """Regions from plain tensors or arrays, as they also come out of ONNX.

        Args:
            maps: by name, as `forward` gives them; tuples of levels also as `name.0`, `name.1`, …, see `level_maps`.
            valid_sizes: (B, 2) height and width of each image within the padded input.
            decoding: an object of the `decoding_class`.

        Raises:
            ValueError: if the maps are not finite.
        """

    @staticmethod
    def split(maps: Maps, valid_sizes: torch.Tensor, decoding: Any, regions: Regions) -> tuple[Regions, Sequence[int]]:
        """M parts that N regions may be made of, and the index in [0, N) of the region that each is of.

        Words that stand close together are found as one at times. A spotter asks for the parts of what is hard to read,
        and keeps what reads better. A head that does not know any gives none.

        Args:
            maps, valid_sizes, decoding: as for `decode`.
            regions: some of those that it gave, or parts of them.
        """
        return regions.select([]), []


def stacked(labels: Labels, name: str) -> torch.Tensor:
    """What `targets` gave under a name, of all images (B, …).

    Raises:
        ValueError: if the labels were not made for this head, or differ in size.
    """
    if name not in labels or f"{name}_counts" in labels:
        flaw = "lack" if name not in labels else "hold several sizes of"
        raise ValueError(f"`labels` {flaw} the target {name!r}; build them with the collator of transformers_tcm.data")
    return labels[name]


def split_by_image(labels: Labels, name: str) -> list[torch.Tensor]:
    """What `targets` gave under a name, for each image (N_i, …), whether the collator stacked or joined it.

    Raises:
        ValueError: if the labels were not made for this head.
    """
    if name not in labels:
        raise ValueError(f"`labels` lack the target {name!r}; build them with the collator of transformers_tcm.data")
    counts = labels.get(f"{name}_counts")
    return list(labels[name].unbind() if counts is None else labels[name].split(counts.tolist()))


def level_maps(maps: Maps, name: str) -> tuple[torch.Tensor, ...]:
    """The levels (B, C, h, w) of a map: a tuple under its name, or tensors `name.0`, `name.1`, … (exported graphs)."""
    levels = maps.get(name)
    if levels is None:
        levels = [maps[f"{name}.{level}"] for level in range(sum(key.startswith(f"{name}.") for key in maps))]
    return tuple(torch.as_tensor(level) for level in levels)


def valid_parts(values: Any, valid_sizes: torch.Tensor, name: str) -> list[np.ndarray]:
    """The part (C, h, w) float32 of each image of a map (B, C, H, W) at the input's size, without the padding.

    Raises:
        ValueError: if it has NaN or infinite values there, which a network in half precision may overflow to.
    """
    images = torch.as_tensor(values).detach().float().cpu()
    parts = []
    for image, (height, width) in zip(images, valid_sizes.tolist(), strict=True):
        part = np.ascontiguousarray(image[:, :height, :width].numpy())
        if not np.isfinite(part).all():
            raise ValueError(f"`{name}` has values that are NaN or infinite; run the model in float32 or bfloat16")
        parts.append(part)
    return parts
