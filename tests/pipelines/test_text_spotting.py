"""`pipeline("text-spotting")`, mostly with a spotter that reads where bright pixels are."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from spotting_fakes import BrightWords, photo, tiny_spotter_config
from tiny_settings import SETTINGS
from torch.utils.data import IterableDataset
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from transformers_tcm import (
    Lexicon,
    TCMConfig,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessorPil,
    TextSpottingPipeline,
    bundled_model_path,
)
from transformers_tcm.models.bundled import BUNDLED_MODELS, DEFAULT_SPOTTER

# What the fake reads of these: b1; a2; c1, a3; nothing; b1.
WORD = (60, 20, 120, 44)
PHOTOS = [
    photo(200, 100, WORD),
    photo(96, 160, (10, 50, 60, 70)),
    photo(200, 100, (20, 60, 90, 84), (104, 10, 180, 30)),
    photo(64, 64),
    photo(200, 98, WORD),
]
TEXTS = [["b1"], ["a2"], ["c1", "a3"], [], ["b1"]]


def processor(**settings: Any) -> TCMImageProcessorPil:
    defaults = {"size": {"longest_edge": 256}, "unclip_ratio": 0.0, "box_threshold": 0.4, "text_threshold": 0.2}
    return TCMImageProcessorPil(**{**defaults, **settings})


@pytest.fixture
def spotter() -> TextSpottingPipeline:
    return pipeline("text-spotting", model=BrightWords(), image_processor=processor())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spotter")
    torch.manual_seed(0)
    TCMForTextSpotting(tiny_spotter_config()).save_pretrained(folder)
    TCMImageProcessorPil(size={"longest_edge": 128}, text_threshold=0.0).save_pretrained(folder)
    return folder


def texts(results: Any) -> list[list[str]]:
    return [[word["text"] for word in found] for found in results]


def test_reads_a_word_where_it_is(spotter: TextSpottingPipeline) -> None:
    (found,) = spotter(PHOTOS[0])
    assert set(found) == {"score", "label", "box", "polygon", "text", "text_score", "line"}
    assert found["text"] == "b1"
    assert found["text_score"] == pytest.approx(0.8, abs=1e-4)
    assert found["score"] == pytest.approx(0.9, abs=0.03)
    np.testing.assert_allclose(list(found["box"].values()), WORD, atol=1.5)
    assert json.loads(json.dumps([found])) == [found]


def test_words_come_in_reading_order_and_not_by_score(spotter: TextSpottingPipeline) -> None:
    image = photo(200, 100, (10, 10, 60, 30), (110, 60, 160, 80), level=150)
    image.paste(photo(50, 20, (0, 0, 50, 20)), (110, 10))
    found = spotter(image)
    assert [word["text"] for word in found] == ["a1", "c1", "c3"]
    assert [word["line"] for word in found] == [0, 0, 1]
    np.testing.assert_allclose([word["score"] for word in found], [0.5, 0.9, 0.5], atol=0.03)


class Stream(IterableDataset):
    """A dataset without a length."""

    def __init__(self, images: list[Image.Image]):
        self.images = images

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self.images)


CONTAINERS: dict[str, Callable[[list[Image.Image]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda images: (image for image in images),
    "iterator": iter,
    "dataset": lambda images: datasets.Dataset.from_dict({"image": images}).cast_column("image", datasets.Image()),
    "column of a dataset": lambda images: datasets.Dataset.from_dict({"photo": images}).cast_column(
        "photo", datasets.Image()
    )["photo"],
    "column of a streamed dataset": lambda images: (
        datasets.Dataset.from_dict({"photo": images})
        .cast_column("photo", datasets.Image())
        .to_iterable_dataset()["photo"]
    ),
    "undecoded dataset": lambda images: datasets.Dataset.from_dict({"image": images}).cast_column(
        "image", datasets.Image(decode=False)
    ),
    "torch stream": lambda images: Stream(images),
    "rows": lambda images: [{"image": image} for image in images],
    "key of a dataset": lambda images: KeyDataset([{"photo": image} for image in images], "photo"),
    "streamed dataset": lambda images: (
        datasets.Dataset.from_dict({"image": images}).cast_column("image", datasets.Image()).to_iterable_dataset()
    ),
}


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_many_images_give_what_each_gives(kind: str, batch_size: int, spotter: TextSpottingPipeline) -> None:
    results = list(spotter(CONTAINERS[kind](PHOTOS), batch_size=batch_size))
    assert results == [spotter(image) for image in PHOTOS]
    assert texts(results) == TEXTS


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_image_may_have_its_own_lexicon(kind: str, batch_size: int, spotter: TextSpottingPipeline) -> None:
    lexicons = [["B2"], None, Lexicon(["c9", "xyz"]), ["word"], ["first", "other"]]
    results = spotter(CONTAINERS[kind](PHOTOS), lexicon=lexicons, batch_size=batch_size)
    assert texts(results) == [["B2"], ["a2"], ["c9"], [], []]


def test_no_images_no_results(spotter: TextSpottingPipeline) -> None:
    assert spotter([]) == []
    assert list(spotter(image for image in ())) == []
    assert spotter(PHOTOS[3]) == []
    assert spotter(PHOTOS[3], lexicon=["word"]) == []


def test_one_lexicon_for_all_images(spotter: TextSpottingPipeline) -> None:
    words = ["B1", "A9"]
    assert texts(spotter(PHOTOS, lexicon=words)) == [["B1"], ["A9"], ["B1", "A9"], [], ["B1"]]
    assert texts(spotter(PHOTOS, lexicon=Lexicon(words))) == texts(spotter(PHOTOS, lexicon=words))
    (found,) = spotter(PHOTOS[0], lexicon=["b9"])
    assert found["text"] == "b9"
    assert found["text_score"] == pytest.approx(0.8, abs=1e-4)


def test_lexicon_rules(spotter: TextSpottingPipeline) -> None:
    words = ["xyz", "xy"]
    assert spotter(PHOTOS[0], lexicon=words) == []
    assert texts([spotter(PHOTOS[0], lexicon=words, max_distance=2.5)]) == [["xy"]]
    assert texts([spotter(PHOTOS[0], lexicon=words, lexicon_rule="nearest")]) == [["xy"]]
    assert texts([spotter(PHOTOS[0], lexicon=words, lexicon_rule="weighted")]) == [["xy"]]
    assert spotter(PHOTOS[0], lexicon=words, lexicon_rule="weighted", max_distance=1) == []


def test_settings_of_the_pipeline_hold_until_a_call_says_otherwise() -> None:
    strict = pipeline(
        "text-spotting", model=BrightWords(), image_processor=processor(), lexicon=["b7"], text_threshold=0.95
    )
    assert strict(PHOTOS[0]) == []
    assert texts([strict(PHOTOS[0], text_threshold=0.5)]) == [["b7"]]
    assert texts([strict(PHOTOS[0], text_threshold=0.5, lexicon=["b8"])]) == [["b8"]]
    assert texts(strict(PHOTOS[:1], text_threshold=0.5, lexicon=[None])) == [["b1"]]


def test_thresholds_decide_what_is_decoded_and_kept(spotter: TextSpottingPipeline) -> None:
    grey = photo(200, 100, WORD, level=150)
    assert texts([spotter(grey)]) == [["b1"]]
    assert spotter(grey, text_threshold=0.5) == []
    assert spotter(grey, box_threshold=0.6) == []
    assert spotter(grey, threshold=0.6) == []
    assert len(spotter(PHOTOS[2], max_candidates=1)) == 1
    assert spotter.model.decodings[0] == spotter.image_processor.decoding_settings().__dict__
    assert spotter.model.decodings[-1] == {**spotter.image_processor.decoding_settings().__dict__, "max_candidates": 1}


def test_size_is_that_of_the_network_input(spotter: TextSpottingPipeline) -> None:
    spotter(PHOTOS[0], size=64)
    assert spotter.model.shapes[-1][2:] == (32, 64)


def test_a_processor_without_text_threshold_keeps_every_reading() -> None:
    of_a_detector = processor(text_threshold=None)
    spotter = pipeline("text-spotting", model=BrightWords(), image_processor=of_a_detector)
    assert texts([spotter(photo(200, 100, WORD, level=150))]) == [["b1"]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lexicon": []}, ValueError, "lexicon is empty"),
        ({"lexicon": [["b1"], []]}, ValueError, "lexicon is empty"),
        ({"lexicon": ["b1", "señor"]}, ValueError, "cannot read: 'Ñ' in 'señor'"),
        ({"lexicon": [["b1"], ["Ωmega"]]}, ValueError, "cannot read: 'Ω' in 'Ωmega'"),
        ({"lexicon": [["b1"]]}, ValueError, "1 lexicons for 2 images"),
        ({"lexicon": [["b1"], None, None]}, ValueError, "3 lexicons for 2 images"),
        ({"lexicon": "b1"}, TypeError, "list of words"),
        ({"lexicon": ["b1", ["b2"]]}, TypeError, "list of both"),
        ({"lexicon": ["b1", 12.5]}, TypeError, r"expected strings, got 12\.5"),
        ({"lexicon": [b"b1"]}, TypeError, "expected strings, got b'b1'"),
        ({"text_threshold": "0.5"}, ValueError, "`text_threshold` is '0.5'; expected a number"),
        ({"lexicon": ["b1"], "lexicon_rule": "closest"}, ValueError, "unknown lexicon rule 'closest'"),
        ({"lexicon": ["b1"], "lexicon_rule": "nearest", "max_distance": 2}, ValueError, "takes every distance"),
        ({"text_threshold": 1.5}, ValueError, r"`text_threshold` is 1\.5"),
        ({"lexikon": ["b1"]}, TypeError, "lexikon; it takes .*lexicon"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str, spotter: TextSpottingPipeline
) -> None:
    with pytest.raises(error, match=message):
        spotter([PHOTOS[0], PHOTOS[2]], **arguments)


@pytest.mark.parametrize(("count", "message"), [(1, "1 lexicons for more images"), (3, "3 lexicons for 2 images")])
def test_lexicons_and_images_of_a_generator_are_counted(
    count: int, message: str, spotter: TextSpottingPipeline
) -> None:
    with pytest.raises(ValueError, match=message):
        list(spotter((image for image in PHOTOS[:2]), lexicon=[["b1"]] * count))
    with pytest.raises(ValueError, match=message):
        list(spotter(Stream(PHOTOS[:2]), lexicon=[["b1"]] * count))


def test_lexicons_of_single_images_cannot_be_given_beforehand() -> None:
    with pytest.raises(TypeError, match="go with a call"):
        pipeline("text-spotting", model=BrightWords(), image_processor=processor(), lexicon=[["b1"]])


def test_a_detector_is_refused(tmp_path: Path) -> None:
    detector = TCMForTextDetection(TCMConfig(**SETTINGS))
    with pytest.raises(TypeError, match="TCMForTextDetection is no text spotter; expected a TCMForTextSpotting"):
        pipeline("text-spotting", model=detector, image_processor=processor())
    detector.save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="describes a detector"):
        pipeline("text-spotting", model=tmp_path)


def test_a_spotter_detects_as_well(checkpoint: Path) -> None:
    """Loaded as a detector, or given as an object."""
    options = {"threshold": 0.3, "box_threshold": 0.0, "min_size": 0}
    noise = np.random.default_rng(0).integers(0, 256, size=(60, 100, 3), dtype=np.uint8)
    loaded = pipeline("text-detection", model=checkpoint)
    assert type(loaded.model) is TCMForTextDetection
    model = TCMForTextSpotting.from_pretrained(checkpoint)
    given = pipeline("text-detection", model=model, image_processor=loaded.image_processor)
    found = loaded([noise, noise], batch_size=2, **options)
    assert found[0]
    assert set(found[0][0]) == {"score", "label", "box", "polygon"}
    assert given([noise, noise], batch_size=2, **options) == found


def test_a_real_network_reads_in_batches_what_it_reads_one_by_one(checkpoint: Path) -> None:
    real = pipeline("text-spotting", model=checkpoint, threshold=0.3, box_threshold=0.0, min_size=0)
    noise = np.random.default_rng(0).integers(0, 256, size=(3, 60, 100, 3), dtype=np.uint8)
    images = [noise[0], noise[1, :, :50], noise[2]]
    alone, batched = real(images), real(images, batch_size=3)
    assert sum(map(len, alone)) > 0
    assert texts(batched) == texts(alone)
    for one, other in zip(alone, batched, strict=True):
        np.testing.assert_allclose(
            [word["text_score"] for word in other], [word["text_score"] for word in one], atol=1e-4
        )


def test_save_pretrained_can_be_loaded(checkpoint: Path, tmp_path: Path) -> None:
    options = {"threshold": 0.3, "box_threshold": 0.0, "min_size": 0}
    original = pipeline("text-spotting", model=checkpoint)
    original.save_pretrained(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    loaded = pipeline("text-spotting", model=tmp_path)
    assert loaded.image_processor.text_threshold == 0.0
    found = loaded(PHOTOS[0], **options)
    assert found
    assert found == original(PHOTOS[0], **options)


def test_normal_use_is_silent(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    pipeline("text-spotting", model=checkpoint)(PHOTOS, batch_size=2)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.skipif(not (BUNDLED_MODELS / DEFAULT_SPOTTER).is_dir(), reason="the weights are not in this checkout")
def test_default_model_is_the_bundled_one() -> None:
    default = pipeline("text-spotting")
    assert Path(default.model.name_or_path) == bundled_model_path(DEFAULT_SPOTTER)
    assert default(PHOTOS[3]) == []
