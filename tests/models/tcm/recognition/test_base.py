"""The recogniser by itself: settings, sampling words at their own scale, reading and learning to read."""

from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from torch import nn
from torch.nn import functional

from transformers_tcm.models.tcm.recognition import RECOGNIZERS, recognizer_class
from transformers_tcm.models.tcm.recognition.base import Recognizer, changed_settings
from transformers_tcm.models.tcm.recognition.encoder import SequenceConfig
from transformers_tcm.models.tcm.recognition.sampling import BezierAlign, WordSampler, quads_to_bezier, with_margin

SMALL: dict[str, Any] = {
    "charset": "abcdefgh",
    "crop_size": [8, 32],
    "channels": [8, 12, 16],
    "num_blocks": [0, 1, 0],
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 2,
    "dropout": 0.0,
    "max_length": 7,
}
DECODERS = tuple(RECOGNIZERS)
# What else makes a recogniser small.
SMALL_PARTS: dict[str, dict[str, Any]] = {
    "abinet": {
        "attention_channels": 16,
        "attention_heads": 2,
        "attention_mlp_size": 32,
        "language_hidden_size": 32,
        "language_layers": 2,
        "language_heads": 2,
        "language_mlp_size": 64,
        "language_dropout": 0.0,
    },
    "masked": {"feature_stride": 2, "crop_size": [16, 32], "channels": [32], "hidden_size": 64, "loss_weight": 1.0},
}
# Steps and learning rate by which it learns four words by heart.
LESSONS = {"ctc": (60, 5e-3), "attention": (60, 5e-3), "abinet": (90, 5e-3), "masked": (140, 1e-3)}


def recognizer(in_channels: int = 3, **changes: Any) -> Recognizer:
    torch.manual_seed(0)
    decoder = changes.get("decoder", "ctc")
    made = recognizer_class(decoder)
    settings = {**SMALL, **SMALL_PARTS.get(decoder, {}), **changes}
    known = {name: value for name, value in settings.items() if name in made.config_class.__dataclass_fields__}
    return made(made.config_class(**known), in_channels).eval()


def features(batch: int = 2, height: int = 32, width: int = 48) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def words(count: int, seed: int = 0, width: int = 96, height: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Control points (count, 8, 2) of upright words of many sizes and the images they are in, of two."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, [width / 2, height / 2], (count, 2))
    sizes = np.exp(rng.uniform(np.log(4), np.log([width, height]), (count, 2)))
    quads = corners[:, None] + sizes[:, None] * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])  # (count, 4, 2)
    quads = torch.from_numpy(quads.astype(np.float32))
    return quads_to_bezier(quads), torch.from_numpy(rng.integers(0, 2, count))


def loss_of(model: Recognizer, *inputs: torch.Tensor) -> torch.Tensor:
    """The one term that a recogniser has."""
    losses = model.loss(*inputs)
    assert set(losses) == {"loss_reading"}
    return losses["loss_reading"]


def char_ids(*texts: str) -> torch.Tensor:
    longest = max(map(len, texts))
    return torch.tensor([[*map(ord, text), *[0] * (longest - len(text))] for text in texts])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"charset": ""}, "at least one and no NUL; got ''"),
        ({"charset": "aba"}, "every character once"),
        ({"charset": "a\0"}, "no NUL"),
        ({"channels": [8], "num_blocks": [0]}, "at least 2"),
        ({"num_blocks": [0, 1]}, r"of one length, at least 2; got \[8, 12, 16\] and \[0, 1\]"),
        ({"crop_size": [10, 32]}, r"rows, a multiple of 4 for 3 widths.*got \[10, 32\]"),
        ({"crop_size": [8, 31]}, "an even number of columns"),
        ({"crop_size": [8]}, "`crop_size` must be rows"),
        ({"crop_size": [0, 32]}, "`crop_size` must be rows"),
        ({"num_heads": 5}, "`hidden_size` 32 is not a multiple of `num_heads` 5"),
        ({"num_heads": 0}, "`num_heads` is 0; expected a number of at least 1"),
        ({"hidden_size": 0}, "`hidden_size` is 0; expected a number of at least 1"),
        ({"chunk_size": 0}, "`chunk_size` is 0; expected a number of at least 1"),
        ({"max_length": -1}, "`max_length` is -1; expected a number of at least 1"),
        ({"channels": [8, 0, 8]}, "`channels` must be positive"),
        ({"num_blocks": [0, -1, 0]}, "`num_blocks` not negative"),
        ({"dropout": 1.0}, "0 <= `dropout` < 1"),
        ({"jitter": -0.1}, "`jitter` is -0.1; expected a number of at least 0"),
        ({"loss_weight": -1}, "`loss_weight` is -1; expected a number of at least 0"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceConfig(**{**SMALL, **settings})


@pytest.mark.parametrize(
    "settings",
    [{"decoder": 3}, {"feature_stride": 8}, {"charset": 5}, {"num_layers": 1.5}, {"channels": ["a"] * 3}],
)
def test_settings_of_another_kind_are_refused(settings: dict) -> None:
    [name] = settings
    with pytest.raises(StrictDataclassFieldValidationError, match=name):
        SequenceConfig(**{**SMALL, **settings})


def test_unknown_decoders_are_named() -> None:
    with pytest.raises(ValueError, match="unknown `decoder` 'transformer' of the recogniser; choose one of ctc, att"):
        recognizer(decoder="transformer")


def test_levels_follow_the_size_of_a_word() -> None:
    """A crop of 8 x 32 cells is sampled at 8 x 64 places: level 0 up to about 1.4 cells for each, then by octaves."""
    sampler = WordSampler((8, 32), stride=2, num_levels=4)
    # Height and width in pixels; a cell has 2, so that 16 x 128 pixels are one cell for each sample.
    sizes = [(4, 8), (16, 128), (22, 30), (24, 30), (16, 190), (50, 10), (16, 2000), (400, 10)]
    quads = torch.tensor([[[0, 0], [w, 0], [w, h], [0, h]] for h, w in sizes], dtype=torch.float32)
    assert sampler.choose_levels(quads_to_bezier(quads)).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("size", [(16, 64), (24, 100), (30, 130), (61, 250), (120, 500)])
def test_a_word_looks_the_same_at_every_size(size: tuple[int, int]) -> None:
    """The crop of waves painted over a word of `size` pixels shows these waves, whichever level it is cut out of."""

    def waves(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Values at shares x (W,) and y (H,) of the word's width and height."""
        return torch.sin(6 * torch.pi * x) * torch.cos(torch.pi * y)[:, None]

    height, width = size
    left, top, stride = 21, 13, 2
    columns, rows = (torch.arange(cells) * stride + stride / 2 for cells in (380, 100))
    canvas = waves((columns - left) / width, (rows - top) / height)[None, None]
    word = torch.tensor([[left, top], [left + width, top], [left + width, top + height], [left, top + height]])
    sampler = WordSampler((8, 32), stride, num_levels=4)
    crop = sampler(canvas, quads_to_bezier(word.float())[None], torch.zeros(1, dtype=torch.int64))
    expected = waves((torch.arange(32) + 0.5) / 32, (torch.arange(8) + 0.5) / 8)
    torch.testing.assert_close(crop[0, 0], expected, atol=0.15, rtol=0)


def test_order_is_kept_across_levels_and_images() -> None:
    sampler = WordSampler((8, 32), stride=2, num_levels=4)
    points, images = words(40, width=400, height=200)
    assert sampler.choose_levels(points).unique().numel() == 4
    together = sampler(features(), points, images)
    assert together.shape == (40, 3, 8, 32)
    single = [sampler(features(), points[i : i + 1], images[i : i + 1]) for i in range(len(points))]
    torch.testing.assert_close(together, torch.cat(single))


def test_the_finest_level_is_a_plain_crop() -> None:
    points = quads_to_bezier(torch.tensor([[[8.0, 8.0], [60, 8], [60, 20], [8, 20]]]))
    first = torch.zeros(1, dtype=torch.int64)
    crop = WordSampler((8, 32), stride=2, num_levels=4)(features(), points, first)
    dense = BezierAlign((8, 64), stride=2)(features(), points, first)
    torch.testing.assert_close(crop, functional.avg_pool2d(dense, (1, 2)))


@pytest.mark.parametrize("feature_stride", [2, 4])
@pytest.mark.parametrize("decoder", DECODERS)
def test_shapes(decoder: str, feature_stride: int) -> None:
    model = recognizer(decoder=decoder, feature_stride=feature_stride)
    points, images = words(5)
    with torch.no_grad():
        logits = model(features(), points, images)
        nothing = model(features(), points[:0], images[:0])
    steps = 16 if decoder == "ctc" else 7
    assert logits.shape == (5, steps, 10)
    assert nothing.shape == (0, steps, 10)
    assert model.num_steps == steps
    assert len(model.decode(logits[:, None])) == 5


def test_attention_is_told_the_character_before() -> None:
    """Teaching with what the model reads by itself gives the logits of reading; with other words it does not."""
    model = recognizer(decoder="attention")
    points, images = words(6)
    with torch.no_grad():
        read = model(features(), points, images)
        classes = read.argmax(dim=-1)[:, :4]
        classes = classes.masked_fill((classes == model.decoder.end).cummax(dim=1).values, -1)
        taught = model(features(), points, images, classes)
        other = model(features(), points, images, (classes + 1) % 8)
    assert taught.shape == (6, 5, 10)
    lengths = (classes >= 0).sum(dim=1)
    for word, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(taught[word, : length + 1], read[word, : length + 1])
        torch.testing.assert_close(other[word, 0], read[word, 0])
    assert not torch.allclose(other[:, 1:], taught[:, 1:])


def test_attention_stops_when_all_words_have_ended() -> None:
    model = recognizer(decoder="attention")
    nn.init.zeros_(model.decoder.output.weight)
    model.decoder.output.bias.data = functional.one_hot(torch.tensor(model.decoder.end), 10).float()
    calls = []
    model.decoder.cell.register_forward_hook(lambda *_: calls.append(1))
    points, images = words(3)
    with torch.no_grad():
        logits = model(features(), points, images)
    assert len(calls) == 1
    assert [word.text for word in model.decode(logits[:, None])] == [""] * 3


@pytest.mark.parametrize("decoder", DECODERS)
def test_chunks_change_nothing(decoder: str) -> None:
    points, images = words(23)
    whole, chunked = recognizer(decoder=decoder), recognizer(decoder=decoder, chunk_size=5)
    with torch.no_grad():
        expected = whole(features(), points, images)
        got = chunked(features(), points, images)
    if decoder in ("attention", "masked"):  # what follows the end of a word is not looked at
        ended = (expected.argmax(dim=-1) == whole.decoder.end).cummax(dim=1).values
        expected, got = expected[~ended], got[~ended]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_a_thousand_words_are_read_in_chunks() -> None:
    model = recognizer(chunk_size=64)
    sizes = []
    model.encoder.register_forward_hook(lambda _, arguments, output: sizes.append(len(arguments[0])))
    points, images = words(1000)
    with torch.no_grad():
        logits = model(features(), points, images)
    assert logits.shape == (1000, 16, 10)
    assert sum(sizes) == 1000
    assert max(sizes) == 64


@pytest.mark.parametrize("training", [True, False])
def test_words_are_encoded_in_few_different_numbers(training: bool) -> None:
    """At most 4 more than asked for, or from 16 on multiples of 8; logits are those of the words alone."""
    model = recognizer(chunk_size=12).train(training)
    sizes = set()
    model.encoder.register_forward_hook(lambda _, arguments, output: sizes.add(len(arguments[0])))
    with torch.no_grad():
        for count in (1, 3, 5, 8, 9, 12, 17, 23, 30):
            points, images = words(count)
            classes = torch.zeros(count, 2, dtype=torch.int64)
            assert len(model(features(), points, images, classes)) == count
    # In evaluation mode a chunk of 12 and what is left.
    assert sizes == ({1, 3, 6, 8, 12, 24, 32} if training else {1, 3, 6, 8, 12})


@pytest.mark.parametrize("margins", [[], [0.3, -0.2]])
def test_a_language_model_asks_for_more_views(margins: list[float]) -> None:
    reader = recognizer(language_model={"margins": margins})
    points, images = words(5)
    with torch.no_grad():
        views = reader.test_time_augmentation(features(), points, images)
        nowhere = reader.test_time_augmentation(features(), points[:0], images[:0])
        expected = [reader(features(), with_margin(points, margin), images) for margin in (0.0, *margins)]
    assert torch.equal(views, torch.stack(expected, dim=1))
    assert nowhere.shape == (0, 1 + len(margins), *views.shape[2:])


def test_margins_grow_on_all_sides() -> None:
    """By a share of the height, also beyond the ends of a slanted word."""
    quad = torch.tensor([[[10.0, 20], [50, 20], [50, 30], [10, 30]]])
    larger = with_margin(quads_to_bezier(quad), 0.2)[0]
    expected = quads_to_bezier(torch.tensor([[8.0, 18], [52, 18], [52, 32], [8, 32]]))
    torch.testing.assert_close(larger, expected)
    angle = torch.tensor(0.5)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    torch.testing.assert_close(with_margin(quads_to_bezier(quad @ turn), 0.2)[0], expected @ turn)


@pytest.mark.parametrize("decoder", DECODERS)
def test_losses_are_finite_whatever_the_words(decoder: str) -> None:
    """Longer than the steps, of one letter, of characters that are not in the charset, of doubled letters."""
    model = recognizer(decoder=decoder).train()
    points, images = words(4)
    ids = char_ids("abcdefgh" * 5, "a", "日本😀", "aabbccddee")
    loss = loss_of(model, features(), points, images, ids)
    assert torch.isfinite(loss)
    assert loss > 0
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_words_too_long_for_ctc_count_nothing() -> None:
    model = recognizer()
    points, images = words(1)
    assert loss_of(model, features(), points, images, char_ids("abcdefgh" * 5)) == 0


@pytest.mark.parametrize("decoder", DECODERS)
def test_words_without_a_character_teach_to_read_nothing(decoder: str) -> None:
    model = recognizer(decoder=decoder).train()
    points, images = words(3)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    ids = torch.zeros(3, 2, dtype=torch.int64)
    for _ in range(12):
        optimizer.zero_grad()
        loss = loss_of(model, features(), points, images, ids)
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
    model.eval()
    readings = model.decode(model(features(), points, images)[:, None])
    assert [(reading.text, reading.score) for reading in readings] == [("", 0.0)] * 3


@pytest.mark.parametrize("decoder", DECODERS)
def test_without_words_every_parameter_gets_a_gradient_of_zero(decoder: str) -> None:
    model = recognizer(decoder=decoder).train()
    points, images = words(0)
    loss = loss_of(model, features(), points, images, torch.zeros(0, 1, dtype=torch.int64))
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_loss_by_hand() -> None:
    """CTC of two steps: `a` is the sum of `aa`, `a-` and `-a`; attention is a cross-entropy up to the end."""
    logits = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 2.0, 1.0]]])  # a, unknown, blank or end
    p, q = (step.softmax(dim=0) for step in logits[0])
    ctc = recognizer(charset="a").decoder.loss(logits, torch.tensor([[0]]))
    assert float(ctc) == pytest.approx(-float((p[0] * q[0] + p[0] * q[2] + p[2] * q[0]).log()), rel=1e-5)
    attention = recognizer(charset="a", decoder="attention").decoder
    assert float(attention.loss(logits, torch.tensor([[0]]))) == pytest.approx(-float((p[0] * q[2]).log()) / 2)


def ctc_logits(text: str, charset: str) -> torch.Tensor:
    """(1, 1, T, classes) of a text whose steps say a character each, `-` for blank."""
    classes = [len(charset) + 1 if character == "-" else charset.index(character) for character in text]
    return 9 * torch.nn.functional.one_hot(torch.tensor(classes), len(charset) + 2)[None, None].float()


def test_ctc_says_where_spaces_are() -> None:
    """Between the ends of the characters beside them, which are as wide as the mean one."""
    model = recognizer(charset="ab ", split_at_spaces=True)
    [found] = model.find_spaces(ctc_logits("--a---b- a--bb--", "ab "))
    # Five characters, so half of one is 1.6 steps; places are the middles of steps.
    assert found == [pytest.approx(((6.5 + 1.6) / 16, (9.5 - 1.6) / 16 + 0.6 / 16))]


@pytest.mark.parametrize("text", ["-a-b-", " ab -", "a-b- ", "-----"])
def test_ctc_finds_no_space_at_the_ends_of_a_word(text: str) -> None:
    assert recognizer(charset="ab ", split_at_spaces=True).find_spaces(ctc_logits(text, "ab ")) == [[]]


def test_spaces_are_only_looked_for_where_there_are_any_and_they_part_words() -> None:
    logits = ctc_logits("--a---b- a--bb--", "ab ")
    assert recognizer(charset="abc", split_at_spaces=True).find_spaces(logits) == [[]]
    assert recognizer(charset="ab ").find_spaces(logits) == [[]]
    assert recognizer(decoder="attention", charset="ab ").find_spaces(logits) == [[]]


def test_splitting_at_spaces_goes_with_ctc() -> None:
    assert changed_settings({"split_at_spaces": True}, {"hidden_size": 64})["split_at_spaces"]
    assert "split_at_spaces" not in changed_settings({"split_at_spaces": True}, {"decoder": "attention"})
    with pytest.raises(ValueError, match="`split_at_spaces` goes with the decoder 'ctc'; 'attention' does not say"):
        recognizer(decoder="attention", split_at_spaces=True)


def test_loss_weight() -> None:
    points, images = words(2)
    once, twice = (
        loss_of(recognizer(loss_weight=weight), features(), points, images, char_ids("ab", "cd")) for weight in (1, 2)
    )
    torch.testing.assert_close(2 * once, twice)


def test_corners_move_in_training_only() -> None:
    model = recognizer(jitter=0.25)
    points = quads_to_bezier(torch.tensor([[[10.0, 10.0], [70, 10], [70, 30], [10, 30]]])).repeat(50, 1, 1)
    assert torch.equal(model._jittered(points), points)
    torch.manual_seed(0)
    moved = model.train()._jittered(points) - points
    assert 4 < moved.abs().max() <= 0.25 * 20
    # Points between two corners move with them, so that straight sides stay straight.
    torch.testing.assert_close(moved[:, 1], (2 * moved[:, 0] + moved[:, 3]) / 3)
    torch.testing.assert_close(moved[:, 6], (moved[:, 4] + 2 * moved[:, 7]) / 3)
    assert torch.equal(recognizer(jitter=0).train()._jittered(points), points)


def letters(texts: list[str]) -> torch.Tensor:
    """One image (1, 3, 16, 64 x words) of words, each letter a pattern of its own."""
    patterns = torch.rand(8, 3, 8, 6, generator=torch.Generator().manual_seed(2))
    canvas = torch.zeros(1, 3, 16, 64 * len(texts))
    for index, text in enumerate(texts):
        for place, letter in enumerate(text):
            left = 64 * index + 4 + 8 * place
            canvas[0, :, 4:12, left : left + 6] = patterns["abcdefgh".index(letter)]
    return canvas


@pytest.mark.parametrize("decoder", DECODERS)
def test_learns_four_words_by_heart(decoder: str) -> None:
    texts = ["bad", "egg", "cabbage", "deaf"]
    canvas = letters(texts)
    boxes = [[[128 * i, 0], [128 * i + 128, 0], [128 * i + 128, 32], [128 * i, 32]] for i in range(len(texts))]
    points, images = quads_to_bezier(torch.tensor(boxes, dtype=torch.float32)), torch.zeros(4, dtype=torch.int64)
    model = recognizer(decoder=decoder, jitter=0.0, max_length=8).train()
    steps, learning_rate = LESSONS[decoder]
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, canvas, points, images, char_ids(*texts)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        readings = model.eval().decode(model.test_time_augmentation(canvas, points, images))
    assert [reading.text for reading in readings] == texts
    assert min(reading.score for reading in readings) > 0.5
