"""Reference images and results of the published evaluation scripts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from transformers_tcm.instances import TextInstances

Images = list[tuple[TextInstances, TextInstances]]
Case = tuple[Images, dict[str, dict]]


def read_words(words: list[dict]) -> TextInstances:
    texts = [word["text"] for word in words]
    return TextInstances(
        [word["points"] for word in words],
        scores=[word["score"] for word in words] if all("score" in word for word in words) else None,
        texts=texts,
        ignore=np.array([text == "###" for text in texts], dtype=bool),
    )


@pytest.fixture(scope="session")
def golden_cases(golden_dir: Path) -> list[Case]:
    """For each case the (ground truth, detections) of its images and what is expected, by the name of the protocol."""
    paths = sorted((golden_dir / "metrics").glob("case_*.json"))
    assert paths, f"no metrics/case_*.json in {golden_dir}"
    cases = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [
        ([(read_words(image["gt"]), read_words(image["det"])) for image in case["images"]], case["expected"])
        for case in cases
    ]


@pytest.fixture
def assert_golden(golden_cases: list[Case]) -> Callable[[Callable, str], None]:
    """Check a protocol against the expected figures under its name, in all cases."""

    def check(metric_class: Callable, name: str) -> None:
        for images, expected in golden_cases:
            metric = metric_class()
            for ground_truth, detections in images:
                metric.update(ground_truth, detections)
            result = metric.compute()
            assert {"precision", "recall"} <= expected[name].keys()
            for figure in {"precision", "recall", "hmean"} & expected[name].keys():
                assert getattr(result, figure) == pytest.approx(expected[name][figure], abs=1e-6)

    return check
