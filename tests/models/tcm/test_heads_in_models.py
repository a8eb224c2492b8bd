"""Every head with every prompting, fused or not, alone and with a recogniser: forward, gradients, saving."""

from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from tiny_models import batch, made

from transformers_tcm import TCMForTextDetection, TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.models.tcm.attention_tcm import AttentionInterface
from transformers_tcm.models.tcm.heads import HEADS, head_class
from transformers_tcm.models.tcm.recognition import RECOGNIZERS


def can_have_recogniser(head: str) -> bool:
    return head_class(head).task == "text" and not head_class(head).reads


CASES = [
    (head, prompting, fused, decoder)
    for head in HEADS
    for prompting, fused in (("fasttcm", False), ("fasttcm", True), ("tcm", False), ("none", False))
    for decoder in ((None, *RECOGNIZERS) if can_have_recogniser(head) else (None,))
    # The recognisers do not care how the features were prompted.
    if decoder is None or prompting == "none"
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_losses_gradients_saving(case: tuple[str, str, bool, str | None], tmp_path: Path) -> None:
    model = made(*case).train()
    inputs = batch(model.config)
    outputs = model(**inputs)
    assert outputs.loss.isfinite()
    outputs.loss.backward()
    gradients = [parameter.grad for parameter in model.head.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    model.eval().save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, dtype="float32").eval()
    with torch.no_grad():
        one, two = model(inputs["pixel_values"]), again(inputs["pixel_values"])
    for name, values in one.head_output.items():
        parts = (
            zip(values, two.head_output[name], strict=True)
            if isinstance(values, tuple)
            else [(values, two.head_output[name])]
        )
        for first, second in parts:
            torch.testing.assert_close(first, second, msg=name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_all_layers_attend_by_the_chosen_implementation(case: tuple[str, str, bool, str | None]) -> None:
    model = made(*case).eval()
    pixels = batch(model.config)["pixel_values"]
    with torch.no_grad():
        expected = model(pixels).head_output
        model.set_attn_implementation("eager")
        found = model(pixels).head_output
    for module in model.modules():
        assert isinstance(module, AttentionInterface) or not isinstance(module, torch.nn.MultiheadAttention)
        if isinstance(module, AttentionInterface):
            assert module.config._attn_implementation == "eager"
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("head", [head for head in HEADS if head_class(head).reads])
def test_a_head_that_reads_is_a_spotter_of_its_own(head: str) -> None:
    model = made(head, "fasttcm", False, None).eval()
    assert isinstance(model, TCMForTextSpotting)
    assert model.recognizer is None
    lowest = head_class(head).decoding_class(box_threshold=0.0, min_size=0)
    with torch.no_grad():
        outputs = model(batch(model.config)["pixel_values"], decoding=vars(lowest))
    assert len(outputs.counts) == len(outputs.sequences) == len(outputs.text_scores)
    processor = TCMImageProcessor(head_type=head, text_threshold=0.0)
    words = processor.post_process_text_spotting(outputs)
    assert len(words) == 2
    with pytest.raises(ValueError, match="use TCMForTextSpotting"):
        TCMForTextDetection(model.config)


@pytest.mark.parametrize("head", HEADS)
def test_weights_on_the_disk_find_the_same(head: str, tmp_path: Path) -> None:
    """Each module's weights are there only while it runs: none may be read from outside of it."""
    model = made(head, "fasttcm", False, None if head_class(head).reads else "ctc").eval()
    model.save_pretrained(tmp_path / "model")
    device_map = {"model": "disk", "head": "disk", **({} if head_class(head).reads else {"recognizer": "cpu"})}
    offloaded = type(model).from_pretrained(
        tmp_path / "model", dtype="float32", device_map=device_map, offload_folder=tmp_path / "offloaded"
    )
    image = batch(model.config)["pixel_values"][:1]
    with torch.no_grad():
        expected, outputs = model(image), offloaded(image)
    torch.testing.assert_close(outputs.score_map, expected.score_map)
    for name, values in expected.head_output.items():
        torch.testing.assert_close(outputs.head_output[name], values, msg=name)


class Decoding(Exception):  # noqa: N818  # no error
    """Raised where the network is through and its maps go to the processor."""


@pytest.mark.parametrize(("head", "prompting"), sorted({(head, prompting) for head, prompting, *_ in CASES}))
def test_the_network_stays_on_its_device(head: str, prompting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without data, on "meta", where a tensor made on the processor is an error as it is on an accelerator."""
    model = made(head, prompting, fused=False, decoder=None).eval().to("meta")
    monkeypatch.setattr(type(model.head), "decode", Mock(side_effect=Decoding))
    pixels, mask = torch.empty(2, 3, 64, 96, device="meta"), torch.empty(2, 64, 96, dtype=torch.int64, device="meta")
    with pytest.raises(Decoding) if head_class(head).reads else nullcontext():
        outputs = model(pixel_values=pixels, pixel_mask=mask)
        assert outputs.valid_sizes.is_meta
