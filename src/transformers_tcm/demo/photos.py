"""What was uploaded becomes a photo, or a message for the person who uploaded it."""

import warnings
from pathlib import Path

from PIL import Image

from ..images import load_image

__all__ = ["MOST_MEGABYTES", "MOST_MEGAPIXELS", "open_photo"]

MOST_MEGABYTES = 30
MOST_MEGAPIXELS = 60


def open_photo(source: str) -> Image.Image:
    """The photo, upright.

    Args:
        source: path of the uploaded file, or a `data:` URI of the camera.

    Raises:
        ValueError: if it is no image or has too many pixels; the message names the file and not its folder.
    """
    name = Path(source).name
    try:
        if not source.startswith("data:"):
            _check_size(source, name)
        return load_image(source)
    except (OSError, ValueError) as error:
        raise ValueError(str(error).replace(source, name)) from error


def _check_size(source: str, name: str) -> None:
    """What the file says of itself, before anything is decoded; other flaws are left to `load_image`."""
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        try:
            with Image.open(source) as header:
                size = f"{header.width} x {header.height} pixels"
                is_too_large = header.width * header.height > MOST_MEGAPIXELS * 1e6
        except Image.DecompressionBombError:
            size, is_too_large = "hundreds of megapixels", True
        except Exception:
            return
    if is_too_large:
        raise ValueError(
            f"{name}: {size}, which is too large; photos of up to {MOST_MEGAPIXELS} megapixels are taken here: make it "
            "smaller first"
        )
