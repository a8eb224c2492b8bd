"""Outputs of a model against the labels of a batch: what `TCMTrainer` evaluates by."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from ..data.collation import label_words, labels_by_image, labels_to_instances
from ..evaluation import DetectionIoU, DotaEvaluation, EndToEnd, EvaluationResult, ImageResult, WordRecognition
from ..instances import OrientedInstances, TextInstances
from ..models.tcm.modeling_tcm import TCMDetector
from ..models.tcm.modeling_tcm_spotting import TCMForTextSpotting

__all__ = ["BatchScores", "score_batch", "score_photos", "summarize"]


@dataclass
class BatchScores:
    """What the images of a batch add to the figures; sums of two are those of both.

    Args:
        losses: of the batches.
        detection: results of each photo.
        end_to_end: the same with the words that were read, for spotters.
        objects: of each image with oriented objects, its label and what was found.
        words: for each image (word, what was read) of its labelled words, where the recogniser is evaluated alone.
    """

    losses: list[float] = field(default_factory=list)
    detection: list[ImageResult] = field(default_factory=list)
    end_to_end: list[ImageResult] = field(default_factory=list)
    objects: list[tuple[OrientedInstances, OrientedInstances]] = field(default_factory=list)
    words: list[list[tuple[str, str]]] = field(default_factory=list)

    def __add__(self, other: "BatchScores") -> "BatchScores":
        return BatchScores(**{name: values + getattr(other, name) for name, values in vars(self).items()})

    def gathered(self, accelerator: Any) -> "BatchScores":
        """Those of all processes of an `Accelerator`, without images that the last batch was filled up with."""
        gather = accelerator.gather_for_metrics
        return BatchScores(**{name: gather(values, use_gather_object=True) for name, values in vars(self).items()})


def score_batch(model: TCMDetector, image_processor: Any, inputs: dict[str, Any]) -> BatchScores:
    """Run a model on a batch of the collator and compare what it finds, or only reads, with the labels.

    A spotter's detections are those that it reads a word in, as in `post_process_text_spotting`.

    Args:
        model: in evaluation mode.
        image_processor: its thresholds count.
        inputs: as the collator makes them, on the device of the model.
    """
    if isinstance(model, TCMForTextSpotting):
        decoding = asdict(image_processor.decoding_settings())
        reading = {
            "text_threshold": image_processor.text_threshold or 0.0,
            "score_calibration": image_processor.score_calibration,
        }
        inputs = {**inputs, "decoding": decoding, **reading}
    outputs = model(**inputs)
    scores = BatchScores(losses=[outputs.loss.item()])
    if model.head.task == "oriented":
        scores.objects = _compare_objects(image_processor, outputs, labels_by_image(inputs["labels"]))
    elif torch.as_tensor(inputs.get("train_detection", True)).all():
        _compare_photos(scores, image_processor, outputs, labels_by_image(inputs["labels"]))
    else:
        scores.words = _read_labelled_words(model, inputs)
    return scores


@torch.no_grad()
def score_photos(
    model: TCMDetector, image_processor: Any, batches: Iterable[dict[str, Any]], accelerator: Any
) -> dict[str, float]:
    """Figures of a model, by the names of `TCMTrainer.evaluate`, on all batches of all processes.

    Args:
        model: a detector or spotter, not wrapped.
        image_processor: its thresholds count.
        batches: of the collator, from a loader that the accelerator prepared.
        accelerator: an `Accelerator`.
    """
    model.eval()
    scores = BatchScores()
    for batch in batches:
        with accelerator.autocast():
            scores += score_batch(model, image_processor, batch).gathered(accelerator)
    return {f"eval_{name}": value for name, value in summarize(scores).items()}


def summarize(scores: BatchScores) -> dict[str, float]:
    """Figures by name: `precision`, `recall`, `hmean`, for spotters also `end_to_end_hmean` …, or word accuracies, or
    `mean_average_precision` of oriented objects."""
    metrics = {"loss": sum(scores.losses) / max(len(scores.losses), 1)}
    for prefix, images in (("", scores.detection), ("end_to_end_", scores.end_to_end)):
        if images:
            result = EvaluationResult.from_images(images)
            metrics |= {prefix + name: getattr(result, name) for name in ("precision", "recall", "hmean")}
    if scores.objects:
        metrics["mean_average_precision"] = _mean_average_precision(scores.objects)
    if scores.words:
        recognition = WordRecognition()
        for words in scores.words:
            recognition.update([word for word, _ in words], [reading for _, reading in words])
        read = recognition.compute()
        metrics |= {"word_accuracy": read.accuracy_ignore_case, "word_accuracy_case_sensitive": read.accuracy}
        metrics |= {"character_error_rate": read.character_error_rate}
    return metrics


def _compare_photos(
    scores: BatchScores, image_processor: Any, outputs: Any, labels: list[dict[str, torch.Tensor]]
) -> None:
    """Add the results of each image of a batch, in original pixels."""
    sizes = torch.stack([label["orig_size"] for label in labels]).cpu()
    reads = outputs.get("sequences") is not None
    decode = image_processor.post_process_text_spotting if reads else image_processor.post_process_text_detection
    detection, end_to_end = DetectionIoU(), EndToEnd()
    for label, size, valid, found in zip(
        labels, sizes, outputs.valid_sizes.cpu(), decode(outputs, target_sizes=sizes), strict=True
    ):
        scale_y, scale_x = (size / valid).tolist()
        truth = labels_to_instances(label).scale(scale_x, scale_y)
        instances = TextInstances(
            [polygon.numpy() for polygon in found["polygons"]], scores=found["scores"], texts=found.get("texts")
        )
        scores.detection.append(detection.update(truth, instances))
        if reads:
            truth.texts = label_words(label)
            # What a word of unknown reading says cannot be judged.
            truth.ignore = truth.ignored | np.array([word is None for word in truth.texts], bool)
            scores.end_to_end.append(end_to_end.update(truth, instances))


def _compare_objects(
    image_processor: Any, outputs: Any, labels: list[dict[str, torch.Tensor]]
) -> list[tuple[OrientedInstances, OrientedInstances]]:
    """Labelled objects of each image of a batch and those that were found, in pixels of the network's input."""
    pairs = []
    found = image_processor.post_process_oriented_object_detection(outputs)
    for label, one in zip(labels, found, strict=True):
        truth = labels_to_instances(label)
        wanted = OrientedInstances(truth.polygons, labels=truth.labels, ignore=truth.ignore)
        detected = OrientedInstances(
            list(one["polygons"].numpy()), scores=one["scores"].numpy(), labels=one["labels"].numpy()
        )
        pairs.append((wanted, detected))
    return pairs


def _mean_average_precision(objects: list[tuple[OrientedInstances, OrientedInstances]]) -> float:
    """Of DOTA's Task 1, over the classes that are there; 0 where there is none."""
    labels = [np.asarray(one.labels) for pair in objects for one in pair]
    count = 1 + max((int(values.max()) for values in labels if len(values)), default=0)
    metric = DotaEvaluation([str(label) for label in range(count)])
    for wanted, detected in objects:
        metric.update(wanted, detected)
    return float(np.nan_to_num(metric.compute().mean_average_precision))


def _read_labelled_words(model: TCMDetector, inputs: dict[str, Any]) -> list[list[tuple[str, str]]]:
    """Every word of each image's label that is not ignored, and what the recogniser makes of it."""
    assert isinstance(model, TCMForTextSpotting)  # no other model is trained without detection
    labels = labels_by_image(inputs["labels"])
    readable = [
        [i for i, word in enumerate(label_words(label)) if word is not None and not label["ignore"][i]]
        for label in labels
    ]
    points = torch.cat([label["control_points"][chosen] for label, chosen in zip(labels, readable, strict=True)])
    counts = torch.tensor([len(chosen) for chosen in readable], device=points.device)
    images = torch.arange(len(labels), device=points.device).repeat_interleave(counts)
    readings = iter(model.recognize(inputs["pixel_values"], points, images))
    return [
        [(label_words(label)[i] or "", next(readings).text) for i in chosen]
        for label, chosen in zip(labels, readable, strict=True)
    ]
