"""Which format a file has."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal, get_args

from ...text_files import decoded
from .cvat import read_cvat
from .exports import ExportedPhoto, ignoring
from .label_studio import read_label_studio
from .paddleocr import read_paddleocr

__all__ = ["LabelFormat", "read_export"]

LabelFormat = Literal["auto", "label-studio", "cvat", "paddleocr"]


def read_export(
    source: Path, form: LabelFormat = "auto", text_field: str | None = None, ignore: Collection[str] = ()
) -> list[ExportedPhoto]:
    """The photos of an export, in its order.

    Args:
        source: `"label-studio"`: a JSON export. `"cvat"`: the `annotations.xml` of "CVAT for images 1.1".
            `"paddleocr"`: the `Label.txt` of PPOCRLabel, or a list of labels as PaddleOCR trains detection on.
        form: `"auto"` tells it from the content.
        text_field: the attribute (CVAT) or text area (Label Studio) with the transcription; by default the one there
            is, or that is named so.
        ignore: labels, choices, selections (`value` or `name=value`) and checkboxes that mark words which do not count,
            in upper or lower case. Words that read `###` never do. `ImportedLabels.unmatched` tells the names that
            mark nothing.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not of the format, or of none of them.
    """
    if not source.is_file():
        raise FileNotFoundError(f"no such file: {source}")
    if form == "auto":
        form = _detect(source)
    if form == "cvat":
        return ignoring(read_cvat(source, text_field), ignore)
    if form == "label-studio":
        return ignoring(read_label_studio(source, text_field), ignore)
    if form == "paddleocr":
        if text_field is not None:
            raise ValueError(f'{source}: PaddleOCR\'s labels have no text field {text_field!r}, only "transcription"')
        return ignoring(read_paddleocr(source), ignore)
    raise ValueError(f"format is {form!r}; expected one of {', '.join(get_args(LabelFormat))}")


def _detect(source: Path) -> LabelFormat:
    with source.open("rb") as file:
        start = decoded(file.read(4096), errors="replace")
    if start.lstrip().startswith("<"):
        return "cvat"
    # JSON has a tab only between its tokens, never in front of a bracket at the end of a path.
    name, tab, _ = start.split("\n")[0].partition("\t")
    if tab and name.strip() and not name.lstrip().startswith(("{", "[")):
        return "paddleocr"
    if start.lstrip().startswith(("{", "[")):
        return "label-studio"
    raise ValueError(f"{source}: neither Label Studio's JSON nor CVAT's XML nor PaddleOCR's lines `path<tab>[…]`")
