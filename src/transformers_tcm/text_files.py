"""Text as it comes from any editor: UTF-8 or UTF-16, with byte order marks, any line ends and unseen blanks."""

import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

__all__ = ["decoded", "read_text", "stripped"]

# Blanks that `str.strip` leaves: byte order and direction marks, and a blank without width.
_UNSEEN = "\ufeff\u200b\u200e\u200f"


def read_text(path: str | os.PathLike[str]) -> str:
    """A text file in UTF-8, or in UTF-16 where its byte order mark says so, with any line ends.

    Byte order marks, which joined files have at any line, are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another encoding.
    """
    try:
        return decoded(Path(path).read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a UTF-8 text file ({error}); save it as UTF-8") from error


def decoded(content: bytes, errors: str = "strict") -> str:
    """The text of a file, its lines ended by `\\n`; `errors` as for `bytes.decode`.

    Raises:
        UnicodeDecodeError: if it is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    text = content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n\ufeff", "\n")


def stripped(text: str) -> str:
    """Without blanks around it, also those of no width."""
    while (shorter := text.strip().strip(_UNSEEN)) != text:
        text = shorter
    return text
