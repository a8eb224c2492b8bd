"""Batches for a spotter: control points and characters of its words, and what is left out without detection."""

from typing import Any

import numpy as np
import pytest
import torch

from transformers_tcm.bezier import fit_bezier
from transformers_tcm.data.collation import TextDetectionCollator, labels_by_image
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.heads.base import split_by_image
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from transformers_tcm.models.tcm.recognition import proposals

WORD = np.float32([[10, 12], [70, 10], [72, 34], [12, 36]])
CURVED = np.float32([[8, 50], [30, 44], [60, 46], [60, 58], [30, 56], [8, 62]])
NO_WORD = np.float32([[0, 0], [10, 0], [20, 0], [5, 0]])


def item(instances: TextInstances, size: tuple[int, int] = (64, 96)) -> dict[str, Any]:
    image = np.zeros((*size, 3), np.uint8)
    return process_for_model(TCMImageProcessorPil(), image, instances, do_resize=False)


@pytest.fixture
def spotter() -> TCMConfig:
    return TCMConfig.from_preset("tiny", recognizer={})


def test_words_of_a_batch(spotter: TCMConfig) -> None:
    instances = TextInstances([WORD, CURVED, NO_WORD], texts=["ab", "日本語", "x"])
    batch = TextDetectionCollator(spotter)([item(instances), item(TextInstances([]), (32, 64))])
    assert batch["train_detection"].tolist() == [True, True]
    words, none = labels_by_image(batch["labels"])
    np.testing.assert_allclose(words["control_points"][0], fit_bezier(WORD))
    np.testing.assert_allclose(words["control_points"][1], fit_bezier(CURVED))
    assert not words["control_points"][2].any()
    assert words["control_points"].dtype == torch.float32
    # What no two curves describe cannot be read, whatever it says.
    assert words["char_ids"].tolist() == [[ord("a"), ord("b"), 0], [*map(ord, "日本語")], [0, 0, 0]]
    assert none["control_points"].shape == (0, 8, 2)
    assert none["char_ids"].shape[0] == 0
    assert batch["labels"]["shrink_map"].shape == (2, 64, 96)
    assert batch["labels"]["word_counts"].tolist() == [3, 0]
    assert not batch["labels"]["shrink_mask"][1, 32:].any()  # padding
    assert batch["pixel_mask"].dtype == torch.bool


def test_unknown_and_ignored_words_say_nothing(spotter: TCMConfig) -> None:
    instances = TextInstances([WORD, CURVED], texts=[None, "sale"], ignore=np.array([False, True]))
    label = TextDetectionCollator(spotter)([item(instances)])["labels"]
    assert not label["char_ids"].any()
    assert label["control_points"].any(dim=(1, 2)).all()
    label = TextDetectionCollator(spotter)([item(TextInstances([WORD, CURVED]))])["labels"]
    assert label["char_ids"].tolist() == [[0], [0]]


def test_without_detection_there_are_no_maps(spotter: TCMConfig) -> None:
    batch = TextDetectionCollator(spotter, train_detection=False)([item(TextInstances([WORD], texts=["ab"]))])
    assert batch["train_detection"].tolist() == [False]
    assert not any("map" in name or "mask" in name for name in batch["labels"])
    assert {"control_points", "char_ids", "ignore", "points", "counts", "orig_size"} <= set(batch["labels"])


def test_items_of_words_alone_among_photos(spotter: TCMConfig) -> None:
    words = TextInstances([WORD], texts=["ab"])
    batch = TextDetectionCollator(spotter)([item(words), {**item(words), "train_detection": False}])
    assert batch["train_detection"].tolist() == [True, False]
    assert batch["labels"]["shrink_map"].shape == (1, 64, 96)
    assert batch["labels"]["control_points"].shape == (2, 8, 2)


def test_a_detector_gets_no_words() -> None:
    batch = TextDetectionCollator(TCMConfig.from_preset("tiny"))([item(TextInstances([WORD], texts=["ab"]))])
    assert "control_points" not in batch["labels"]
    assert "train_detection" not in batch


def test_a_detector_has_nothing_else_to_train() -> None:
    with pytest.raises(
        ValueError, match="a model without recogniser has nothing to train without detection; give a configuration"
    ):
        TextDetectionCollator(TCMConfig.from_preset("tiny"), train_detection=False)


TALL = np.float32([[40, 4], [52, 4], [52, 60], [40, 60]])


def test_head_and_recogniser_learn_the_same_corners_of_a_word_written_downwards() -> None:
    config = TCMConfig.from_preset("tiny", head_type="abcnet", recognizer={})
    labels = TextDetectionCollator(config)([item(TextInstances([TALL, WORD], texts=["SALE", "ab"]))])["labels"]
    np.testing.assert_allclose(split_by_image(labels, "word_curves")[0], labels["control_points"])
    np.testing.assert_allclose(labels["control_points"][0, 0], TALL[1])  # it begins at the upper right corner


def test_curves_are_fitted_once_for_head_and_recogniser(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    monkeypatch.setattr(proposals, "fit_bezier", lambda outline: fits.append(outline) or fit_bezier(outline))
    proposals._fitted.cache_clear()
    config = TCMConfig.from_preset("tiny", head_type="abcnet", recognizer={})
    labels = TextDetectionCollator(config)([item(TextInstances([CURVED, WORD, NO_WORD], texts=["a", "b", "c"]))])[
        "labels"
    ]
    assert len(fits) == 3
    assert labels["control_points"].any(dim=(1, 2)).tolist() == [True, True, False]
    np.testing.assert_allclose(labels["control_points"][0], fit_bezier(CURVED))


def test_a_batch_is_a_dozen_tensors_whatever_its_size() -> None:
    config = TCMConfig.from_preset("tiny", head_type="abcnet", recognizer={})
    images = [item(TextInstances([WORD, CURVED][: count % 3], texts=["ab", "cd"][: count % 3])) for count in range(16)]
    batch = TextDetectionCollator(config)(images)
    assert "pixel_mask" not in batch  # nothing is padded
    assert all(isinstance(value, torch.Tensor) for value in batch["labels"].values())
    assert len(batch["labels"]) <= 14
    assert [len(words) for words in split_by_image(batch["labels"], "word_boxes")] == [n % 3 for n in range(16)]
