"""Reference images and results of the published evaluation scripts."""

import json
from pathlib import Path

import numpy as np
import pytest

from transformers_tcm.instances import TextInstances

Images = list[tuple[TextInstances, TextInstances]]


def read_words(words: list[dict]) -> TextInstances:
    texts = [word["text"] for word in words]
    return TextInstances(
        [word["points"] for word in words],
        scores=[word["score"] for word in words] if all("score" in word for word in words) else None,
        texts=texts,
        ignore=np.array([text == "###" for text in texts], dtype=bool),
    )


@pytest.fixture(scope="session")
def golden_cases(golden_dir: Path) -> list[tuple[Images, dict[str, dict]]]:
    """For each case the (ground truth, detections) of its images and what is expected, by the name of the protocol."""
    paths = sorted((golden_dir / "metrics").glob("case_*.json"))
    assert paths, f"no metrics/case_*.json in {golden_dir}"
    cases = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [
        ([(read_words(image["gt"]), read_words(image["det"])) for image in case["images"]], case["expected"])
        for case in cases
    ]
