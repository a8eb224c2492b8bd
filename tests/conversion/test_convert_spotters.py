"""Released TESTR and DeepSolo checkpoints become spotters with their heads."""

import ast
import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_settings import SETTINGS

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.conversion import convert_checkpoint
from transformers_tcm.conversion.convert import convert_state_dict
from transformers_tcm.conversion.spotters import DeepSoloOrigin

StateDict = dict[str, torch.Tensor]
KEYS = Path(__file__).parents[1] / "fixtures" / "released"
KINDS = ["testr", "deepsolo"]
RELEASES = {"testr_polygon": "testr", "testr_bezier": "testr", "deepsolo": "deepsolo"}
PREFIXES = {"testr": "testr.", "deepsolo": "detection_transformer."}


def released(kind: str) -> StateDict:
    """The tensors of a release, without memory, from the list of their names and shapes."""
    lines = (KEYS / f"keys_{kind}.txt").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {name: torch.empty(ast.literal_eval(shape), device="meta") for name, shape, *_ in rows}


def reference(release: str, golden_dir: Path) -> tuple[StateDict, dict]:
    """The tensors of a small model in the names of its release, on an image encoder of width 8, and those settings that
    no tensor tells."""
    kind, folder = RELEASES[release], golden_dir / "detr_spotters"
    tensors = load_file(folder / f"{release}_weights.safetensors")
    tensors[f"{PREFIXES[kind]}backbone.0.backbone.stem.conv1.weight"] = torch.zeros(64, 3, 7, 7)
    for level, channels in enumerate((64, 128, 256, 256)):
        name = f"{PREFIXES[kind]}input_proj.{level}.0.weight"
        size, _, *kernel = tensors[name].shape
        tensors[name] = torch.randn(size, channels, *kernel, generator=torch.Generator().manual_seed(level))
    sizes = json.loads((folder / f"{release}.json").read_text("utf-8"))["config"]
    head = {"num_heads": sizes["heads"], "num_queries": sizes["queries"]}
    head |= {"encoder_points": sizes["enc_points"], "decoder_points": sizes["dec_points"]}
    return tensors, head if kind == "testr" else {**head, "num_points": sizes["points"]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_a_release_has_a_place_and_fills_the_head(kind: str) -> None:
    tensors = released(kind)
    with torch.device("meta"):
        model = convert_state_dict(tensors, {}, kind)
    assert isinstance(model, TCMForTextSpotting)
    assert model.config.head_type == kind
    defaults = type(model.config.head_settings)()
    if kind == "testr":
        assert model.config.head_settings == defaults
    else:
        assert (model.config.head_settings.num_points, len(model.config.head_settings.charset)) == (25, 36)
    without = {name: tensor for name, tensor in tensors.items() if not name.endswith("linear1.bias")}
    with pytest.raises(ValueError, match=r"missing: .*encoder\.layers\.5\.linear1\.bias"), torch.device("meta"):
        convert_state_dict(without, {}, kind)
    more = {**tensors, "instance_language.weight": torch.empty(8, 256, device="meta")}
    with pytest.raises(ValueError, match=r"unmapped: instance_language\.weight"), torch.device("meta"):
        convert_state_dict(more, {}, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_of_line_annotations_and_long_texts(kind: str) -> None:
    tensors = released(kind)
    if kind == "testr":
        tensors["testr.text_embed.weight"] = torch.empty(100, 256, device="meta")
        tensors["testr.ctrl_point_embed.weight"] = torch.empty(8, 256, device="meta")
        expected = {"max_length": 100, "curve": "bezier", "text_weight": 2.0}
    else:
        tensors["detection_transformer.point_embed.weight"] = torch.empty(5000, 256, device="meta")
        tensors = {name: tensor for name, tensor in tensors.items() if "boundary_offset" not in name}
        expected = {"num_points": 50, "boundary": False}
    with torch.device("meta"):
        found = convert_state_dict(tensors, {}, kind).config.head_config
    assert expected.items() <= found.items()


@pytest.mark.parametrize("release", RELEASES)
def test_a_saved_spotter_loads_and_keeps_the_weights_of_its_head(
    release: str, golden_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors, head = reference(release, golden_dir)
    kind, prefix = RELEASES[release], PREFIXES[RELEASES[release]]
    # As detectron2 saves it.
    torch.save({"model": tensors, "iteration": 7}, tmp_path / "released.pth")
    settings = {name: value for name, value in SETTINGS.items() if name != "head_config"}
    logging.getLogger("transformers_tcm").addHandler(caplog.handler)
    convert_checkpoint(tmp_path / "released.pth", tmp_path / "made", config={**settings, "head_config": head})
    logging.getLogger("transformers_tcm").removeHandler(caplog.handler)
    assert "a warm start" in caplog.text
    model = TCMForTextSpotting.from_pretrained(tmp_path / "made", dtype="float32").eval()
    processor = TCMImageProcessor.from_pretrained(tmp_path / "made")
    assert processor.head_type == kind
    assert getattr(processor, "curve", None) == {"testr_polygon": "polygon", "testr_bezier": "bezier"}.get(release)
    if kind == "deepsolo":
        assert processor.charset == model.config.head_settings.charset
    encoder = model.head.encoder[0].attention.sampling_offsets.weight
    assert torch.equal(encoder, tensors[f"{prefix}transformer.encoder.layers.0.self_attn.sampling_offsets.weight"])
    within = model.head.decoder[0]["points"].within.in_proj_weight
    assert torch.equal(within, tensors[f"{prefix}transformer.decoder.layers.0.attn_intra.in_proj_weight"])
    points = tensors[f"{prefix}{'ctrl_point_embed' if kind == 'testr' else 'point_embed'}.weight"]
    assert torch.equal(model.head.point_embedding.flatten(0, -2), points)
    # The score map is the last channel of C5.
    for level in (2, 3):
        weight = model.head.levels[level].conv.weight
        assert torch.equal(weight[:, :-1], tensors[f"{prefix}input_proj.{level}.0.weight"])
        assert weight[:, -1].abs().sum() == 0
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).char_logits is not None


def test_heads_that_differ_between_layers_are_named(golden_dir: Path) -> None:
    tensors, _ = reference("deepsolo", golden_dir)
    tensors["detection_transformer.ctrl_point_text.1.bias"] = torch.ones(38)
    with pytest.raises(ValueError, match=r"heads of their own: detection_transformer\.ctrl_point_text\.1\.bias"):
        DeepSoloOrigin.unused(tensors)
