"""`load_image`: every kind of picture comes out as upright RGB; everything else is refused by name."""

import base64
import functools
import http.server
import io
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from transformers_tcm import images
from transformers_tcm.images import ReducedImage, load_image, load_reduced

RED = (255, 0, 0)


@pytest.fixture
def gradient() -> Image.Image:
    """30 x 20, no two rows or columns alike."""
    columns, rows = np.meshgrid(np.arange(30) * 8, np.arange(20) * 12)
    return Image.fromarray(np.stack([columns, rows, 255 - columns], axis=2).astype(np.uint8))


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def test_all_kinds_of_sources(tmp_path, gradient) -> None:
    path = tmp_path / "photo.png"
    gradient.save(path)
    with path.open("rb") as file:
        for source in (path, str(path), path.read_bytes(), file, gradient, np.asarray(gradient), Image.open(path)):
            image = load_image(source)
            assert image.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(image), np.asarray(gradient))
        assert not file.closed


def test_urls(tmp_path, gradient) -> None:
    gradient.save(tmp_path / "photo.png")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            np.testing.assert_array_equal(load_image(f"{address}/photo.png", timeout=10), gradient)
            with pytest.raises(ValueError, match=r"http://.*/absent\.png: download failed: .*404"):
                load_image(f"{address}/absent.png", timeout=10)
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.swapaxes(0, 1)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, gradient, orientation, undo) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    gradient.save(path, exif=exif)
    expected = undo(np.asarray(gradient))
    for source in (path, Image.open(path)):
        image = load_image(source)
        np.testing.assert_array_equal(np.asarray(image), expected)
        # Once upright, it stays so.
        np.testing.assert_array_equal(np.asarray(load_image(image)), expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled(tmp_path, suffix: str) -> None:
    levels = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(levels).save(path)
    np.testing.assert_array_equal(np.asarray(load_image(path))[0, :, 0], [0, 1, 128, 255])


def test_wide_modes() -> None:
    integers = Image.fromarray(np.array([[0, 65535, 70000, -5]], np.int32))
    np.testing.assert_array_equal(np.asarray(load_image(integers))[0, :, 1], [0, 255, 255, 0])
    unit = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    np.testing.assert_array_equal(np.asarray(load_image(unit))[0, :, 2], [0, 128, 255])
    levels = Image.fromarray(np.array([[0, 99.6, 300]], np.float32))
    np.testing.assert_array_equal(np.asarray(load_image(levels))[0, :, 2], [0, 100, 255])


def test_cmyk_jpeg(tmp_path) -> None:
    Image.new("RGB", (16, 16), RED).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    image = load_image(tmp_path / "print.jpg")
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image).mean(axis=(0, 1)), RED, atol=6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "HSV"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = load_image(Image.new("RGB", (4, 3), "white").convert(mode))
    assert image.mode == "RGB"
    assert np.asarray(image).min() >= 254


def test_transparency_shows_white(tmp_path) -> None:
    half = Image.new("RGBA", (2, 1), (*RED, 255))
    half.putpixel((1, 0), (0, 0, 0, 0))
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([*RED, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=1)
    half.save(tmp_path / "alpha.png")
    Image.new("RGB", (2, 1), RED).save(tmp_path / "keyed.png", transparency=RED)
    for name in ("palette.png", "alpha.png"):
        assert np.asarray(load_image(tmp_path / name)).tolist() == [[[*RED], [255, 255, 255]]]
    assert np.asarray(load_image(tmp_path / "keyed.png")).min() == 255
    assert np.asarray(load_image(np.asarray(half))).tolist() == [[[*RED], [255, 255, 255]]]
    grey = Image.new("LA", (1, 1), (0, 51))
    assert load_image(grey).getpixel((0, 0)) == (204, 204, 204)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_animations_show_their_first_frame(tmp_path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    image = load_image(tmp_path / f"moving.{suffix}")
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", RED)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10)])
def test_unusual_sizes_are_fine(tmp_path, size) -> None:
    Image.new("L", size, 7).save(tmp_path / "odd.png")
    assert load_image(tmp_path / "odd.png").size == size


def test_arrays() -> None:
    grey = np.array([[0, 128, 255]], np.uint8)
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    for array in (grey, grey[:, :, None], expected, grey / 255, (grey / 255).astype(np.float16), grey * np.uint16(257)):
        np.testing.assert_array_equal(np.asarray(load_image(array)), expected)
    np.testing.assert_array_equal(np.asarray(load_image(expected[:, ::-1])), expected[:, ::-1])
    np.testing.assert_array_equal(np.asarray(load_image(grey > 200))[0, :, 0], [0, 0, 255])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 9), np.uint8), r"shape \(2, 8, 9\) and dtype uint8: expected an image of shape \(H, W\)"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"shape \(2, 4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), "5 x 0 pixels; expected at least 1 x 1"),
        (np.array([[0.5, np.nan]]), r"floats in \[0, 1\] without NaN"),
        (np.array([[0.5, 200.0]]), r"floats in \[0, 1\] without NaN, got \[0.5, 200.0\]"),
        (np.full((4, 4), 256), "dtype int64: expected uint8"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "20000 x 20000 pixels; no more than"),
    ],
)
def test_other_arrays_are_refused(array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_image(array)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jpg", b"", r"empty\.jpg: empty file"),
        ("notes.jpg", b"not an image at all", r"notes\.jpg: not an image"),
        ("header.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", r"header\.png: "),
    ],
)
def test_files_that_are_no_images_are_named(tmp_path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_files_are_named(tmp_path, suffix: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"torn.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"torn\.{suffix}: "):
        load_image(path)
    with pytest.raises(ValueError, match="the given bytes: "):
        load_image(path.read_bytes())


def test_a_pil_image_of_a_truncated_file_is_named(tmp_path) -> None:
    path = tmp_path / "torn.png"
    path.write_bytes(png_bytes(Image.effect_noise((64, 64), 50))[:1000])
    with pytest.raises(ValueError, match=r"torn\.png: cannot read this image"):
        load_image(Image.open(path))


def test_missing_paths_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such image file: '.*absent\.jpg'"):
        load_image(tmp_path / "absent.jpg")
    with pytest.raises(ValueError, match="is not a file"):
        load_image(tmp_path)


def test_images_beyond_the_limit_are_refused(monkeypatch, gradient) -> None:
    assert images.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(images, "MAX_PIXELS", 599)
    for source in (png_bytes(gradient), gradient, np.asarray(gradient)):
        with pytest.raises(ValueError, match="30 x 20 pixels; no more than 599"):
            load_image(source)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(ValueError, match=r"the given bytes: .*exceeds limit"):
        load_image(png_bytes(gradient))


def test_no_pixels() -> None:
    with pytest.raises(ValueError, match="the given PIL image: 0 x 5 pixels"):
        load_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("source", [None, 3, ["photo.jpg"]])
def test_other_types_are_refused(source) -> None:
    with pytest.raises(TypeError, match=f"got {type(source).__name__}"):
        load_image(source)


def sources(data: bytes, path: Path) -> dict[str, object]:
    """The same file in every form that stands for it."""
    text = base64.b64encode(data).decode()
    return {
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "base64": text,
        "base64 in lines, without padding": "\n".join(textwrap.wrap(text.rstrip("="), 76)),
        "base64 for addresses": base64.urlsafe_b64encode(data).decode(),
        "data URI": f"data:image/png;base64,{text}",
        "data URI in capitals": f"DATA:image/png;BASE64,{text}",
        "data URI without base64": "data:image/png," + quote(data),
        "file URI": path.as_uri(),
        "file URI in capitals": path.as_uri().replace("file:", "FILE:"),
        "file URI with host": path.as_uri().replace("file://", "file://localhost"),
        "undecoded bytes": {"bytes": data, "path": None},
        "undecoded path": {"bytes": None, "path": str(path)},
        "row": {"image": {"bytes": data, "path": "elsewhere.png"}, "label": 1},
    }


def test_every_form_of_a_file_gives_the_same(tmp_path, gradient) -> None:
    path = tmp_path / "a photo \u00e9.png"
    gradient.save(path)
    for name, source in sources(path.read_bytes(), path).items():
        np.testing.assert_array_equal(np.asarray(load_image(source)), np.asarray(gradient), err_msg=name)


def test_accents_in_names_of_files_are_composed_or_not(tmp_path, gradient) -> None:
    gradient.save(tmp_path / "cafe\u0301.png")
    assert load_image(tmp_path / "caf\u00e9.png").size == gradient.size
    assert images.find_file(tmp_path / "tea.png") is None


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("a" * 4000, ValueError, "read as base64: not an image"),
        ("x." * 4000, ValueError, "no such image file: .*8000 characters.*too long"),
        ("a\0b", FileNotFoundError, "no such image file"),
        ("data:image/png;base64,@@", ValueError, "no base64"),
        ("data:nothing", ValueError, "expected data:image"),
        ("file://server/photo.png", ValueError, "on another machine"),
        ("file:///nowhere/photo.png", FileNotFoundError, "nowhere"),
        ("s3://bucket/photo.png", ValueError, "addresses of s3 cannot be read; expected one of http"),
        ("HTTP://127.0.0.1:9/photo.png", ValueError, "download failed"),
        ({"label": 3}, TypeError, r"expected a dict with `image`.*\['label'\]"),
        (bytearray(), ValueError, "empty file"),
    ],
)
def test_what_stands_for_no_picture_is_named_in_short(source, error, message) -> None:
    with pytest.raises(error, match=message) as raised:
        load_image(source, timeout=2)
    assert len(str(raised.value)) < 500


def test_heic_is_named_with_its_remedy() -> None:
    with pytest.raises(ValueError, match="pip install pillow-heif"):
        load_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


def test_pictures_in_a_folder_are_all_that_can_be_read(tmp_path, gradient) -> None:
    names = ["a.jfif", "b.JPE", "c.jp2", "d.tga", "e.ppm", "f.webp", "g.heic", "h.qoi"]
    for name in [*names, "._a.jpg", "notes.txt", "drawing.eps", "Thumbs.db"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images.list_images(tmp_path)] == names
    assert images.subfolders_with_images(tmp_path) == []
    (tmp_path / "folder.png" / "x.png").touch()
    assert images.subfolders_with_images(tmp_path) == [tmp_path / "folder.png"]


def test_what_libraries_call_an_image_gives_the_same(tmp_path, gradient) -> None:
    array = np.asarray(gradient)
    half_read = io.BytesIO(png_bytes(gradient))
    half_read.read(9)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    text = base64.b64encode(png_bytes(gradient))
    path = tmp_path / "a b#1%.png"
    gradient.save(path)
    sources = [
        *(
            half_read,
            text,
            bytearray(text),
            b"data:image/png;base64," + text,
            f" data:image/png;base64,{text.decode()}\n",
        ),
        *(array.astype(np.int64), array.transpose(2, 0, 1), array.transpose(2, 0, 1) / 255, tensor, tensor / 255),
        *(tensor.permute(1, 2, 0), (tensor / 255).to(torch.float64), f"file://{path}", f" {path}"),
    ]
    for source in sources:
        assert np.array_equal(np.asarray(load_image(source)), array)
    assert np.array_equal(np.asarray(load_image((tensor / 255).bfloat16())).shape, array.shape)


def test_eight_bits_in_a_wide_mode_stay_as_bright(gradient) -> None:
    grey = gradient.convert("L")
    for image in (grey.convert("I"), grey.convert("LA").convert("La")):
        assert np.array_equal(np.asarray(load_image(image))[..., 0], np.asarray(grey))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros((2, 8, 9, 3), np.uint8), ValueError, "a batch; give a list of its images"),
        (io.StringIO("text"), TypeError, r'open as text; .*: open\(path, "rb"\)'),
        (" ", ValueError, "the name of the image file is empty"),
        (".", ValueError, r"is not a file; expected an image file; `transformers_tcm\.images\.list_images` gives"),
    ],
)
def test_what_is_no_single_image_is_named_with_the_remedy(source, error, message) -> None:
    with pytest.raises(error, match=message):
        load_image(source)


def test_a_pil_image_that_needs_no_change_is_not_copied(gradient) -> None:
    assert load_image(gradient) is gradient
    exif = Image.Exif()
    exif[0x0112] = 3
    lying = gradient.copy()
    lying.info["exif"] = exif.tobytes()
    for image in (lying, gradient.convert("RGBA"), gradient.convert("L")):
        before = image.tobytes()
        load_image(image).paste("red", (0, 0, 9, 9))
        assert image.tobytes() == before


@pytest.fixture(scope="module")
def landscape() -> Image.Image:
    """803 x 605, which no power of two divides; no two of its parts are alike."""
    columns, rows = np.meshgrid(np.linspace(0, 1, 803), np.linspace(0, 1, 605))
    waves = 40 * np.sin(25 * columns) * np.sin(20 * rows)
    levels = np.stack([200 * columns + waves, 200 * rows + waves, 128 + waves], axis=2)
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def jpeg_bytes(image: Image.Image, orientation: int = 1, form: str = "JPEG", **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, form, quality=95, exif=exif, **options)
    return buffer.getvalue()


def shrink(factor: float) -> Callable[[int, int], tuple[int, int]]:
    return lambda height, width: (round(height / factor), round(width / factor))


def assert_is_reduced(data: bytes, factor: float, mean_difference: float) -> None:
    """As the whole picture that is made smaller, but for what is lost at high frequencies."""
    whole = load_image(data)
    height, width = shrink(factor)(whole.height, whole.width)
    reduced = load_reduced(data, shrink(factor))
    assert isinstance(reduced, ReducedImage)
    assert (reduced.width, reduced.height) == whole.size
    assert (reduced.image.mode, reduced.image.size) == ("RGB", (width, height))
    expected = np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR), float)
    assert np.abs(np.asarray(reduced.image) - expected).mean() < mean_difference


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("factor", [2.5, 9.3])
def test_large_jpeg_files_are_decoded_small_and_turned_upright(landscape, orientation: int, factor: float) -> None:
    assert_is_reduced(jpeg_bytes(landscape, orientation), factor, mean_difference=0.6)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg_is_decoded_small(landscape, mode: str, progressive: bool) -> None:
    assert_is_reduced(jpeg_bytes(landscape.convert(mode), 6, progressive=progressive), 3, mean_difference=0.6)


def test_of_a_file_with_several_pictures_the_first_is_decoded_small(landscape) -> None:
    data = jpeg_bytes(landscape, form="MPO", save_all=True, append_images=[landscape.convert("L")])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert_is_reduced(data, 4, mean_difference=0.6)


@pytest.mark.parametrize(
    ("input_size", "decoded"),
    [
        ((605, 803), 1),
        ((303, 401), 1),
        ((302, 401), 2),
        ((200, 401), 2),
        ((302, 100), 2),
        ((151, 200), 4),
        ((75, 100), 8),
    ],
)
def test_no_fewer_pixels_are_decoded_than_the_input_has(landscape, monkeypatch, input_size, decoded: int) -> None:
    sizes = []
    load = JpegImageFile.load
    monkeypatch.setattr(JpegImageFile, "load", lambda image: sizes.append(image.size) or load(image))
    image = load_reduced(jpeg_bytes(landscape), lambda height, width: input_size)
    assert isinstance(image, ReducedImage) == (decoded > 1)
    assert sizes[0] == (-(-803 // decoded), -(-605 // decoded))


def test_what_is_no_jpeg_file_is_loaded_as_it_is(landscape, tmp_path) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg_bytes(landscape))
    opened = Image.open(tmp_path / "photo.jpg")
    for source in (png_bytes(landscape), opened, landscape, np.asarray(landscape)):
        np.testing.assert_array_equal(np.asarray(load_reduced(source, shrink(8))), np.asarray(load_image(source)))
    assert opened.size == landscape.size


def test_every_form_of_a_jpeg_file_is_decoded_small(landscape, tmp_path) -> None:
    path = tmp_path / "photo.jpg"
    landscape.save(path)
    with path.open("rb") as file:
        forms = {**sources(path.read_bytes(), path), "path": path, "bytes": path.read_bytes(), "file": file}
        for name, source in forms.items():
            reduced = load_reduced(source, shrink(8))
            assert isinstance(reduced, ReducedImage), name
            assert reduced.image.size == (100, 76), name


def test_files_that_cannot_be_read_small_are_refused_as_others(landscape, monkeypatch) -> None:
    data = jpeg_bytes(landscape)
    for broken in (data[: len(data) // 2], b"", data[:200]):
        messages = []
        for load in (load_image, functools.partial(load_reduced, input_size=shrink(8))):
            with pytest.raises(ValueError, match="the given bytes: ") as caught:
                load(broken)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    with pytest.raises(images.TooManyPixelsError, match="803 x 605 pixels; no more than 485,814"):
        load_reduced(data, shrink(8), pixel_limit=803 * 605 - 1)
