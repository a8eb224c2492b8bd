"""Any picture becomes an upright RGB `PIL.Image`, or an error that says why not."""

import base64
import binascii
import io
import os
import re
import unicodedata
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

__all__ = [
    "MAX_PIXELS",
    "MAX_PIXELS_VARIABLE",
    "ImageSource",
    "ReducedImage",
    "TooManyPixelsError",
    "find_file",
    "image_suffixes",
    "is_image_name",
    "list_images",
    "load_image",
    "load_reduced",
    "max_pixels",
    "subfolders_with_images",
]

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | np.ndarray | Image.Image | Mapping[str, Any]
)

# A small file can claim any size. Where nothing else is set, the limit is that at which Pillow itself refuses a file.
MAX_PIXELS = 178_956_970
MAX_PIXELS_VARIABLE = "TRANSFORMERS_TCM_MAX_PIXELS"
# Pillow has other programs draw these, from whatever commands the file holds.
_DRAWN_BY_PROGRAMS = ("EPS", "WMF")
# Pillow tells these by their first bytes, and has no decoder.
_WITHOUT_DECODER = ("BUFR", "GRIB", "HDF5", "MPEG")
# Of JPEG files, which can be decoded to fewer pixels than they have.
_WITH_DRAFT = ("JPEG", "MPO")
# Of EXIF: pictures to be mirrored or turned, and those of them that lie on their side.
_TURNED, _LYING = range(2, 9), range(5, 9)
# Of JPEG files, which Pillow does not register.
_MORE_SUFFIXES = frozenset((".jfi", ".jif", ".mpo"))
# What phones write; Pillow reads them with a plug-in.
_HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_HEIF_REMEDY = (
    "HEIC or HEIF, which Pillow reads with a plug-in: `pip install pillow-heif`, then in Python `import pillow_heif; "
    "pillow_heif.register_heif_opener()`; or convert the file to JPEG"
)
_NO_IMAGE = "not an image, or of a format that Pillow cannot read: convert it to PNG or JPEG first"
# Two letters or more: "C:" is the drive of a path.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)
_CHANNELS = (1, 3, 4)
# Shorter texts are names of files.
_SHORTEST_BASE64 = 64

T = TypeVar("T")


class TooManyPixelsError(ValueError):
    """An image that claims more pixels than are allowed."""


@dataclass(frozen=True)
class ReducedImage:
    """A picture of which no more pixels were decoded than a network takes.

    Args:
        image: upright RGB, of the size of the network's input.
        width, height: of the picture itself, upright.
    """

    image: Image.Image
    width: int
    height: int


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


@lru_cache
def _pillow_suffixes(formats: int) -> frozenset[str]:
    """Suffixes of all formats that can be decoded; `formats` is their number, which plug-ins raise."""
    without = (*_DRAWN_BY_PROGRAMS, *_WITHOUT_DECODER)
    known = Image.registered_extensions().items()
    return _MORE_SUFFIXES.union(suffix for suffix, form in known if form in Image.OPEN and form not in without)


def image_suffixes() -> frozenset[str]:
    """The suffixes, in lower case with their dot, of all files that `load_image` can decode."""
    Image.init()
    return _pillow_suffixes(len(Image.OPEN))


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of a picture, HEIC among them even where it cannot be decoded.

    `._NAME.jpg`, which macOS leaves beside `NAME.jpg` on foreign drives, is none.
    """
    path = Path(path)
    return path.suffix.lower() in image_suffixes() | _HEIF_SUFFIXES and not path.name.startswith("._")


def find_file(path: str | os.PathLike[str]) -> Path | None:
    """The file of that name, its accents composed or decomposed, as systems differ in; `None` where there is none."""
    forms = [str(path), *(unicodedata.normalize(form, str(path)) for form in ("NFC", "NFD"))]
    return next((Path(name) for name in forms if _is_file(name)), None)


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures in a folder, not those in its subfolders, sorted by name."""
    return sorted(path for path in Path(folder).iterdir() if is_image_name(path) and path.is_file())


def subfolders_with_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The subfolders, one level down, that hold pictures, sorted by name."""
    folders = sorted(path for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path for path in folders if any(is_image_name(file) for file in path.iterdir())]


def load_image(source: ImageSource, timeout: float | None = None, pixel_limit: int | None = None) -> Image.Image:
    """Read a picture as 8-bit RGB, turned upright as its EXIF orientation asks.

    Transparency is composited on white, 16-bit samples are scaled to 8 bits, of an animation the first frame is taken.
    The size that a file claims is held against the limit before anything is decoded. A PIL image that is upright RGB
    already is returned itself and not copied.

    Args:
        source: a path, an address (`http:`, `https:`, `file:`, `data:`), the bytes of an image file (also a
            `bytearray`, a `memoryview`, or base64 text), an open binary file, a `PIL.Image`, a dict with `bytes` or
            `path` as `datasets` stores images, a row of a dataset with an `image`, or an array or torch tensor of
            shape (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels C that is uint8, uint16, bool, float in [0, 1],
            or of other integers in [0, 255].
        timeout: seconds to wait for a URL; `None` waits as long as the system does.
        pixel_limit: the most pixels it may have; `None` is that of `max_pixels`.

    Raises:
        FileNotFoundError: if there is no such file.
        TooManyPixelsError: a ValueError, if it is too large.
        ValueError: naming the source, if it is empty, no image, damaged, or an array of another kind.
        TypeError: if `source` is none of the above.
    """
    return _load(source, timeout, pixel_limit, _upright_rgb)


def load_reduced(
    source: ImageSource,
    input_size: Callable[[int, int], tuple[int, int]],
    resample: int = Image.Resampling.BILINEAR,
    timeout: float | None = None,
    pixel_limit: int | None = None,
) -> Image.Image | ReducedImage:
    """`load_image` for a network that takes pictures smaller than they are.

    JPEG is stored as waves in blocks of 8 x 8 pixels; leaving the short ones out decodes it at 1/2, 1/4 or 1/8 of its
    size in much less time. That is done where a file has at least twice the height and width of the network's input,
    such that the latter is never enlarged; the rest is resized. Anything else is loaded by `load_image`.

    Args:
        source, timeout, pixel_limit: see `load_image`; the limit is one of the picture's own pixels.
        input_size: from height and width (H, W) of a picture, upright, to those of the network's input.
        resample: Pillow's filter for the rest.

    Raises:
        FileNotFoundError, TooManyPixelsError, ValueError, TypeError: as `load_image`.
    """
    return _load(source, timeout, pixel_limit, partial(_reduced_rgb, input_size=input_size, resample=resample))


def _load(
    source: ImageSource, timeout: float | None, pixel_limit: int | None, decode: Callable[[Image.Image], T]
) -> Image.Image | T:
    """A picture that is decoded already as upright RGB, a file by `decode`, which takes what Pillow opened."""
    if hasattr(source, "detach") and hasattr(source, "cpu"):
        source = _array_of_tensor(source)
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source, pixel_limit))
    if isinstance(source, Image.Image):
        name = getattr(source, "filename", "") or "the given PIL image"
        return _decoded(source, name, pixel_limit, _upright_rgb)
    if isinstance(source, Mapping):
        return _load(_stored(source), timeout, pixel_limit, decode)
    name, file = _open(source, timeout)
    with file:
        return _decoded(_opened(name, file), name, pixel_limit, decode)


def _stored(row: Mapping[str, Any]) -> Any:
    """The picture of a row of a dataset, or of an image that `datasets` has not decoded."""
    for name in ("image", "bytes", "path"):
        if row.get(name) is not None:
            return row[name]
    raise TypeError(
        f"expected a dict with `image`, `bytes` or `path` as an image, got one with {sorted(map(str, row))}"
    )


def _open(source: Any, timeout: float | None) -> tuple[str, IO[bytes]]:
    """A name for messages, and the binary file."""
    if isinstance(source, str) and not _is_file(source):
        source = source.strip()
        if not source:
            raise ValueError("the name of the image file is empty")
    if isinstance(source, str) and (scheme := _SCHEME.match(source)) and not _is_file(source):
        return _open_address(source, scheme[1].lower(), timeout)
    if isinstance(source, str) and not _is_file(source) and (decoded := _from_base64(source)):
        return "the given text, no file and hence read as base64", io.BytesIO(decoded)
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return "the given bytes", io.BytesIO(_without_text(bytes(source)))
    if hasattr(source, "read"):
        return _copied(source)
    raise TypeError(f"expected a path, URL, bytes, PIL image or array as an image, got {type(source).__name__}")


def _copied(file: Any) -> tuple[str, IO[bytes]]:
    """The name and a copy of an open file, which stays open; from its start, as Pillow reads it."""
    name = str(getattr(file, "name", "the given file"))
    if hasattr(file, "seekable") and file.seekable():
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise TypeError(f'{name}: open as text; an image is read from a binary file: open(path, "rb")')
    return name, io.BytesIO(content)


def _without_text(content: bytes) -> bytes:
    """The bytes of a file, also where they are still base64 text or a `data:` URI."""
    if content[:5].lower() == b"data:":
        return _from_data_uri(content.decode("latin-1"))
    # No file of an image begins like that, but for those of formats that hold no text for long.
    looks_like_text = len(content) >= _SHORTEST_BASE64 and content[:_SHORTEST_BASE64].isascii()
    return (looks_like_text and _decoded_base64(content)) or content


def _open_address(address: str, scheme: str, timeout: float | None) -> tuple[str, IO[bytes]]:
    if scheme in ("http", "https"):
        return address, _download(address, timeout)
    if scheme == "data":
        return "the given data: URI", io.BytesIO(_from_data_uri(address))
    if scheme == "file":
        parts = urlsplit(address)
        if parts.netloc.lower() not in ("", "localhost"):
            raise ValueError(f"{_shortened(address)}: a file on another machine; expected file:///path")
        # What follows "?" and "#" belongs to the name.
        path = Path(address[len(scheme) + 1 :].removeprefix(f"//{parts.netloc}"))
        return _open_path(path if _is_file(str(path)) else Path(url2pathname(parts.path)))
    if "://" in address:
        known = "http, https, file, data"
        raise ValueError(f"{_shortened(address)}: addresses of {scheme} cannot be read; expected one of {known}")
    return _open_path(Path(address))


def _open_path(path: Path) -> tuple[str, IO[bytes]]:
    path = find_file(path) or find_file(os.path.expanduser(path)) or path
    if not _exists(path):
        raise FileNotFoundError(f"no such image file: {_shortened(str(path))}")
    if not path.is_file():
        hint = "; `transformers_tcm.images.list_images` gives those of a folder" if path.is_dir() else ""
        raise ValueError(f"{str(path)!r} is not a file; expected an image file{hint}")
    return str(path), path.open("rb")


def _exists(path: Path) -> bool:
    """Whether it is there; a name that no file can have is an error that says why."""
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"no such image file: {_shortened(str(path))}: {reason}") from error


def _is_file(name: str) -> bool:
    """Whether it is a file, also for texts that no file can be called."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _from_data_uri(address: str) -> bytes:
    """The bytes of `data:[type][;base64],…`."""
    head, comma, data = address.partition(",")
    if not comma:
        raise ValueError(f"{_shortened(address)}: expected data:image/…;base64,…")
    raw = unquote_to_bytes(data)
    if not head.lower().rstrip().endswith(";base64"):
        return raw
    if (decoded := _decoded_base64(raw)) is None:
        raise ValueError(f"{_shortened(address)}: what follows the comma is no base64")
    return decoded


def _from_base64(text: str) -> bytes | None:
    """The bytes that a long text stands for; `None` where it is none, as names of files are not."""
    if len(text) < _SHORTEST_BASE64:
        return None
    try:
        return _decoded_base64(text.encode("ascii"))
    except UnicodeEncodeError:
        return None


def _decoded_base64(text: bytes) -> bytes | None:
    """Of either alphabet, with or without line ends and padding."""
    packed = b"".join(text.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except binascii.Error:
        return None


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 200 else f"{text[:120]!r}… ({len(text)} characters)"


def _download(url: str, timeout: float | None) -> IO[bytes]:
    # Some servers refuse clients without a name.
    request = urllib.request.Request(url, headers={"User-Agent": "transformers-tcm"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return io.BytesIO(response.read())
    except OSError as error:
        raise ValueError(f"{url}: download failed: {error}") from error


def _opened(name: str, file: IO[bytes]) -> Image.Image:
    """By Pillow, which decodes nothing as yet."""
    if not file.read(1):
        raise ValueError(f"{name}: empty file; expected an image")
    file.seek(0)
    try:
        return Image.open(file)
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(
            f"{name}: more pixels than Pillow reads: {error}; for a file to be trusted, raise "
            f"PIL.Image.MAX_IMAGE_PIXELS and the environment variable {MAX_PIXELS_VARIABLE}"
        ) from error
    except UnidentifiedImageError as error:
        file.seek(0)
        what = _HEIF_REMEDY if _is_heif(file.read(32)) else _NO_IMAGE
        raise ValueError(f"{name}: {what}") from error
    # Damaged data makes Pillow's decoders raise anything from SyntaxError to struct.error.
    except Exception as error:
        raise ValueError(f"{name}: cannot read this image: {error}") from error


def _is_heif(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and b"avif" not in start and any(brand in start[8:] for brand in _HEIF_BRANDS)


def _decoded(image: Image.Image, name: str, pixel_limit: int | None, decode: Callable[[Image.Image], T]) -> T:
    """What `decode` makes of an image that is not too large."""
    _check_size(image.width, image.height, name, pixel_limit)
    if image.format in _DRAWN_BY_PROGRAMS:
        raise ValueError(f"{name}: {image.format} files hold drawing commands; convert it to PNG or JPEG first")
    try:
        return decode(image)
    except Exception as error:
        raise ValueError(f"{name}: cannot read this image: {error}") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    return _to_rgb(ImageOps.exif_transpose(image) if _orientation(image) in _TURNED else image)


def _reduced_rgb(
    image: Image.Image, input_size: Callable[[int, int], tuple[int, int]], resample: int
) -> Image.Image | ReducedImage:
    """See `load_reduced`."""
    if image.format not in _WITH_DRAFT:
        return _upright_rgb(image)
    own, lies = image.size, _orientation(image) in _LYING
    width, height = own[::-1] if lies else own
    size = input_size(height, width)
    size = size if lies else size[::-1]  # width and height, as it is stored
    drafted = image.draft(None, size)
    if drafted is None or image.size == own:
        return _upright_rgb(image)
    # The last blocks may reach beyond the picture, whose part of the image this box is.
    _, box = drafted
    image.load()
    return ReducedImage(_upright_rgb(image.resize(size, resample, box)), width, height)


def _orientation(image: Image.Image) -> Any:
    """As EXIF numbers them, 1 = upright; 1 also where nothing is said."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _check_size(width: int, height: int, name: str, pixel_limit: int | None) -> None:
    if width == 0 or height == 0:
        raise ValueError(f"{name}: {width} x {height} pixels; expected at least 1 x 1")
    most = max_pixels() if pixel_limit is None else pixel_limit
    if width * height > most:
        remedy = f" (the environment variable {MAX_PIXELS_VARIABLE} sets the limit)" if pixel_limit is None else ""
        raise TooManyPixelsError(f"{name}: {width} x {height} pixels; no more than {most:,} pixels are allowed{remedy}")


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode of Pillow's."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_to_bytes(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_bytes(image: Image.Image) -> np.ndarray:
    """Grey levels (H, W) uint8 of a 16-bit, 32-bit integer or float image."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise ValueError("pixels that are NaN or infinite")
        # TIFF has no rule for the range of floats; both uses are common.
        levels: np.ndarray = np.clip(np.rint(values * (255 if values.max() <= 1 else 1)), 0, 255)
        return levels.astype(np.uint8)
    if image.mode == "I" and values.min() >= 0 and values.max() <= 255:
        return values.astype(np.uint8)
    # Pillow widens 16-bit files of some formats to 32-bit integers.
    return _halve_depth(np.clip(values, 0, 65535))


def _halve_depth(values: np.ndarray) -> np.ndarray:
    """16 bits to 8 such that white stays white: 65535 / 257 = 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _array_of_tensor(tensor: Any) -> np.ndarray:
    """Of torch, which this module does not import; numpy has no bfloat16."""
    tensor = tensor.detach().cpu()
    array: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array


def _from_array(array: np.ndarray, pixel_limit: int | None) -> Image.Image:
    name = f"array of shape {array.shape} and dtype {array.dtype}"
    if array.ndim == 4:
        raise ValueError(f"{name}: a batch; give a list of its images")
    if array.ndim == 3 and array.shape[2] not in _CHANNELS and array.shape[0] in _CHANNELS:
        array = array.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise ValueError(
            f"{name}: expected an image of shape (H, W), or (H, W, C) or (C, H, W) with 1, 3 or 4 channels C"
        )
    _check_size(array.shape[1], array.shape[0], name, pixel_limit)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint16:
        array = _halve_depth(array)
    elif array.dtype == bool:
        array = array * np.uint8(255)
    elif np.issubdtype(array.dtype, np.floating):
        # Written such that NaN fails it.
        if not (array.min() >= 0 and array.max() <= 1):
            given = f"[{array.min()}, {array.max()}]"
            raise ValueError(f"{name}: expected floats in [0, 1] without NaN, got {given}; those in [0, 255] as uint8")
        array = np.rint(array * 255).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.integer) and array.min() >= 0 and array.max() <= 255:
        array = array.astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(f"{name}: expected uint8, uint16, bool, float in [0, 1], or integers in [0, 255]")
    return Image.fromarray(np.ascontiguousarray(array))
