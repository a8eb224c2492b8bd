"""`pipeline("text-detection")`, mostly with a detector that takes bright pixels for text."""

import json
import logging
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from detection_fakes import CONFIG, BrightPixels, box_of, photo
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch.utils.data import IterableDataset
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from transformers_tcm import (
    TCMForTextDetection,
    TCMImageProcessorPil,
    TCMModel,
    TextDetectionPipeline,
    bundled_model_path,
)
from transformers_tcm.images import ReducedImage
from transformers_tcm.pipelines.looks import CROP_MARGIN

WORD = (40, 20, 120, 44)
PHOTOS = [
    photo(200, 100, WORD),
    photo(96, 160, (10, 30, 60, 50)),
    photo(200, 100, (20, 60, 90, 84), (100, 10, 180, 30)),
    photo(64, 64),
    photo(200, 98, WORD),
]


@pytest.fixture
def detector() -> TextDetectionPipeline:
    processor = TCMImageProcessorPil(size={"longest_edge": 256}, unclip_ratio=0.0, box_threshold=0.4)
    return pipeline("text-detection", model=BrightPixels(CONFIG), image_processor=processor)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    TCMForTextDetection(CONFIG).save_pretrained(folder)
    TCMImageProcessorPil(size={"longest_edge": 128}).save_pretrained(folder)
    return folder


@pytest.fixture
def warnings_of_transformers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> list[logging.LogRecord]:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return caplog.records


def test_finds_a_word_in_pixels_of_the_image(detector: TextDetectionPipeline) -> None:
    (found,) = detector(PHOTOS[0])
    assert set(found) == {"score", "label", "box", "polygon"}
    assert found["score"] == pytest.approx(0.9, abs=0.03)  # resizing blurs the edges
    assert found["label"] == "text"
    np.testing.assert_allclose(box_of(found), WORD, atol=1.5)
    x_min, y_min, x_max, y_max = WORD
    corners = [(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)]
    np.testing.assert_allclose(found["polygon"], corners, atol=1.5)


def test_result_is_plain_python_sorted_by_score(detector: TextDetectionPipeline) -> None:
    image = photo(200, 100, (10, 10, 60, 30), level=150)
    image.paste(photo(60, 20, (0, 0, 60, 20)), (100, 50))
    found = detector(image)
    np.testing.assert_allclose([one["score"] for one in found], [0.9, 0.5], atol=0.03)
    assert json.loads(json.dumps(found)) == found


INPUTS: dict[str, Callable[[Path], Any]] = {
    "string": str,
    "path": Path,
    "bytes": lambda path: path.read_bytes(),
    "open file": lambda path: BytesIO(path.read_bytes()),
    "PIL": Image.open,
    "grey PIL": lambda path: Image.open(path).convert("L"),
    "numpy": lambda path: np.asarray(Image.open(path)),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_of_image_gives_the_same(kind: str, detector: TextDetectionPipeline, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    PHOTOS[0].save(path)
    assert detector(INPUTS[kind](path)) == detector(PHOTOS[0])


def test_photo_is_turned_upright(detector: TextDetectionPipeline, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side, to be turned clockwise
    PHOTOS[0].transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert detector(tmp_path / "turned.png") == detector(PHOTOS[0])


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
    "map": lambda images: map(np.asarray, images),
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
    "slice of a dataset": lambda images: datasets.Dataset.from_dict({"image": images}).cast_column(
        "image", datasets.Image()
    )[:5],
    "rows": lambda images: [{"image": image} for image in images],
    "key of a dataset": lambda images: KeyDataset([{"photo": image} for image in images], "photo"),
    "streamed dataset": lambda images: (
        datasets.Dataset.from_dict({"image": images}).cast_column("image", datasets.Image()).to_iterable_dataset()
    ),
}


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_many_images_give_what_each_gives(kind: str, batch_size: int, detector: TextDetectionPipeline) -> None:
    results = list(detector(CONTAINERS[kind](PHOTOS), batch_size=batch_size))
    assert results == [detector(image) for image in PHOTOS]
    assert [len(found) for found in results] == [1, 1, 2, 0, 1]


def test_no_images_no_results(detector: TextDetectionPipeline) -> None:
    assert detector([]) == []
    assert detector(()) == []
    assert list(detector(image for image in ())) == []
    assert detector(datasets.Dataset.from_dict({"image": []})) == []
    assert detector(datasets.Dataset.from_dict({"image": []})["image"]) == []


def test_a_batch_in_one_array_is_as_many_images(detector: TextDetectionPipeline) -> None:
    one = np.asarray(PHOTOS[0])
    tensor = torch.from_numpy(one.copy()).permute(2, 0, 1)
    for batch in (np.stack([one, one]), torch.stack([tensor, tensor])):
        assert detector(batch) == [detector(PHOTOS[0])] * 2


def test_files_named_by_an_array_are_read(detector: TextDetectionPipeline, tmp_path: Path) -> None:
    PHOTOS[0].save(tmp_path / "photo.png")
    assert detector(np.array([str(tmp_path / "photo.png")])) == [detector(PHOTOS[0])]


def test_a_batch_stacks_equal_shapes_and_pads_none(detector: TextDetectionPipeline) -> None:
    detector(PHOTOS, batch_size=5)
    # The last photo is 200 x 98, which is padded to the shape of the 200 x 100 ones, as it would be on its own.
    assert detector.model.shapes == [(3, 3, 128, 256), (1, 3, 256, 160), (1, 3, 256, 256)]


def test_a_batch_of_a_real_network_equals_single_images(checkpoint: Path) -> None:
    real = pipeline("text-detection", model=checkpoint)
    maps: list[torch.Tensor] = []
    real.model.register_forward_hook(lambda module, inputs, output: maps.extend(output.head_output.prob_map))
    noise = np.random.default_rng(0).integers(0, 256, size=(3, 60, 100, 3), dtype=np.uint8)
    images = [noise[0], noise[1, :, :50], noise[2], noise[1, :58]]
    real(images, batch_size=4)
    batched = [maps[0], maps[3], maps[1], maps[2]]  # 100 x 60, 100 x 60 and 100 x 58 came first, together
    maps.clear()
    real(images)
    for one, other in zip(maps, batched, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_size_is_that_of_the_network_input(detector: TextDetectionPipeline) -> None:
    detector(PHOTOS[0], size=64)
    detector(PHOTOS[0], size={"height": 96, "width": 128})
    detector(PHOTOS[0])
    assert [shape[2:] for shape in detector.model.shapes] == [(32, 64), (96, 128), (128, 256)]


def jpeg(path: Path, image: Image.Image, orientation: int = 1) -> Path:
    """A file whose picture is `image` once it is turned upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    stored = image.transpose(back[orientation]) if orientation in back else image
    stored.save(path, quality=95, exif=exif)
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_large_jpeg_files_are_read_as_if_all_their_pixels_were_decoded(
    detector: TextDetectionPipeline, tmp_path: Path, orientation: int
) -> None:
    large = photo(1027, 517, (100, 60, 700, 180))
    path = jpeg(tmp_path / "large.jpg", large, orientation)
    loaded = detector.load_photo(path)
    assert isinstance(loaded, ReducedImage)
    assert (loaded.width, loaded.height) == large.size
    (whole,), (reduced,) = detector(large), detector(path)
    assert detector(loaded) == [reduced] == detector([path, path], batch_size=2)[1]
    assert detector.model.shapes == [(1, 3, 160, 256)] * 3 + [(2, 3, 160, 256)]
    np.testing.assert_allclose(box_of(reduced), box_of(whole), atol=4.1)  # a pixel of the network's input
    assert reduced["score"] == pytest.approx(whole["score"], abs=0.03)
    assert detector(path, output_score_maps=True)["score_map"].shape == (517, 1027)
    with pytest.raises(ValueError, match="loaded for an input of 256 x 129 pixels, this call reads 400 x 201"):
        detector(loaded, size=400)
    with pytest.raises(TypeError, match="got ReducedImage"):
        detector(loaded, tile=256)


def test_only_what_a_call_reads_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = jpeg(tmp_path / "large.jpg", photo(1027, 517))
    decoded = []
    load = JpegImageFile.load
    monkeypatch.setattr(JpegImageFile, "load", lambda image: decoded.append(image.size) or load(image))
    plain = {"model": BrightPixels(CONFIG), "image_processor": TCMImageProcessorPil(size={"longest_edge": 256})}
    whole, half, quarter, eighth = (1027, 517), (514, 259), (257, 130), (129, 65)
    for settings, call, size in (
        ({}, {}, quarter),
        ({"size": 500}, {}, half),
        ({"size": 500}, {"size": 100}, eighth),
        ({}, {"size": {"height": 64, "width": 900}}, whole),
        ({}, {"tile": 256}, whole),
        ({"tile": 256}, {}, whole),
        ({"image_processor": TCMImageProcessorPil(do_resize=False)}, {}, whole),
    ):
        detector = pipeline("text-detection", **{**plain, **settings})
        detector(path, **call)
        assert decoded[0] == size, (settings, call)
        if not call:
            decoded.clear()
            detector(detector.load_photo(path))
            assert decoded[0] == size, settings
        decoded.clear()


def test_post_processing_settings(detector: TextDetectionPipeline) -> None:
    grey, two = photo(200, 100, WORD, level=150), PHOTOS[2]
    assert len(detector(grey)) == 1
    assert detector(grey, threshold=0.6) == []
    assert detector(grey, box_threshold=0.6) == []
    assert len(detector(two, max_candidates=1)) == 1
    assert detector(two, min_size=100) == []
    assert box_of(detector(grey, unclip_ratio=1.5)[0])[2] > WORD[2] + 5
    corner = photo(200, 100, (20, 20, 150, 40), (20, 20, 40, 90))
    assert len(detector(corner)[0]["polygon"]) == 4
    assert len(detector(corner, polygon=True)[0]["polygon"]) >= 6


def test_settings_of_the_pipeline_hold_until_a_call_says_otherwise() -> None:
    processor = TCMImageProcessorPil(size={"longest_edge": 256})
    strict = pipeline("text-detection", model=BrightPixels(CONFIG), image_processor=processor, box_threshold=0.95)
    assert strict(PHOTOS[0]) == []
    assert len(strict(PHOTOS[0], box_threshold=0.5)) == 1
    assert strict(PHOTOS[0], box_threshold=None) == []


def test_crops_are_read_in_a_margin_at_three_times_their_size(detector: TextDetectionPipeline) -> None:
    crop = photo(60, 20, (0, 4, 50, 20))
    found = detector(crop, crop_edge=60, output_score_maps=True)
    margins = 2 * CROP_MARGIN
    assert detector.model.shapes[-1] == (1, 3, 128, 256)  # three times (36, 76), padded
    np.testing.assert_allclose(box_of(found["instances"][0]), [0, 4, 50, 20], atol=0.5)
    assert found["score_map"].shape == (20, 60)
    assert detector(crop, crop_edge=60, size=20 + margins) is not None
    assert max(detector.model.shapes[-1]) <= 64
    detector(crop, crop_edge=59)
    assert detector.model.shapes[-1] == (1, 3, 96, 256)  # enlarged as any other picture


def test_crops_and_photos_in_one_call(detector: TextDetectionPipeline) -> None:
    detector.image_processor.crop_edge = 100
    pictures = [photo(60, 20, (0, 4, 50, 20)), PHOTOS[0], photo(60, 20)]
    found = detector(pictures, batch_size=3)
    np.testing.assert_allclose(box_of(found[0][0]), [0, 4, 50, 20], atol=0.5)
    assert found[1] == detector(PHOTOS[0])
    assert found[2] == []
    assert detector(pictures[0], crop_edge=0) != found[0]


def test_a_crop_grows_no_larger_than_any_picture(detector: TextDetectionPipeline) -> None:
    detector(photo(240, 100, WORD), crop_edge=240)
    assert detector.model.shapes[-1] == (1, 3, 128, 256)
    detector.image_processor.size = {"height": 64, "width": 96}
    detector(photo(60, 20), crop_edge=60)
    assert detector.model.shapes[-1] == (1, 3, 64, 96)


def test_only_pictures_that_may_hold_large_letters_are_looked_at_twice(detector: TextDetectionPipeline) -> None:
    """Those with a word that is high enough in the coarser look, and those in which hardly anything was found."""
    words = [(20, top, 120, top + 24) for top in (20, 60, 100)]
    small, large, nothing = photo(256, 256, *words), photo(256, 256, *words, (20, 140, 200, 220)), photo(256, 256)
    alone = [detector(image, coarse_edge=128) for image in (small, large, nothing)]
    assert [shape[-1] for shape in detector.model.shapes] == [256, 256, 128, 256, 128]
    detector.model.shapes.clear()
    assert detector([small, large, nothing, small], coarse_edge=128, batch_size=4) == [*alone, alone[0]]
    assert detector.model.shapes == [(4, 3, 256, 256), (2, 3, 128, 128)]
    detector.model.shapes.clear()
    detector([small, small], coarse_edge=128, batch_size=2)
    assert detector.model.shapes == [(2, 3, 256, 256)]


def test_bad_input_and_bad_arguments(detector: TextDetectionPipeline, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        detector(tmp_path / "nowhere.png")
    with pytest.raises(TypeError, match=r"treshold; it takes .*threshold"):
        detector(PHOTOS[0], treshold=0.5)
    with pytest.raises(ValueError, match="`box_threshold` is 2"):
        detector(PHOTOS[0], box_threshold=2)
    with pytest.raises(ValueError, match="`coarse_edge` is -3; expected a number of pixels"):
        detector(PHOTOS[0], coarse_edge=-3)
    with pytest.raises(ValueError, match="`crop_edge` is -1; expected a number of pixels"):
        detector(PHOTOS[0], crop_edge=-1)
    with pytest.raises(TypeError, match="TCMModel is no text detector"):
        TextDetectionPipeline(model=TCMModel(CONFIG), image_processor=TCMImageProcessorPil())
    with pytest.raises(ValueError, match="image_processor="):
        TextDetectionPipeline(model=BrightPixels(CONFIG))


@pytest.mark.parametrize(("capable", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_on_a_cpu(
    stored: torch.dtype, capable: bool, expected: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": capable})
    TCMForTextDetection(CONFIG).to(stored).save_pretrained(tmp_path)
    TCMImageProcessorPil(size={"longest_edge": 64}).save_pretrained(tmp_path)
    assert pipeline("text-detection", model=tmp_path, device="cpu").dtype == expected
    assert pipeline("text-detection", model=tmp_path, device="cpu", dtype=stored).dtype == stored
    asked_otherwise = pipeline("text-detection", model=tmp_path, device="cpu", model_kwargs={"dtype": stored})
    assert asked_otherwise.dtype == stored
    assert isinstance(asked_otherwise(PHOTOS[0]), list)


def test_model_is_made_ready_to_run(checkpoint: Path) -> None:
    ready = pipeline(
        "text-detection", model=TCMForTextDetection.from_pretrained(checkpoint).train(), image_processor=str(checkpoint)
    )
    assert not ready.model.training
    assert ready.dtype == torch.float32
    weights = [module.weight for module in ready.model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_save_pretrained_can_be_loaded(checkpoint: Path, tmp_path: Path) -> None:
    original = pipeline("text-detection", model=checkpoint)
    original.save_pretrained(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    loaded = pipeline("text-detection", model=tmp_path, local_files_only=True)
    options = {"threshold": 0.0, "box_threshold": 0.0, "min_size": 0}
    found = loaded(PHOTOS[0], **options)
    assert found
    assert found == original(PHOTOS[0], **options)


def test_normal_use_is_silent(checkpoint: Path, warnings_of_transformers: list[logging.LogRecord]) -> None:
    pipeline("text-detection", model=checkpoint)(PHOTOS, batch_size=2)
    assert warnings_of_transformers == []


def test_default_model_is_the_bundled_one(warnings_of_transformers: list[logging.LogRecord]) -> None:
    default = pipeline("text-detection")
    assert Path(default.model.name_or_path) == bundled_model_path()
    assert default(PHOTOS[3]) == []
    assert warnings_of_transformers == []


def test_datasets_without_a_column_of_images_are_named(detector: TextDetectionPipeline) -> None:
    rows = datasets.Dataset.from_dict({"photo": [1]})
    with pytest.raises(ValueError, match=r'no column "image" among \[\'photo\'\]: pass the column'):
        detector(rows)
    with pytest.raises(ValueError, match="choose one of 'train'"):
        detector(datasets.DatasetDict({"train": rows}))
