"""The masked recogniser: what is left of a crop, the search for the best word, settings that do not fit."""

from itertools import product
from typing import Any

import pytest
import torch

from transformers_tcm.models.tcm.recognition.masked import MaskedConfig, MaskedRecognizer, TCMSpatialDecoder
from transformers_tcm.models.tcm.recognition.sampling import MaskedBoxSampler, outline_masks, quads_to_bezier

SMALL: dict[str, Any] = {
    "charset": "ab",
    "crop_size": [8, 16],
    "channels": [8],
    "hidden_size": 16,
    "max_length": 4,
}
A, B, UNKNOWN, END = range(4)


def decoder(**changes: Any) -> TCMSpatialDecoder:
    torch.manual_seed(0)
    made = MaskedRecognizer(MaskedConfig(**{**SMALL, **changes}), 3).eval().decoder
    torch.nn.init.normal_(made.output.weight, std=3.0)  # words differ in how probable they are
    return made


def features(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 16, 4, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam_width": 0}, "`beam_width` is 0; expected a number of at least 1"),
        ({"margin": -0.1}, r"`margin` is -0\.1; expected a number of at least 0"),
        ({"channels": []}, "`channels` must be positive and at least one"),
        ({"channels": [8, 0]}, r"got \[8, 0\]"),
        ({"language_model": {}}, "goes with the decoder 'ctc'; 'masked' learns one itself"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedConfig(**{**SMALL, **settings})


def test_cells_inside_of_an_outline() -> None:
    """A triangle over the left upper half of a box; cells whose centre lies outside of it are left out."""
    outline = torch.tensor([[[0.0, 0.0], [40, 0], [0, 40]]])
    masks = outline_masks(outline, torch.tensor([[0.0, 0, 40, 40]]), (4, 4))
    # Centres on the diagonal itself may count or not.
    expected = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    diagonal = torch.eye(4, dtype=torch.bool).flip(0)
    assert torch.equal(masks[0] & ~diagonal, expected & ~diagonal)


def test_nothing_beside_a_slanted_word_is_seen() -> None:
    """Whatever stands in the corners of the box changes nothing, what stands in the word does."""
    quad = torch.tensor([[[10.0, 50], [50, 10], [60, 20], [20, 60]]])
    sampler, images = MaskedBoxSampler((16, 16), 2, num_levels=1, margin=0.1), torch.zeros(1, dtype=torch.int64)
    empty, beside, within = torch.zeros(3, 1, 1, 40, 40)
    beside[..., 4:12, 4:12] = 1
    within[..., 16:20, 16:20] = 1
    points = quads_to_bezier(quad)
    assert not sampler(beside, points, images).any()
    assert not sampler(empty, points, images).any()
    assert sampler(within, points, images).any()


def test_a_wide_beam_finds_the_most_probable_word() -> None:
    """Against all words of at most four steps."""
    model = decoder(beam_width=200)
    context = model.context(features())
    found = model.search(context)
    paths = [path for path in product((A, B, END), repeat=4) if END not in path[:-1]]
    paths += [
        (*path[: path.index(END)], *[END] * (4 - path.index(END)))
        for path in product((A, B, END), repeat=4)
        if END in path[:-1]
    ]
    for index in range(3):
        scores = {path: score_of(model, features()[index : index + 1], path) for path in set(paths)}
        best = max(scores, key=scores.__getitem__)
        classes = [*found.classes[index].tolist(), *[END] * 4][:4]
        assert tuple(classes) == best


def score_of(model: TCMSpatialDecoder, one: torch.Tensor, path: tuple[int, ...]) -> float:
    """Logarithm of a word's probability, its end included where it has one."""
    characters = [index for index in path if index != END]
    with torch.no_grad():
        logits = model(one, torch.tensor([[*characters, -1]]))[0].log_softmax(dim=-1)
    steps = [*characters, END][:4]
    return float(sum(logits[step, index] for step, index in enumerate(steps)))


@pytest.mark.parametrize("beam_width", [1, 3])
def test_logits_are_those_of_the_word_that_is_found(beam_width: int) -> None:
    """Its characters have the highest at each step, with their probability."""
    model = decoder(beam_width=beam_width)
    with torch.no_grad():
        logits, found = model(features()), model.search(model.context(features()))
    length = found.classes.shape[1]
    assert logits.shape == (3, 4, 4)
    assert torch.equal(logits[:, :length].argmax(dim=-1), found.classes)
    chosen = found.classes[..., None]
    torch.testing.assert_close(logits[:, :length].gather(2, chosen), found.log_probabilities.gather(2, chosen))
    assert not (found.classes == UNKNOWN).any()


def test_a_narrow_beam_reads_the_most_probable_character_at_every_step() -> None:
    model = decoder(beam_width=1)
    with torch.no_grad():
        found = model.search(model.context(features()))
        taught = model(features(), found.classes.masked_fill(found.classes == END, -1))
    taught[..., UNKNOWN] = -torch.inf
    for index in range(3):
        word = found.classes[index].tolist()
        steps = word.index(END) + 1 if END in word else len(word)
        assert taught[index, :steps].argmax(dim=-1).tolist() == word[:steps]


def test_words_that_are_too_long_end_at_the_last_step() -> None:
    targets = decoder().targets(torch.tensor([[A, B, A, B, A, B], [B, -1, -1, -1, -1, -1]]))
    assert targets.tolist() == [[A, B, A, END], [B, END, -1, -1]]


def test_loss_sums_steps_and_averages_words() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([[A, B], [B, -1]])
    p = logits.log_softmax(dim=-1)
    expected = -(p[0, 0, A] + p[0, 1, B] + p[0, 2, END] + p[1, 0, B] + p[1, 1, END]) / 2
    torch.testing.assert_close(decoder().loss(logits, classes), expected)


def test_scores_are_means_with_the_end() -> None:
    reader = MaskedRecognizer(MaskedConfig(**SMALL), 3).eval()
    probabilities = torch.tensor([[[0.9, 0.05, 0.0, 0.05], [0.1, 0.2, 0.0, 0.7], [0.0, 0.0, 0.0, 1.0]]])
    [reading] = reader.decode(probabilities.clamp(min=1e-6).log()[:, None])
    assert (reading.text, reading.probabilities.shape) == ("a", (1, 2))
    assert reading.score == pytest.approx((0.9 + 0.7) / 2)
    [nothing] = reader.decode(probabilities.flip(1).clamp(min=1e-6).log()[:, None])
    assert (nothing.text, nothing.score) == ("", 0.0)
