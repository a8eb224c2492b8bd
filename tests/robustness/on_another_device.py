"""Models and pipelines on a device that is not the processor: nothing is left behind, whatever the head.

`test_another_device.py` runs these tests, in a process of their own.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pretend_device import DEVICE, PretendTensor, pretend_device
from tiny_models import batch, made
from torch.utils._pytree import tree_map_only
from transformers import pipeline

from transformers_tcm import TCMImageProcessor
from transformers_tcm.models.tcm.heads import HEADS, head_class
from transformers_tcm.models.tcm.modeling_tcm import TCMDetector
from transformers_tcm.models.tcm.recognition import RECOGNIZERS

CASES = [(head, None) for head in HEADS] + [("dbnet", decoder) for decoder in RECOGNIZERS]
# What a network that has learnt nothing finds in noise.
ANYTHING = {"threshold": 0.0, "box_threshold": 0.0, "min_size": 0, "max_candidates": 4}


@pytest.fixture
def device() -> Iterator[str]:
    with pretend_device():
        yield DEVICE


def there(inputs: Any, device: str) -> Any:
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), inputs)


def test_the_pretended_device_minds(device: str) -> None:
    here, other = torch.ones(3), torch.ones(3).to(device)
    assert other.device == torch.device(DEVICE)
    assert (other + other).cpu().tolist() == [2, 2, 2]
    assert other[[0, 2]].shape == (2,)
    with pytest.raises(RuntimeError, match="same device"):
        here + other
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(other)


@pytest.mark.parametrize(("head", "decoder"), CASES)
def test_training_steps(head: str, decoder: str | None, device: str) -> None:
    """The loss is that of the processor, and there are gradients."""
    losses = []
    for place in ("cpu", device):
        model = made(head, "fasttcm", False, decoder).train().to(place)
        torch.manual_seed(0)  # of dropout
        losses.append(model(**there(batch(model.config), place)).loss)
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-4)
    losses[1].backward()
    gradients = [parameter.grad for parameter in model.head.parameters() if parameter.grad is not None]
    assert gradients
    assert all(isinstance(gradient, PretendTensor) for gradient in gradients)


def same(found: Any, expected: Any) -> None:
    """Instances of a pipeline."""
    assert [one.get("text") for one in found] == [one.get("text") for one in expected]
    for one, other in zip(found, expected, strict=True):
        # Not their corners: which rectangle around some pixels is the smallest may be a matter of rounding.
        np.testing.assert_allclose(np.mean(one["polygon"], axis=0), np.mean(other["polygon"], axis=0), atol=2)
        assert one["score"] == pytest.approx(other["score"], abs=0.01)


def that_finds_something(head: str, decoder: str | None) -> TCMDetector:
    """A model in evaluation mode; heads that read would find words without area, and say nothing."""
    model = made(head, "fasttcm", True, decoder).eval()
    if head_class(head).reads:
        torch.manual_seed(4)
        for name, parameter in model.head.named_parameters():
            if name.startswith(("point", "boundary")):
                parameter.data += torch.randn_like(parameter)
        model.head.text_head.bias.data[ord("a") - ord(" ")] = 9.0
    return model


@pytest.mark.parametrize(("head", "decoder"), CASES)
def test_pipelines(head: str, decoder: str | None, device: str, tmp_path: Path) -> None:
    """They find on the device what they find on the processor, also in tiles."""
    reads = decoder is not None or head_class(head).reads
    task = {"oriented": "oriented-object-detection", "text": "text-spotting" if reads else "text-detection"}
    known = {field.name for field in fields(head_class(head).decoding_class)}
    settings = {name: value for name, value in ANYTHING.items() if name in known} | (
        {"text_threshold": 0.0} if reads else {}
    )
    TCMImageProcessor(size={"longest_edge": 96}, head_type=head, **settings).save_pretrained(tmp_path)
    that_finds_something(head, decoder).save_pretrained(tmp_path)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    results = []
    for place in ("cpu", device):
        finder: Any = pipeline(
            task[head_class(head).task],  # type: ignore[call-overload]
            model=str(tmp_path),
            device=place,
            dtype=torch.float32,
        )
        results.append((finder(noise), finder(noise, tile=64, tile_overlap=16)))
    for expected, found in zip(*results, strict=True):
        assert expected
        same(found, expected)


@pytest.mark.parametrize("task", ["text-detection", "text-spotting"])
def test_bundled_models(task: str, device: str) -> None:
    """With all that they do to what they find: further looks, votes on the direction, joined and separated words."""
    picture = Image.new("RGB", (320, 200), "white")
    pen = ImageDraw.Draw(picture)
    for line, text in enumerate(("OPEN DAILY", "bread & coffee", "9.99")):
        pen.text((20, 20 + 60 * line), text, "black", font_size=36)
    expected = pipeline(task)(picture)  # type: ignore[call-overload]
    assert len(expected) >= 5
    same(pipeline(task, device=device)(picture), expected)  # type: ignore[call-overload]
