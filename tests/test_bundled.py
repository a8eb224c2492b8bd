"""The models that ship: small, fused, complete, able to find words and to read them."""

import json
from pathlib import Path

import pytest
import shapely
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open
from transformers import pipeline

from transformers_tcm import TCMForTextDetection, TCMImageProcessor, TextInstances, bundled_model_path, load_image
from transformers_tcm.evaluation import DetectionIoU, EndToEnd

IMAGES = Path(__file__).parents[1] / "examples" / "images"


LIMITS = {"fasttcm-dbnet-tiny": 16_000_000, "fasttcm-spotter-tiny": 24_000_000}
BUNDLED = pytest.mark.parametrize("name", LIMITS)


@BUNDLED
def test_weights_are_small_and_fused(name: str) -> None:
    weights = bundled_model_path(name) / "model.safetensors"
    assert weights.stat().st_size <= LIMITS[name]
    with safe_open(weights, framework="pt") as file:
        assert "model.fused_text_embedding" in file.keys()  # noqa: SIM118 (not a dict)
        assert not [key for key in file.keys() if "text_encoder" in key]  # noqa: SIM118


@BUNDLED
def test_card_states_what_was_measured(name: str) -> None:
    card = ModelCard.load(bundled_model_path(name) / "README.md")
    assert card.data.eval_results
    for result in card.data.eval_results:
        assert f"{result.metric_value:.3f}" in card.text
    assert "transformers-tcm evaluate" in card.text


@BUNDLED
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "README.md", "model.safetensors"])
def test_folder_is_complete(name: str, file: str) -> None:
    assert (bundled_model_path(name) / file).stat().st_size > 0


@pytest.fixture(scope="module")
def demo_row() -> dict:
    return json.loads((IMAGES / "street.jsonl").read_text(encoding="utf-8"))


def test_detector_finds_most_words_of_the_demo_photo(demo_row: dict) -> None:
    found = pipeline("text-detection")(IMAGES / demo_row["image"])
    metric = DetectionIoU()
    metric.update(TextInstances.from_json(demo_row), TextInstances.from_detections(found))
    result = metric.compute()
    assert result.recall >= 0.6
    assert result.precision >= 0.6


def test_spotter_reads_words_of_the_demo_photo(demo_row: dict) -> None:
    found = pipeline("text-spotting")(IMAGES / demo_row["image"])
    metric = EndToEnd()
    metric.update(TextInstances.from_json(demo_row), TextInstances.from_detections(found))
    assert metric.compute().recall >= 0.3


@pytest.mark.slow
def test_a_large_photo_is_read_as_if_all_its_pixels_were_decoded(tmp_path: Path) -> None:
    street = Image.open(IMAGES / "street.jpg").resize((4000, 2666), Image.Resampling.BICUBIC)
    street.save(tmp_path / "large.jpg", quality=90)
    spotter = pipeline("text-spotting")
    photos = (load_image(tmp_path / "large.jpg"), tmp_path / "large.jpg")
    for size in (960, 1600):
        inputs = [spotter.preprocess(photo, size=size)["images"] for photo in photos]
        pixels, reduced = (image["pixel_values"] for image in inputs)
        # One of 256 levels is a difference of 0.015 here.
        assert 0 < (pixels - reduced).abs().mean() < 0.02
        assert inputs[1]["target_sizes"].tolist() == [[2666, 4000]]
        words, same = (TextInstances.from_detections(spotter(photo, size=size)) for photo in photos)
        assert len(words) >= 8
        assert words.texts == same.texts
        for pair in zip(words.polygons, same.polygons, strict=True):
            one, other = map(shapely.Polygon, pair)
            assert one.intersection(other).area > 0.85 * one.union(other).area


def test_the_object_detection_pipeline_of_transformers_finds_the_same_boxes() -> None:
    """It hands the outputs on without their classes, and rounds boxes down to whole pixels."""
    name = "fasttcm-dbnet-tiny"
    model = TCMForTextDetection.from_pretrained(bundled_model_path(name), dtype="float32")
    processor = TCMImageProcessor.from_pretrained(bundled_model_path(name))
    photo = str(IMAGES / "street.jpg")
    settings = {"model": model, "image_processor": processor}
    boxes = [one["box"] for one in pipeline("object-detection", **settings)(photo, threshold=processor.box_threshold)]
    # It looks once, at full size.
    expected = [one["box"] for one in pipeline("text-detection", **settings)(photo, coarse_edge=0)]
    assert len(boxes) > 8
    assert boxes == [{side: int(value) for side, value in box.items()} for box in expected]
