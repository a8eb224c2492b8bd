"""Figures of a batch: what a model finds and reads, compared with labels."""

from typing import Any

import numpy as np
import pytest
import torch
import training_fakes
from oriented_fakes import CONFIG, ColouredRegions, scene
from tiny_settings import SMALLEST

from transformers_tcm import (
    OrientedInstances,
    TCMConfig,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessor,
    TextInstances,
)
from transformers_tcm.data.collation import TextDetectionCollator, label_words
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.models.tcm.recognition.reading import char_classes
from transformers_tcm.rotated_boxes import boxes_to_quads
from transformers_tcm.training import BatchScores, score_batch, summarize

PROCESSOR = TCMImageProcessor(size={"height": 128, "width": 192}, unclip_ratio=1.5, text_threshold=0.0)
# In pixels of photos of half the size of the input, so that figures are seen to be made in the photos' own pixels.
LEFT = np.float32([[8, 10], [44, 10], [44, 30], [8, 30]])
RIGHT = LEFT + np.float32([48, 20])


def batch(config: TCMConfig, *instances: TextInstances, train_detection: bool = True) -> dict[str, Any]:
    photo = np.zeros((64, 96, 3), np.uint8)
    items = [process_for_model(PROCESSOR, photo, one) for one in instances]
    return TextDetectionCollator(config, train_detection)(items)


@pytest.fixture
def spotter() -> TCMForTextSpotting:
    return training_fakes.spotter(decoder="attention", max_length=6).eval()


def find(model: TCMForTextDetection, *quads: np.ndarray) -> None:
    """Make the model find these upright boxes, of photo pixels, in every image."""

    def instead(module: Any, arguments: Any, output: Any) -> Any:
        output.prob_map = torch.zeros_like(output.prob_map)
        for quad in quads:
            (left, top), (right, bottom) = quad[0] * 2, quad[2] * 2
            # As much smaller as the decoding makes it larger.
            shrink = shrunk_by(right - left, bottom - top)
            columns, rows = (
                slice(round(left + shrink), round(right - shrink)),
                slice(round(top + shrink), round(bottom - shrink)),
            )
            output.prob_map[:, :, rows, columns] = 0.9
        return output

    model.head.register_forward_hook(instead)


def shrunk_by(width: float, height: float) -> float:
    """The margin m for which the unclipping, 1.5 x area / perimeter of the smaller box, is m."""
    return next(
        m
        for m in np.arange(0, height / 2, 0.05)
        if 1.5 * (width - 2 * m) * (height - 2 * m) / (2 * (width + height - 4 * m)) <= m
    )


def say(model: TCMForTextSpotting, *texts: str) -> None:
    """Make the recogniser read these words, in that order, again and again."""
    classes = char_classes(torch.tensor([[*map(ord, text), *[0] * (6 - len(text))] for text in texts]), charset(model))
    end = len(charset(model)) + 1
    logits = 9 * torch.nn.functional.one_hot(classes.masked_fill(classes < 0, end), end + 1).float()

    def instead(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        return logits.repeat(len(output), 1, 1)[: len(output), : output.shape[1]]

    model.recognizer.decoder.register_forward_hook(instead)


def charset(model: TCMForTextSpotting) -> str:
    return model.recognizer.settings.charset


@torch.no_grad()
def figures(model: TCMForTextDetection, *instances: TextInstances, **settings: Any) -> dict[str, float]:
    return summarize(score_batch(model, PROCESSOR, batch(model.config, *instances, **settings)))


def test_a_detector_is_judged_by_what_it_finds() -> None:
    torch.manual_seed(0)
    model = TCMForTextDetection(TCMConfig(**SMALLEST)).eval()
    find(model, LEFT, RIGHT)
    metrics = figures(model, TextInstances([LEFT]), TextInstances([LEFT, RIGHT]))
    assert set(metrics) == {"loss", "precision", "recall", "hmean"}
    assert metrics["recall"] == 1
    assert metrics["precision"] == pytest.approx(3 / 4)
    assert metrics["hmean"] == pytest.approx(6 / 7)
    assert metrics["loss"] > 0


def test_a_spotter_is_judged_by_what_it_reads_too(spotter: TCMForTextSpotting) -> None:
    find(spotter, LEFT, RIGHT)
    # Found are the lower region first, then the upper one; each image the same.
    say(spotter, "sale")
    metrics = figures(spotter, TextInstances([LEFT, RIGHT], texts=["SALE", "taxi"]))
    assert metrics["hmean"] == 1
    assert metrics["end_to_end_recall"] == 0.5
    assert metrics["end_to_end_precision"] == 0.5
    assert metrics["end_to_end_hmean"] == 0.5
    assert "word_accuracy" not in metrics


def test_unknown_and_ignored_words_are_not_judged(spotter: TCMForTextSpotting) -> None:
    find(spotter, LEFT, RIGHT)
    say(spotter, "sale")
    known = TextInstances([LEFT, RIGHT], texts=["sale", None])
    metrics = figures(spotter, known)
    assert metrics["hmean"] == 1
    assert metrics["end_to_end_hmean"] == 1
    ignored = TextInstances([LEFT, RIGHT], texts=["sale", "taxi"], ignore=np.array([False, True]))
    assert figures(spotter, ignored)["end_to_end_hmean"] == 1
    assert figures(spotter, TextInstances([LEFT, RIGHT]))["end_to_end_recall"] == 0


def test_thresholds_are_those_of_the_image_processor(spotter: TCMForTextSpotting) -> None:
    find(spotter, LEFT)
    say(spotter, "sale")
    label = batch(spotter.config, TextInstances([LEFT], texts=["sale"]))
    strict = TCMImageProcessor(**{**PROCESSOR.to_dict(), "box_threshold": 0.95})
    with torch.no_grad():
        assert summarize(score_batch(spotter, PROCESSOR, label))["hmean"] == 1
        assert summarize(score_batch(spotter, strict, label))["hmean"] == 0


def test_a_recogniser_alone_reads_the_labelled_words(spotter: TCMForTextSpotting) -> None:
    """Three of four words are judged; of 4 + 4 + 3 characters one is missing and one of the wrong case."""
    say(spotter, "sale", "tax", "BAR")
    first = TextInstances([LEFT, RIGHT], texts=["sale", "taxi"])
    second = TextInstances([LEFT, RIGHT, RIGHT], texts=["Bar", None, "x"], ignore=np.array([False, False, True]))
    none = TextInstances([])
    metrics = figures(spotter, first, none, second, train_detection=False)
    assert set(metrics) == {"loss", "word_accuracy", "word_accuracy_case_sensitive", "character_error_rate"}
    assert metrics["word_accuracy"] == pytest.approx(2 / 3)
    assert metrics["word_accuracy_case_sensitive"] == pytest.approx(1 / 3)
    assert metrics["character_error_rate"] == pytest.approx(3 / 11)


def test_no_word_to_read(spotter: TCMForTextSpotting) -> None:
    metrics = figures(spotter, TextInstances([LEFT]), TextInstances([]), train_detection=False)
    assert metrics == {
        "loss": 0,
        "word_accuracy": 0,
        "word_accuracy_case_sensitive": 0,
        "character_error_rate": 0,
    }


def test_scores_of_batches_add_up(spotter: TCMForTextSpotting) -> None:
    find(spotter, LEFT)
    say(spotter, "sale")
    labels = [TextInstances([LEFT], texts=["sale"]), TextInstances([RIGHT], texts=["sale"])]
    with torch.no_grad():
        single = [score_batch(spotter, PROCESSOR, batch(spotter.config, one)) for one in labels]
    together, apart = figures(spotter, *labels), summarize(single[0] + single[1])
    assert together["end_to_end_hmean"] == apart["end_to_end_hmean"] == 0.5
    assert apart["loss"] == pytest.approx(np.mean([score.losses[0] for score in single]))
    assert summarize(BatchScores()) == {"loss": 0}


def test_words_of_a_label() -> None:
    codes = torch.tensor([[*map(ord, "日本"), 0], [0, 0, 0], [*map(ord, "a b")]])
    assert label_words({"char_ids": codes, "counts": torch.ones(3)}) == ["日本", None, "a b"]
    assert label_words({"counts": torch.ones(2)}) == [None, None]


def test_oriented_objects_are_judged_by_average_precision() -> None:
    boxes = torch.tensor([[60.0, 50.0, 60.0, 20.0, 0.5], [150.0, 80.0, 40.0, 16.0, -1.2]])
    quads = boxes_to_quads(boxes).numpy()
    processor = TCMImageProcessor(do_resize=False).for_model(CONFIG)
    image = scene(224, 128, *zip(quads, (0, 1), strict=True))
    items = [
        process_for_model(processor, image, OrientedInstances(list(quads), labels=labels))
        for labels in ([0, 1], [0, 0])
    ]

    class Judged(ColouredRegions):
        """With a loss, as in training."""

        def forward(self, pixel_values: torch.Tensor, labels: Any = None, **kwargs: Any) -> Any:
            mask = torch.ones_like(pixel_values[:, 0])
            outputs = super().forward(pixel_values, mask)
            outputs.loss = torch.tensor(1.0)
            return outputs

    model = Judged(CONFIG).eval()
    right = summarize(score_batch(model, processor, TextDetectionCollator(CONFIG)(items[:1])))
    assert right["mean_average_precision"] == pytest.approx(1)
    # The second image calls the car a ship: half of its ships are missed, and a car is made up.
    both = score_batch(model, processor, TextDetectionCollator(CONFIG)(items))
    assert 0 < summarize(both)["mean_average_precision"] < 1
    assert len(both.objects) == 2
