"""A tiny spotter without training: it takes bright pixels for text and reads where they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from tiny_settings import READER, SETTINGS

from transformers_tcm import TCMConfig, TCMForTextSpotting, TCMImageProcessorPil
from transformers_tcm.models.tcm.heads.dbnet import DBNetDecoding, DBNetHead, DBNetOutput
from transformers_tcm.models.tcm.modeling_tcm_spotting import TCMTextSpottingOutput
from transformers_tcm.models.tcm.post_processing_tcm import instances_of_images
from transformers_tcm.models.tcm.recognition.reading import PRINTABLE_ASCII


def tiny_spotter_config(**recognizer: Any) -> TCMConfig:
    return TCMConfig(**SETTINGS, fused=True, recognizer={**READER, **recognizer})


def save_wordy_spotter(folder: Path, most: int) -> None:
    """Save a spotter that finds up to `most` words in noise, and its image processor."""
    torch.manual_seed(0)
    TCMForTextSpotting(tiny_spotter_config()).save_pretrained(folder)
    found = {"threshold": 0.5, "box_threshold": 0.0, "min_size": 1, "text_threshold": 0.0, "max_candidates": most}
    TCMImageProcessorPil(size={"longest_edge": 96}, **found).save_pretrained(folder)


def upright(x_min: float, y_min: float, x_max: float, y_max: float) -> np.ndarray:
    return np.float32([[x_min, y_min], [x_max, y_min], [x_max, y_max], [x_min, y_max]])


class Word(NamedTuple):
    """A proposal, and what is read of it with which probability of each character."""

    polygon: np.ndarray
    text: str
    text_score: float = 0.9
    score: float = 0.8


def spotting_output(images: Sequence[Sequence[Word]], valid_sizes: torch.Tensor) -> TCMTextSpottingOutput:
    """The output of a model that found and read these words."""
    words = [word for image in images for word in image]
    classes, end = len(PRINTABLE_ASCII) + 2, len(PRINTABLE_ASCII) + 1
    steps = max([1, *(len(word.text) + 1 for word in words)])
    probabilities = torch.zeros(len(words), steps, classes)
    for row, word in zip(probabilities, words, strict=True):
        row[:, end] = 1
        for step, character in enumerate(word.text):
            row[step] = (1 - word.text_score) / (classes - 1)
            row[step, PRINTABLE_ASCII.index(character)] = word.text_score
    polygons = [np.asarray(word.polygon, np.float32) for word in words]
    return TCMTextSpottingOutput(
        valid_sizes=valid_sizes,
        points=torch.from_numpy(np.concatenate([*polygons, np.zeros((0, 2), np.float32)])),
        counts=torch.tensor([len(polygon) for polygon in polygons], dtype=torch.int64),
        batch_indices=torch.arange(len(images)).repeat_interleave(torch.tensor([len(image) for image in images])),
        scores=torch.tensor([word.score for word in words]),
        labels=torch.zeros(len(words), dtype=torch.int64),
        char_logits=probabilities.clamp(min=1e-9).log()[:, None],
        sequences=torch.tensor([[*map(ord, word.text), *[0] * (steps - len(word.text))] for word in words])
        .reshape(len(words), steps)
        .long(),
        text_scores=torch.tensor([word.text_score if word.text else 0.0 for word in words]),
        char_probabilities=probabilities[:, :, : len(PRINTABLE_ASCII)],
        turn_votes=torch.eye(1, 4).repeat(len(images), 1),
    )


class BrightWords(TCMForTextSpotting):
    """White is text with probability 0.9, grey with 0.5. Reads the column a…d and the row 1…4 that a word starts in.

    Letters are read with probability 0.8 where the word is white, and with 0.3 where it is grey.
    """

    def __init__(self, config: TCMConfig | None = None):
        super().__init__(config or tiny_spotter_config())
        self.shapes: list[tuple[int, ...]] = []
        self.decodings: list[dict[str, Any]] = []

    def forward(  # type: ignore[override]
        self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor, decoding: dict[str, Any], **kwargs: Any
    ) -> TCMTextSpottingOutput:
        self.shapes.append(tuple(pixel_values.shape))
        self.decodings.append(decoding)
        brightness = pixel_values.float().mean(dim=1, keepdim=True)  # normalised: black is -1.7, white is 2
        prob_map = 0.9 * (brightness > 1.5) + 0.5 * ((brightness > 0.05) & (brightness <= 1.5))
        sizes = torch.stack([pixel_mask.amax(dim=2).sum(dim=1), pixel_mask.amax(dim=1).sum(dim=1)], dim=1)
        head_output = DBNetOutput(prob_map=prob_map)
        images = []
        regions = DBNetHead.decode(head_output, sizes, DBNetDecoding(**decoding))
        found = instances_of_images(regions, len(sizes))
        for instances, (height, width) in zip(found, sizes.tolist(), strict=True):
            images.append([])
            for polygon, score in zip(instances.polygons, instances.scores, strict=True):
                x, y = polygon[0] / (width, height) * 4
                text = "abcd"[int(x)] + "1234"[int(y)]
                images[-1].append(Word(polygon, text, 0.8 if score > 0.7 else 0.3, float(score)))
        output = spotting_output(images, sizes)
        output.head_output = head_output
        return output


def photo(width: int, height: int, *words: tuple[int, int, int, int], level: int = 255) -> Image.Image:
    """Black with filled rectangles (x_min, y_min, x_max, y_max)."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for x_min, y_min, x_max, y_max in words:
        pixels[y_min:y_max, x_min:x_max] = level
    return Image.fromarray(pixels)
