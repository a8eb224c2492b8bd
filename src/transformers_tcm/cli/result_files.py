"""The files in which `transformers-tcm detect` and `transformers-tcm spot` leave what they found."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..geometry import min_area_quad
from ..icdar import icdar_line
from ..images import ReducedImage
from ..results import as_json, lines_of_text, rounded
from ..visualization.drawing import draw_text_instances

__all__ = [
    "DetectionFormat",
    "ResultWriter",
    "SpottingFormat",
    "lines_of_text",
    "refuse_to_replace",
    "result_names",
]

DetectionFormat = Literal["json", "icdar", "jsonl"]
SpottingFormat = Literal["json", "icdar", "jsonl", "text"]
Detections = list[dict[str, Any]]


class ResultWriter:
    """Writes the detections in images to a folder, image by image, so that a run that ends early leaves something.

    Args:
        folder: for the results; `prepare` creates it.
        form: `"json"` writes `NAME.json`, `"icdar"` writes `res_NAME.txt`, `"text"` writes `NAME.txt`, `"jsonl"` a line
            of `results.jsonl`.
        images: whose results are to be written; each is called after its file without suffix, numbered where the name
            is taken by another image's results, or where the drawn picture would replace one of the images.
        draw: also write `NAME_text.png`, the image with its text outlined, and its words where there are any.
        force: replace results of an earlier run.

    Raises:
        FileExistsError: without `force`, if there are results of an earlier run under the names of these.
    """

    def __init__(
        self, folder: Path, form: SpottingFormat, images: Sequence[Path], draw: bool = False, force: bool = False
    ):
        self.folder, self.form, self.draw = folder, form, draw
        self.names = result_names(images, self._picture)
        if not force:
            refuse_to_replace(path for name in self.names.values() for path in self.files(name))

    def prepare(self) -> None:
        """Create the folder, and the empty file of JSON lines; OSError if that is not possible."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.form == "jsonl":
            self._table("").write_text("")

    def files(self, name: str) -> list[Path]:
        """The files that `write` leaves for an image."""
        return [self._table(name), *([self._picture(name)] if self.draw else [])]

    def _table(self, name: str) -> Path:
        names = {"json": f"{name}.json", "icdar": f"res_{name}.txt", "text": f"{name}.txt", "jsonl": "results.jsonl"}
        return self.folder / names[self.form]

    def _picture(self, name: str) -> Path:
        return self.folder / f"{name}_text.png"

    def write(self, path: Path, image: Image.Image | ReducedImage, detections: Detections) -> None:
        """The results of one image.

        Args:
            path: of the image, one of those that the writer was made for.
            image: upright; a reduced one is loaded with all its pixels to be drawn.
            detections: as `pipeline("text-detection")` or `pipeline("text-spotting")` gives them.

        Raises:
            OSError: if a file cannot be written.
        """
        found = rounded(detections)
        name = self.names[path]
        file = self._table(name)
        if self.form == "json":
            file.write_text(as_json(str(path), image.width, image.height, found), encoding="utf-8")
        elif self.form == "icdar":
            _write_icdar(file, found)
        elif self.form == "text":
            file.write_text("".join(f"{line}\n" for line in lines_of_text(found)), encoding="utf-8")
        else:
            _append_json_line(file, path, found)
        if self.draw:
            shown = image if isinstance(image, Image.Image) else path
            draw_text_instances(shown, found).save(self._picture(name))


def result_names(images: Sequence[Path], picture: Callable[[str], Path]) -> dict[Path, str]:
    """What the results of each image are called, see `ResultWriter`.

    Args:
        images: the files.
        picture: where the picture of that name is written to.
    """
    originals = {image.resolve() for image in images}
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for image in images:
        name, number = image.stem, 1
        # Some file systems do not distinguish upper and lower case.
        while name.casefold() in taken or picture(name).resolve() in originals:
            number += 1
            name = f"{image.stem}_{number}"
        taken.add(name.casefold())
        names[image] = name
    return names


def refuse_to_replace(files: Iterable[Path]) -> None:
    """FileExistsError if one of them is there."""
    there = next((path for path in files if path.exists()), None)
    if there is not None:
        raise FileExistsError(
            f"{there} is there already, of an earlier run: add --force to replace it, or take another folder with "
            "--output"
        )


def _write_icdar(file: Path, detections: Detections) -> None:
    """Whole pixels, because the official evaluation reads no others; words come last, after four corners."""
    lines = []
    for one in detections:
        polygon = np.array(one["polygon"])
        # After any other number of points few programs know where a word begins, and three are no form of any.
        corners = min_area_quad(polygon) if len(polygon) < 4 or ("text" in one and len(polygon) != 4) else polygon
        fields = [str(round(value)) for value in corners.ravel().tolist()]
        lines.append(icdar_line(fields, one["text"]) if "text" in one else ",".join(fields))
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _append_json_line(file: Path, path: Path, detections: Detections) -> None:
    """The form that `data.load_jsonl` reads; the path of the image is relative to the file's folder."""
    row = {
        "image": Path(os.path.relpath(path, file.parent)).as_posix(),
        "polygons": [one["polygon"] for one in detections],
        "scores": [one["score"] for one in detections],
    }
    for name in ("text", "text_score", "line"):
        if detections and name in detections[0]:
            row[f"{name}s"] = [one[name] for one in detections]
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
