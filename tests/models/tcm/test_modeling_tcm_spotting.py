"""The spotter as a whole: labels and losses, proposals and readings, saving, freezing, precision."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_settings import READER
from torch import nn

from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm import attention_tcm
from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.heads.base import Regions
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from transformers_tcm.models.tcm.losses_tcm import dice_loss
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection
from transformers_tcm.models.tcm.modeling_tcm_spotting import TCMForTextSpotting, TCMTextSpottingOutput
from transformers_tcm.models.tcm.post_processing_tcm import instances_of_images
from transformers_tcm.models.tcm.recognition import splitting
from transformers_tcm.models.tcm.recognition.proposals import outlines_to_bezier
from transformers_tcm.models.tcm.recognition.sampling import quads_to_bezier
from transformers_tcm.models.tcm.score_calibration import ScoreCalibration
from transformers_tcm.training import freeze_all_but, freeze_detector

Make = Callable[..., TCMForTextSpotting]
WORD = np.float32([[10, 12], [70, 10], [72, 34], [12, 36]])
OTHER = np.float32([[8, 40], [50, 40], [50, 58], [8, 58]])
DECODERS = ("ctc", "attention")
# So low that random weights propose something.
EVERYTHING = {"threshold": 0.5, "box_threshold": 0.0, "min_size": 1}
LOSSES = {"loss_prob", "loss_binary", "loss_threshold", "loss_score_map", "loss_reading"}


@pytest.fixture
def small_spotter(small_config: Callable[..., TCMConfig]) -> Make:
    """Makes a spotter with the same random weights each time, in evaluation mode."""

    def make(recognizer: dict | None = None, **overrides: Any) -> TCMForTextSpotting:
        torch.manual_seed(0)
        config = small_config(recognizer={**READER, **(recognizer or {})}, **overrides)
        return TCMForTextSpotting(config).eval()

    return make


def random_pixels(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(1))


def labelled_batch(
    config: TCMConfig,
    images: list[tuple[tuple[int, int], TextInstances]],
    train_detection: bool = True,
    words_only: tuple[int, ...] = (),
) -> dict:
    """What the data loader gives for images of these sizes with these instances, some of which only hold words."""
    processor = TCMImageProcessorPil(do_resize=False)
    rng = np.random.default_rng(0)
    items = []
    for index, (size, instances) in enumerate(images):
        image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        batch = processor(image, annotations=instances, return_tensors="pt")
        items.append({name: batch[name][0] for name in ("pixel_values", "pixel_mask", "labels")})
        items[-1]["train_detection"] = index not in words_only
    return TextDetectionCollator(config, train_detection)(items)


def propose(model: TCMForTextSpotting, *boxes: tuple[int, int, int, int]) -> None:
    """Make the head find these boxes (left, top, right, bottom), with falling scores, in the first image."""

    def instead(module: nn.Module, arguments: Any, output: Any) -> Any:
        output.prob_map = torch.zeros_like(output.prob_map)
        for index, (left, top, right, bottom) in enumerate(boxes):
            output.prob_map[0, 0, top:bottom, left:right] = 1.0 - 0.1 * index
        return output

    model.head.register_forward_hook(instead)


def regions_of(outputs: TCMTextSpottingOutput) -> Regions:
    assert outputs.counts is not None
    return Regions(outputs.points, outputs.counts, outputs.batch_indices, outputs.scores, outputs.labels)


def texts_of(outputs: Any) -> list[str]:
    """What was read of each proposal."""
    return ["".join(chr(code) for code in row if code) for row in outputs["sequences"].tolist()]


NO_TEXT = TextInstances([])
READABLE = TextInstances([WORD, OTHER], texts=["Sale", "50%"], ignore=np.array([False, False]))
UNKNOWN = TextInstances([WORD], texts=[None], ignore=np.array([False]))
WITHOUT_TEXTS = TextInstances([WORD], ignore=np.array([False]))
IGNORED = TextInstances([WORD], texts=["Sale"], ignore=np.array([True]))
SOME = TextInstances([WORD, OTHER], texts=["Sale", None], ignore=np.array([False, False]))


@pytest.mark.parametrize(
    "instances",
    [[READABLE], [NO_TEXT, NO_TEXT], [READABLE, NO_TEXT], [UNKNOWN], [WITHOUT_TEXTS], [IGNORED, SOME]],
    ids=["words", "no text", "words and none", "unknown words", "no texts", "ignored and some"],
)
@pytest.mark.parametrize("decoder", DECODERS)
def test_losses_and_gradients_are_finite(small_spotter: Make, decoder: str, instances: list[TextInstances]) -> None:
    model = small_spotter({"decoder": decoder}).train()
    batch = labelled_batch(model.config, list(zip([(64, 96), (96, 64)], instances, strict=False)))
    outputs = model(**batch)
    assert set(outputs.loss_dict) == LOSSES
    assert torch.isfinite(outputs.loss)
    torch.testing.assert_close(outputs.loss, sum(outputs.loss_dict.values()))
    readable = any(index in (0, 4) for index in map(id_of, instances))
    assert (outputs.loss_dict["loss_reading"] > 0) == readable
    outputs.loss.backward()
    # Every process of a distributed training needs a gradient for every weight of the recogniser.
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.recognizer.parameters())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def id_of(instances: TextInstances) -> int:
    return [id(one) for one in (READABLE, NO_TEXT, UNKNOWN, IGNORED, SOME, WITHOUT_TEXTS)].index(id(instances))


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_weight_learns(small_spotter: Make, decoder: str) -> None:
    model = small_spotter({"decoder": decoder, "dropout": 0.0}).train()
    model(**labelled_batch(model.config, [((64, 96), READABLE)])).loss_dict["loss_reading"].backward()
    without = [name for name, p in model.recognizer.named_parameters() if not p.grad.abs().sum() > 0]
    # A softmax does not see what is added to all of its logits.
    assert without in ([], ["decoder.energy.bias"])
    assert next(model.model.backbone.stem.parameters()).grad.abs().sum() > 0


def test_words_of_unknown_reading_do_not_train_the_recogniser(small_spotter: Make) -> None:
    """What is read, and its gradient, is the same with an unknown and an ignored word beside the readable one."""
    gradients, losses = [], []
    one = TextInstances([WORD], texts=["Sale"], ignore=np.array([False]))
    more = TextInstances([WORD, OTHER, OTHER], texts=["Sale", None, "x"], ignore=np.array([False, False, True]))
    for instances in (one, more):
        model = small_spotter({"jitter": 0.0, "dropout": 0.0}).train()
        losses.append(model(**labelled_batch(model.config, [((64, 96), instances)])).loss_dict["loss_reading"])
        losses[-1].backward()
        gradients.append([parameter.grad for parameter in model.recognizer.parameters()])
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_ignored_words_are_not_read_whatever_their_label_says(small_spotter: Make) -> None:
    model = small_spotter().train()
    batch = labelled_batch(model.config, [((64, 96), READABLE)])
    batch["labels"]["ignore"][:] = True
    assert model(**batch).loss_dict["loss_reading"] == 0


@pytest.mark.parametrize("decoder", DECODERS)
def test_words_of_several_lengths_are_padded(small_spotter: Make, decoder: str) -> None:
    """The labels of a batch need not be equally long, and what fills them up is not learned."""
    model = small_spotter({"decoder": decoder})
    short, long = TextInstances([WORD], texts=["a"]), TextInstances([WORD], texts=["abcdefg"])
    batch = labelled_batch(model.config, [((64, 96), short), ((64, 96), long)])
    assert (batch["labels"]["char_ids"] > 0).sum(dim=1).tolist() == [1, 7]
    with torch.no_grad():
        loss = model(**batch, decoding=EVERYTHING).loss_dict["loss_reading"]
        batch["labels"]["char_ids"] = nn.functional.pad(batch["labels"]["char_ids"], (0, 5))
        torch.testing.assert_close(model(**batch).loss_dict["loss_reading"], loss)


def test_recogniser_alone(small_spotter: Make) -> None:
    """Without detection the same reading loss, and nothing of the detector behind the stem is run."""
    model = small_spotter({"jitter": 0.0})
    batch = labelled_batch(model.config, [((64, 96), READABLE)])
    expected = model(**batch).loss_dict["loss_reading"]
    model.model.backbone.stages.register_forward_hook(lambda *_: pytest.fail("the stages ran"))
    model.head.register_forward_hook(lambda *_: pytest.fail("the head ran"))
    alone = labelled_batch(model.config, [((64, 96), READABLE)], train_detection=False)
    assert set(alone["labels"]) == {
        "points",
        "counts",
        "ignore",
        "word_counts",
        "orig_size",
        "char_ids",
        "control_points",
    }
    outputs = model(**alone)
    torch.testing.assert_close(outputs.loss, expected)
    assert set(outputs.loss_dict) == {"loss_reading"}


@pytest.mark.parametrize("feature_stride", [2, 4])
def test_features_of_both_strides(small_spotter: Make, feature_stride: int) -> None:
    """The map that words are cut out of has this stride, whether or not the whole model is run."""
    model = small_spotter({"feature_stride": feature_stride, "jitter": 0.0})
    assert model.recognizer.sampler.stride == feature_stride
    pixels = random_pixels(2, 3, 64, 96)
    with torch.no_grad():
        features = model._reading_features(pixels)
        outputs = model.model(pixels)
    expected = outputs.stem_features if feature_stride == 2 else outputs.feature_maps[0]
    assert features.shape[2:] == (64 // feature_stride, 96 // feature_stride)
    torch.testing.assert_close(features, expected)
    batches = [labelled_batch(model.config, [((64, 96), READABLE)], alone) for alone in (True, False)]
    joint, alone = (model(**batch).loss_dict["loss_reading"] for batch in batches)
    torch.testing.assert_close(joint, alone)


@pytest.mark.parametrize("decoder", DECODERS)
def test_detector_and_spotter_share_weights(small_spotter: Make, tmp_path: Path, decoder: str) -> None:
    spotter, pixels = small_spotter({"decoder": decoder}), random_pixels(1, 3, 64, 96)
    spotter.save_pretrained(tmp_path / "spotter")
    detector, report = TCMForTextDetection.from_pretrained(
        tmp_path / "spotter", recognizer=None, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert all(name.startswith("recognizer.") for name in report["unexpected_keys"])
    detector.save_pretrained(tmp_path / "detector")
    assert TCMConfig.from_pretrained(tmp_path / "detector").recognizer is None
    again, report = TCMForTextSpotting.from_pretrained(
        tmp_path / "detector", recognizer={**READER, "decoder": decoder}, output_loading_info=True
    )
    assert not report["unexpected_keys"]
    assert set(report["missing_keys"]) == {f"recognizer.{name}" for name in spotter.recognizer.state_dict()} - {
        f"recognizer.{name}" for name in spotter.recognizer.state_dict() if "num_batches_tracked" in name
    }
    with torch.no_grad():
        maps = [model(pixels).head_output.prob_map for model in (spotter, detector, again)]
    torch.testing.assert_close(maps[1], maps[0])
    torch.testing.assert_close(maps[2], maps[0])
    # New weights start as those of a new model do: of one size, not whatever was in memory.
    for name, parameter in again.recognizer.named_parameters():
        new = spotter.recognizer.get_parameter(name)
        assert parameter.abs().max() <= 2 * new.abs().max() + 1e-6, name
        assert parameter.detach().std(correction=0) >= 0.5 * new.detach().std(correction=0), name


def test_without_prompting_it_finds_and_reads(small_spotter: Make) -> None:
    model = small_spotter(prompting="none")
    batch = labelled_batch(model.config, [((64, 96), TextInstances([WORD], texts=["abc"]))])
    assert set(model.train()(**batch).loss_dict) == LOSSES - {"loss_score_map"}
    with torch.no_grad():
        outputs = model.eval()(random_pixels(1, 3, 64, 96), decoding=EVERYTHING)
    assert outputs.score_map is None
    assert len(outputs.char_logits) == len(outputs.scores) > 0


def test_a_detector_is_no_spotter(small_config: Callable[..., TCMConfig]) -> None:
    with pytest.raises(ValueError, match=r"describes a detector; `recognizer=\{\}` adds"):
        TCMForTextSpotting(small_config())


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_found_and_read(small_spotter: Make, decoder: str) -> None:
    model = small_spotter({"decoder": decoder})
    propose(model, (20, 10, 80, 24), (20, 40, 60, 52))
    with torch.no_grad():
        outputs = model(random_pixels(2, 3, 64, 96))
    assert outputs.loss is None
    assert outputs.counts.tolist() == [4, 4]
    assert outputs.points.shape == (8, 2)
    assert outputs.batch_indices.tolist() == [0, 0]
    assert outputs.char_logits.shape == (2, 1, 16 if decoder == "ctc" else 7, 97)
    assert outputs.labels.tolist() == [0, 0]
    found, nothing = instances_of_images(regions_of(outputs), 2)
    assert len(found) == 2
    assert len(nothing) == 0
    assert sorted(found.scores.tolist()) == pytest.approx([0.9, 1.0])
    upper = found.polygons[int(found.scores.argmax())]
    assert ((upper >= [10, 2]) & (upper <= [90, 32])).all()  # grown by the unclipping
    assert len(texts_of(outputs)) == 2
    longest = max(1, *map(len, texts_of(outputs)))
    assert outputs.sequences.shape == (2, longest)
    assert outputs.char_probabilities.shape == (2, longest, 95)
    assert ((outputs.text_scores >= 0) & (outputs.text_scores <= 1)).all()
    assert all(isinstance(value, (torch.Tensor, tuple)) for name, value in outputs.items() if name != "head_output")
    for name, value in model.read(outputs.char_logits).items():
        assert torch.equal(outputs[name], value)


def test_proposals_are_read_where_they_are(small_spotter: Make) -> None:
    """The readings of the proposals are those of `recognize` at their corners."""
    model = small_spotter()
    propose(model, (20, 10, 80, 24), (20, 40, 60, 52))
    pixels = random_pixels(2, 3, 64, 96)
    with torch.no_grad():
        outputs = model(pixels)
        quads = outputs.points.unflatten(0, (2, 4))
        readings = model.recognize(pixels, quads_to_bezier(quads), outputs.batch_indices)
    assert [reading.text for reading in readings] == texts_of(outputs)
    np.testing.assert_allclose([reading.score for reading in readings], outputs.text_scores, atol=1e-5)
    for reading, probabilities in zip(readings, outputs.char_probabilities, strict=True):
        np.testing.assert_allclose(reading.probabilities, probabilities[: len(reading.text)], atol=1e-5)
        assert not probabilities[len(reading.text) :].any()


def test_tall_proposals_are_read_the_way_they_are_read_best(small_spotter: Make, monkeypatch: Any) -> None:
    """Across, down or up, whichever gives the surest reading; their corners then start where the word does."""
    model = small_spotter()
    propose(model, (20, 8, 30, 60), (50, 20, 90, 32))
    calls = []

    def read(features: torch.Tensor, control_points: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Surest in the second of the three glances: a word that runs down, from its upper right corner."""
        calls.append(control_points)
        logits = torch.zeros(len(images), 16, 97)
        logits[:, 0, 1] = [5.0, 9.0, 3.0, 4.0][len(calls) - 1]
        return logits

    monkeypatch.setattr(model.recognizer, "forward", read)
    with torch.no_grad():
        outputs = model(random_pixels(2, 3, 64, 96))
    # The tall one in three directions, and then both as they are taken to run.
    assert [len(points) for points in calls] == [1, 1, 1, 2]
    polygons = regions_of(outputs).polygons()
    tall, wide = sorted(range(2), key=lambda index: np.ptp(polygons[index][:, 0]))
    for index, (right, low) in ((tall, (True, False)), (wide, (False, False))):
        polygon = polygons[index]
        assert (polygon[0] > polygon.mean(axis=0)).tolist() == [right, low]
        torch.testing.assert_close(torch.from_numpy(polygon[[0, 1, 2, 3]]), calls[3][index][[0, 3, 4, 7]])


def test_words_that_grew_together_are_read_apart(small_spotter: Make, monkeypatch: Any) -> None:
    """Two words with a bridge between them are one proposal, until they turn out to read better alone."""
    model, pixels = small_spotter(), random_pixels(2, 3, 64, 128)
    propose(model, (10, 10, 50, 22), (56, 10, 96, 22), (20, 40, 60, 52))

    def bridge(module: nn.Module, arguments: Any, output: Any) -> Any:
        output.prob_map[0, 0, 10:22, 50:56] = 0.5
        return output

    model.head.register_forward_hook(bridge)

    def read(features: torch.Tensor, control_points: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """What is wide reads badly."""
        wide = (control_points[:, 3, 0] - control_points[:, 0, 0]) > 80
        logits = torch.zeros(len(images), 16, 97)
        logits[:, :, 96] = 12.0
        logits[:, :8:2] = 0.0
        logits[:, :8:2, 33] = torch.where(wide, 4.0, 12.0)[:, None]
        return logits

    monkeypatch.setattr(model.recognizer, "forward", read)
    with torch.no_grad():
        outputs = model(pixels)
    boxes = sorted(
        (polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()) for polygon in regions_of(outputs).polygons()
    )
    assert len(boxes) == 3
    assert boxes[0][1][0] < 60 < boxes[2][1][0]
    assert texts_of(outputs) == ["AAAA"] * 3
    assert outputs.char_logits.shape[0] == outputs.text_scores.shape[0] == 3
    assert outputs.batch_indices.tolist() == [0, 0, 0]


@pytest.mark.parametrize("splits", [True, False])
def test_words_with_a_space_between_them_are_told_apart(small_spotter: Make, monkeypatch: Any, splits: bool) -> None:
    """A proposal that looks like two words becomes these two, where the recogniser is to split at spaces."""
    model, pixels = small_spotter({"split_at_spaces": splits}), random_pixels(2, 3, 64, 128)
    propose(model, (10, 10, 100, 22), (20, 40, 60, 52))

    def read(features: torch.Tensor, control_points: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """`AA AA` in what is wide, `AA` elsewhere."""
        wide = (control_points[:, 3, 0] - control_points[:, 0, 0]) > 80
        logits = torch.zeros(len(images), 16, 97)
        logits[:, :, 96] = 12.0
        everywhere = torch.ones_like(wide)
        for step, character, where in (
            (2, 33, everywhere),
            (5, 33, everywhere),
            (8, 0, wide),
            (10, 33, wide),
            (14, 33, wide),
        ):
            logits[where, step, 96] = 0.0
            logits[where, step, character] = 12.0
        return logits

    monkeypatch.setattr(model.recognizer, "forward", read)
    with torch.no_grad():
        outputs = model(pixels)
    if not splits:
        assert sorted(texts_of(outputs)) == ["AA", "AA AA"]
        return
    assert texts_of(outputs) == ["AA"] * 3
    assert outputs.batch_indices.tolist() == [0, 0, 0]
    first, second = sorted(
        (polygon for polygon in regions_of(outputs).polygons() if polygon[0, 1] < 30), key=lambda polygon: polygon[0, 0]
    )
    # The space is a little right of the middle, and wider than nothing.
    assert 48 < first[1, 0] < 60 < second[0, 0] + 8
    assert first[1, 0] <= second[0, 0]
    assert len(first) == len(second) == 4


def test_words_are_read_from_where_they_begin_to_where_they_end(small_spotter: Make, monkeypatch: Any) -> None:
    """A proposal of two words, the second of which it cuts off, becomes these two; each is read again."""
    model, pixels = small_spotter({"word_boundaries": True}), random_pixels(2, 3, 64, 128)
    propose(model, (10, 10, 100, 22), (20, 40, 60, 52))

    def find(features: torch.Tensor, control_points: torch.Tensor, images: torch.Tensor) -> list:
        wide = (control_points[:, 3, 0] - control_points[:, 0, 0]) > 80
        return [[(0.0, 0.4), (0.5, 1.1)] if word else [(0.0, 1.0)] for word in wide]

    monkeypatch.setattr(model.recognizer, "find_words", find)
    monkeypatch.setattr(splitting, "_LEAST_GAIN_OF_SEVERAL", -1.0)  # random weights read nothing surely
    with torch.no_grad():
        outputs = model(pixels)
        plain = model.recognizer(*places_of(model, pixels, outputs))
    assert len(outputs.scores) == 3
    torch.testing.assert_close(outputs.char_logits[:, 0], plain)
    first, second = (polygon for polygon in regions_of(outputs).polygons() if polygon[0, 1] < 30)
    begin, length = first[0, 0], (first[1, 0] - first[0, 0]) / 0.4
    np.testing.assert_allclose(second[[0, 1], 0], begin + length * np.array([0.5, 1.1]), atol=0.1)


def places_of(model: TCMForTextSpotting, pixels: torch.Tensor, outputs: Any) -> tuple[torch.Tensor, ...]:
    """What a recogniser reads the proposals of an output from."""
    curves = outlines_to_bezier(regions_of(outputs).polygons())
    return model._reading_features(pixels), curves, outputs.batch_indices


@pytest.mark.parametrize("instances", [READABLE, NO_TEXT, IGNORED, UNKNOWN])
def test_boundaries_alone_are_trained(small_spotter: Make, instances: TextInstances) -> None:
    """Of all labels that are not ignored, readable or not; every other weight and statistic stays what it is."""
    model = small_spotter({"word_boundaries": True, "train_on_proposals": True, "dropout": 0.1})
    freeze_all_but(model, ["recognizer.boundaries"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    losses = model.train()(**labelled_batch(model.config, [((64, 96), instances)])).loss_dict
    assert set(losses) == LOSSES | {"loss_boundaries"}
    assert (losses["loss_boundaries"] > 0) == (instances is not NO_TEXT and instances is not IGNORED)
    losses["loss_boundaries"].backward()
    optimizer.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert all(name.startswith("recognizer.boundaries.") for name in moved)
    assert bool(moved) == (instances is not NO_TEXT and instances is not IGNORED)


def test_collages_teach_no_boundaries(small_spotter: Make) -> None:
    """Words of collages have neighbours without labels."""
    model = small_spotter({"word_boundaries": True, "jitter": 0.0})
    both = labelled_batch(model.config, [((64, 96), READABLE), ((64, 96), READABLE)], words_only=(0,))
    alone = labelled_batch(model.config, [((64, 96), READABLE)])
    alone["pixel_values"] = both["pixel_values"][1:]
    with torch.no_grad():
        losses = [model(**batch).loss_dict["loss_boundaries"] for batch in (both, alone)]
        assert "loss_boundaries" not in (model(**{**both, "train_detection": False}).loss_dict)
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("decoder", DECODERS)
def test_images_without_text(small_spotter: Make, decoder: str) -> None:
    model = small_spotter({"decoder": decoder})
    propose(model)
    with torch.no_grad():
        outputs = model(random_pixels(2, 3, 64, 96))
    assert outputs.points.shape == (0, 2)
    assert outputs.counts.shape == outputs.batch_indices.shape == outputs.scores.shape == (0,)
    assert outputs.char_logits.shape == (0, 1, 16 if decoder == "ctc" else 7, 97)
    assert [len(instances) for instances in instances_of_images(regions_of(outputs), 2)] == [0, 0]
    assert outputs.sequences.shape[0] == outputs.text_scores.shape[0] == outputs.char_probabilities.shape[0] == 0
    words = TCMImageProcessorPil(text_threshold=0.0).post_process_text_spotting(outputs, [(64, 96)] * 2)
    assert [image["texts"] for image in words] == [[], []]


def test_decoding_settings_decide_what_is_proposed(small_spotter: Make) -> None:
    model, pixels = small_spotter(), random_pixels(1, 3, 64, 96)
    propose(model, (20, 10, 80, 24), (20, 40, 60, 52), (70, 40, 90, 52))

    def scores(**decoding: Any) -> list[float]:
        with torch.no_grad():
            return sorted(model(pixels, decoding=decoding).scores.tolist())

    assert scores() == pytest.approx([0.8, 0.9, 1.0])
    assert scores(box_threshold=0.85) == pytest.approx([0.9, 1.0])
    assert scores(threshold=0.95) == pytest.approx([1.0])
    assert scores(max_candidates=1) == pytest.approx([1.0])
    assert scores(min_size=12) == pytest.approx([1.0])
    with torch.no_grad():
        small, large = (model(pixels, decoding={"unclip_ratio": ratio}).points for ratio in (0.5, 2.0))
        outline = model(pixels, decoding={"polygon": True})
    assert np.ptp(small.numpy(), axis=0).sum() < np.ptp(large.numpy(), axis=0).sum()
    assert (outline.counts > 4).any()
    with pytest.raises(TypeError, match="box_treshold"):
        model(pixels, decoding={"box_treshold": 0.5})


def test_the_checkpoints_thresholds_are_used(small_spotter: Make) -> None:
    """`model(**processor(image))` decodes with the settings of the image processor."""
    model = small_spotter()
    propose(model, (20, 10, 80, 24), (20, 40, 60, 52))
    processor = TCMImageProcessorPil(do_resize=False, text_threshold=0.0, box_threshold=0.95)
    image = np.zeros((64, 96, 3), np.uint8)
    with torch.no_grad():
        assert len(model(**processor(image)).scores) == 1
        assert len(model(**processor(image, box_threshold=0.5)).scores) == 2


@pytest.mark.parametrize("decoder", DECODERS)
def test_batch_equals_singles(small_spotter: Make, decoder: str) -> None:
    model, pixels = small_spotter({"decoder": decoder}), random_pixels(3, 3, 64, 96)
    with torch.no_grad():
        together = model(pixels, decoding=EVERYTHING)
        singles = [model(pixel[None], decoding=EVERYTHING) for pixel in pixels]
    assert len(together.scores) > 3
    assert together.batch_indices.bincount(minlength=3).tolist() == [len(single.scores) for single in singles]
    torch.testing.assert_close(together.points, torch.cat([single.points for single in singles]))
    assert texts_of(together) == [text for single in singles for text in texts_of(single)]
    scores = torch.cat([single.text_scores for single in singles])
    torch.testing.assert_close(together.text_scores, scores, atol=1e-4, rtol=0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_bfloat16_is_close_to_float32(small_spotter: Make, decoder: str) -> None:
    model, pixels = small_spotter({"decoder": decoder}), random_pixels(1, 3, 64, 96)
    propose(model, (20, 10, 80, 24), (20, 40, 60, 52))
    first_step = slice(0, 1)
    with torch.no_grad():
        expected = model(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            autocast = model(pixels)
        batch = labelled_batch(model.config, [((64, 96), READABLE)])
        loss = model(**batch).loss
        with torch.autocast("cpu", torch.bfloat16):
            assert model(**batch).loss == pytest.approx(float(loss), rel=0.05)
        stored = model.to(torch.bfloat16)(pixels.bfloat16())
    for outputs in (autocast, stored):
        assert outputs.points.dtype == torch.float32
        torch.testing.assert_close(outputs.points, expected.points)
        difference = outputs.char_logits[:, :, first_step].float() - expected.char_logits[:, :, first_step]
        assert difference.abs().mean() < 0.05
        assert len(texts_of(outputs)) == 2


def test_save_and_load(small_spotter: Make, tmp_path: Path) -> None:
    model, pixels = small_spotter({"charset": "абв", "decoder": "attention"}), random_pixels(1, 3, 64, 96)
    propose(model, (20, 10, 80, 24))
    model.save_pretrained(tmp_path)
    loaded, report = TCMForTextSpotting.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    propose(loaded, (20, 10, 80, 24))
    assert loaded.config.recognizer == model.config.recognizer
    assert loaded.config.architectures == ["TCMForTextSpotting"]
    with torch.no_grad():
        expected, got = model(pixels), loaded(pixels)
    torch.testing.assert_close(got.char_logits, expected.char_logits)
    assert loaded.recognizer.settings.charset == "абв"
    assert texts_of(got) == texts_of(expected)
    assert set(texts_of(got)[0]) <= set("абв\ufffd")


def test_a_language_model_chooses_what_is_read(small_spotter: Make, tmp_path: Path) -> None:
    """It is saved and loaded with the model, and can be left out of it."""
    language = {"context": 3, "embedding_size": 4, "hidden_size": 8, "weight": 5.0, "length_bonus": 3.0}
    model, pixels = small_spotter({"charset": "abc", "language_model": language}), random_pixels(1, 3, 64, 96)
    propose(model, (20, 10, 80, 24))
    end_or_c = model.recognizer.language_model.output[1].bias
    with torch.no_grad():
        end_or_c[3] = 10.0  # every word is "c" again and again
        outputs = model(pixels)
        without = model(pixels, use_language_model=False)
        unclear = model(pixels, text_threshold=1.0)
    [chosen], [seen] = texts_of(outputs), texts_of(without)
    assert chosen.count("c") > seen.count("c")
    # The score is that of what is reported: letters that spelling chose look less clear.
    assert 0 < outputs.text_scores.item() < without.text_scores.item()
    assert texts_of(unclear) == [seen]  # not searched for
    assert texts_of(model.read(outputs.char_logits)) == [chosen]
    assert texts_of(model.read(outputs.char_logits, use_language_model=False)) == [seen]
    assert texts_of(model.read(outputs.char_logits, text_threshold=1.0)) == [seen]
    points = outlines_to_bezier(regions_of(outputs).polygons())
    assert model.recognize(pixels, points, torch.zeros(1, dtype=torch.int64))[0].text == chosen
    model.save_pretrained(tmp_path)
    loaded, report = TCMForTextSpotting.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert loaded.recognizer.settings == model.recognizer.settings
    assert torch.equal(loaded.recognizer.language_model.output[1].bias, end_or_c)
    plain = TCMForTextSpotting.from_pretrained(tmp_path, recognizer={**model.config.recognizer, "language_model": None})
    assert plain.recognizer.language_model is None


def test_only_words_that_may_be_reported_are_searched_for(small_spotter: Make) -> None:
    """By the probability that is reported, where scores are calibrated: that of a word in a region that is sure is
    high enough, of one that is not it is too low."""
    language = {"context": 3, "embedding_size": 4, "hidden_size": 8, "weight": 5.0, "length_bonus": 3.0}
    model, pixels = small_spotter({"charset": "abc", "language_model": language}), random_pixels(1, 3, 64, 96)
    propose(model, (20, 10, 80, 24))
    calibration = {"bias": 0.0, "text_score": 1.0, "score": 1.0, "length": 1.0}
    with torch.no_grad():
        model.recognizer.language_model.output[1].bias[3] = 10.0  # every word is "c" again and again
        searched, look = model(pixels), model(pixels, use_language_model=False)
        ((score, text_score, text),) = zip(look.scores, look.text_scores, texts_of(look), strict=True)
        probability = ScoreCalibration(**calibration)(
            *(np.array([one]) for one in (text_score, score, len(text)))
        ).item()
        for threshold, expected in ((probability - 1e-4, searched), ((1 + probability) / 2, look)):
            found = model(pixels, text_threshold=threshold, score_calibration=calibration)
            assert texts_of(found) == texts_of(expected)
    assert texts_of(searched) != texts_of(look)


def test_training_leaves_the_language_model_alone(small_spotter: Make) -> None:
    model = small_spotter({"language_model": {"hidden_size": 8}}).train()
    freeze_detector(model)
    batch = labelled_batch(model.config, [((64, 96), TextInstances([WORD], texts=["abc"]))])
    model(**batch).loss.backward()
    trained = {name for name, parameter in model.recognizer.named_parameters() if parameter.grad is not None}
    expected = {name for name, _ in model.recognizer.named_parameters() if not name.startswith("language_model.")}
    assert trained == expected


def test_fused_equals_unfused(small_spotter: Make) -> None:
    model, pixels = small_spotter(), random_pixels(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(pixels, decoding=EVERYTHING)
        fused = model.fuse_text_embeddings()
        assert model.model.text_encoder is None
        outputs = fused(pixels, decoding=EVERYTHING)
    torch.testing.assert_close(outputs.head_output.prob_map, expected.head_output.prob_map)
    torch.testing.assert_close(outputs.char_logits, expected.char_logits)


def test_training_on_proposals(small_spotter: Make) -> None:
    """Proposals that lie on a word are read as that word, those that touch none as nothing, in training mode only."""
    model = small_spotter({"train_on_proposals": True, "jitter": 0.0})
    # Grown by the unclipping, the first lies on the first word; the second on none.
    propose(model, (18, 16, 64, 30), (60, 44, 90, 60))
    seen = []
    model.recognizer.sampler.register_forward_hook(lambda _, arguments, output: seen.append(len(arguments[1])))
    batch = labelled_batch(model.config, [((64, 96), READABLE)])
    model.train()(**batch).loss.backward()
    assert seen == [4]
    seen.clear()
    model.eval()(**batch)
    assert seen == [2, 2]  # the labels for the loss, then the proposals


def test_decoding_needs_no_gradients_switched_off(small_spotter: Make) -> None:
    """Neither to evaluate nor to train on proposals; what is found carries none, what is read does."""
    model = small_spotter({"train_on_proposals": True})
    batch = labelled_batch(model.config, [((64, 96), READABLE)])
    outputs = model(**batch, decoding=EVERYTHING)
    assert len(outputs.scores) > 0
    assert not outputs.points.requires_grad
    assert outputs.char_logits.requires_grad
    assert len(outputs.sequences) == len(outputs.counts) == len(outputs.scores)
    assert not outputs.text_scores.requires_grad
    model.train()(**batch, decoding=EVERYTHING).loss.backward()


@pytest.mark.parametrize("train_detection", [True, False])
def test_a_frozen_detector_stays_what_it_is(small_spotter: Make, train_detection: bool) -> None:
    """Not a bit of its weights and batch norm statistics moves, and it goes on finding what it found."""
    model, pixels = small_spotter(), random_pixels(1, 3, 64, 96)
    freeze_detector(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        found = model(pixels, decoding=EVERYTHING)
    batch = labelled_batch(model.config, [((64, 96), READABLE)], train_detection)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(**batch).loss.backward()
        optimizer.step()
    after = model.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved
    assert all(name.startswith("recognizer.") for name in moved)
    assert any("running_mean" in name for name in moved)
    with torch.no_grad():
        again = model.eval()(pixels, decoding=EVERYTHING)
    assert torch.equal(again.head_output.prob_map, found.head_output.prob_map)
    assert torch.equal(again.points, found.points)


def test_images_of_words_beside_photos(small_spotter: Make) -> None:
    """They train the recogniser as they would among photos, and leave detection and batch norms as if not there."""
    model = small_spotter({"jitter": 0.0}).train()
    both = labelled_batch(model.config, [((64, 96), READABLE), ((64, 96), READABLE)], words_only=(1,))
    assert both["train_detection"].tolist() == [True, False]
    assert len(both["labels"]["shrink_map"]) == 1
    photo = labelled_batch(model.config, [((64, 96), READABLE)])
    before = copy.deepcopy(model)
    alone = before(**photo).loss_dict
    losses = model(**both).loss_dict
    for name in alone:
        if name != "loss_reading":
            torch.testing.assert_close(losses[name], alone[name])
    statistics = {name: buffer for name, buffer in model.model.named_buffers() if "running" in name}
    assert statistics
    assert all(torch.equal(buffer, before.model.get_buffer(name)) for name, buffer in statistics.items())
    assert model.model.backbone.training


@pytest.mark.parametrize("words_only", [(1,), (0,), (0, 2)])
def test_words_beside_photos_are_read(small_spotter: Make, words_only: tuple[int, ...]) -> None:
    """The loss of a mixed batch is that of all words together, in whatever order."""
    model = small_spotter()
    images = [((64, 96), READABLE), ((64, 96), SOME), ((64, 96), UNKNOWN)]
    batch = labelled_batch(model.config, images, words_only=words_only)
    with torch.no_grad():
        together = model(**{**batch, "train_detection": False}).loss
        mixed = model(**batch).loss_dict["loss_reading"]
    torch.testing.assert_close(mixed, together)


def test_modes_of_a_frozen_detector(small_spotter: Make) -> None:
    model = small_spotter().train()
    assert model.model.training
    assert model.head.training
    freeze_detector(model)
    model.train()
    assert not model.model.training
    assert not model.head.training
    assert model.recognizer.training
    assert not model.eval().recognizer.training


def test_score_map_loss_is_a_dice_loss(small_spotter: Make) -> None:
    model = small_spotter()
    batch = labelled_batch(model.config, [((64, 96), READABLE), ((64, 96), NO_TEXT)])
    with torch.no_grad():
        outputs = model(**batch)
    logits = nn.functional.interpolate(outputs.score_map / 0.07, scale_factor=32, mode="bilinear").sigmoid()
    images = [
        dice_loss(logits[i : i + 1], *(batch["labels"][name][i][None, None].float() for name in names))
        for i, names in enumerate([("shrink_map", "shrink_mask")] * 2)
    ]
    torch.testing.assert_close(outputs.loss_dict["loss_score_map"], torch.stack(images).mean())


def test_in_training_only_labels_are_read(small_spotter: Make) -> None:
    model = small_spotter().train()
    outputs = model(**labelled_batch(model.config, [((64, 96), READABLE)]))
    assert outputs.char_logits is None
    assert outputs.sequences is None
    with pytest.raises(TypeError, match="in training mode a spotter reads the words of its labels"):
        TCMImageProcessorPil(text_threshold=0.0).post_process_text_spotting(outputs)


def test_bad_labels_are_named(small_spotter: Make) -> None:
    model = small_spotter()
    batch = labelled_batch(model.config, [((64, 96), READABLE)])
    with pytest.raises(ValueError, match="labels of 1 images for 2 images"):
        model(random_pixels(2, 3, 64, 96), labels=batch["labels"])
    with pytest.raises(TypeError, match="`labels` are of type list; expected a dictionary"):
        model(batch["pixel_values"], labels=[batch["labels"]])
    for name in ("control_points", "char_ids", "ignore", "word_counts"):
        labels = {key: value for key, value in batch["labels"].items() if key != name}
        with pytest.raises(ValueError, match=f"`labels` lack {name}; build them with the collator"):
            model(batch["pixel_values"], labels=labels, train_detection=False)


def packed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in the names that they were saved with when queries, keys and values had one projection."""
    old = {}
    for name, weight in weights.items():
        if ".word_attention.q_proj." in name:
            parts = [weights[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            old[name.replace(".word_attention.q_proj.", ".self_attn.in_proj_")] = torch.cat(parts)
        elif not re.search(r"\.word_attention\.[kv]_proj\.", name):
            old[name.replace(".word_attention.", ".self_attn.")] = weight
    return old


def test_recognisers_with_packed_projections_are_read(small_spotter: Make, tmp_path: Path) -> None:
    """Also after they have been saved again."""
    model = small_spotter()
    model.save_pretrained(tmp_path)
    old = packed(model.state_dict())
    assert any("in_proj_weight" in name for name in old)
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for _ in range(2):
        loaded, report = TCMForTextSpotting.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        weights = loaded.state_dict()
        assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
        loaded.save_pretrained(tmp_path)


def test_the_attention_implementation_is_that_of_the_recogniser_too(
    small_spotter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_spotter()
    states = random_pixels(3, 16, 16)
    layer = model.recognizer.encoder.layers[0]
    with torch.no_grad():
        expected = layer(states)
        model.set_attn_implementation("eager")
        calls = []
        eager = attention_tcm.eager_attention_forward
        monkeypatch.setattr(
            attention_tcm, "eager_attention_forward", lambda *args, **given: calls.append(1) or eager(*args, **given)
        )
        torch.testing.assert_close(layer(states), expected)
    assert calls
