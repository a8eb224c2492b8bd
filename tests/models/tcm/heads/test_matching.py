"""Words are assigned to queries as cheaply as possible, and losses of what is assigned count what they should."""

import builtins
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.models.tcm.heads.matching import (
    Matching,
    Words,
    ctc_text_costs,
    ctc_text_loss,
    hungarian_matching,
    only,
    set_focal_loss,
    slot_text_loss,
    text_classes,
    words_of,
)


def words(usable: list[bool], counts: list[int]) -> Words:
    flags = torch.tensor(usable)
    total = flags.sum().float().clamp(min=1)
    return Words({}, torch.zeros(len(usable), 1, dtype=torch.int64), flags, flags, counts, total)


@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 2**16))
def test_the_assignment_is_the_cheapest(num_queries: int, num_words: int, seed: int) -> None:
    costs = np.random.default_rng(seed).normal(size=(num_queries, num_words))
    matching = hungarian_matching([torch.from_numpy(costs)])
    found = costs[matching.queries, matching.words].sum()
    if num_words <= num_queries:
        orders = itertools.permutations(range(num_queries), num_words)
        totals = [sum(costs[query, word] for word, query in enumerate(order)) for order in orders]
    else:
        orders = itertools.permutations(range(num_words), num_queries)
        totals = [sum(costs[query, word] for query, word in enumerate(order)) for order in orders]
    assert len(matching.words) == min(num_queries, num_words)
    assert found == pytest.approx(min(totals))


def test_a_batch_is_assigned_as_its_images_are() -> None:
    generator = torch.Generator().manual_seed(0)
    costs = [torch.rand(6, count, generator=generator) for count in (3, 0, 2)]
    matching = hungarian_matching(costs)
    assert matching.images.tolist() == [0, 0, 0, 2, 2]
    for image, first_word in ((0, 0), (2, 3)):
        alone, here = hungarian_matching([costs[image]]), matching.images == image
        assert matching.queries[here].tolist() == alone.queries.tolist()
        assert (matching.words[here] - first_word).tolist() == alone.words.tolist()


def test_costs_that_are_not_finite_come_last() -> None:
    costs = torch.tensor([[float("nan"), 1.0], [2.0, float("inf")], [-float("inf"), 5.0]])
    matching = hungarian_matching([costs])
    assert dict(zip(matching.words.tolist(), matching.queries.tolist(), strict=True)) == {0: 1, 1: 0}


def test_without_scipy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_scipy(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(ImportError, match="pip install scipy"):
        hungarian_matching([torch.zeros(2, 1)])


def test_queries_of_unusable_words_are_neither_positive_nor_negative() -> None:
    matching = Matching(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0, 1]))
    logits = torch.zeros(1, 3, 4)
    before = set_focal_loss(logits, matching, words([True, False], [2]))
    logits[0, 1] = 5.0
    assert set_focal_loss(logits, matching, words([True, False], [2])) == before
    logits[0, 2] = 5.0
    assert set_focal_loss(logits, matching, words([True, False], [2])) > before


def test_the_class_loss_is_a_mean_over_points_and_a_sum_over_queries() -> None:
    matching = Matching(*(torch.zeros(0, dtype=torch.int64) for _ in range(3)))
    one = set_focal_loss(torch.zeros(1, 1, 1), matching, words([], [0]))
    assert set_focal_loss(torch.zeros(1, 1, 16), matching, words([], [0])) == pytest.approx(float(one))
    assert set_focal_loss(torch.zeros(1, 5, 16), matching, words([], [0])) == pytest.approx(5 * float(one))
    assert set_focal_loss(torch.zeros(1, 5), matching, words([], [0])) == pytest.approx(5 * float(one))


def test_only_pairs_of_chosen_words_remain() -> None:
    matching = Matching(torch.tensor([0, 1]), torch.tensor([4, 5]), torch.tensor([1, 0]))
    assert [part.tolist() for part in only(matching, torch.tensor([True, False]))] == [[1], [5], [0]]


def test_text_costs_are_the_text_losses_of_every_pair() -> None:
    logits = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([[0, 1, 4], [2, 2, 2]])
    costs = ctc_text_costs(logits, classes)
    assert costs.shape == (3, 2)
    for query, word in itertools.product(range(3), range(2)):
        assert costs[query, word] == pytest.approx(float(ctc_text_loss(logits[query, None], classes[word, None])))


def test_words_that_do_not_fit_cost_nothing_whichever_the_query() -> None:
    # Two equal characters need a blank between them.
    assert ctc_text_costs(torch.randn(4, 2, 3), torch.tensor([[0, 0]])).tolist() == [[0.0]] * 4


def test_a_word_without_characters_is_all_blank() -> None:
    logits = torch.zeros(1, 4, 3)
    assert float(ctc_text_loss(logits, torch.full((1, 2), 2))) == pytest.approx(4 * np.log(3))


@pytest.mark.parametrize("loss", [ctc_text_loss, slot_text_loss])
def test_without_words_the_text_loss_is_zero_and_has_a_gradient(loss: Any) -> None:
    logits = torch.randn(2, 6, 5, requires_grad=True)
    value = loss(logits[:0], torch.zeros(0, 6, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_slots_of_the_padding_count() -> None:
    logits = torch.zeros(1, 4, 3)
    logits[0, 2:, 2] = 10.0  # sure of the padding
    half = slot_text_loss(logits, torch.tensor([[0, 1, 2, 2]]))
    assert float(half) == pytest.approx(np.log(3) / 2, abs=1e-3)


def test_texts_become_classes_cut_and_padded() -> None:
    assert text_classes(["ba?", None, "abababab"], "ab", 4).tolist() == [[1, 0, 2, 3], [3] * 4, [0, 1, 0, 1]]
    assert text_classes(["BA"], "ab", 2).tolist() == [[2, 2]]
    assert text_classes(["BA"], "ab", 2, fold_case=True).tolist() == [[1, 0]]


def test_words_are_counted_by_image_whether_stacked_or_joined() -> None:
    stacked = {
        "word_points": torch.zeros(2, 1, 3, 2),
        "word_classes": torch.zeros(2, 1, 4, dtype=torch.int64),
        "word_usable": torch.tensor([[True], [False]]),
        "word_legible": torch.tensor([[True], [True]]),
    }
    joined = {name: value.flatten(0, 1) for name, value in stacked.items()}
    joined |= {f"{name}_counts": torch.tensor([1, 1]) for name in stacked}
    for labels in (stacked, joined):
        found = words_of(labels, ["word_points"])
        assert found.counts == [1, 1]
        assert found.geometry["word_points"].shape == (2, 3, 2)
        assert found.legible.tolist() == [True, False]
        assert float(found.total) == 1


def test_labels_of_another_head_are_an_error() -> None:
    with pytest.raises(ValueError, match="word_points"):
        words_of({"shrink_map": torch.zeros(1, 4, 4)}, ["word_points"])
