"""The files in which `transformers-tcm detect` and `transformers-tcm spot` leave what they found."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..geometry import min_area_quad
from ..icdar import quoted
from ..visualization.drawing import draw_text_instances

__all__ = ["ResultFormat", "ResultWriter"]

ResultFormat = Literal["json", "icdar", "jsonl"]
Detections = list[dict[str, Any]]


class ResultWriter:
    """Writes the detections in images to a folder, image by image, so that a run that ends early leaves something.

    Args:
        folder: is created where missing. Results that an earlier run left there under the same names are replaced.
        form: `"json"` writes `NAME.json`, `"icdar"` writes `res_NAME.txt`, `"jsonl"` a line of `results.jsonl`.

    Raises:
        OSError: if the folder or the file of the JSON lines cannot be created.
    """

    def __init__(self, folder: Path, form: ResultFormat):
        self.folder = folder
        self.form = form
        folder.mkdir(parents=True, exist_ok=True)
        if form == "jsonl":
            self._json_lines.write_text("")

    @property
    def _json_lines(self) -> Path:
        return self.folder / "results.jsonl"

    def _picture(self, name: str) -> Path:
        return self.folder / f"{name}_text.png"

    def names(self, images: Sequence[Path]) -> dict[Path, str]:
        """What the results of each image are called: its file name without suffix, numbered where that is taken.

        It is taken by another image's results, or where the drawn picture would replace one of the images.
        """
        originals = {image.resolve() for image in images}
        names: dict[Path, str] = {}
        taken: set[str] = set()
        for image in images:
            name, number = image.stem, 1
            # Some file systems do not distinguish upper and lower case.
            while name.casefold() in taken or self._picture(name).resolve() in originals:
                number += 1
                name = f"{image.stem}_{number}"
            taken.add(name.casefold())
            names[image] = name
        return names

    def write(self, name: str, path: Path, image: Image.Image, detections: Detections, draw: bool = False) -> None:
        """The results of one image.

        Args:
            name: see `names`.
            path: of the image.
            image: upright.
            detections: as `pipeline("text-detection")` or `pipeline("text-spotting")` gives them.
            draw: also write `NAME_text.png`, the image with its text outlined, and its words where there are any.

        Raises:
            OSError: if a file cannot be written.
        """
        # Thousandths are finer than any pixel or score.
        rounded = json.loads(json.dumps(detections), parse_float=lambda number: round(float(number), 3))
        if self.form == "json":
            _write_json(self.folder / f"{name}.json", path, image, rounded)
        elif self.form == "icdar":
            _write_icdar(self.folder / f"res_{name}.txt", rounded)
        else:
            _append_json_line(self._json_lines, path, rounded)
        if draw:
            draw_text_instances(image, rounded).save(self._picture(name))


def _write_json(file: Path, path: Path, image: Image.Image, detections: Detections) -> None:
    """One object, each instance on a line of its own."""
    head = json.dumps({"image": str(path), "width": image.width, "height": image.height}, ensure_ascii=False)
    instances = ",\n".join(json.dumps(detection, ensure_ascii=False) for detection in detections)
    file.write_text(f'{head[:-1]}, "instances": [\n{instances}\n]}}\n', encoding="utf-8")


def _write_icdar(file: Path, detections: Detections) -> None:
    """Whole pixels, because the official evaluation reads no others; words come last, after four corners."""
    lines = []
    for one in detections:
        polygon = np.array(one["polygon"])
        # After any other number of points few programs know where a word begins, and three are no form of any.
        corners = min_area_quad(polygon) if len(polygon) < 4 or ("text" in one and len(polygon) != 4) else polygon
        fields = [str(round(value)) for value in corners.ravel().tolist()]
        lines.append(",".join([*fields, quoted(one["text"])] if "text" in one else fields))
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _append_json_line(file: Path, path: Path, detections: Detections) -> None:
    """The form that `data.load_jsonl` reads; the path of the image is relative to the file's folder."""
    row = {
        "image": Path(os.path.relpath(path, file.parent)).as_posix(),
        "polygons": [one["polygon"] for one in detections],
        "scores": [one["score"] for one in detections],
    }
    for name in ("text", "text_score"):
        if detections and name in detections[0]:
            row[f"{name}s"] = [one[name] for one in detections]
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
