import ast
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection

from transformers_tcm.conversion import convert_checkpoint, tcm
from transformers_tcm.conversion.convert import convert_state_dict
from transformers_tcm.models.tcm.configuration_tcm import DEFAULT_PROMPT_TOKEN_IDS
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection

StateDict = dict[str, torch.Tensor]

FRESH = ("model.visual", "model.text_scale", "model.text_refiner", "model.language_prompt", "model.meta", "head.")
SMALL = {"decoder_width": 16, "decoder_layers": 1, "neck_channels": 16}


def write(tensors: StateDict, tmp_path: Path) -> Path:
    path = tmp_path / "clip.pt"
    torch.save(tensors, path)
    return path


def test_sizes_come_from_the_tensors(clip_state_dict: StateDict) -> None:
    config = convert_state_dict(clip_state_dict, SMALL, "clip").config
    vision, text = config.vision_config, config.text_config
    assert (vision.width, vision.depths, vision.projection_dim, vision.positional_grid) == (8, [1, 2, 1, 1], 32, 3)
    assert (text.hidden_size, text.intermediate_size, text.num_hidden_layers) == (64, 128, 2)
    assert (text.max_position_embeddings, text.vocab_size, text.projection_dim) == (20, 49408, 32)
    # Heads are CLIP's customs: width x 32 / 64 in the attention pool, width / 64 in the text tower.
    assert (vision.num_attention_heads, text.num_attention_heads) == (4, 1)
    assert config.prompting == "fasttcm"


def test_a_saved_detector_loads_and_detects(clip_state_dict: StateDict, tmp_path: Path) -> None:
    model = convert_checkpoint(write(clip_state_dict, tmp_path), tmp_path / "out", SMALL)
    loaded = TCMForTextDetection.from_pretrained(tmp_path / "out").eval()
    pixel_values = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = (detector(pixel_values).head_output.prob_map for detector in (model, loaded))
    # Not to the bit: sums may be taken in another order where memory is aligned otherwise.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert found.shape == (1, 1, 64, 96)


def test_the_text_tower_equals_the_one_of_transformers(
    clip_state_dict: StateDict, text_tower: CLIPTextModelWithProjection
) -> None:
    # Without context tokens and with a language prompt of zero nothing but CLIP is left.
    model = convert_state_dict(clip_state_dict, {**SMALL, "num_context_tokens": 0}, "clip")
    with torch.no_grad():
        embedding = model.model.text_encoder(torch.zeros(1, 64))[0]
        expected = text_tower(torch.tensor([DEFAULT_PROMPT_TOKEN_IDS])).text_embeds
    torch.testing.assert_close(embedding, expected, rtol=1e-5, atol=1e-5)


def test_the_image_encoder_equals_the_reference(golden_dir: Path) -> None:
    released = torch.load(golden_dir / "tcm_dbnet_tiny_official_keys.pth", weights_only=True)["state_dict"]
    overrides = json.loads((golden_dir / "tcm_dbnet_tiny_config.json").read_text())
    # CLIP's own names are those of the released detector, with another prefix for the images and none for the text.
    clip = {f"visual.{name.removeprefix('backbone.')}": released[name] for name in released if "backbone." in name}
    clip |= {name.removeprefix("text_encoder."): released[name] for name in released if "text_encoder." in name}
    reference = load_file(golden_dir / "tcm_dbnet_tiny_io.safetensors")
    with torch.no_grad():
        outputs = convert_state_dict(clip, overrides, "clip").model.backbone(reference["pixel_values"])
    for name in ("global_embedding", "local_embedding"):
        torch.testing.assert_close(outputs[name], reference[name], rtol=0, atol=1e-4)


def test_torchscript_plain_and_open_clip_files_give_the_same(
    clip_state_dict: StateDict, torchscript: Callable[[StateDict], torch.jit.ScriptModule], tmp_path: Path
) -> None:
    scalars = {name: torch.tensor(224) for name in ("input_resolution", "context_length", "vocab_size")}
    torchscript(clip_state_dict | scalars).save(str(tmp_path / "archive.pt"))
    torch.save(clip_state_dict, tmp_path / "plain.pt")
    distributed = {f"module.{name}": tensor for name, tensor in clip_state_dict.items()}
    torch.save({"epoch": 32, "state_dict": distributed}, tmp_path / "open_clip.pt")
    save_file({name: tensor.contiguous() for name, tensor in clip_state_dict.items()}, tmp_path / "clip.safetensors")
    files = ("archive.pt", "plain.pt", "open_clip.pt", "clip.safetensors")
    first, *others = [convert_checkpoint(tmp_path / file, tmp_path / "out", SMALL).state_dict() for file in files]
    for other in others:
        assert all(torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_half_precision_weights_become_float32(clip_state_dict: StateDict) -> None:
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in clip_state_dict.items()}
    model = convert_state_dict(halves, SMALL, "clip")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    weight = model.model.backbone.stem[0][0].weight
    assert torch.equal(weight, halves["visual.conv1.weight"].float())


def test_fresh_parts_depend_on_the_seed_alone(clip_state_dict: StateDict) -> None:
    state = torch.random.get_rng_state()
    same, again, other = (convert_state_dict(clip_state_dict, SMALL, "clip", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    differing = set()
    for name, tensor in same.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
        if not torch.equal(tensor, other.state_dict()[name]):
            differing.add(name)
    assert "model.text_encoder.context" in differing
    assert all(name.startswith(FRESH) for name in differing - {"model.text_encoder.context"})


def test_image_processors_keep_the_constants_of_the_weights(
    clip_state_dict: StateDict, golden_dir: Path, tmp_path: Path
) -> None:
    convert_checkpoint(write(clip_state_dict, tmp_path), tmp_path / "clip", SMALL)
    overrides = json.loads((golden_dir / "tcm_dbnet_tiny_config.json").read_text()) | {
        "image_processor": {"threshold": 0.2}
    }
    convert_checkpoint(golden_dir / "tcm_dbnet_tiny_official_keys.pth", tmp_path / "tcm", overrides)
    ours, released = (
        json.loads((tmp_path / name / "preprocessor_config.json").read_text()) for name in ("clip", "tcm")
    )
    assert ours["image_mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert ours["image_std"] == [0.26862954, 0.26130258, 0.27577711]
    assert released["image_mean"] == pytest.approx([0.4811, 0.4575, 0.4079], abs=1e-4)
    assert released["image_std"] == pytest.approx([0.229, 0.224, 0.225], abs=1e-4)
    assert released["threshold"] == 0.2


def test_a_chosen_variant(clip_state_dict: StateDict, tmp_path: Path) -> None:
    model = convert_checkpoint(write(clip_state_dict, tmp_path), tmp_path / "out", SMALL, prompting="tcm")
    assert model.config.prompting == "tcm"
    assert model.model.meta_query is None


def test_step_counters_may_be_absent(clip_state_dict: StateDict) -> None:
    without = {name: tensor for name, tensor in clip_state_dict.items() if "num_batches_tracked" not in name}
    model = convert_state_dict(without, SMALL, "clip")
    assert model.model.backbone.stem[0][1].num_batches_tracked == 0


def test_missing_and_unmapped_tensors_are_named(clip_state_dict: StateDict) -> None:
    del clip_state_dict["visual.layer2.0.bn1.bias"]
    clip_state_dict["visual.layer5.0.conv1.weight"] = torch.zeros(1)
    with pytest.raises(
        ValueError, match=r"missing: visual\.layer2\.0\.bn1\.bias; unmapped: visual\.layer5\.0\.conv1\.weight"
    ):
        convert_state_dict(clip_state_dict, SMALL, "clip")


def test_a_missing_tensor_that_tells_a_size_is_named(clip_state_dict: StateDict) -> None:
    del clip_state_dict["text_projection"]
    with pytest.raises(ValueError, match="lacks text_projection"):
        convert_state_dict(clip_state_dict, SMALL, "clip")


def test_a_tensor_that_tells_a_size_in_other_dimensions_is_named(clip_state_dict: StateDict) -> None:
    clip_state_dict["text_projection"] = torch.zeros(())
    with pytest.raises(ValueError, match=r"text_projection has shape \(\); expected 2 dimensions"):
        convert_state_dict(clip_state_dict, SMALL, "clip")


def test_misshapen_tensors_are_named(clip_state_dict: StateDict) -> None:
    clip_state_dict["visual.conv3.weight"] = torch.zeros(5, 4, 3, 3)
    with pytest.raises(ValueError, match=r"visual\.conv3\.weight gives \(5, 4, 3, 3\) where \(8, 4, 3, 3\)"):
        convert_state_dict(clip_state_dict, SMALL, "clip")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"vision_width": 16}, r"vision_config\.width is 16 by the settings and 8 by the tensors"),
        ({"text_config": {"hidden_size": 32}}, r"text_config\.hidden_size is 32 .* 64"),
        ({"colour": 1, "vision_config": {"colour": 1}}, r"unknown settings colour, vision_config\.colour"),
        ({"head_config": 3}, "`head_config` is 3"),
        ({"attention_pool_heads": 3}, "256 channels, which 3 attention-pool heads do not divide"),
        ({"context_tokens": 20}, "make 34 tokens; the text tower takes 20"),
    ],
)
def test_settings_that_do_not_fit(overrides: dict, message: str, clip_state_dict: StateDict) -> None:
    with pytest.raises(ValueError, match=message):
        convert_state_dict(clip_state_dict, overrides, "clip")


def test_unknown_settings_of_the_image_processor(clip_state_dict: StateDict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`image_processor` has unknown settings image_men"):
        convert_checkpoint(write(clip_state_dict, tmp_path), tmp_path / "out", {"image_processor": {"image_men": [0]}})


def test_config_files_that_hold_no_settings(clip_state_dict: StateDict, tmp_path: Path) -> None:
    source = write(clip_state_dict, tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds a JSON list"):
        convert_checkpoint(source, tmp_path / "out", tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not a JSON file"):
        convert_checkpoint(source, tmp_path / "out", tmp_path / "config.json")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        convert_checkpoint(source, tmp_path / "out", tmp_path / "nowhere.json")


def test_an_output_folder_that_is_a_file(clip_state_dict: StateDict, tmp_path: Path) -> None:
    source = write(clip_state_dict, tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        convert_checkpoint(source, source)


def test_checkpoints_of_other_models(tmp_path: Path) -> None:
    source = write({"visual.class_embedding": torch.zeros(4), "fc.weight": torch.zeros(4)}, tmp_path)
    with pytest.raises(ValueError, match=r"neither a CLIP ResNet .* such as fc\.weight, visual\.class_embedding"):
        convert_checkpoint(source, tmp_path / "out")


def full_size(path: Path) -> StateDict:
    """Tensors without memory from a list of names and shapes, in either of the two notations of the lists."""
    tensors = {}
    for line in path.read_text().splitlines():
        name, shape = line.split("\t") if "\t" in line else ast.literal_eval(line)[:2]
        tensors[name] = torch.empty(ast.literal_eval(str(shape)), device="meta")
    return tensors


def head_of_the_release() -> StateDict:
    """Free parameters, neck and head of a released detector, which the list of its modules leaves out."""
    shapes: dict[str, tuple[int, ...]] = {"contexts": (1, 4, 512), "gamma": (1024,), "vis_gamma": ()}
    for level, channels in enumerate((256, 512, 1024, 2049)):
        shapes[f"neck.lateral_convs.{level}.conv.weight"] = (256, channels, 1, 1)
        shapes[f"neck.smooth_convs.{level}.conv.weight"] = (64, 256, 3, 3)
    for branch in ("bbox_head.binarize", "bbox_head.threshold"):
        shapes |= {f"{branch}.0.weight": (64, 256, 3, 3), f"{branch}.3.weight": (64, 64, 2, 2)}
        shapes |= {f"{branch}.3.bias": (64,), f"{branch}.6.weight": (64, 1, 2, 2), f"{branch}.6.bias": (1,)}
        for norm in (1, 4):
            names = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{branch}.{norm}.{name}": (64,) for name in names}
            shapes[f"{branch}.{norm}.num_batches_tracked"] = ()
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def test_every_tensor_of_the_full_size_clip_has_a_place(golden_dir: Path) -> None:
    tensors = full_size(golden_dir / "keys_openai_clip_rn50.txt")
    with torch.device("meta"):
        config = convert_state_dict(tensors, {}, "clip").config
    assert config.vision_config.num_attention_heads == 32
    assert config.text_config.num_attention_heads == 8
    assert (config.vision_config.width, config.vision_config.depths) == (64, [3, 4, 6, 3])
    assert config.text_config.max_position_embeddings == 77


def test_every_tensor_of_the_full_size_release_has_a_place_and_fills_the_detector(golden_dir: Path) -> None:
    tensors = full_size(golden_dir / "keys_tcm_dbnet.txt") | head_of_the_release()
    with torch.device("meta"):
        model = convert_state_dict(tensors, {}, "tcm")
    names = model.state_dict().keys()
    assert tcm.plan(names, tensors).keys() == names
    assert model.config.prompting == "tcm"
    assert model.config.vision_config.positional_grid == 20
    assert model.config.text_config.max_position_embeddings == 18


@pytest.fixture
def released(golden_dir: Path) -> Callable[..., tuple[StateDict, dict]]:
    """A small released detector with another head than DBNet, and the settings that its tensors do not tell."""

    def make(head: str, name: str = "bbox_head") -> tuple[StateDict, dict]:
        detector = torch.load(golden_dir / "tcm_dbnet_tiny_official_keys.pth", weights_only=True)["state_dict"]
        settings = json.loads((golden_dir / "tcm_dbnet_tiny_config.json").read_text())
        pyramid = [detector[f"neck.lateral_convs.{level}.conv.weight"].shape[1] for level in range(4)]
        first = "neck.reduce_conv_c{}.0.weight" if head == "pan" else "neck.lateral_convs.{}.conv.weight"
        offset = 2 if head == "pan" else -1  # FCENet's neck begins at C3
        widths = {first.format(level + offset): channels for level, channels in enumerate(pyramid)}
        arrays = np.load(golden_dir / "segmentation_heads" / "pan_fcenet.npz")
        parts, prefix = {}, {"pan": "pan_state/", "fcenet": "fce_state/"}[head]
        for key in (key for key in arrays.files if key.startswith(prefix)):
            theirs, tensor = key.removeprefix(prefix), torch.from_numpy(arrays[key])
            if theirs in widths:  # the golden heads stand on pyramids of other widths
                tensor = tensor[:, :1].expand(-1, widths[theirs], 1, 1).clone()
            parts[theirs.replace("bbox_head", name)] = tensor
        trunk = {key: tensor for key, tensor in detector.items() if not key.startswith(("neck.", "bbox_head."))}
        unwanted = ("neck_channels", "hidden_channels", "head_config")
        return trunk | parts, {key: value for key, value in settings.items() if key not in unwanted}

    return make


@pytest.mark.parametrize(
    ("head", "name", "settings", "decoding"),
    [
        ("pan", "bbox_head", {"max_distance": 0.85}, {"max_distance": 0.85, "box_threshold": 0.85, "threshold": 0.5}),
        ("pan", "det_head", {"max_distance": 3.0}, {"max_distance": 3.0, "box_threshold": 0.85, "threshold": 0.5}),
        ("fcenet", "bbox_head", {"text_exponent": 1.2}, {"text_exponent": 1.2, "box_threshold": 0.3}),
        ("fcenet", "det_head", {"center_exponent": 1.0}, {"center_exponent": 1.0, "threshold": 0.3}),
    ],
)
def test_released_heads(
    released: Callable[..., tuple[StateDict, dict]],
    tmp_path: Path,
    head: str,
    name: str,
    settings: dict[str, float],
    decoding: dict[str, float],
) -> None:
    """In both namings: every weight has a place, and what releases have in common is in the saved folder."""
    tensors, overrides = released(head, name)
    convert_checkpoint(write(tensors, tmp_path), tmp_path / "out", overrides)
    model = TCMForTextDetection.from_pretrained(tmp_path / "out")
    assert model.config.head_type == head
    assert settings.items() <= model.config.head_config.items()
    theirs = {"pan": f"{name}.out_conv.weight", "fcenet": f"{name}.out_conv_reg.weight"}[head]
    ours = {"pan": "head.output.weight", "fcenet": "head.contour.weight"}[head]
    assert torch.equal(model.state_dict()[ours], tensors[theirs])
    processor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert processor["head_type"] == head
    assert decoding.items() <= processor.items()
    assert processor["image_mean"] == [0.485, 0.456, 0.406]


def test_what_releases_have_in_common_can_be_set_otherwise(released: Callable[..., tuple[StateDict, dict]]) -> None:
    tensors, overrides = released("fcenet")
    ranges = [[0.0, 0.25], [0.2, 0.75], [0.5, 1.0]]
    config = convert_state_dict(tensors, overrides | {"head_config": {"ranges": ranges}}, "tcm").config
    assert config.head_config["ranges"] == ranges
    with pytest.raises(ValueError, match=r"head_config\.degree is 3 by the settings and 5 by the tensors"):
        convert_state_dict(tensors, overrides | {"head_config": {"degree": 3}}, "tcm")


def test_tensors_of_heads_that_do_not_fit_are_named(released: Callable[..., tuple[StateDict, dict]]) -> None:
    tensors, overrides = released("pan")
    del tensors["neck.fpems.1.down_add2.bn.bias"]
    tensors["bbox_head.gamma"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"missing: neck\.fpems\.1\.down_add2\.bn\.bias; unmapped: bbox_head\.gamma"):
        convert_state_dict(tensors, overrides, "tcm")
    del tensors["bbox_head.out_conv.weight"]
    with pytest.raises(ValueError, match=r"none of the layers bbox_head\.binarize\.0 \(dbnet\), bbox_head\.out_conv"):
        convert_state_dict(tensors, overrides, "tcm")
