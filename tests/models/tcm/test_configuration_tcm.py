"""`TCMConfig`: defaults that build the full size, round trips, and errors that name what is wrong."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import CLIPTextConfig

from transformers_tcm.models.tcm.configuration_tcm import DEFAULT_PROMPT_TOKEN_IDS, TCMConfig, TCMVisionConfig
from transformers_tcm.models.tcm.heads import HEADS, head_class
from transformers_tcm.models.tcm.heads.abcnet import ABCNetConfig
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection
from transformers_tcm.models.tcm.tokenization_tcm import clip_tokenizer


def test_defaults_build_the_full_size() -> None:
    with torch.device("meta"):
        model = TCMForTextDetection(TCMConfig())
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in model.model.named_children()}
    # CLIP RN50's image encoder and text tower, and two prompt decoders of 3.949 M parameters.
    assert sizes["backbone"] == 38_316_896
    assert sizes["text_encoder"] == 63_690_240 + 4 * 512
    assert sizes["visual_prompt_generator"] == sizes["text_refiner"] == 3_948_800
    assert model.head.neck.lateral[3].in_channels == 2049


def test_base_is_the_default() -> None:
    assert TCMConfig.from_preset("base").to_dict() == TCMConfig().to_dict()


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_presets_build_and_take_overrides(preset: str) -> None:
    config = TCMConfig.from_preset(preset, prompting="tcm", text_refiner=False)
    with torch.device("meta"):
        model = TCMForTextDetection(config)
    assert model.model.meta_query is None
    assert model.model.text_refiner is None


def test_round_trip_through_a_folder(tmp_path: Path) -> None:
    config = TCMConfig.from_preset("tiny", num_context_tokens=7, head_config={"adaptive_scale_fusion": True})
    config.save_pretrained(tmp_path)
    loaded = TCMConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert isinstance(loaded.vision_config, TCMVisionConfig)
    assert isinstance(loaded.text_config, CLIPTextConfig)
    assert loaded.head_config["adaptive_scale_fusion"]


def test_configurations_from_before_the_name_prompting_are_read(tmp_path: Path) -> None:
    config = TCMConfig.from_preset("tiny", prompting="tcm")
    config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"prompting"', '"variant"'))
    assert '"variant": "tcm"' in path.read_text()
    loaded = TCMConfig.from_pretrained(tmp_path)
    assert loaded.prompting == "tcm"
    assert "variant" not in loaded.to_dict()


def test_variant_names_its_successor() -> None:
    with pytest.raises(ValueError, match=r"`prompting`: TCMConfig\(prompting='tcm'\)"):
        TCMConfig(variant="tcm")


def test_another_head_takes_its_own_defaults(tmp_path: Path) -> None:
    TCMConfig.from_preset("tiny", head_config={"neck_channels": 16}).save_pretrained(tmp_path)
    assert TCMConfig.from_pretrained(tmp_path, head_type="dbnet").head_config["neck_channels"] == 16
    assert TCMConfig.from_pretrained(tmp_path, head_type="abcnet").head_settings == ABCNetConfig()
    small = {"channels": 8, "num_groups": 4}
    config = TCMConfig.from_pretrained(tmp_path, head_type="abcnet", head_config=small)
    assert config.head_settings == ABCNetConfig(**small)


@pytest.mark.parametrize("prompting", ["none", "tcm"])
def test_another_prompting_leaves_what_was_fused(prompting: str, tmp_path: Path) -> None:
    config = TCMConfig.from_preset("tiny", fused=True)
    config.save_pretrained(tmp_path / "fused")
    changed = TCMConfig.from_pretrained(tmp_path / "fused", prompting=prompting)
    assert not changed.fused
    changed.save_pretrained(tmp_path / "changed")
    assert TCMConfig.from_pretrained(tmp_path / "changed").prompting == prompting
    assert TCMConfig.from_pretrained(tmp_path / "fused", prompting="fasttcm").fused


def test_other_prompts_get_token_ids_of_their_own(tmp_path: Path) -> None:
    TCMConfig.from_preset("tiny").save_pretrained(tmp_path)
    changed = TCMConfig.from_pretrained(tmp_path, prompts=["a street sign"])
    assert changed.prompt_token_ids == clip_tokenizer()(["a street sign"])["input_ids"]
    same = TCMConfig.from_pretrained(tmp_path, prompts=TCMConfig().prompts)
    assert same.prompt_token_ids == [DEFAULT_PROMPT_TOKEN_IDS]


def test_prompts_of_a_fused_model_cannot_be_changed(tmp_path: Path) -> None:
    TCMConfig.from_preset("tiny", fused=True).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="take the checkpoint from before the fusion, or give fused=False"):
        TCMConfig.from_pretrained(tmp_path, prompts=["a street sign"])
    assert TCMConfig.from_pretrained(tmp_path, prompts=["a street sign"], fused=False).prompts == ["a street sign"]


def test_other_classes_of_a_fused_model_take_a_text_tower_anew(tmp_path: Path) -> None:
    labels = {0: "ship", 1: "plane"}
    config = TCMConfig.from_preset("tiny", head_type="rotated_fcos", id2label=labels, fused=True)
    config.save_pretrained(tmp_path)
    assert TCMConfig.from_pretrained(tmp_path, id2label=labels).fused
    changed = TCMConfig.from_pretrained(tmp_path, id2label={0: "ship", 1: "car"})
    assert not changed.fused
    assert changed.prompts == ["ship", "car"]
    assert not TCMConfig.from_pretrained(tmp_path, head_type="dbnet").fused  # another task, other prompts


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"decoder_num_heads": 7}, {"num_context_tokens": -1}])
def test_what_is_changed_at_loading_is_validated_at_once(wrong: dict[str, float], tmp_path: Path) -> None:
    TCMConfig.from_preset("tiny").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TCMConfig.from_pretrained(tmp_path, **wrong)


@pytest.mark.parametrize("head", [name for name in HEADS if head_class(name).reads])
def test_a_head_that_reads_leaves_out_the_recogniser(head: str, tmp_path: Path) -> None:
    TCMConfig.from_preset("tiny", recognizer={}).save_pretrained(tmp_path)
    for further in ({}, {"recognizer": None}):
        config = TCMConfig.from_pretrained(tmp_path, head_type=head, **further)
        assert config.recognizer is None
        assert config.head_type == head
        assert config.is_spotter
    with pytest.raises(ValueError, match="leave `recognizer` out"):
        TCMConfig.from_pretrained(tmp_path, head_type=head, recognizer={})


def test_spotters_have_a_recogniser() -> None:
    assert not TCMConfig().is_spotter
    assert TCMConfig(recognizer={}).is_spotter


def test_default_prompt_ids_are_those_of_clips_tokenizer() -> None:
    config = TCMConfig()
    assert config.prompt_token_ids == [DEFAULT_PROMPT_TOKEN_IDS]
    assert clip_tokenizer()(config.prompts)["input_ids"] == [DEFAULT_PROMPT_TOKEN_IDS]


def test_other_prompts_are_tokenized_to_one_length() -> None:
    config = TCMConfig.from_preset("tiny", prompts=["Text", "a shop sign"])
    assert config.prompt_token_ids[0][:3] == [49406, 4160, 49407]
    assert len(config.prompt_token_ids[0]) == len(config.prompt_token_ids[1]) == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompting": "fast"}, "prompting"),
        ({"recognizer": {"decoder": "transformer"}}, "unknown `decoder` 'transformer'.*choose one of ctc, attention"),
        ({"recognizer": {"crop": 3}}, "`recognizer` does not fit.*crop"),
        ({"head_type": "yolo"}, "unknown `head_type` 'yolo'; choose one of dbnet"),
        ({"head_config": {"neck_channels": 30}}, "multiple of 4"),
        ({"head_config": {"shrink_ratio": 1.5}}, "shrink_ratio"),
        ({"head_config": {"threshold_min": 0.8}}, "threshold_max"),
        ({"head_config": {"channels": 3}}, "channels"),
        ({"vision_config": {"width": 33}}, "even"),
        ({"vision_config": {"depths": [1, 2]}}, "four"),
        ({"vision_config": {"num_attention_heads": 3}}, "num_attention_heads"),
        ({"vision_config": {"projection_dim": 512}}, "one space"),
        ({"decoder_num_heads": 3}, "decoder_num_heads"),
        ({"num_context_tokens": 70}, "84 tokens"),
        ({"num_context_tokens": "four"}, "num_context_tokens"),
        ({"temperature": 0.0}, "temperature"),
        ({"prompting": "tcm", "fused": True}, "cannot be fused"),
        ({"prompting": "none", "fused": True}, "no text tower"),
        ({"prompt_token_ids": [[1, 2], [3, 4]]}, "prompt_token_ids"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(Exception, match=message):
        TCMConfig(**settings)


@pytest.mark.parametrize("head_type", HEADS)
def test_settings_of_another_type_are_named(head_type: str) -> None:
    """Also those that any value would do for: a text that says "false" is true."""
    for settings in (head_class(head_type).config_class, head_class(head_type).decoding_class):
        for field in fields(settings):
            with pytest.raises(StrictDataclassFieldValidationError, match=f"'{field.name}'"):
                settings(**{field.name: b"false"})
    name = fields(head_class(head_type).config_class)[-1].name
    with pytest.raises(Exception, match=f"does not fit the head '{head_type}': Field '{name}'"):
        _ = TCMConfig(head_type=head_type, head_config={name: b"false"}).head_settings


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="tiny, small, base"):
        TCMConfig.from_preset("huge")


@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
@pytest.mark.parametrize("head_type", HEADS)
def test_presets_know_every_head(preset: str, head_type: str) -> None:
    config = TCMConfig.from_preset(preset, head_type=head_type)
    full_size = TCMConfig(head_type=head_type).head_config
    assert config.head_config.keys() == full_size.keys()
    assert (config.head_config == full_size) == (preset == "base")
