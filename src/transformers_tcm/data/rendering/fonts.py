"""Which installed fonts can draw a character set, and a cache of opened ones."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

__all__ = ["FontCache", "find_fonts"]

# Faces whose letters are drawings, bars or dots although they fill the Latin code points.
_NOT_LETTERS = ("symbol", "dingbat", "emoji", "math", "braille", "barcode", "music", "d050000l", "blank", "zapf")
_PROBE_SIZE = 20
_UNASSIGNED = "\U0010fffe"


def find_fonts(folder: str | Path = "/usr/share/fonts", charset: str | None = None) -> list[Path]:
    """TrueType and OpenType files below `folder` that can draw every character of `charset`, sorted by path.

    Symbol fonts are left out, and of faces that draw the same letters (the Latin part of many other-script fonts) the
    first one is kept.

    Args:
        folder: searched recursively.
        charset: defaults to printable ASCII.

    Raises:
        FileNotFoundError: if `folder` holds no usable font.
    """
    characters = charset or "".join(map(chr, range(33, 127)))
    found: dict[bytes, Path] = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in {".ttf", ".otf"}):
        if not any(word in path.stem.lower() for word in _NOT_LETTERS):
            drawing = _draw_sample(path, characters)
            if drawing is not None:
                found.setdefault(drawing, path)
    if not found:
        raise FileNotFoundError(
            f"no .ttf or .otf font below {folder} draws all of {characters!r}; install fonts-* packages"
        )
    return sorted(found.values())


def _draw_sample(path: Path, characters: str) -> bytes | None:
    """The bitmap of a few of the characters, `None` where a character is missing or the file is broken."""
    try:
        font = ImageFont.truetype(str(path), _PROBE_SIZE, layout_engine=ImageFont.Layout.BASIC)
        missing = bytes(font.getmask(_UNASSIGNED))
        for character in characters:
            drawn = bytes(font.getmask(character))
            if drawn == missing or not any(drawn):
                return None
        return bytes(font.getmask(characters[:: max(len(characters) // 24, 1)]))
    except (OSError, ValueError):
        return None


class FontCache:
    """Opens font files at a geometric ladder of sizes and keeps the recent ones open."""

    def __init__(self, paths: Sequence[str | Path], capacity: int = 512):
        self.paths = [str(path) for path in paths]
        self._open = lru_cache(capacity)(self._load)
        self._unicase = lru_cache(None)(self._compare_cases)

    def __len__(self) -> int:
        return len(self.paths)

    def get(self, index: int, size: float) -> ImageFont.FreeTypeFont:
        """The face at the rung of the ladder next above `size` pixels."""
        rung = 8
        while rung < size:
            rung = round(rung * 1.2)
        return self._open(index, rung)

    def is_unicase(self, index: int) -> bool:
        """Whether small letters are drawn as capitals, so that a text in small letters would be a wrong label."""
        return self._unicase(index)

    def _load(self, index: int, size: int) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(self.paths[index], size, layout_engine=ImageFont.Layout.BASIC)

    def _compare_cases(self, index: int) -> bool:
        font = self._open(index, 32)
        return bytes(font.getmask("aeg")) == bytes(font.getmask("AEG"))

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:
        # Opened faces cannot be pickled; a worker process opens its own.
        return FontCache, (self.paths,)
