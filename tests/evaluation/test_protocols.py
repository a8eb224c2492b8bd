"""Protocols by the names of the command, each as the scripts of its data set compute it."""

import numpy as np
import pytest

from transformers_tcm import TextInstances
from transformers_tcm.cli.evaluation import protocol_of
from transformers_tcm.data.known_datasets import KNOWN_DATASETS
from transformers_tcm.evaluation.protocols import CONVENTIONS, READING_PROTOCOLS, figures_of

GOLDEN = [
    ("iou", None, "iou"),
    ("iou", "td500", "iou"),
    ("best-iou", None, "iou_best_of_thresholds"),
    ("deteval", "icdar2013", "deteval_icdar2013"),
    ("deteval", "total-text", "deteval_total_text"),
    ("pascal", "total-text", "pascal_total_text"),
    ("e2e", "icdar2015", "end_to_end_icdar2015"),
    ("e2e", "ctw1500", "end_to_end_polygon"),
    ("e2e", "total-text", "word_spotting_polygon"),
    ("word-spotting", "icdar2015", "word_spotting_icdar2015"),
]


@pytest.mark.parametrize(("protocol", "dataset", "name"), GOLDEN)
def test_protocols_of_the_data_sets_equal_the_reference_figures(golden_cases, protocol, dataset, name) -> None:
    for images, expected in golden_cases:
        judge = protocol_of(protocol, dataset)
        for ground_truth, detections in images:
            judge.update(ground_truth, detections)
        figures, _ = figures_of("detection", judge)
        for figure in {"precision", "recall", "hmean"} & expected[name].keys():
            assert getattr(figures["detection"], figure) == pytest.approx(expected[name][figure], abs=1e-6)


def test_cleval_equals_the_reference_figures(golden_cases) -> None:
    for images, expected in golden_cases:
        judge = protocol_of("cleval")
        for ground_truth, detections in images:
            judge.update(ground_truth, detections)
        figures, rule = figures_of("detection", judge)
        assert rule == "CLEval"
        for name, short in (("detection", "det"), ("end_to_end", "e2e")):
            ours = figures[name].recall, figures[name].precision, figures[name].hmean
            assert ours == pytest.approx([expected["cleval"][f"{short}_{part}"] for part in "rph"], abs=1e-6)


def test_every_reference_figure_has_a_name(golden_cases) -> None:
    _, expected = golden_cases[0]
    assert set(expected) == {name for _, _, name in GOLDEN} | {"cleval"}


def test_illegible_lines_of_ctw1500_count_in_detection() -> None:
    line = np.float32([[0, 0], [40, 0], [40, 10], [0, 10]])
    truth = TextInstances([line, line + 50], texts=["SALE", "###"], ignore=np.array([False, True]))
    recall = {}
    for name in ("ctw1500", "icdar2015"):
        judge = protocol_of("iou", name)
        judge.update(truth, TextInstances([line]))
        recall[name] = judge.compute().recall
    assert recall == {"ctw1500": 0.5, "icdar2015": 1.0}


def test_sets_without_words_have_no_protocol_that_reads() -> None:
    judged = {name: CONVENTIONS[known.conventions] for name, known in KNOWN_DATASETS.items()}
    without = {name for name, protocols in judged.items() if not READING_PROTOCOLS.keys() & protocols.keys()}
    assert without == {"td500", "tr400"}
