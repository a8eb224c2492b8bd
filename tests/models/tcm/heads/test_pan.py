"""PAN: words become kernels and codes, and grow back from them; losses that stay finite; settings that are refused."""

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from word_shapes import arch, batch_of, best_ious, rectangle

from transformers_tcm.geometry import signed_area
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.heads import pan
from transformers_tcm.models.tcm.heads.base import HeadInputs
from transformers_tcm.models.tcm.heads.pan import PANConfig, PANDecoding, PANHead, PANOutput

SIZE = (160, 256)
DECODING = PANDecoding(polygon=True)
# The last two touch.
WORDS = [arch(80, 40, 60, 24, 100), rectangle(20, 100, 100, 124), rectangle(100, 100, 200, 124)]
NO_WORDS = TextInstances([], ignore=np.zeros(0, dtype=bool))


def targets_of(instances: TextInstances, size: tuple[int, int] = SIZE, **changes: Any) -> dict[str, np.ndarray]:
    return PANHead.targets(instances, size, size, PANConfig(**changes))


def perfect_maps(targets: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """What a head that has learned everything would give for one image: a code of its own for each word."""
    text, kernels = (torch.from_numpy(targets[name][::4, ::4].astype(np.int64)) for name in ("text_ids", "kernel_ids"))
    codes = 10 * torch.eye(5)[:, :4]
    return {
        "text_logits": torch.where(text > 0, 6.0, -6.0)[None, None],
        "kernel_logits": torch.where(kernels > 0, 6.0, -6.0)[None, None],
        "embedding": codes[text - 1].permute(2, 0, 1)[None],  # (h, w, E) -> (1, E, h, w)
    }


def decode(maps: dict[str, Any], decoding: PANDecoding = DECODING, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    return PANHead.decode(maps, torch.tensor([size]), decoding).polygons()


def inputs_of(images: int = 2, height: int = 64, width: int = 96) -> HeadInputs:
    generator = torch.Generator().manual_seed(0)
    channels = zip((4, 8, 12, 17), (4, 8, 16, 32), strict=True)
    pyramid = (torch.randn(images, c, height // s, width // s, generator=generator) for c, s in channels)
    sizes = torch.tensor([[height, width]] * images)
    return HeadInputs(tuple(pyramid), torch.zeros(images, 4, height // 2, width // 2), sizes)


def tiny_head(**changes: Any) -> PANHead:
    torch.manual_seed(0)
    return PANHead(PANConfig(channels=8, **changes), [4, 8, 12, 17])


def test_words_grow_back_from_their_targets() -> None:
    found = decode(perfect_maps(targets_of(TextInstances(WORDS))))
    assert len(found) == len(WORDS)
    assert min(best_ious(found, WORDS)) > 0.8
    assert all(outline.dtype == np.float32 and signed_area(outline) > 0 for outline in found)


def test_quads_are_the_smallest_rectangles_around_words() -> None:
    found = decode(perfect_maps(targets_of(TextInstances(WORDS[1:]))), replace(DECODING, polygon=False))
    assert [len(outline) for outline in found] == [4, 4]
    assert min(best_ious(found, WORDS[1:])) > 0.7  # outlines run through the centres of their outermost pixels


def test_arrays_are_decoded_as_tensors_are() -> None:
    maps = perfect_maps(targets_of(TextInstances(WORDS)))
    arrays = {name: tensor.numpy() for name, tensor in maps.items()}
    assert all(np.array_equal(a, b) for a, b in zip(decode(maps), decode(arrays), strict=True))


def test_a_picture_without_text_has_empty_targets_and_no_regions() -> None:
    targets = targets_of(NO_WORDS)
    assert targets["text_ids"].max() == targets["kernel_ids"].max() == 0
    assert targets["text_mask"].min() == 1
    regions = PANHead.decode(perfect_maps(targets), torch.tensor([SIZE]), DECODING)
    assert len(regions) == len(regions.scores) == len(regions.points) == 0


def test_ignored_words_are_masked_out_and_take_no_number() -> None:
    targets = targets_of(TextInstances(WORDS, ignore=np.array([True, False, False])))
    assert targets["text_mask"][40, 80] == 0
    assert targets["text_ids"][40, 80] == targets["kernel_ids"][40, 80] == 0
    assert (targets["text_ids"][112, 60], targets["text_ids"][112, 150]) == (1, 2)


def test_padding_is_masked_out() -> None:
    targets = PANHead.targets(TextInstances(WORDS), SIZE, (130, 210), PANConfig())
    assert targets["text_mask"][130:].max() == targets["text_mask"][:, 210:].max() == 0
    assert targets["text_mask"][:130, :210].min() == 1


def test_kernels_are_moved_in_by_their_ratio_but_not_too_far() -> None:
    word = TextInstances([rectangle(20, 20, 220, 140)])  # area / perimeter = 37.5
    for changes, distance in (({"max_shrink": 100}, 28), ({}, 20), ({"kernel_ratio": 0.9}, 7)):
        columns = np.flatnonzero(targets_of(word, **changes)["kernel_ids"][80])
        assert (columns.min(), columns.max()) == (20 + distance, 220 - distance)


def test_a_word_too_small_for_a_kernel_is_still_text() -> None:
    targets = targets_of(TextInstances([rectangle(10, 10, 200, 12)]))
    assert targets["text_ids"].any()
    assert not targets["kernel_ids"].any()
    assert targets["text_mask"].all()


def fifo(kernels: np.ndarray, text: np.ndarray, embedding: np.ndarray, max_distance: float) -> np.ndarray:
    """Pixel aggregation with the queue spelled out."""
    labels = kernels.copy()
    means = {label: embedding[:, kernels == label].mean(axis=1) for label in range(1, kernels.max() + 1)}
    queue = deque(zip(*np.nonzero(kernels), strict=True))
    while queue:
        y, x = queue.popleft()
        for row, column in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)):
            inside = 0 <= row < text.shape[0] and 0 <= column < text.shape[1]
            if not inside or not text[row, column] or labels[row, column]:
                continue
            if ((embedding[:, row, column] - means[labels[y, x]]) ** 2).sum() < max_distance**2:
                labels[row, column] = labels[y, x]
                queue.append((row, column))
    return labels


@pytest.mark.parametrize("seed", range(40))
def test_growth_in_generations_equals_a_queue(seed: int) -> None:
    generator = np.random.default_rng(seed)
    text = generator.random((14, 17)) < 0.85
    kernels, count = pan._kernels(text & (generator.random(text.shape) < generator.uniform(0.02, 0.2)))
    # Whole numbers, lest a distance at the limit be rounded differently.
    embedding = generator.integers(-1, 2, (4, *text.shape)).astype(np.float64)
    grown = pan._pixel_aggregation(kernels, count, text, embedding, 2.7)
    np.testing.assert_array_equal(grown, fifo(kernels, text, embedding, 2.7))


def test_a_pixel_too_far_from_one_kernel_stays_free_for_the_next() -> None:
    kernels = np.array([[1, 0, 0, 0, 2]], np.int32)
    embedding = np.array([[[0.0, 9.0, 9.0, 9.0, 9.0]]], np.float32)
    grown = pan._pixel_aggregation(kernels, 2, np.ones((1, 5), bool), embedding, 3.0)
    assert grown.tolist() == [[1, 2, 2, 2, 2]]


def test_decoding_heeds_each_of_its_settings() -> None:
    maps = perfect_maps(targets_of(TextInstances(WORDS)))
    largest = decode(maps, replace(DECODING, max_candidates=1))
    assert len(largest) == 1
    assert best_ious(largest, WORDS)[2] > 0.8
    assert len(decode(maps, replace(DECODING, min_size=30))) == 1  # the arch: the rectangles are 24 high
    assert decode(maps, replace(DECODING, min_cells=1000)) == []
    assert decode(maps, replace(DECODING, box_threshold=0.999)) == []
    assert decode(maps, replace(DECODING, threshold=0.999)) == []
    kernels_only = decode(maps, replace(DECODING, max_distance=0, box_threshold=0))
    assert max(best_ious(kernels_only, WORDS)) < 0.6


def test_what_lies_in_the_padding_is_not_found() -> None:
    maps = perfect_maps(targets_of(TextInstances(WORDS)))
    assert len(decode(maps, size=(96, 256))) == 1


def test_maps_that_are_not_finite_are_refused() -> None:
    maps = perfect_maps(targets_of(TextInstances(WORDS)))
    maps["embedding"][0, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="`embedding`"):
        decode(maps)


@pytest.mark.parametrize("words", [[], WORDS])
def test_gradients_are_finite_with_and_without_words(words: list[np.ndarray]) -> None:
    head, inputs = tiny_head(), inputs_of()
    halves = [TextInstances([0.375 * word for word in words]), NO_WORDS]
    losses = head.loss(head(inputs), batch_of([targets_of(instances, (64, 96)) for instances in halves]))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(weights.grad).all() for weights in head.parameters())


def test_the_loss_of_perfect_maps_is_close_to_none() -> None:
    targets = targets_of(TextInstances(WORDS))
    maps = {name: 10 * value for name, value in perfect_maps(targets).items()}
    losses = tiny_head().loss(PANOutput(**maps), batch_of([targets]))
    assert all(float(loss) < 1e-3 for loss in losses.values())


def test_codes_that_all_words_share_cost_discrimination_and_scattered_ones_aggregation() -> None:
    targets = targets_of(TextInstances(WORDS))
    maps = perfect_maps(targets)
    same = PANOutput(maps["text_logits"], maps["kernel_logits"], torch.zeros_like(maps["embedding"]))
    scattered = PANOutput(maps["text_logits"], maps["kernel_logits"], 9 * torch.randn(maps["embedding"].shape))
    losses = [tiny_head().loss(output, batch_of([targets])) for output in (same, scattered)]
    # Half the mean over pairs of ln(1 + 3^2), a quarter of it.
    assert float(losses[0]["loss_discrimination"]) == pytest.approx(0.25 * 0.5 * np.log(10))
    assert float(losses[0]["loss_aggregation"]) == 0
    assert float(losses[1]["loss_aggregation"]) > 0.5


def test_more_words_than_allowed_are_drawn_at_random_in_training_only() -> None:
    corners = [(8 + 40 * column, 8 + 40 * row) for row in range(3) for column in range(5)]
    words = [rectangle(left, top, left + 32, top + 24) for left, top in corners]
    labels = batch_of([targets_of(TextInstances(words))])
    output = PANOutput(torch.zeros(1, 1, 40, 64), torch.zeros(1, 1, 40, 64), torch.randn(1, 4, 40, 64))

    def losses(head: PANHead) -> set[float]:
        return {float(head.loss(output, labels)["loss_aggregation"]) for _ in range(6)}

    head = tiny_head(max_instances=2)
    assert len(losses(head.train())) > 1
    assert len(losses(head.eval())) == 1


def test_masked_pixels_do_not_count() -> None:
    targets = targets_of(TextInstances([WORDS[0], rectangle(120, 8, 250, 60)], ignore=np.array([False, True])))
    maps = perfect_maps(targets)
    # Half of what is to be ignored is taken for text: all of the hardest pixels, none of which counts.
    maps["text_logits"][..., 2:15, 30:62] = 8.0
    assert float(tiny_head().loss(PANOutput(**maps), batch_of([targets]))["loss_text"]) < 0.01


def test_masked_pixels_count_among_the_negatives_that_are_drawn() -> None:
    logits = torch.tensor([[9.0, 8.0, 5.0, 4.0, 3.0, 2.0]])
    text, mask = torch.tensor([[0, 0, 1, 0, 0, 1]]) > 0, torch.tensor([[0, 0, 1, 1, 1, 1]]) > 0
    image = logits[None], text[None], mask[None]
    # One for each of two pixels of text: the hardest two are masked.
    assert pan._ohem_mask(*image, 1)[0].tolist() == [[False, False, True, False, False, True]]
    # As many as there are, masked ones included.
    assert pan._ohem_mask(*image, 3)[0].tolist() == [[False, False, True, True, True, True]]


def test_labels_of_another_size_or_head_are_refused() -> None:
    head, inputs = tiny_head(), inputs_of()
    with pytest.raises(ValueError, match="at stride 4"):
        head.loss(head(inputs), batch_of([targets_of(NO_WORDS)] * 2))
    with pytest.raises(ValueError, match="text_ids"):
        head.loss(head(inputs), {})


def test_the_score_map_learns_text_where_it_counts() -> None:
    instances = TextInstances(WORDS, ignore=np.array([True, False, False]))
    text, mask = PANHead.score_map_targets(batch_of([targets_of(instances)] * 2))
    assert text.shape == mask.shape == (2, 1, *SIZE)
    assert text.unique().tolist() == mask.unique().tolist() == [0, 1]
    assert float((text * (1 - mask)).sum()) == 0


@pytest.mark.parametrize("preset", PANHead.presets)
def test_presets_build_and_start_with_small_maps(preset: str) -> None:
    head = PANHead(PANConfig(**PANHead.presets[preset]), [4, 8, 12, 17])
    head.init_weights()
    maps = head(inputs_of())
    assert (maps.text_logits.shape, maps.embedding.shape) == ((2, 1, 16, 24), (2, 4, 16, 24))
    assert maps.text_logits.abs().max() < 1


def test_decoding_starts_with_what_belongs_to_the_embedding() -> None:
    decoding = PANHead.default_decoding(PANConfig(max_distance=0.85, min_cells=9))
    assert decoding == PANDecoding(max_distance=0.85, min_cells=9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels", 0),
        ("num_repeats", 0),
        ("embedding_size", 0),
        ("kernel_ratio", 1.0),
        ("max_shrink", -1),
        ("max_distance", -1.0),
        ("negative_ratio", -1),
        ("max_instances", 1),
    ],
)
def test_bad_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}`"):
        PANConfig(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("threshold", 2), ("max_distance", -1), ("min_cells", 0)])
def test_bad_settings_of_decoding_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}`"):
        PANDecoding(**{name: value})
