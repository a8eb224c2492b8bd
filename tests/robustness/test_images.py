"""Images that nobody wants: bombs, NaN, noise, extreme shapes and sizes."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_fakes import BrightPixels, box_of, photo
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from transformers_tcm import TCMImageProcessor
from transformers_tcm.images import MAX_PIXELS, MAX_PIXELS_VARIABLE, TooManyPixelsError, load_image, max_pixels
from transformers_tcm.pipelines import TextDetectionPipeline

SIZE = {"longest_edge": 64}
MODES = ("1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F")


@pytest.fixture(scope="module")
def detector() -> TextDetectionPipeline:
    processor = TCMImageProcessor(size=SIZE)
    return TextDetectionPipeline(model=BrightPixels(), image_processor=processor, device="cpu")


def png_that_claims(width: int, height: int) -> bytes:
    """A file of less than a hundred bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_the_size_it_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was decoded, or the missing pixels would have been the error."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ValueError, match=r"60000 x 60000 pixels; no more than 178,956,970 .*TRANSFORMERS_TCM_MAX_PIX"):
        load_image(png_that_claims(60_000, 60_000))


def test_a_bomb_that_pillow_refuses_names_both_limits() -> None:
    with pytest.raises(ValueError, match=rf"the given bytes: .*PIL\.Image\.MAX_IMAGE_PIXELS.*{MAX_PIXELS_VARIABLE}"):
        load_image(png_that_claims(60_000, 60_000))


def test_the_limit_of_pixels_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max_pixels() == MAX_PIXELS
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "100")
    assert load_image(np.zeros((10, 10), np.uint8)).size == (10, 10)
    for source in (np.zeros((10, 11), np.uint8), png_that_claims(11, 10), Image.new("L", (11, 10))):
        with pytest.raises(ValueError, match="11 x 10 pixels; no more than 100 pixels"):
            load_image(source)
    for wrong in ("many", "-5", "0", "1e6"):
        monkeypatch.setenv(MAX_PIXELS_VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"{MAX_PIXELS_VARIABLE} is '{wrong}'"):
            load_image(np.zeros((1, 1), np.uint8))


def test_files_of_drawing_commands_are_refused() -> None:
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) show\n%%EOF\n"
    with pytest.raises(ValueError, match="EPS files hold drawing commands"):
        load_image(content)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(detector: TextDetectionPipeline, bad: float) -> None:
    pixels = np.full((8, 9, 3), 0.5, np.float32)
    pixels[3, 4, 1] = bad
    channels_first = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (pixels, channels_first, channels_first.half(), [np.zeros_like(pixels), pixels]):
        for settings_ in ({}, {"do_resize": False}, {"do_rescale": False}):
            with pytest.raises(ValueError, match="pixels that are NaN or infinite"):
                TCMImageProcessor()(image, **settings_)
    with pytest.raises(ValueError, match="expected floats in"):
        detector(pixels)
    with pytest.raises(ValueError, match="cannot read this image: pixels that are NaN or infinite"):
        detector(Image.fromarray(pixels[:, :, 1]))


@pytest.mark.parametrize("dtype", [np.complex64, "U1", object])
def test_arrays_without_real_numbers_are_refused(dtype: object) -> None:
    with pytest.raises(ValueError, match="holds no real numbers"):
        TCMImageProcessor()(np.zeros((4, 5, 3), dtype))


@pytest.mark.parametrize(
    "wrong",
    [{"image_std": [0.2, 0.0, 0.2]}, {"image_mean": "abc"}, {"image_std": [1, 2]}, {"rescale_factor": float("nan")}],
)
def test_constants_that_would_make_pixels_nan_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"`image_mean` is .*expected numbers"):
        TCMImageProcessor(**wrong)(np.zeros((4, 5, 3), np.uint8))


def test_nothing_is_found_in_black_and_no_more_than_one_word_in_white(detector: TextDetectionPipeline) -> None:
    assert detector(photo(40, 30)) == []
    (found,) = detector(Image.new("RGB", (40, 30), "white"))
    np.testing.assert_allclose(box_of(found), [0, 0, 40, 30], atol=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (3, 2), (5000, 3)])
@pytest.mark.parametrize("tile", [0, 64])
def test_extreme_shapes(detector: TextDetectionPipeline, size: tuple[int, int], tile: int) -> None:
    """All that is found lies in the image, also in those where one side might be taken for channels."""
    for image in (Image.new("RGB", size, "white"), np.full((size[1], size[0], 3), 255, np.uint8)):
        for found in detector(image, min_size=0, tile=tile, size=128 if tile else None):
            x_min, y_min, x_max, y_max = box_of(found)
            assert 0 <= x_min <= x_max <= size[0]
            assert 0 <= y_min <= y_max <= size[1]
    batch = TCMImageProcessor(size=SIZE)(Image.new("RGB", size))
    assert batch["target_sizes"].tolist() == [[size[1], size[0]]]


@pytest.mark.slow
@pytest.mark.parametrize("megapixels", [1, 12, 40])
def test_large_photos(detector: TextDetectionPipeline, tmp_path: Path, megapixels: int) -> None:
    width, height = int(1000 * megapixels**0.5), int(1000 * megapixels**0.5)
    quarter = (width // 4, height // 4, width // 2, height // 2)
    photo(width, height, quarter).save(tmp_path / "large.png")
    (found,) = detector(tmp_path / "large.png")
    np.testing.assert_allclose(box_of(found), quarter, atol=0.12 * width)  # words grow beyond their cores


@st.composite
def pil_images(draw: st.DrawFn) -> Image.Image:
    mode = draw(st.sampled_from(MODES))
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    seed = draw(st.integers(0, 2**32 - 1))
    bytes_needed = len(Image.new(mode, size).tobytes())
    noise = np.random.default_rng(seed).integers(0, 256, bytes_needed, dtype=np.uint8)
    if mode == "F":
        noise = np.random.default_rng(seed).random(size[0] * size[1], dtype=np.float32).view(np.uint8)
    return Image.frombytes(mode, size, noise.tobytes())


shapes = st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.tuples(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4])
)
arrays = st.one_of(
    hnp.arrays(np.uint8, shapes),
    hnp.arrays(np.uint16, shapes),
    hnp.arrays(bool, shapes),
    hnp.arrays(np.float32, shapes, elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.float64, shapes, elements=st.floats(0, 1)),
).map(lambda array: array[:, ::-1])  # negative strides


def assert_inside(found: list[dict], width: int, height: int) -> None:
    for one in found:
        polygon = np.array(one["polygon"])
        assert np.isfinite(polygon).all()
        assert polygon.min() >= 0
        assert (polygon <= [width, height]).all()
        assert 0 <= one["score"] <= 1


@settings(max_examples=150)
@given(image=pil_images(), polygon=st.booleans(), min_size=st.sampled_from([0, 3]))
def test_the_pipeline_takes_pictures_of_every_mode(
    detector: TextDetectionPipeline, image: Image.Image, polygon: bool, min_size: int
) -> None:
    assert_inside(detector(image, polygon=polygon, min_size=min_size), *image.size)


@settings(max_examples=150)
@given(image=arrays, polygon=st.booleans())
def test_the_pipeline_takes_arrays_of_every_type(
    detector: TextDetectionPipeline, image: np.ndarray, polygon: bool
) -> None:
    assert_inside(detector(image, polygon=polygon, min_size=0), image.shape[1], image.shape[0])


def _encoded(suffix: str) -> bytes:
    buffer = io.BytesIO()
    photo(24, 16, (4, 4, 20, 12)).save(buffer, format=suffix)
    return buffer.getvalue()


@settings(max_examples=300)
@given(
    suffix=st.sampled_from(["png", "jpeg", "gif", "tiff", "webp", "bmp"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    kept=st.floats(0, 1),
)
def test_damaged_files_are_read_or_refused_by_name(suffix: str, changes: list[tuple[float, int]], kept: float) -> None:
    content = bytearray(_encoded(suffix))
    for place, value in changes:
        content[int(place * len(content))] = value
    message, mode = "", ""
    try:
        mode = load_image(bytes(content[: round(kept * len(content))])).mode
    except ValueError as error:
        message = str(error)
    assert mode == "RGB" or message.startswith("the given bytes: ")


def test_a_limit_of_pixels_for_one_call() -> None:
    picture = Image.new("RGB", (20, 10))
    file = io.BytesIO()
    picture.save(file, "PNG")
    for source in (picture, np.asarray(picture), file.getvalue(), {"bytes": file.getvalue()}):
        assert load_image(source, pixel_limit=200).size == (20, 10)
        with pytest.raises(TooManyPixelsError, match=r"20 x 10 pixels; no more than 199 pixels are allowed$"):
            load_image(source, pixel_limit=199)
