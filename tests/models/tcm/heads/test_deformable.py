"""What TESTR and DeepSolo share: attention, masks, starting weights, targets, losses and decoding of both heads."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from transformers_tcm.bezier import bezier_to_polygon
from transformers_tcm.geometry import signed_area
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.heads.base import HeadInputs
from transformers_tcm.models.tcm.heads.deepsolo import DeepSoloConfig, DeepSoloDecoding, DeepSoloHead
from transformers_tcm.models.tcm.heads.deformable import (
    MLP,
    DeformableHead,
    MultiScaleDeformableAttention,
    Tokens,
    fit_sides,
    inverse_sigmoid,
    padding_masks,
    position_encoding,
    sample_by_grid,
    sample_by_rows,
)
from transformers_tcm.models.tcm.heads.testr import TESTRConfig, TESTRDecoding, TESTRHead

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "mlp_size": 32,
    "encoder_points": 2,
    "decoder_points": 2,
    "num_queries": 8,
}
HEADS = [TESTRHead, DeepSoloHead]
CHANNELS = [4, 8, 16, 33]  # the last with a score map
FULL_CHANNELS = [256, 512, 1024, 2048]


def inputs_of(size: tuple[int, int], valid: list[tuple[int, int]], seed: int = 0) -> HeadInputs:
    generator = torch.Generator().manual_seed(seed)
    pyramid = tuple(
        torch.randn(len(valid), channels, size[0] // stride, size[1] // stride, generator=generator)
        for channels, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)
    )
    return HeadInputs(pyramid, torch.zeros(len(valid), 1, size[0] // 2, size[1] // 2), torch.tensor(valid))


def head_of(kind: type[DeformableHead], **changes: Any) -> Any:
    torch.manual_seed(0)
    head = kind(kind.config_class(**TINY | changes), CHANNELS)
    with torch.no_grad():
        head.init_weights()
    return head


def arch(x: float, y: float, radius: float, height: float) -> np.ndarray:
    """A curved word of 14 points whose middle is at x, y."""
    angles = np.linspace(-0.6, 0.6, 7)
    arc = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    sides = np.concatenate([(radius + height / 2) * arc, (radius - height / 2) * arc[::-1]])
    return (sides + np.array([x, y + radius])).astype(np.float32)


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def labels_of(kind: type[DeformableHead], images: list[TextInstances], size: tuple[int, int], settings: Any) -> Any:
    """Labels as the collator joins them."""
    targets = [kind.targets(instances, size, size, settings) for instances in images]
    labels = {}
    for name in targets[0]:
        arrays = [torch.from_numpy(one[name]) for one in targets]
        if name.startswith("word_"):
            labels[name] = torch.cat(arrays)
            labels[f"{name}_counts"] = torch.tensor([len(array) for array in arrays])
        else:
            labels[name] = torch.stack(arrays)
    return labels


def ideal_maps(kind: type[DeformableHead], labels: Any, num_classes: int) -> dict[str, torch.Tensor]:
    """What a head that has learned one image gives: a query for each word, and one for nothing."""
    points, classes = labels["word_points"], labels["word_classes"]
    one_hot = torch.nn.functional.one_hot(classes, num_classes).float() * 30
    maps = {"points": points, "text_logits": one_hot, "class_logits": torch.full(points.shape[:2], 5.0)}
    if "word_boundary" in labels:
        maps["boundary"] = labels["word_boundary"]
    nothing = {name: torch.zeros(1, *value.shape[1:]) for name, value in maps.items()}
    nothing["class_logits"] -= 5
    return {name: torch.cat([value, nothing[name]])[None, None] for name, value in maps.items()}


def decoding_of(kind: type[DeformableHead], **changes: Any) -> Any:
    return (TESTRDecoding if kind is TESTRHead else DeepSoloDecoding)(**changes)


def test_attention_equals_that_of_transformers() -> None:
    package = pytest.importorskip("transformers.models.deformable_detr.modeling_deformable_detr")
    config = package.DeformableDetrConfig(d_model=32, num_feature_levels=2, disable_custom_kernels=True)
    theirs = package.DeformableDetrMultiscaleDeformableAttention(config, num_heads=4, n_points=3)
    ours = MultiScaleDeformableAttention(32, 4, 2, 3)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    shapes = [(4, 6), (2, 3)]
    states, queries, padding = torch.randn(2, 30, 32), torch.randn(2, 5, 32), torch.rand(2, 30) > 0.7
    for size in (2, 4):
        references = torch.rand(2, 5, 2, size)
        expected, _ = theirs(
            queries,
            attention_mask=~padding,
            encoder_hidden_states=states,
            reference_points=references,
            spatial_shapes=torch.tensor(shapes),
            spatial_shapes_list=shapes,
            level_start_index=torch.tensor([0, 24]),
        )
        seen = ours(queries, references, Tokens(states, padding, torch.ones(2, 2, 2), shapes))
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


SHAPES = [(5, 7), (2, 3)]


def samples(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values of two levels of `SHAPES`, locations in them and far beyond, and weights."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 41, 4, 6, generator=generator)
    locations = torch.rand(2, 9, 4, 2, 3, 2, generator=generator) * 1.8 - 0.4
    locations[0, 1] = 1e6
    return values, locations, torch.rand(2, 9, 4, 2, 3, generator=generator)


def test_both_ways_to_sample_agree_beyond_the_levels_too() -> None:
    values, locations, weights = samples()
    locations[0, 0] = 1.0
    expected = sample_by_grid(values, locations, weights, SHAPES)
    torch.testing.assert_close(sample_by_rows(values, locations, weights, SHAPES), expected, rtol=0, atol=1e-5)


def test_gradients_of_both_ways_to_sample_agree() -> None:
    inputs = [tensor.requires_grad_() for tensor in samples()]
    direction = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(1))
    expected = torch.autograd.grad(sample_by_grid(*inputs, SHAPES), inputs, direction)
    gradients = torch.autograd.grad(sample_by_rows(*inputs, SHAPES), inputs, direction)
    for gradient, right in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-4)


def test_places_that_are_not_a_number_do_not_leave_the_values() -> None:
    locations = torch.full((1, 2, 4, 1, 3, 2), math.nan)
    seen = sample_by_rows(torch.ones(1, 6, 4, 2), locations, torch.ones(1, 2, 4, 1, 3), [(2, 3)])
    assert seen.isfinite().all()


def test_heads_of_fresh_attention_look_in_all_directions() -> None:
    attention = MultiScaleDeformableAttention(32, 4, 2, 3)
    with torch.no_grad():
        attention.init_weights()
    offsets = attention.sampling_offsets.bias.view(4, 2, 3, 2)
    assert offsets[:, 0, 0].round().tolist() == [[1, 0], [0, 1], [-1, 0], [0, -1]]
    torch.testing.assert_close(offsets[:, 1, 2], 3 * offsets[:, 0, 0])


def test_levels_are_padding_where_the_pixel_mask_is() -> None:
    valid = torch.tensor([[41, 96], [64, 65]])
    pixels = torch.zeros(2, 64, 96, dtype=torch.bool)
    for mask, (height, width) in zip(pixels, valid.tolist(), strict=True):
        mask[:height, :width] = True
    masks = padding_masks(valid, [(8, 12), (4, 6), (2, 3), (1, 2)], [8, 16, 32])
    for mask, stride in zip(masks, (8, 16, 32), strict=False):
        assert torch.equal(~mask, pixels[:, ::stride, ::stride])
    assert not masks[3].any()


def test_positions_run_from_the_first_to_the_last_valid_cell() -> None:
    padding = torch.zeros(1, 2, 6, dtype=torch.bool)
    padding[..., 4:] = True
    alone = position_encoding(padding[..., :4], 16)
    torch.testing.assert_close(position_encoding(padding, 16)[:, :, :4], alone)


def test_inverse_sigmoid_undoes_the_sigmoid_and_is_finite_at_the_ends() -> None:
    logits = torch.linspace(-9, 9, 7)
    torch.testing.assert_close(inverse_sigmoid(logits.sigmoid()), logits, rtol=0, atol=1e-2)
    assert inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0])).isfinite().all()


def test_an_mlp_has_relu_between_its_layers_only() -> None:
    mlp = MLP(2, 3, 4, 3)
    values = torch.randn(5, 2)
    first, second, last = mlp.layers
    torch.testing.assert_close(mlp(values), last(second(first(values).relu()).relu()))


@pytest.mark.parametrize("kind", HEADS)
def test_a_fresh_head_does_not_look_at_the_score_map(kind: type[DeformableHead]) -> None:
    head, inputs = head_of(kind).eval(), inputs_of((64, 96), [(64, 96)])
    changed = [*inputs.pyramid[:3], inputs.pyramid[3].clone()]
    changed[3][:, -1] += 10
    with torch.no_grad():
        before = head(inputs)
        after = head(HeadInputs(tuple(changed), inputs.stem, inputs.valid_sizes))
    torch.testing.assert_close(before.text_logits, after.text_logits)
    loss = head(inputs).class_logits.sum()
    loss.backward()
    assert all(head.levels[level].conv.weight.grad[:, -1].any() for level in (2, 3))


@pytest.mark.parametrize("kind", HEADS)
def test_a_fresh_head_gives_everything_a_low_score(kind: type[DeformableHead]) -> None:
    head = head_of(kind).eval()
    with torch.no_grad():
        output = head(inputs_of((64, 96), [(64, 96)]))
    assert float(output.class_logits.sigmoid().mean()) < 0.1
    assert float(output.proposal_logits.sigmoid().mean()) < 0.1


@pytest.mark.parametrize("kind", HEADS)
def test_loaded_weights_survive_the_initialisation(kind: type[DeformableHead]) -> None:
    head = head_of(kind)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    for parameter in head.parameters():
        parameter._is_hf_initialized = True
    with torch.no_grad():
        head.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        # The released checkpoints without their image encoder, copies and the buffer of the text position.
        (TESTRHead, {}, 49_586_601 - 23_561_152 - 128),
        (DeepSoloHead, {"charset": "abcdefghijklmnopqrstuvwxyz0123456789"}, 42_694_390 - 23_561_152),
    ],
)
def test_full_size_heads_have_as_many_values_as_the_released_ones(
    kind: type[DeformableHead], changes: dict[str, Any], expected: int
) -> None:
    with torch.device("meta"):
        head = kind(kind.config_class(**changes), FULL_CHANNELS)
    assert sum(parameter.numel() for parameter in head.parameters()) == expected


@pytest.mark.parametrize("kind", HEADS)
def test_presets_build_and_grow(kind: type[DeformableHead]) -> None:
    sizes = []
    for name in ("tiny", "small", "base"):
        with torch.device("meta"):
            head = kind(kind.config_class(**kind.presets[name]), FULL_CHANNELS)
        sizes.append(sum(parameter.numel() for parameter in head.parameters()))
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 48}, "hidden_size"),
        ({"num_heads": 5}, "num_heads"),
        ({"finest_level": 2}, "finest_level"),
        ({"num_levels": 3}, "num_levels"),
        ({"num_queries": 0}, "num_queries"),
        ({"charset": "aab"}, "charset"),
        ({"text_weight": -1.0}, "text_weight"),
        ({"prior_probability": 1.0}, "prior_probability"),
    ],
)
def test_settings_that_cannot_be_are_errors(kind: type[DeformableHead], changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.config_class(**changes)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("changes", [{"finest_level": 4}, {"num_levels": 5}])
def test_other_levels_run(kind: type[DeformableHead], changes: dict[str, Any]) -> None:
    head = head_of(kind, **changes).eval()
    with torch.no_grad():
        output = head(inputs_of((128, 192), [(128, 192), (100, 90)]))
    assert output.points.isfinite().all()
    assert len(head.levels) == head.settings.num_levels
    assert not changes.get("finest_level") or output.proposal_logits.shape[1] == 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2


@pytest.mark.parametrize("kind", HEADS)
def test_images_with_fewer_tokens_than_queries_have_fewer_queries(kind: type[DeformableHead]) -> None:
    head = head_of(kind, num_queries=1000).eval()
    with torch.no_grad():
        output = head(inputs_of((64, 64), [(64, 64)]))
    assert output.points.shape[2] == 64 + 16 + 4 + 1


@pytest.mark.parametrize("kind", HEADS)
def test_bfloat16_keeps_coordinates_in_float32_and_close(kind: type[DeformableHead]) -> None:
    head, inputs = head_of(kind, num_encoder_layers=1, num_decoder_layers=1).eval(), inputs_of((64, 96), [(64, 90)])
    with torch.no_grad():
        exact = head(inputs)
        head.bfloat16()
        half = head(HeadInputs(tuple(stage.bfloat16() for stage in inputs.pyramid), inputs.stem, inputs.valid_sizes))
    assert half.points.dtype == half.proposal_logits.dtype == torch.float32
    # Fresh heads move nothing from where the proposals are: on the grid, which bfloat16 would round.
    name = "proposal_boxes" if kind is TESTRHead else "proposal_curves"
    torch.testing.assert_close(half[name][..., :2], exact[name][..., :2], rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", HEADS)
def test_autocast_computes_finite_losses(kind: type[DeformableHead]) -> None:
    head, inputs = head_of(kind), inputs_of((64, 96), [(64, 96)])
    labels = labels_of(kind, [TextInstances([rectangle(8, 8, 60, 30)], texts=["word"])], (64, 96), head.settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = head.loss(head(inputs), labels)
    assert all(loss.isfinite() for loss in losses.values())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


@pytest.mark.parametrize("kind", HEADS)
def test_targets_hold_usable_words_and_mask_the_rest(kind: type[DeformableHead]) -> None:
    words = [rectangle(8, 8, 60, 30), rectangle(8, 40, 60, 60), rectangle(70, 8, 80, 10), rectangle(70, 20, 90, 40)]
    instances = TextInstances(words, texts=["one", "two", "tiny", None], ignore=np.array([False, True, False, False]))
    bow_tie = rectangle(10, 70, 30, 90)[[0, 2, 1, 3]]
    instances = TextInstances(
        [*words, bow_tie], texts=[*instances.texts, "no"], ignore=np.array([False, True, False, False, False])
    )
    targets = kind.targets(instances, (96, 128), (96, 100), None)
    assert targets["word_usable"].tolist() == [True, False, False, True]
    assert targets["word_legible"].tolist() == [True, True, True, False]
    assert len(targets["word_points"]) == 4
    assert targets["text_map"][20, 30] == 1
    assert targets["text_mask"][20, 30] == 1
    assert targets["text_mask"][50, 30] == 0
    assert not targets["text_mask"][:, 100:].any()
    # In [0, 1] of the image, not of the padded input.
    np.testing.assert_allclose(targets["word_points"][3][..., 0].max(), 0.9, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_score_map_targets_are_the_text_and_where_it_counts(kind: type[DeformableHead]) -> None:
    instances = [TextInstances([rectangle(8, 8, 60, 30)], texts=["a"]), TextInstances([])]
    labels = labels_of(kind, instances, (64, 96), kind.config_class())
    text_map, text_mask = kind.score_map_targets(labels)
    assert text_map.shape == text_mask.shape == (2, 1, 64, 96)
    assert text_map[0].any()
    assert not text_map[1].any()


@pytest.mark.parametrize("kind", HEADS)
def test_what_the_targets_say_is_decoded_and_read(kind: type[DeformableHead]) -> None:
    size, settings = (96, 160), kind.config_class()
    words = [arch(60, 40, 60, 20), rectangle(100, 60, 150, 80)]
    labels = labels_of(kind, [TextInstances(words, texts=["Arc", "Word"])], size, settings)
    maps = ideal_maps(kind, labels, settings.num_classes)
    regions = kind.decode(maps, torch.tensor([size]), decoding_of(kind, polygon=True))
    assert [reading.text for reading in kind.read(regions.char_logits, settings)] == ["Arc", "Word"]
    assert regions.batch_indices.tolist() == [0, 0]
    assert regions.labels.tolist() == [0, 0]
    for outline, curves, word in zip(regions.polygons(), regions.control_points, words, strict=True):
        assert signed_area(outline) == pytest.approx(signed_area(word), rel=0.03)
        assert signed_area(bezier_to_polygon(curves.numpy())) == pytest.approx(signed_area(word), rel=0.03)
    quads = kind.decode(maps, torch.tensor([size]), decoding_of(kind, polygon=False))
    assert quads.counts.tolist() == [4, 4]
    np.testing.assert_allclose(quads.polygons()[1], words[1], atol=0.01)


@pytest.mark.parametrize("kind", HEADS)
def test_decoding_keeps_the_best_and_drops_the_small(kind: type[DeformableHead]) -> None:
    size, settings = (96, 160), kind.config_class()
    words = [rectangle(10, 10, 60, 14), rectangle(10, 30, 60, 50), rectangle(80, 60, 150, 80)]
    labels = labels_of(kind, [TextInstances(words, texts=["a", "b", "c"])], size, settings)
    maps = ideal_maps(kind, labels, settings.num_classes)
    maps["class_logits"][0, 0, :3] = torch.tensor([4.0, 2.0, 3.0])[:, None]
    found = {}
    for name, changes in {"all": {}, "large": {"min_size": 10}, "best": {"max_candidates": 2}}.items():
        regions = kind.decode(maps, torch.tensor([size]), decoding_of(kind, **changes))
        found[name] = [reading.text for reading in kind.read(regions.char_logits, settings)]
    assert found == {"all": ["a", "b", "c"], "large": ["b", "c"], "best": ["a", "c"]}


@pytest.mark.parametrize("kind", HEADS)
def test_outlines_run_clockwise_and_do_not_cross_themselves(kind: type[DeformableHead]) -> None:
    size, settings = (96, 160), kind.config_class()
    labels = labels_of(kind, [TextInstances([rectangle(10, 10, 60, 40)] * 2, texts=["a", "b"])], size, settings)
    maps = ideal_maps(kind, labels, settings.num_classes)
    for name in ("points", "boundary"):
        if name in maps:
            maps[name][0, 0, 0] = maps[name][0, 0, 0].flip(0)
            maps[name][0, 0, 1, ::2] = maps[name][0, 0, 1, ::2].flip(0)
    regions = kind.decode(maps, torch.tensor([size]), decoding_of(kind, polygon=True))
    assert all(signed_area(outline) > 1 for outline in regions.polygons())


@pytest.mark.parametrize("kind", HEADS)
def test_nothing_found_is_empty_and_nan_is_an_error(kind: type[DeformableHead]) -> None:
    size, settings = (64, 96), kind.config_class()
    labels = labels_of(kind, [TextInstances([rectangle(8, 8, 60, 30)], texts=["a"])], size, settings)
    maps = ideal_maps(kind, labels, settings.num_classes)
    regions = kind.decode(maps, torch.tensor([size]), decoding_of(kind, box_threshold=1.0))
    assert len(regions) == 0
    assert regions.control_points.shape == (0, 8, 2)
    assert regions.char_logits.shape[0] == 0
    assert kind.read(regions.char_logits, settings) == []
    maps["class_logits"][0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        kind.decode(maps, torch.tensor([size]), decoding_of(kind))


@pytest.mark.parametrize("kind", HEADS)
def test_arrays_are_decoded_as_tensors_are(kind: type[DeformableHead]) -> None:
    size, settings = (64, 96), kind.config_class()
    labels = labels_of(kind, [TextInstances([rectangle(8, 8, 60, 30)], texts=["a"])], size, settings)
    maps = ideal_maps(kind, labels, settings.num_classes)
    arrays: Any = {name: value.numpy() for name, value in maps.items()}
    found = [kind.decode(each, torch.tensor([size]), decoding_of(kind)) for each in (maps, arrays)]
    assert torch.equal(found[0].points, found[1].points)


@pytest.mark.parametrize("kind", HEADS)
def test_ignored_words_and_illegible_texts_teach_no_more_than_they_should(kind: type[DeformableHead]) -> None:
    head, inputs, size = head_of(kind).eval(), inputs_of((64, 96), [(64, 96)]), (64, 96)
    words = [rectangle(8, 8, 60, 30)]
    with torch.no_grad():
        output = head(inputs)
        illegible = head.loss(output, labels_of(kind, [TextInstances(words, texts=[None])], size, head.settings))
        ignored = TextInstances(words, texts=["a"], ignore=np.array([True]))
        unlearned = head.loss(output, labels_of(kind, [ignored], size, head.settings))
        nothing = head.loss(output, labels_of(kind, [TextInstances([])], size, head.settings))
    assert illegible["loss_text"] == 0
    assert illegible["loss_points"] > 0
    assert all(unlearned[name] == 0 for name in unlearned if "class" not in name)
    assert 0 < unlearned["loss_class"] < nothing["loss_class"]


@pytest.mark.parametrize("kind", HEADS)
def test_training_lowers_the_loss(kind: type[DeformableHead]) -> None:
    head, inputs = head_of(kind, dropout=0.0), inputs_of((64, 96), [(64, 96), (50, 70)])
    images = [
        TextInstances([rectangle(8, 8, 60, 30), arch(50, 45, 40, 12)], texts=["Hi", "arc"]),
        TextInstances([rectangle(10, 20, 60, 40)], texts=["x"]),
    ]
    labels = labels_of(kind, images, (64, 96), head.settings)
    optimizer, totals = torch.optim.AdamW(head.parameters(), lr=1e-3), []
    for _ in range(20):
        losses = head.loss(head(inputs), labels)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 0.1)
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


def test_sides_sampled_from_curves_give_them_back() -> None:
    curves = np.array([[[0, 5], [10, 0], [20, 0], [30, 5], [30, 15], [20, 10], [10, 10], [0, 15]]], np.float32)
    sides = bezier_to_polygon(curves[0], 16).reshape(1, 2, 8, 2)
    np.testing.assert_allclose(fit_sides(sides), curves, atol=1e-4)


def test_a_charset_without_upper_case_folds_texts() -> None:
    settings = DeepSoloConfig(charset="abc")
    targets = DeepSoloHead.targets(
        TextInstances([rectangle(0, 0, 40, 20)], texts=["aBC"]), (32, 64), (32, 64), settings
    )
    assert targets["word_classes"][0, :4].tolist() == [0, 1, 2, 4]
    assert not TESTRConfig().folds_case


def test_testr_skips_padding_wherever_it_stands() -> None:
    settings = TESTRConfig(charset="ab", max_length=4)
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 3, 2, 1], [3, 3, 3, 3]]), 4) * 9.0
    readings = TESTRHead.read(logits, settings)
    assert [reading.text for reading in readings] == ["a\ufffdb", ""]
    assert readings[1].score == 0
    assert readings[0].probabilities.shape == (3, 2)


def test_curves_of_testr_are_those_that_decoding_expects() -> None:
    settings = TESTRConfig(curve="bezier")
    assert TESTRHead.default_decoding(settings).curve == "bezier"
    for kind in (TESTRConfig, TESTRDecoding):
        with pytest.raises(ValueError, match="polygon"):
            kind(curve="circle")


def test_bezier_words_are_decoded_with_twenty_points_on_each_side() -> None:
    size, settings = (96, 160), TESTRConfig(curve="bezier")
    word = arch(60, 40, 60, 20)
    labels = labels_of(TESTRHead, [TextInstances([word], texts=["Arc"])], size, settings)
    maps = ideal_maps(TESTRHead, labels, settings.num_classes)
    regions = TESTRHead.decode(maps, torch.tensor([size]), TESTRDecoding(polygon=True, curve="bezier"))
    assert regions.counts.tolist() == [40]
    assert signed_area(regions.polygons()[0]) == pytest.approx(signed_area(word), rel=0.03)


def test_centre_lines_are_learned_without_edges() -> None:
    head, inputs = head_of(DeepSoloHead, boundary=False), inputs_of((64, 96), [(64, 96)])
    labels = labels_of(DeepSoloHead, [TextInstances([rectangle(8, 8, 60, 30)], texts=["a"])], (64, 96), head.settings)
    output = head(inputs)
    assert "loss_boundary" not in head.loss(output, labels)
    with pytest.raises(ValueError, match="boundary"):
        head.decode(output, inputs.valid_sizes, DeepSoloDecoding())
