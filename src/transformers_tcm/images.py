"""Any picture becomes an upright RGB `PIL.Image`, or an error that says why not."""

import io
import os
import urllib.request
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = ["MAX_PIXELS", "MAX_PIXELS_VARIABLE", "load_image", "max_pixels"]

# A small file can claim any size. Where nothing else is set, the limit is that at which Pillow itself refuses a file.
MAX_PIXELS = 178_956_970
MAX_PIXELS_VARIABLE = "TRANSFORMERS_TCM_MAX_PIXELS"
# Pillow has other programs draw these, from whatever commands the file holds.
_DRAWN_BY_PROGRAMS = ("EPS", "WMF")


def max_pixels() -> int:
    """The most pixels an image may have: the environment variable `TRANSFORMERS_TCM_MAX_PIXELS`, else `MAX_PIXELS`.

    Beyond `MAX_PIXELS` Pillow has a limit of its own for files, twice `PIL.Image.MAX_IMAGE_PIXELS`, to be raised too.

    Raises:
        ValueError: if the variable is no positive whole number.
    """
    given = os.environ.get(MAX_PIXELS_VARIABLE)
    if not given:
        return MAX_PIXELS
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"the environment variable {MAX_PIXELS_VARIABLE} is {given!r}; expected a number of pixels")
    return int(given)


def load_image(
    source: str | os.PathLike[str] | bytes | IO[bytes] | np.ndarray | Image.Image, timeout: float | None = None
) -> Image.Image:
    """Read a picture as 8-bit RGB, turned upright as its EXIF orientation asks.

    Transparency is composited on white, 16-bit samples are scaled to 8 bits, of an animation the first frame is taken.
    The size that a file claims is held against `max_pixels` before anything is decoded.

    Args:
        source: a path, an http(s) URL, the bytes of an image file or an open binary file, a `PIL.Image`, or an array of
            shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) that is uint8, uint16, bool, or float in [0, 1].
        timeout: seconds to wait for a URL; `None` waits as long as the system does.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the source, if it is empty, no image, damaged, too large, or an array of another kind.
        TypeError: if `source` is none of the above.
    """
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source))
    if isinstance(source, Image.Image):
        return _upright_rgb(source, getattr(source, "filename", "") or "the given PIL image")
    name, file = _open(source, timeout)
    with file:
        return _decode(name, file)


def _open(source: str | os.PathLike[str] | bytes | IO[bytes], timeout: float | None) -> tuple[str, IO[bytes]]:
    """A name for messages, and the binary file."""
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return source, _download(source, timeout)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"no such image file: {str(source)!r}")
        if not path.is_file():
            raise ValueError(f"{str(source)!r} is not a file; expected an image file")
        return str(path), path.open("rb")
    if isinstance(source, bytes):
        return "the given bytes", io.BytesIO(source)
    if hasattr(source, "read"):
        # A copy, so that the caller's file stays open.
        return str(getattr(source, "name", "the given file")), io.BytesIO(source.read())
    raise TypeError(f"expected a path, URL, bytes, PIL image or array as an image, got {type(source).__name__}")


def _download(url: str, timeout: float | None) -> IO[bytes]:
    # Some servers refuse clients without a name.
    request = urllib.request.Request(url, headers={"User-Agent": "transformers-tcm"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return io.BytesIO(response.read())
    except OSError as error:
        raise ValueError(f"{url}: download failed: {error}") from error


def _decode(name: str, file: IO[bytes]) -> Image.Image:
    if not file.read(1):
        raise ValueError(f"{name}: empty file; expected an image")
    file.seek(0)
    try:
        image = Image.open(file)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{name}: more pixels than Pillow reads: {error}; for a file to be trusted, raise "
            f"PIL.Image.MAX_IMAGE_PIXELS and the environment variable {MAX_PIXELS_VARIABLE}"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name}: not an image, or of a format that Pillow cannot read") from error
    # Damaged data makes Pillow's decoders raise anything from SyntaxError to struct.error.
    except Exception as error:
        raise ValueError(f"{name}: cannot read this image: {error}") from error
    return _upright_rgb(image, name)


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    _check_size(image.width, image.height, name)
    if image.format in _DRAWN_BY_PROGRAMS:
        raise ValueError(f"{name}: {image.format} files hold drawing commands; convert it to PNG or JPEG first")
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:
        raise ValueError(f"{name}: cannot read this image: {error}") from error


def _check_size(width: int, height: int, name: str) -> None:
    if width == 0 or height == 0:
        raise ValueError(f"{name}: {width} x {height} pixels; expected at least 1 x 1")
    if width * height > (most := max_pixels()):
        raise ValueError(
            f"{name}: {width} x {height} pixels; no more than {most:,} pixels are allowed (the environment variable "
            f"{MAX_PIXELS_VARIABLE} sets the limit)"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode of Pillow's."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_to_bytes(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_bytes(image: Image.Image) -> np.ndarray:
    """Grey levels (H, W) uint8 of a 16-bit, 32-bit integer or float image."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise ValueError("pixels that are NaN or infinite")
        # TIFF has no rule for the range of floats; both uses are common.
        levels: np.ndarray = np.clip(np.rint(values * (255 if values.max() <= 1 else 1)), 0, 255)
        return levels.astype(np.uint8)
    # Pillow widens 16-bit files of some formats to 32-bit integers.
    return _halve_depth(np.clip(values, 0, 65535))


def _halve_depth(values: np.ndarray) -> np.ndarray:
    """16 bits to 8 such that white stays white: 65535 / 257 = 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_array(array: np.ndarray) -> Image.Image:
    name = f"array of shape {array.shape} and dtype {array.dtype}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"{name}: expected an image of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    _check_size(array.shape[1], array.shape[0], name)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint16:
        array = _halve_depth(array)
    elif array.dtype == bool:
        array = array * np.uint8(255)
    elif np.issubdtype(array.dtype, np.floating):
        # Written such that NaN fails it.
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"{name}: expected floats in [0, 1] without NaN, got [{array.min()}, {array.max()}]")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(f"{name}: expected uint8, uint16, bool, or float in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(array))
