"""Loss terms for the log."""

import torch

from transformers_tcm.training.loss_terms import LossTerms


def test_terms_of_earlier_layers_are_one_sum_for_each_layer() -> None:
    terms = LossTerms()
    for value in (1.0, 3.0):
        numbers = {"loss_class": 1, "loss_class_0": 2, "loss_text_0": 3, "loss_text_1": 4, "loss_proposal_class": 5}
        terms.add({name: torch.tensor(number * value) for name, number in numbers.items()})
    expected = {"loss_class": 2, "loss_layer_0": 10, "loss_layer_1": 8, "loss_proposal_class": 10}
    assert terms.take() == expected
    assert terms.take() == {}


def test_processes_are_averaged() -> None:
    terms = LossTerms()
    terms.add({"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(3.0)})
    assert terms.take(lambda means: torch.cat([means, 3 * means])) == {"loss_a": 2.0, "loss_b": 6.0}
