"""The model as a whole: prompting, losses, fusing, saving, batching, precision."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoBackbone

from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.attention_tcm import reduced_tokens
from transformers_tcm.models.tcm.configuration_tcm import TCMConfig, TCMVisionConfig
from transformers_tcm.models.tcm.heads.base import HeadInputs
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from transformers_tcm.models.tcm.modeling_clip_resnet import TCMBottleneck, TCMVisionBackbone
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection, TCMModel

Make = Callable[..., TCMForTextDetection]
WORD = np.array([[10, 12], [70, 10], [72, 34], [12, 36]], dtype=np.float32)


def random_pixels(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(1))


def labelled_batch(config: TCMConfig, images: list[tuple[tuple[int, int], TextInstances]]) -> dict:
    """What the data loader gives for images of these sizes with these instances."""
    processor = TCMImageProcessorPil(do_resize=False)
    rng = np.random.default_rng(0)
    items = []
    for size, instances in images:
        image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        batch = processor(image, annotations=instances, return_tensors="pt")
        items.append({name: batch[name][0] for name in ("pixel_values", "pixel_mask", "labels")})
    return TextDetectionCollator(config)(items)


NO_TEXT = TextInstances([])
ONE_WORD = TextInstances([WORD], ignore=np.array([False]))
ONLY_IGNORED = TextInstances([WORD], ignore=np.array([True]))


@pytest.mark.parametrize(
    "instances",
    [[NO_TEXT, NO_TEXT], [ONLY_IGNORED], [ONE_WORD, NO_TEXT], [ONE_WORD, ONLY_IGNORED]],
    ids=["no text", "only ignored", "a word and none", "a word and ignored"],
)
@pytest.mark.parametrize("variant", ["fasttcm", "tcm", "none"])
def test_losses_and_gradients_are_finite(small_detector: Make, variant: str, instances: list[TextInstances]) -> None:
    model = small_detector(prompting=variant).train()
    sizes = [(64, 96), (96, 64)]
    batch = labelled_batch(model.config, list(zip(sizes, instances, strict=False)))
    outputs = model(**batch)
    assert torch.isfinite(outputs.loss)
    score_map_loss = set() if variant == "none" else {"loss_score_map"}
    assert set(outputs.loss_dict) == {"loss_prob", "loss_binary", "loss_threshold", *score_map_loss}
    torch.testing.assert_close(outputs.loss, sum(outputs.loss_dict.values()))
    outputs.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prompting": "tcm"},
        {"prompting": "none"},
        {"learnable_logit_scale": True},
        {"text_refiner": False},
        {"visual_prompt": False},
        {"matching": False},
    ],
)
def test_every_trained_parameter_gets_a_gradient(small_detector: Make, settings: dict) -> None:
    model = small_detector(**settings).train()
    for block in model.modules():
        if isinstance(block, TCMBottleneck):  # starts as the identity, without a gradient inside
            torch.nn.init.ones_(block.expand[1].weight)
    batch = labelled_batch(model.config, [((64, 96), ONE_WORD)])
    model(**batch).loss.backward()
    # A single key is attended to with weight one, whatever queries and keys are: with one prompt that is the text.
    indifferent = ("cross_attention.q_proj", "cross_attention.k_proj", "self_attention.q_proj", "self_attention.k_proj")
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in without if not any(part in name for part in indifferent)] == []


def test_without_matching_the_text_is_the_same_for_all_images(small_detector: Make) -> None:
    pixels = random_pixels(2, 3, 64, 96)
    texts = [
        small_detector(text_refiner=False, matching=on).eval().model(pixels).text_embedding for on in (True, False)
    ]
    assert [torch.equal(text[0], text[1]) for text in texts] == [False, True]


def test_without_visual_prompt_the_score_map_compares_local_embedding_and_text(small_detector: Make) -> None:
    outputs = small_detector(visual_prompt=False).eval().model(random_pixels(2, 3, 64, 96))
    local, text = outputs.local_embedding, outputs.text_embedding  # (B, C, h, w), (B, 1, C)
    cosine = torch.nn.functional.cosine_similarity(local, text[:, 0, :, None, None], dim=1)
    torch.testing.assert_close(outputs.score_map[:, 0], cosine)


def test_padding_does_not_count(small_detector: Make) -> None:
    """The loss of an image does not see what lies in the padding that its mask leaves out."""
    model = small_detector()
    batch = labelled_batch(model.config, [((64, 96), ONE_WORD), ((64, 64), NO_TEXT)])
    assert batch["labels"]["shrink_mask"][1, :, 64:].sum() == 0
    assert model(**batch).valid_sizes.tolist() == [[64, 96], [64, 64]]


def test_attention_ignores_padding(small_config: Callable[..., TCMConfig]) -> None:
    """The attention pool of a padded feature map equals that of the map itself."""
    torch.manual_seed(0)
    pool = TCMVisionBackbone(small_config().vision_config).eval().attention_pool
    features = random_pixels(1, 128, 2, 3)
    padded = torch.nn.functional.pad(features, (0, 0, 0, 1), value=9.0)
    valid = torch.tensor([[[True] * 3, [True] * 3, [False] * 3]])
    pool.positional_embedding.data[1:] = pool.positional_embedding.data[1]  # the same at every size of the grid
    torch.testing.assert_close(pool(padded, valid)[0], pool(features)[0])
    torch.testing.assert_close(pool(padded, valid)[1][:, :, :2], pool(features)[1])


def test_fused_equals_unfused(small_detector: Make, tmp_path: Path) -> None:
    model, pixels = small_detector(), random_pixels(2, 3, 64, 96)
    with torch.no_grad():
        expected = model(pixels)
        fused = model.fuse_text_embeddings()
        assert model.model.text_encoder is None
        torch.testing.assert_close(fused(pixels).head_output.prob_map, expected.head_output.prob_map)
        fused.save_pretrained(tmp_path)
        loaded = TCMForTextDetection.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded(pixels).score_map, expected.score_map)
    assert loaded.config.fused
    assert loaded.fuse_text_embeddings() is loaded


def test_tcm_cannot_be_fused(small_detector: Make) -> None:
    with pytest.raises(ValueError, match="cannot be fused"):
        small_detector(prompting="tcm").fuse_text_embeddings()
    with pytest.raises(ValueError, match="no text tower"):
        small_detector(prompting="none").fuse_text_embeddings()


def test_fused_model_trains_the_rest(small_detector: Make) -> None:
    model = small_detector().fuse_text_embeddings().train()
    before = model.model.fused_text_embedding.clone()
    model(**labelled_batch(model.config, [((64, 96), ONE_WORD)])).loss.backward()
    assert model.head.probability[0].weight.grad.abs().sum() > 0
    assert torch.equal(model.model.fused_text_embedding, before)


def test_text_embedding_is_cached_until_the_weights_change(small_detector: Make) -> None:
    model, pixels = small_detector(), random_pixels(1, 3, 64, 64)
    calls = []
    model.model.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        first = model(pixels).score_map
        torch.testing.assert_close(model(pixels).score_map, first)
        assert len(calls) == 1
        state = {name: tensor + 0.5 * tensor.is_floating_point() for name, tensor in model.state_dict().items()}
        model.load_state_dict(state)
        model(pixels)
        assert len(calls) == 2
        model.train().eval()
        model(pixels)
        assert len(calls) == 3
    model(pixels)  # with gradients, which must reach the text encoder
    assert len(calls) == 4


def test_without_prompting_there_is_only_the_image_encoder_and_the_head(small_detector: Make, tmp_path: Path) -> None:
    model, pixels = small_detector(prompting="none"), random_pixels(2, 3, 64, 96)
    parts = {name.split(".")[1] for name in model.state_dict() if name.startswith("model.")}
    assert parts == {"backbone"}
    assert not any("attention_pool" in name for name in model.state_dict())
    assert model.head.neck.lateral[3].in_channels == 128
    model.save_pretrained(tmp_path)
    loaded, report = TCMForTextDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert loaded.config.prompting == "none"
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        outputs, prompting = loaded(pixels), loaded.model(pixels)
        # The head sees the maps of the image encoder and nothing else.
        maps = loaded.model.backbone(pixels)
        inputs = HeadInputs(maps.feature_maps, maps.stem_features, outputs.valid_sizes)
        expected = loaded.head(inputs, False)
    torch.testing.assert_close(outputs.head_output.prob_map, expected.prob_map)
    torch.testing.assert_close(outputs.head_output.prob_map, model(pixels).head_output.prob_map)
    assert outputs.score_map is None
    assert set(prompting) == {"feature_maps", "stem_features"}


@pytest.mark.parametrize("variant", ["fasttcm", "tcm"])
@pytest.mark.parametrize("settings", [{}, {"prompts": ["Text", "a shop sign"]}, {"learnable_logit_scale": True}])
def test_save_and_load(small_detector: Make, tmp_path: Path, variant: str, settings: dict) -> None:
    model, pixels = small_detector(prompting=variant, **settings), random_pixels(1, 3, 64, 64)
    model.save_pretrained(tmp_path)
    loaded, report = TCMForTextDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels).head_output.prob_map, model(pixels).head_output.prob_map)
    base = TCMModel.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(base(pixels).score_map, model(pixels).score_map)


def test_batch_equals_singles(small_detector: Make) -> None:
    model, pixels = small_detector(), random_pixels(3, 3, 64, 96)
    with torch.no_grad():
        together = model(pixels).head_output.prob_map
        singles = torch.cat([model(pixel[None]).head_output.prob_map for pixel in pixels])
    torch.testing.assert_close(together, singles, atol=1e-5, rtol=1e-5)


def test_bfloat16_is_close_to_float32(small_detector: Make) -> None:
    model, pixels = small_detector(), random_pixels(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(pixels).head_output.prob_map
        with torch.autocast("cpu", torch.bfloat16):
            autocast = model(pixels).head_output.prob_map
        stored = model.to(torch.bfloat16)(pixels.bfloat16()).head_output.prob_map
    assert autocast.dtype == stored.dtype == torch.float32
    assert (autocast - expected).abs().mean() < 0.01
    assert (stored - expected).abs().mean() < 0.01


def test_sdpa_equals_eager(small_detector: Make) -> None:
    model, pixels = small_detector(), random_pixels(2, 3, 64, 96)
    mask = torch.ones(2, 64, 96, dtype=torch.int64)
    mask[1, :, 64:] = 0
    with torch.no_grad():
        assert model.model.backbone.config._attn_implementation == "sdpa"
        expected = model(pixels, mask).score_map
        model.set_attn_implementation("eager")
        assert model.model.backbone.config._attn_implementation == "eager"
        torch.testing.assert_close(model(pixels, mask).score_map, expected, atol=1e-5, rtol=1e-5)


def test_score_map_is_a_cosine_and_reaches_the_head(small_detector: Make) -> None:
    model, pixels = small_detector(prompts=["Text", "a shop sign"]), random_pixels(1, 3, 96, 64)
    assert model.head.neck.lateral[3].in_channels == 128 + 2
    with torch.no_grad():
        outputs = model.model(pixels)
        assert outputs.score_map.shape == (1, 2, 3, 2)
        assert outputs.score_map.abs().max() <= 1 + 1e-6
        torch.testing.assert_close(outputs.score_logits, outputs.score_map / 0.07)


def test_adaptive_scale_fusion_weighs_levels(small_detector: Make) -> None:
    model = small_detector(head_config={"neck_channels": 16, "hidden_channels": 4, "adaptive_scale_fusion": True})
    with torch.no_grad():
        assert model(random_pixels(1, 3, 64, 96)).head_output.prob_map.shape == (1, 1, 64, 96)
    model.train()(**labelled_batch(model.config, [((64, 96), ONE_WORD)])).loss.backward()
    assert model.head.neck.fusion.weigh[0].weight.grad.abs().sum() > 0


def test_inference_computes_no_training_maps(small_detector: Make) -> None:
    model = small_detector()
    with torch.no_grad():
        assert model(random_pixels(1, 3, 64, 64)).head_output.threshold_map is None
        assert model(random_pixels(1, 3, 64, 64), output_training_maps=True).head_output.threshold_map is not None


def test_backbone_through_the_auto_class() -> None:
    config = TCMVisionConfig(
        width=4,
        depths=[1, 1, 1, 1],
        projection_dim=8,
        num_attention_heads=4,
        positional_grid=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    backbone = AutoBackbone.from_config(config).eval()
    outputs = backbone(random_pixels(1, 3, 64, 64), output_hidden_states=True)
    assert [tuple(feature.shape[1:]) for feature in outputs.feature_maps] == [
        (16, 16, 16),
        (32, 8, 8),
        (64, 4, 4),
        (128, 2, 2),
    ]
    assert len(outputs.hidden_states) == 5
    assert outputs.global_embedding.shape == (1, 8)
    assert outputs.local_embedding.shape == (1, 8, 2, 2)


def test_bad_input_is_named(small_detector: Make) -> None:
    model = small_detector()
    with pytest.raises(ValueError, match="multiples of 32"):
        model(random_pixels(1, 3, 60, 64))
    labels = labelled_batch(model.config, [((64, 64), ONE_WORD)])["labels"]
    with pytest.raises(ValueError, match="labels of 1 images for 2 images"):
        model(random_pixels(2, 3, 64, 64), labels=labels)
    with pytest.raises(ValueError, match="lack the target 'shrink_map'"):
        model(random_pixels(1, 3, 64, 64), labels={})
    with pytest.raises(TypeError, match="`labels` are of type list; expected a dictionary"):
        model(random_pixels(1, 3, 64, 64), labels=[{}])


def test_keys_and_values_on_a_coarser_grid_ignore_the_padding() -> None:
    tokens = random_pixels(1, 3, 5, 4)
    alone, _ = reduced_tokens(tokens.flatten(1, 2), (3, 5), 2)
    padded = torch.nn.functional.pad(tokens, (0, 0, 0, 3, 0, 2), value=9.0)  # a grid of 5 x 8
    valid = torch.zeros(1, 5, 8, dtype=torch.bool)
    valid[:, :3, :5] = True
    means, kept = reduced_tokens(padded.flatten(1, 2), (5, 8), 2, valid.flatten(1))
    assert kept is not None
    assert kept.view(3, 4).tolist() == [[True, True, True, False], [True, True, True, False], [False] * 4]
    torch.testing.assert_close(means[kept], alone[0])


def test_without_reduction_tokens_stay_as_they_are() -> None:
    tokens = random_pixels(1, 12, 2)
    assert reduced_tokens(tokens, (3, 4), 1)[0] is tokens


@torch.no_grad()
def test_spatial_reduction_keeps_weights_and_shapes(small_config: Callable[..., TCMConfig]) -> None:
    model = TCMModel(small_config()).eval()
    config = small_config()
    config.vision_config.sr_ratio = 2
    reduced = TCMModel(config).eval()
    reduced.load_state_dict(model.state_dict())
    pixels = random_pixels(1, 3, 96, 160)
    assert reduced(pixels).score_map.shape == model(pixels).score_map.shape
    assert not torch.equal(reduced(pixels).score_map, model(pixels).score_map)
