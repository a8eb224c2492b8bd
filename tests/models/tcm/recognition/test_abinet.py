"""The ABINet++ recogniser: what a place may see, what is learned from what, and settings that do not fit."""

from typing import Any

import pytest
import torch

from transformers_tcm.models.tcm.recognition.abinet import (
    ABINetConfig,
    ABINetRecognizer,
    TCMClozeLanguageModel,
    padded_classes,
    word_lengths,
)

SMALL: dict[str, Any] = {
    "charset": "abcdefgh",
    "crop_size": [8, 32],
    "channels": [8, 12, 16],
    "num_blocks": [0, 1, 0],
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "max_length": 6,
    "attention_channels": 8,
    "attention_heads": 2,
    "attention_mlp_size": 16,
    "language_hidden_size": 32,
    "language_layers": 2,
    "language_heads": 2,
    "language_mlp_size": 32,
    "language_dropout": 0.0,
}
END = 9


def recognizer(**changes: Any) -> ABINetRecognizer:
    torch.manual_seed(0)
    return ABINetRecognizer(ABINetConfig(**{**SMALL, **changes}), 3).eval()


def language_model() -> TCMClozeLanguageModel:
    return recognizer().spelling


def states(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 1}, "`max_length` is 1; expected a number of at least 2"),
        ({"iterations": 0}, "`iterations` is 0; expected a number of at least 1"),
        ({"attention_iterations": -1}, "`attention_iterations` is -1; expected a number of at least 0"),
        ({"fusion_weight": -1.0}, r"`fusion_weight` is -1\.0; expected a number of at least 0"),
        ({"language_heads": 3}, "`language_hidden_size` must be a positive multiple of `language_heads`, got 32 and 3"),
        ({"attention_heads": 5}, "`attention_channels` must be a positive multiple of `attention_heads`"),
        ({"language_dropout": 1.0}, "0 <= `language_dropout` < 1"),
        ({"hidden_size": 15, "num_heads": 1}, "must be even"),
        ({"encoder": "map", "hidden_size": 24}, "the last of `channels` is the `hidden_size`"),
        ({"language_model": {}}, "'abinet' learns one itself"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ABINetConfig(**{**SMALL, **settings})


def test_no_place_sees_itself() -> None:
    """Another character in a place changes what is thought of all the others, and nothing of the place itself."""
    language, lengths = language_model(), torch.tensor([6])
    tokens = torch.eye(10)[torch.tensor([[0, 1, 2, 3, 4, END]])]
    changed = tokens.clone()
    changed[0, 2] = torch.eye(10)[7]
    with torch.no_grad():
        before, after = language(tokens, lengths)[1], language(changed, lengths)[1]
    assert [torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True)] == [i == 2 for i in range(6)]


def test_places_after_a_word_are_not_seen() -> None:
    language, lengths = language_model(), torch.tensor([3])
    tokens = torch.eye(10)[torch.tensor([[0, 1, END, END, END, END]])]
    changed = tokens.clone()
    changed[0, 3:] = torch.eye(10)[7]
    with torch.no_grad():
        torch.testing.assert_close(language(tokens, lengths)[1], language(changed, lengths)[1])


def test_a_word_of_nothing_but_its_end_is_finite() -> None:
    tokens = torch.eye(10)[torch.full((1, 6), END)]
    assert language_model()(tokens, torch.tensor([1]))[1].isfinite().all()


def test_lengths_count_the_first_end() -> None:
    tokens = torch.eye(10)[torch.tensor([[0, 1, END, 3, END, 1], [END, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]])]
    assert word_lengths(tokens).tolist() == [3, 1, 6]


def test_targets_end_in_all_places_after_a_word() -> None:
    classes = torch.tensor([[0, 1, -1], [3, 3, 3]])
    assert padded_classes(classes, 4, END).tolist() == [[0, 1, END, END], [3, 3, 3, END]]
    assert padded_classes(classes, 2, END).tolist() == [[0, 1], [3, 3]]


def test_vision_does_not_learn_from_the_language_model() -> None:
    """The losses of what it spells leave no gradient in what sees."""
    weights = {"query_weight": 0.0, "vision_weight": 0.0, "fusion_weight": 0.0}
    decoder, classes = recognizer(**weights).decoder, torch.tensor([[0, 1], [2, -1], [3, 4]])
    decoder.loss(decoder(states(), classes), classes).backward()
    learned = {name for name, one in decoder.named_parameters() if one.grad is not None and one.grad.any()}
    assert learned
    assert all(name.startswith("language.") for name in learned)


@pytest.mark.parametrize("iterations", [0, 2])
def test_all_readings_in_training_the_corrected_one_in_use(iterations: int) -> None:
    decoder = recognizer(attention_iterations=iterations, iterations=2).decoder
    classes = torch.tensor([[0, 1], [2, -1], [3, 4]])
    with torch.no_grad():
        readings, used = decoder(states(), classes), decoder(states())
    assert readings.shape == (3, (3 if iterations else 1) + 2 * 2, 6, 10)
    assert torch.equal(used, readings[:, -1])
    assert decoder.loss(readings, classes) > 0


def test_a_map_keeps_rows_and_columns() -> None:
    reader = recognizer(encoder="map")
    crops = torch.randn(2, 3, 8, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = reader.encoder(crops)
        assert features.shape == (2, 16, 8, 32)
        assert reader.decoder(features).shape == (2, 6, 10)


def test_spelling_is_learned_from_words_alone() -> None:
    """Words of the list become more probable than the same letters in another order; longer ones are cut."""
    language = language_model().train()
    words = torch.tensor([[1, 0, 3, -1], [4, 6, 6, -1], [2, 0, 1, 4]])
    optimizer = torch.optim.AdamW(language.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        language.loss(words).backward()
        optimizer.step()
    with torch.no_grad():
        assert language.loss(words) < 0.3
        assert language.loss(words.flip(1).roll(-1, 1)[:2]) > language.loss(words) + 0.2
        assert language.loss(torch.zeros(1, 40, dtype=torch.int64)).isfinite()
