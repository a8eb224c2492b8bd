"""Tiny models and data for the tests of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_settings import RECOGNIZER, SMALLEST
from torch import nn
from torch.utils.data import Dataset

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting, TCMImageProcessor, TextInstances
from transformers_tcm.data.augmentation import TextAugmentation
from transformers_tcm.data.datasets import RandomTextCrops
from transformers_tcm.training import TCMTrainingArguments


def detector(**changes: Any) -> TCMForTextDetection:
    torch.manual_seed(0)
    return TCMForTextDetection(TCMConfig(**{**SMALLEST, **changes}))


def spotter(**recognizer: Any) -> TCMForTextSpotting:
    torch.manual_seed(0)
    return TCMForTextSpotting(TCMConfig(**SMALLEST, recognizer={**RECOGNIZER, **recognizer}))


class Photos(Dataset):
    """White words on noise, always the same.

    Args:
        distinct: photo i is that of i modulo this number.
    """

    processor = TCMImageProcessor(do_resize=False)
    word = np.float32([[12, 16], [52, 16], [52, 40], [12, 40]])

    def __init__(self, length: int = 8, distinct: int | None = None):
        self.length, self.distinct = length, distinct or length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng(index % self.distinct)
        image = rng.integers(0, 100, (64, 64, 3), dtype=np.uint8)
        image[16:40, 12:52] = 255
        instances = TextInstances([self.word], texts=["ab"], ignore=np.array([False]))
        batch = self.processor(image, annotations=instances, return_tensors="pt")
        return {name: batch[name][0] for name in ("pixel_values", "pixel_mask", "labels")}


def random_crops(length: int) -> RandomTextCrops:
    """Augmented crops of two photos of noise, each with two words."""
    rng = np.random.default_rng(0)
    polygons = [(Photos.word + offset).tolist() for offset in (0, 70)]
    labels = {"polygons": polygons, "texts": ["ab", "cd"], "ignore": [False, False]}
    rows = [{"image": rng.integers(0, 256, (160, 160, 3), dtype=np.uint8), **labels} for _ in range(2)]
    augmentation = TextAugmentation(crop_size=(64, 64), flip_probability=0.0)
    return RandomTextCrops([rows], [1], augmentation, Photos.processor, length=length)


def training_arguments(folder: Path, **changes: Any) -> TCMTrainingArguments:
    settings = {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "learning_rate": 3e-3,
        "save_steps": 3,
        "logging_steps": 1,
        "use_cpu": True,
        "ema_decay": 0.5,
        "disable_tqdm": True,
    }
    return TCMTrainingArguments(**{**settings, **changes})


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def at_forward(model: nn.Module, number: int, action: Callable[[], object]) -> None:
    """Call `action` in the forward pass of that number."""
    calls = []

    def count(module: nn.Module, arguments: Any, output: Any) -> None:
        calls.append(None)
        if len(calls) == number:
            action()

    model.register_forward_hook(count)
