"""Released TCM checkpoints for DOTA, made up in their documented names, become detectors that compute the same."""

from pathlib import Path

import pytest
import torch

from transformers_tcm import (
    AutoModelForOrientedObjectDetection,
    TCMConfig,
    TCMForOrientedObjectDetection,
    TCMImageProcessor,
)
from transformers_tcm.conversion import convert_checkpoint, oriented
from transformers_tcm.dota import DOTA_V1_CLASSES

StateDict = dict[str, torch.Tensor]

CHANNELS, CONVS, CONTEXT = 64, 2, 3
# Written down independently of the conversion: name of each predictor, outputs at a location, anchors, group norms.
HEADS = {
    "rotated_fcos": ({"conv_cls": 15, "conv_reg": 4, "conv_angle": 1, "conv_centerness": 1}, 1, True),
    "rotated_atss": ({"atss_cls": 15, "atss_reg": 5, "atss_centerness": 1}, 1, True),
    "rotated_retinanet": ({"retina_cls": 15, "retina_reg": 5}, 9, False),
}


def released_head(head: str) -> StateDict:
    """Pyramid and head in the names of MMDetection and MMRotate; C3 … C5 of the tiny image encoder have 64 … 256."""
    predictors, anchors, norms = HEADS[head]
    tensors: StateDict = {}
    inputs = (64, 128, 256 + 15)
    for level, channels in enumerate(inputs):
        tensors[f"neck.lateral_convs.{level}.conv.weight"] = torch.randn(CHANNELS, channels, 1, 1) * 0.1
        tensors[f"neck.lateral_convs.{level}.conv.bias"] = torch.randn(CHANNELS)
    for level in range(5):
        channels = inputs[-1] if level == 3 and head != "rotated_fcos" else CHANNELS
        tensors[f"neck.fpn_convs.{level}.conv.weight"] = torch.randn(CHANNELS, channels, 3, 3) * 0.1
        tensors[f"neck.fpn_convs.{level}.conv.bias"] = torch.randn(CHANNELS)
    for tower in ("cls_convs", "reg_convs"):
        for layer in range(CONVS):
            name = f"bbox_head.{tower}.{layer}"
            tensors[f"{name}.conv.weight"] = torch.randn(CHANNELS, CHANNELS, 3, 3) * 0.1
            if norms:
                tensors |= {f"{name}.gn.{leaf}": torch.rand(CHANNELS) for leaf in ("weight", "bias")}
            else:
                tensors[f"{name}.conv.bias"] = torch.randn(CHANNELS)
    for name, size in predictors.items():
        tensors[f"bbox_head.{name}.weight"] = torch.randn(anchors * size, CHANNELS, 3, 3) * 0.1
        tensors[f"bbox_head.{name}.bias"] = torch.randn(anchors * size)
    if norms:
        tensors |= {f"bbox_head.scales.{level}.scale": torch.tensor(1.0 + level) for level in range(5)}
    if head == "rotated_fcos":
        tensors["bbox_head.scale_angle.scale"] = torch.tensor(0.7)
    return tensors


@pytest.fixture
def release(clip_state_dict: StateDict, request: pytest.FixtureRequest) -> tuple[str, StateDict]:
    head: str = request.param
    torch.manual_seed(0)
    tensors = released_head(head)
    for name, tensor in clip_state_dict.items():
        if name not in ("logit_scale", "input_resolution", "context_length", "vocab_size"):
            tensors[f"backbone.{name}" if name.startswith("visual.") else f"text_encoder.{name}"] = tensor
    tensors |= {"contexts": torch.randn(1, CONTEXT, 64), "gamma": torch.rand(32), "vis_gamma": torch.tensor(0.1)}
    for module in ("visual_prompt_generator", "context_decoder"):
        tensors |= decoder(module)
    for index, size in ((1, (32, 32)), (4, (64, 32))):
        tensors[f"prompt_generator.prompt_proj.{index}.weight"] = torch.randn(size)
        tensors[f"prompt_generator.prompt_proj.{index}.bias"] = torch.randn(size[0])
    for index in (0, 3):
        tensors |= {f"prompt_generator.prompt_proj.{index}.{leaf}": torch.rand(32) for leaf in ("weight", "bias")}
    return head, tensors


def decoder(module: str) -> StateDict:
    """A prompt decoder of one layer and width 16 between embeddings of 32."""
    vectors = {"text_proj.0": 32, "memory_proj.0": 32, "memory_proj.2": 16, "out_proj.0": 16}
    vectors |= {f"decoder.0.norm{number}": 16 for number in (1, 2, 3)}
    matrices = {"text_proj.1": (16, 32), "memory_proj.1": (16, 32), "out_proj.1": (32, 16)}
    matrices |= {"decoder.0.mlp.0": (64, 16), "decoder.0.mlp.3": (16, 64)}
    matrices |= {f"decoder.0.{attention}.proj": (16, 16) for attention in ("self_attn", "cross_attn")}
    tensors = {
        f"{module}.{name}.{leaf}": torch.rand(size) for name, size in vectors.items() for leaf in ("weight", "bias")
    }
    for name, size in matrices.items():
        tensors |= {f"{module}.{name}.weight": torch.randn(size) * 0.1, f"{module}.{name}.bias": torch.randn(size[0])}
    for attention in ("self_attn", "cross_attn"):
        for projection in ("q_proj", "k_proj", "v_proj"):
            tensors[f"{module}.decoder.0.{attention}.{projection}.weight"] = torch.randn(16, 16) * 0.1
    return tensors


@pytest.mark.parametrize("release", HEADS, indirect=True)
def test_every_tensor_finds_its_place_and_the_model_its_settings(
    release: tuple[str, StateDict], tmp_path: Path
) -> None:
    head, tensors = release
    torch.save(tensors, tmp_path / "released.pth")
    told = {"decoder_heads": 4, "text_heads": 1}
    model = convert_checkpoint(tmp_path / "released.pth", tmp_path / "out", told)
    assert isinstance(model, TCMForOrientedObjectDetection)
    config: TCMConfig = model.config
    assert (config.head_type, config.prompting, config.num_context_tokens) == (head, "tcm", CONTEXT)
    assert tuple(config.id2label.values()) == DOTA_V1_CLASSES
    assert (config.head_config["channels"], config.head_config["num_convs"]) == (CHANNELS, CONVS)
    first = next(name for name in HEADS[head][0])
    torch.testing.assert_close(model.head.classifier.weight, tensors[f"bbox_head.{first}.weight"])
    stride = 3 if HEADS[head][2] else 2
    torch.testing.assert_close(model.head.box_tower[stride].weight, tensors["bbox_head.reg_convs.1.conv.weight"])
    torch.testing.assert_close(model.head.neck.smooth[2].weight, tensors["neck.fpn_convs.2.conv.weight"])
    further = model.head.neck.coarser if head == "rotated_fcos" else model.head.neck.further
    torch.testing.assert_close(further[1].weight, tensors["neck.fpn_convs.4.conv.weight"])
    if HEADS[head][2]:
        assert model.head.box_scales.tolist() == [1, 2, 3, 4, 5]
    loaded = AutoModelForOrientedObjectDetection.from_pretrained(tmp_path / "out")
    processor = TCMImageProcessor.from_pretrained(tmp_path / "out")
    assert processor.head_type == head
    with torch.no_grad():
        maps = loaded(torch.rand(1, 3, 64, 96))
    assert maps.head_output.class_logits.isfinite().all()


@pytest.mark.parametrize("release", ["rotated_fcos"], indirect=True)
def test_the_text_does_not_depend_on_the_image_and_logits_are_concatenated(
    release: tuple[str, StateDict], tmp_path: Path
) -> None:
    torch.save(release[1], tmp_path / "released.pth")
    model = convert_checkpoint(tmp_path / "released.pth", tmp_path / "out", {"decoder_heads": 4, "text_heads": 1})
    with torch.no_grad():
        prompted = [model.model(torch.rand(1, 3, 64, 64)).prompted_text_embedding for _ in range(2)]
        outputs = model.model(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(*prompted)
    torch.testing.assert_close(outputs.score_logits, outputs.score_map / 0.07)
    assert model.head.score_map_input == "logits"


@pytest.mark.parametrize("release", ["rotated_atss"], indirect=True)
def test_a_tensor_without_a_place_is_named(release: tuple[str, StateDict], tmp_path: Path) -> None:
    tensors = {**release[1], "bbox_head.conv_extra.weight": torch.zeros(1)}
    del tensors["neck.fpn_convs.3.conv.bias"]
    torch.save(tensors, tmp_path / "released.pth")
    with pytest.raises(ValueError, match=r"missing: neck.fpn_convs.3.conv.bias; unmapped: bbox_head.conv_extra.weight"):
        convert_checkpoint(tmp_path / "released.pth", tmp_path / "out", {"decoder_heads": 4, "text_heads": 1})
    assert oriented.head_of({"conv1.weight": torch.zeros(1)}) is None
