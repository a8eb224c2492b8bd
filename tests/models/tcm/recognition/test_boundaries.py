"""Where words begin and end along a region: runs of steps, what is learned of labels, and that it can be learned."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_heads import RECOGNIZER_CONFIGS

from transformers_tcm.bezier import fit_bezier
from transformers_tcm.models.tcm.recognition import recognizer_class
from transformers_tcm.models.tcm.recognition.base import Recognizer
from transformers_tcm.models.tcm.recognition.boundaries import REACH, inside_words, moved_at_random, words_along
from transformers_tcm.models.tcm.recognition.proposals import LabelledWords
from transformers_tcm.models.tcm.recognition.sampling import quads_to_bezier, with_ends, word_heights, word_lengths

# A region six heights long, whose crop reaches a tenth of its length further on each end.
WORD_REACH = REACH / 6
# Of each end of a word a little is missing in what the steps are taught.
GAP = 0.07 / 6


def recognizer(decoder: str = "ctc", **settings: Any) -> Recognizer:
    torch.manual_seed(0)
    made = recognizer_class(decoder)
    return made(made.config_class(**{**RECOGNIZER_CONFIGS[decoder], "hidden_size": 32, **settings}), 3).eval()


def logits(*runs: tuple[float, float], num_steps: int = 48) -> np.ndarray:
    """Of steps of which those between shares of the region's length lie in a word."""
    places = (np.arange(num_steps) + 0.5) / num_steps * (1 + 2 * WORD_REACH) - WORD_REACH
    return np.where([any(first < place < last for first, last in runs) for place in places], 5.0, -5.0)


def bars(*spans: tuple[float, float], height: float = 10) -> torch.Tensor:
    """Level words (M, 8, 2) between two x, from y = 20 on."""
    corners = [[[a, 20], [b, 20], [b, 20 + height], [a, 20 + height]] for a, b in spans]
    return quads_to_bezier(torch.tensor(corners, dtype=torch.float32))


def test_a_region_that_ends_where_its_word_ends_stays_as_it_is() -> None:
    assert words_along(logits((GAP, 1 - GAP), num_steps=480), WORD_REACH) == [(0.0, 1.0)]


@pytest.mark.parametrize("runs", [[], [(-0.09, -0.02)], [(0.4, 0.42)], [(-0.1, 0.03), (0.98, 1.1)]])
def test_specks_and_neighbours_are_no_words(runs: list[tuple[float, float]]) -> None:
    assert words_along(logits(*runs), WORD_REACH) == [(0.0, 1.0)]


def test_words_along_a_region() -> None:
    """One that is cut off, one that begins later, and a neighbour that the region hardly touches."""
    found = words_along(logits((-0.05, 0.3), (0.5, 0.9), (0.99, 1.08), num_steps=480), WORD_REACH)
    assert found == [
        pytest.approx((-0.05 - GAP, 0.3 + GAP), abs=0.003),
        pytest.approx((0.5 - GAP, 0.9 + GAP), abs=0.003),
    ]


def test_a_word_that_goes_on_beyond_the_crop_ends_with_it() -> None:
    [(first, last)] = words_along(np.full(48, 3.0), WORD_REACH)
    assert (first, last) == pytest.approx((-WORD_REACH, 1 + WORD_REACH))


def test_ends_lie_between_steps_as_their_logits_say() -> None:
    steps = np.float32([-1, -1, -1, 3, 3, 3, 3, 3, -3, -1])
    [(first, last)] = words_along(steps, 0.0 + WORD_REACH)
    crop = 1 + 2 * WORD_REACH
    assert first == pytest.approx((2.75 / 10) * crop - WORD_REACH - GAP)
    assert last == pytest.approx((8.0 / 10) * crop - WORD_REACH + GAP)


def test_ends_move_along_a_word_and_leave_its_height() -> None:
    turn = torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
    moved = with_ends(bars((10, 50)) @ turn, torch.tensor([0.5]), torch.tensor([-1.0]))
    torch.testing.assert_close(moved, bars((5, 40)) @ turn)


def test_labelled_words_move_their_ends_only() -> None:
    torch.manual_seed(0)
    words = bars((20, 100)).repeat(500, 1, 1)
    moved = moved_at_random(words)
    assert torch.equal(moved[..., 1], words[..., 1])
    torch.testing.assert_close(word_heights(moved), word_heights(words))
    begins, ends = moved[:, 0, 0], moved[:, 3, 0]
    assert float((ends - begins).min()) >= 5 - 3 * 1.3 * 2
    for off in (begins - 20, 100 - ends):
        # A little off, well within the word, beyond its neighbours.
        assert 0.4 < float((off.abs() < 4).float().mean()) < 0.65
        assert 0.1 < float((off > 4).float().mean()) < 0.3
        assert 0.2 < float((off < -4).float().mean()) < 0.4


def test_what_steps_learn_of_the_labels() -> None:
    """Ten steps of 10 pixels: words, the gap between neighbours, an ignored word, words of other images."""
    words = bars((0, 30), (30, 52), (70, 80), (0, 100))
    inside, counted = inside_words(
        bars((0, 100)),
        torch.tensor([1]),
        words,
        torch.tensor([1, 1, 1, 0]),
        torch.tensor([False, False, True, False]),
        num_steps=10,
    )
    expected = [[1, 1, 1, 1, 1, 0.25, 0, 0, 0, 0]]
    expected[0][0] = expected[0][2] = expected[0][3] = 1  # the gap of 0.7 pixels falls between the samples
    assert inside.tolist() == expected
    assert counted.tolist() == [[True] * 7 + [False] + [True] * 2]


def test_touching_neighbours_are_apart() -> None:
    words = bars((0, 50), (50, 100), height=40)
    inside, _ = inside_words(bars((0, 100)), torch.zeros(1), words, torch.zeros(2), torch.zeros(2).bool(), 100)
    assert inside[0, 10:46].min() == inside[0, 54:90].min() == 1
    assert inside[0, 49:51].max() == 0


def test_words_along_a_curve() -> None:
    """The middle between the curves is what counts."""
    arc = np.float32([[0, 60], [40, 20], [80, 20], [120, 60], [100, 70], [75, 45], [45, 45], [20, 70]])
    curve = torch.from_numpy(fit_bezier(arc))[None]
    nowhere = torch.zeros(1)
    inside, _ = inside_words(curve, nowhere, curve, nowhere, nowhere.bool(), num_steps=12)
    assert inside[0, 2:-2].min() == 1


def scene(seed: int) -> tuple[torch.Tensor, LabelledWords]:
    """Features (4, 3, 32, 128) in which words are bright, and the words, two on a line."""
    rng = np.random.default_rng(seed)
    features, spans, images = torch.zeros(4, 3, 32, 128), [], []
    for image in range(4):
        begin, width, gap, other = rng.uniform((20, 30, 6, 30), (60, 70, 16, 70))
        for first, last in ((begin, begin + width), (begin + width + gap, begin + width + gap + other)):
            spans.append((float(first), float(last)))
            images.append(image)
            features[image, :, 10:15, round(first / 2) : round(last / 2)] = 40.0
    return features, LabelledWords(bars(*spans), torch.tensor(images), torch.ones(len(spans), 1, dtype=torch.int64))


@pytest.mark.parametrize("decoder", ["ctc", "attention", "abinet"])
def test_boundaries_are_learned_and_nothing_else(decoder: str) -> None:
    model = recognizer(decoder=decoder, word_boundaries=True, crop_size=[8, 64])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    torch.manual_seed(0)
    for step in range(80):
        features, words = scene(step)
        loss = model.boundary_loss(features, words, torch.zeros(8).bool(), None)["loss_boundaries"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = model.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved
    assert all(name.startswith("boundaries.") for name in moved)
    model.eval()
    features, words = scene(1000)
    # The first word of each line with the end of the second, as one region that begins too late.
    first, second = words.control_points[::2], words.control_points[1::2]
    late = torch.tensor([3.0, 0.0])
    corners = [first[:, 0] + late, second[:, 3], second[:, 4], first[:, 7] + late]
    regions = quads_to_bezier(torch.stack(corners, dim=1))
    lengths = word_lengths(regions)
    found = model.find_words(features, regions, words.batch_indices[::2])
    assert [len(parts) for parts in found] == [2] * 4
    for region, length, parts, *pair in zip(regions, lengths, found, first, second, strict=True):
        for (begin, end), word in zip(parts, pair, strict=True):
            assert float(region[0, 0] + begin * length) == pytest.approx(float(word[0, 0]), abs=3)
            assert float(region[0, 0] + end * length) == pytest.approx(float(word[3, 0]), abs=3)


def test_words_are_followed_beyond_the_first_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three looks reaches 6 pixels further where a word, which most of it has to be in the region, goes on."""
    words, asked = [(89, 149), (300, 399)], []

    def look(features: torch.Tensor, points: torch.Tensor, *_: Any) -> list[torch.Tensor]:
        asked.append(len(points))
        places = points[:, :1, 0] + (torch.arange(480) + 0.5) / 480 * (points[:, 3] - points[:, 0])[:, :1]  # (N, T)
        inside = torch.stack([(first < places) & (places < last) for first, last in words]).any(dim=0)
        return [torch.where(inside, 5.0, -5.0)]

    model = recognizer(word_boundaries=True)
    monkeypatch.setattr(model, "_look", look)
    spans = [(100, 150), (300, 380), (300, 400), (300, 320)]
    found = model.find_words(torch.zeros(1, 3, 16, 16), bars(*spans), torch.zeros(4).long())
    ends = [[a + share * (b - a) for share in word] for (a, b), (word,) in zip(spans, found, strict=True)]
    np.testing.assert_allclose(ends, [(89 - 0.7, 150), (300, 398), (300, 400), (300, 338)], atol=0.3)
    assert asked == [4, 3, 2]


def test_no_words_give_a_loss_of_zero_with_gradients() -> None:
    model = recognizer(word_boundaries=True)
    words = LabelledWords(torch.zeros(0, 8, 2), torch.zeros(0).long(), torch.zeros(0, 1).long())
    loss = model.boundary_loss(torch.zeros(1, 3, 16, 16), words, torch.zeros(0).bool(), None)["loss_boundaries"]
    assert float(loss.detach()) == 0
    loss.backward()
    assert all(weight.grad is not None for weight in model.boundaries.parameters())


def test_without_boundaries_regions_are_words() -> None:
    model, (features, words) = recognizer(), scene(0)
    assert model.find_words(features, words.control_points, words.batch_indices) == [[(0.0, 1.0)]] * 8
    assert model.boundary_loss(features, words, torch.zeros(8).bool(), None) == {}
    assert not any(name.startswith("boundaries") for name in model.state_dict())


def test_no_regions_hold_no_words() -> None:
    model = recognizer(word_boundaries=True)
    assert model.find_words(torch.zeros(1, 3, 16, 16), torch.zeros(0, 8, 2), torch.zeros(0).long()) == []


def test_a_map_has_no_steps() -> None:
    with pytest.raises(ValueError, match="`word_boundaries` go with the encoder 'sequence'"):
        recognizer(decoder="abinet", encoder="map", channels=[16, 32], num_blocks=[0, 0], word_boundaries=True)
