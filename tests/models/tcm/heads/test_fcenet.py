"""FCENet: Fourier series of outlines, which cells learn them, and the words that come back from what cells say."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from word_shapes import arch, batch_of, best_ious, iou, rectangle

from transformers_tcm.geometry import perimeter, signed_area
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.heads import fcenet
from transformers_tcm.models.tcm.heads.base import HeadInputs
from transformers_tcm.models.tcm.heads.fcenet import FCENetConfig, FCENetDecoding, FCENetHead, FCENetOutput

SIZE = (256, 320)
DECODING = FCENetDecoding(polygon=True)
# Of 45, 108 and 182 pixels, hence of all three levels.
WORDS = [rectangle(20, 20, 64, 40), arch(150, 50, 60, 28, 100), arch(160, 170, 200, 60, 50)]
NO_WORDS = TextInstances([], ignore=np.zeros(0, dtype=bool))


def targets_of(instances: TextInstances, size: tuple[int, int] = SIZE, **changes: Any) -> dict[str, np.ndarray]:
    return FCENetHead.targets(instances, size, size, FCENetConfig(**changes))


def perfect_maps(targets: dict[str, np.ndarray]) -> dict[str, tuple[torch.Tensor, ...]]:
    """What a head that has learned everything would give for one image."""
    logits, series = [], []
    for level, stride in ((3, 8), (4, 16), (5, 32)):
        words = targets[f"level{level}_words"]
        for kind in (words, targets[f"level{level}_center"]):
            yes = torch.from_numpy(np.where(kind > 0, 6.0, -6.0)).float()
            logits.append(torch.stack([-yes, yes]))
        table = np.concatenate([np.zeros_like(targets["word_coefficients"][:1]), targets["word_coefficients"]]) / stride
        if not len(targets["word_coefficients"]):
            table = np.zeros((1, 2, 11), np.float32)
        maps = np.moveaxis(table[words], (0, 1), (-2, -1))
        maps[:, maps.shape[1] // 2] -= np.indices(words.shape)[::-1]
        series.append(torch.from_numpy(maps)[None].float())
    pairs = zip(logits[::2], logits[1::2], strict=True)
    return {"class_logits": tuple(torch.cat(pair)[None] for pair in pairs), "coefficients": tuple(series)}


def decode(maps: Any, decoding: FCENetDecoding = DECODING, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    return FCENetHead.decode(maps, torch.tensor([size]), decoding).polygons()


def inputs_of(images: int = 2, height: int = 64, width: int = 96) -> HeadInputs:
    generator = torch.Generator().manual_seed(0)
    channels = zip((4, 8, 12, 17), (4, 8, 16, 32), strict=True)
    pyramid = (torch.randn(images, c, height // s, width // s, generator=generator) for c, s in channels)
    sizes = torch.tensor([[height, width]] * images)
    return HeadInputs(tuple(pyramid), torch.zeros(images, 4, height // 2, width // 2), sizes)


def tiny_head(**changes: Any) -> FCENetHead:
    torch.manual_seed(0)
    return FCENetHead(FCENetConfig(channels=8, **changes), [4, 8, 12, 17])


def test_words_come_back_from_their_targets() -> None:
    found = decode(perfect_maps(targets_of(TextInstances(WORDS))))
    assert len(found) == len(WORDS)
    assert min(best_ious(found, WORDS)) > 0.9
    assert all(outline.dtype == np.float32 and signed_area(outline) > 0 for outline in found)
    assert all(len(outline) == 50 for outline in found)


def test_quads_are_the_smallest_rectangles_around_words() -> None:
    found = decode(perfect_maps(targets_of(TextInstances(WORDS[:1]))), replace(DECODING, polygon=False))
    assert [len(outline) for outline in found] == [4]
    assert min(best_ious(found, WORDS[:1])) > 0.9


def test_levels_are_found_under_the_names_of_exported_graphs() -> None:
    maps = perfect_maps(targets_of(TextInstances(WORDS)))
    flat = {f"{name}.{level}": one.numpy() for name, levels in maps.items() for level, one in enumerate(levels)}
    assert all(np.array_equal(a, b) for a, b in zip(decode(maps), decode(flat), strict=True))


def test_a_picture_without_text_has_empty_targets_and_no_regions() -> None:
    targets = targets_of(NO_WORDS)
    assert targets["word_coefficients"].shape == (0, 2, 11)
    assert targets["text_map"].max() == max(targets[f"level{level}_words"].max() for level in (3, 4, 5)) == 0
    regions = FCENetHead.decode(perfect_maps(targets), torch.tensor([SIZE]), DECODING)
    assert len(regions) == len(regions.scores) == len(regions.points) == 0


def test_a_circle_is_its_middle_and_one_turn_that_starts_at_the_top() -> None:
    angles = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    circle = np.stack([50 + 20 * np.cos(angles), 40 + 20 * np.sin(angles)], axis=1)
    for outline in (circle, circle[::-1], np.repeat(circle, 9, axis=0)):
        real, imaginary = fcenet._fourier_coefficients(outline, 2)
        np.testing.assert_allclose(real, [0, 0, 50, 0, 0], atol=0.3)
        np.testing.assert_allclose(imaginary, [0, 0, 40, -20, 0], atol=0.3)


@pytest.mark.parametrize("word", WORDS)
def test_a_series_does_not_depend_on_start_direction_place_or_size(word: np.ndarray) -> None:
    series = fcenet._fourier_coefficients(word, 5)
    moved = series.copy()
    moved[:, 5] += (7, -3)
    for outline, expected in (
        (np.roll(word, 1, axis=0), series),
        (word[::-1], series),
        (word + np.array([7, -3]), moved),
        (word / 8, series / 8),
    ):
        back = fcenet._contour_points(fcenet._fourier_coefficients(outline, 5)[None].astype(np.float32), 50)
        wanted = fcenet._contour_points(expected[None].astype(np.float32), 50)
        # Resampling starts elsewhere, by up to its step.
        np.testing.assert_allclose(back, wanted, atol=2 * perimeter(word) / 400)


def test_a_series_of_higher_degree_follows_the_outline_closer() -> None:
    fits = []
    for degree in (1, 3, 5, 9):
        series = fcenet._fourier_coefficients(WORDS[2], degree).astype(np.float32)
        fits.append(iou(fcenet._contour_points(series[None], 100)[0], WORDS[2]))
    assert fits == sorted(fits)
    assert fits[-1] > 0.97


def test_words_go_to_the_levels_of_their_size() -> None:
    sizes = [40, 55, 100, 155, 250, 310]  # pixels of 256
    words = [rectangle(2, 2 + 40 * row, 2 + size, 22 + 40 * row) for row, size in enumerate(sizes)]
    targets = targets_of(TextInstances(words))
    found = [sorted(set(np.unique(targets[f"level{level}_words"])) - {0}) for level in (3, 4, 5)]
    # Ranges overlap; the last level also takes words longer than the image is high.
    assert found == [[1, 2], [2, 3, 4], [4, 5, 6]]


def test_ignored_words_are_masked_out_on_their_level_only() -> None:
    targets = targets_of(TextInstances(WORDS, ignore=np.array([False, True, False])))
    assert targets["text_mask"][50, 150] == targets["text_map"][50, 150] == targets["level4_used"][3, 9] == 0
    assert targets["level3_used"].all()
    assert targets["level5_used"].all()
    assert not targets["word_coefficients"][1].any()
    assert targets["word_coefficients"][2].any()


def test_words_without_area_or_a_fourth_point_are_ignored() -> None:
    flat, triangle = rectangle(20, 20, 60, 20), np.array([[100, 20], [150, 20], [100, 60]], np.float32)
    targets = targets_of(TextInstances([flat, triangle]))
    assert not targets["text_map"].any()
    assert not targets["level3_words"].any()
    assert targets["text_mask"][25, 110] == targets["level3_used"][3, 13] == 0


def test_padding_has_no_text_for_the_head_and_does_not_count_for_the_score_map() -> None:
    targets = FCENetHead.targets(TextInstances(WORDS), SIZE, (230, 300), FCENetConfig())
    assert targets["text_mask"][230:].max() == targets["text_mask"][:, 300:].max() == 0
    assert targets["text_mask"][:230, :300].min() == 1
    assert targets["level3_used"].min() == 1


@pytest.mark.parametrize("word", [WORDS[2], rectangle(20, 20, 300, 120), rectangle(20, 10, 80, 240)])
def test_centres_lie_along_the_middle_of_words(word: np.ndarray) -> None:
    # All levels take all sizes, the finest one shows most.
    targets = targets_of(TextInstances([word]), ranges=[[0, 9]] * 3)
    center, text = targets["level3_center"] > 0, targets["level3_words"] > 0
    assert (center & text).sum() > 0.9 * center.sum()  # boxes on whole cells reach out here and there
    assert 0.15 < center.sum() / text.sum() < 0.6
    rows, columns = np.nonzero(center)
    (left, top), (right, bottom) = word.min(axis=0), word.max(axis=0)
    long_side = max(right - left, bottom - top)
    assert 8 * max(np.ptp(rows), np.ptp(columns)) > 0.5 * long_side


def test_sides_of_a_curved_word_are_told_from_its_ends() -> None:
    word = WORDS[2]
    for shift in range(len(word)):
        sides = fcenet._sidelines(np.roll(word, shift, axis=0))
        upper, lower = sorted(sides, key=lambda side: side[:, 1].mean())
        assert (
            sorted(upper.tolist()) == sorted(word[:7].tolist()) or shift % 7
        )  # a bonus for ends where labels put them
        assert len(upper) + len(lower) == len(word)


def test_decoding_heeds_each_of_its_settings() -> None:
    maps = perfect_maps(targets_of(TextInstances(WORDS)))
    assert len(decode(maps, replace(DECODING, min_size=40))) == 2
    assert len(decode(maps, replace(DECODING, max_candidates=1))) == 3  # one of each level
    assert decode(maps, replace(DECODING, box_threshold=1.0)) == []
    assert decode(maps, replace(DECODING, threshold=1.0)) == []
    assert {len(outline) for outline in decode(maps, replace(DECODING, num_points=20))} == {20}
    assert len(decode(maps, replace(DECODING, max_overlap=1.0))) > 20
    # No cell outside of the centres where their probability counts, all cells of the text where it does not.
    every = len(decode(maps, replace(DECODING, max_overlap=1.0, center_exponent=0)))
    assert every > len(decode(maps, replace(DECODING, max_overlap=1.0, center_exponent=1)))


def test_what_lies_in_the_padding_is_not_found() -> None:
    maps = perfect_maps(targets_of(TextInstances(WORDS)))
    assert len(decode(maps, size=(64, 320))) == 2


def test_maps_that_are_not_finite_are_refused() -> None:
    maps = perfect_maps(targets_of(TextInstances(WORDS)))
    maps["coefficients"][1][0, 0, 3, 3, 3] = torch.inf
    with pytest.raises(ValueError, match="`coefficients`"):
        decode(maps)


def test_holes_of_regions_are_filled_and_regions_that_touch_at_corners_are_one() -> None:
    scores = np.zeros((6, 8), np.float32)
    scores[1:5, 1:5] = 0.8
    scores[2:4, 2:4] = 0.1
    scores[5, 5] = 0.9
    rows, _, regions = fcenet._candidates(scores, replace(DECODING, box_threshold=0))
    assert len(rows) == 17
    assert len(set(regions.tolist())) == 1
    assert len(fcenet._candidates(scores, DECODING)[0]) == 13
    scores[1, 2] = 0  # open: the background comes in
    assert len(fcenet._candidates(scores, replace(DECODING, box_threshold=0))[0]) == 12


def squares(*lefts: float) -> np.ndarray:
    return np.stack([rectangle(left, 0, left + 10, 10) for left in lefts])


def test_outlines_that_overlap_better_ones_are_left_out() -> None:
    outlines = fcenet._Outlines.of(squares(0, 3, 8, 40), np.array([0.5, 0.9, 0.7, 0.6]))
    # The third shares a third with the second, the first too; the last is alone.
    assert fcenet._nms(outlines, 0.1).scores.tolist() == [0.9, 0.6]
    assert fcenet._nms(outlines, 0.34).scores.tolist() == [0.9, 0.7, 0.6]
    assert fcenet._nms(outlines, 1.0).scores.tolist() == [0.9, 0.7, 0.6, 0.5]


def test_outlines_that_cross_themselves_are_compared_as_what_they_cover() -> None:
    bow = np.array([[0, 0], [10, 10], [10, 0], [0, 10]], np.float32)
    outlines = fcenet._Outlines.of(np.stack([bow, squares(0)[0], squares(50)[0]]), np.array([0.9, 0.8, 0.7]))
    assert outlines.crossing.tolist() == [True, False, False]
    assert fcenet._nms(outlines, 0.1).scores.tolist() == [0.9, 0.7]
    collapsed = fcenet._Outlines.of(np.zeros((2, 4, 2), np.float32), np.array([0.9, 0.8]))
    assert len(fcenet._nms(collapsed, 0.1).scores) == 2


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_the_bound_of_a_shared_area_is_none_too_high(seed: int) -> None:
    generator = np.random.default_rng(seed)
    series = generator.normal(0, 1, (6, 2, 11)) / (1 + np.abs(np.arange(-5, 6))) ** 2
    series[:, 0, 6] += 4
    series = series[:1] + (series - series[:1]) * generator.uniform(0, 1)
    points = fcenet._contour_points(series.astype(np.float32), 50).astype(np.float64)
    outlines = fcenet._Outlines.of(points, np.ones(6))
    sound = np.flatnonzero(~outlines.crossing)
    areas = shapely.area(outlines.shapes[sound])
    for index, area in zip(sound, areas, strict=True):
        shared = shapely.area(shapely.intersection(outlines.shapes[index], outlines.shapes[sound]))
        bound = fcenet._least_shared_area(points[index], points[sound], area, areas)
        assert (bound <= shared + 1e-6).all()
        assert bound[sound == index] == pytest.approx(area)


@pytest.mark.parametrize("words", [[], WORDS])
def test_gradients_are_finite_with_and_without_words(words: list[np.ndarray]) -> None:
    head, inputs = tiny_head(), inputs_of()
    halves = [TextInstances([0.25 * word for word in words]), NO_WORDS]
    losses = head.loss(head(inputs), batch_of([targets_of(instances, (64, 96)) for instances in halves]))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(weights.grad).all() for weights in head.parameters())


def test_the_loss_of_perfect_maps_is_close_to_none() -> None:
    # In images with different numbers of words.
    targets = [targets_of(TextInstances(words)) for words in (WORDS, WORDS[1:])]
    maps = [perfect_maps(one) for one in targets]
    logits, series = (zip(*(one[name] for one in maps), strict=True) for name in ("class_logits", "coefficients"))
    output = FCENetOutput(*(tuple(torch.cat(pair) for pair in pairs) for pairs in (logits, series)))
    losses = tiny_head().loss(output, batch_of(targets))
    assert all(float(loss) < 1e-3 for loss in losses.values())


def test_outlines_that_are_off_cost_along_their_axis() -> None:
    targets = targets_of(TextInstances(WORDS[:1]))
    maps = perfect_maps(targets)
    for level in maps["coefficients"]:
        level[:, 0, 5] += 3  # three cells to the right: a smooth L1 of 2.5
    losses = tiny_head().loss(FCENetOutput(**maps), batch_of([targets]))
    share = (targets["level3_center"][targets["level3_words"] > 0] + 1).mean() / 2
    assert float(losses["loss_contour_x"]) == pytest.approx(2.5 * share, rel=1e-3)
    assert float(losses["loss_contour_y"]) < 1e-6


def test_outlines_are_compared_in_float32_under_autocast() -> None:
    targets = targets_of(TextInstances(WORDS))
    output, labels = FCENetOutput(**perfect_maps(targets)), batch_of([targets])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = tiny_head().loss(output, labels)
    assert max(float(losses["loss_contour_x"]), float(losses["loss_contour_y"])) < 1e-6


def test_a_level_without_text_learns_from_its_hardest_cells() -> None:
    logits = torch.zeros(1, 2, 20, 20)
    logits[0, 1].view(-1)[:150] = 2.0  # these look like text
    text, used = torch.zeros(1, 20, 20, dtype=torch.bool), torch.ones(1, 20, 20, dtype=torch.bool)
    wrong = float(np.log1p(np.exp(2)))
    assert float(fcenet._text_loss(logits, text, used, 3)) == pytest.approx(wrong)
    # Of fewer cells than are wanted it is still the mean.
    few = logits[:, :, :2], text[:, :2], used[:, :2]
    assert float(fcenet._text_loss(*few, 3)) == pytest.approx(wrong)
    assert float(fcenet._text_loss(logits, text, ~used, 3)) == 0


def test_three_hard_cells_count_for_each_cell_of_text() -> None:
    logits = torch.zeros(1, 2, 1, 10)
    logits[0, 1, 0, :2] = torch.tensor([-1.0, 3.0])  # a cell of text that was missed, and a false one
    text = torch.zeros(1, 1, 10, dtype=torch.bool)
    text[..., 0] = True
    expected = (np.log1p(np.exp(1)) + np.log1p(np.exp(3)) + 2 * np.log(2)) / 4
    assert float(fcenet._text_loss(logits, text, torch.ones_like(text), 3)) == pytest.approx(expected)


def test_labels_of_another_size_or_head_are_refused() -> None:
    head, inputs = tiny_head(), inputs_of()
    with pytest.raises(ValueError, match="at stride 8"):
        head.loss(head(inputs), batch_of([targets_of(NO_WORDS)] * 2))
    with pytest.raises(ValueError, match="word_coefficients"):
        head.loss(head(inputs), {})


def test_the_score_map_learns_text_where_it_counts() -> None:
    instances = TextInstances(WORDS, ignore=np.array([True, False, False]))
    text, mask = FCENetHead.score_map_targets(batch_of([targets_of(instances)] * 2))
    assert text.shape == mask.shape == (2, 1, *SIZE)
    assert text.unique().tolist() == mask.unique().tolist() == [0, 1]


@pytest.mark.parametrize("preset", FCENetHead.presets)
def test_presets_build_and_start_with_small_maps(preset: str) -> None:
    head = FCENetHead(FCENetConfig(**FCENetHead.presets[preset]), [4, 8, 12, 17])
    head.init_weights()
    maps = head(inputs_of())
    sizes = [(8, 12), (4, 6), (2, 3)]
    assert [tuple(level.shape) for level in maps.class_logits] == [(2, 4, *size) for size in sizes]
    assert [tuple(level.shape) for level in maps.coefficients] == [(2, 2, 11, *size) for size in sizes]
    assert all(level.abs().max() < 3 for level in maps.coefficients)


def test_decoding_starts_with_what_belongs_to_the_head() -> None:
    config = FCENetConfig(text_exponent=1.2, center_exponent=1.0, num_points=40, max_overlap=0.2)
    expected = FCENetDecoding(text_exponent=1.2, center_exponent=1.0, num_points=40, max_overlap=0.2)
    assert FCENetHead.default_decoding(config) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels", 0),
        ("degree", 0),
        ("num_samples", 3),
        ("ranges", [[0, 0.5], [0.5, 1]]),
        ("ranges", [[0, 0.5], [0.5, 0.5], [0.5, 1]]),
        ("center_ratio", 1.5),
        ("center_step", 0),
        ("max_overlap", -0.1),
        ("negative_ratio", -1),
        ("contour_weight", -1),
    ],
)
def test_bad_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{name}`"):
        FCENetConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("threshold", 2), ("text_exponent", -1), ("num_points", 3), ("max_overlap", 1.5)]
)
def test_bad_settings_of_decoding_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}`"):
        FCENetDecoding(**{name: value})
