"""The command that writes rendered scenes to disk, with a contact sheet to look at."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from ...instances import TextInstances
from ..synthetic import Scene, SceneTextRenderer
from .backgrounds import split_backgrounds
from .fonts import find_fonts

__all__ = ["contact_sheet", "draw_instances", "main", "write_scenes"]

_PARTS = ("all", "training", "validation")
_READABLE, _IGNORED = (0, 255, 0), (255, 0, 0)


class _EncodedScenes(Dataset[tuple[bytes, Scene]]):
    """JPEG bytes and the scene for each seed from `seed` on; the processes of a DataLoader encode them in parallel."""

    def __init__(self, renderer: SceneTextRenderer, count: int, seed: int):
        self.renderer = renderer
        self.count = count
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[bytes, Scene]:
        import cv2

        cv2.setNumThreads(1)
        scene = self.renderer.render_scene(self.seed + index)
        return cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(), scene


def write_scenes(
    renderer: SceneTextRenderer, output: Path, count: int, seed: int = 0, workers: int = 0, sheet: int = 12
) -> None:
    """Write `count` JPEGs, `annotations.jsonl` and `contact_sheet.jpg` (of the first `sheet` scenes) to `output`."""
    import cv2
    from tqdm import tqdm

    (output / "images").mkdir(parents=True, exist_ok=True)
    shown = []
    loader = DataLoader(_EncodedScenes(renderer, count, seed), batch_size=None, num_workers=workers)
    with (output / "annotations.jsonl").open("w", encoding="utf-8") as annotations:
        for index, (jpeg, scene) in enumerate(tqdm(loader, unit="image")):
            name = f"images/{seed + index:08d}.jpg"
            (output / name).write_bytes(jpeg)
            row = {"image": name, **scene.instances.to_json(), "lines": scene.lines.tolist()}
            annotations.write(json.dumps(row, ensure_ascii=False) + "\n")
            if index < sheet:
                shown.append(draw_instances(scene.image, scene.instances))
    cv2.imwrite(str(output / "contact_sheet.jpg"), contact_sheet(shown)[..., ::-1])


def draw_instances(image: np.ndarray, instances: TextInstances) -> np.ndarray:
    """A copy of (H, W, 3) uint8 RGB with polygons, green for readable words, red for ignored ones."""
    import cv2

    image = image.copy()
    for polygon, ignored in zip(instances.polygons, instances.ignored, strict=True):
        outline = np.rint(polygon * 16).astype(np.int32)
        cv2.polylines(image, [outline], True, _IGNORED if ignored else _READABLE, 1, cv2.LINE_AA, 4)
    return image


def contact_sheet(images: list[np.ndarray], columns: int = 4) -> np.ndarray:
    """Images (H, W, 3) of one size in a grid, filled up with black."""
    blank = np.zeros_like(images[0])
    padded = images + [blank] * (-len(images) % columns)
    return np.vstack([np.hstack(padded[i : i + columns]) for i in range(0, len(padded), columns)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the scenes."""
    parser = argparse.ArgumentParser(prog="python -m transformers_tcm.data.synthetic", description=__doc__)
    parser.add_argument("--backgrounds", type=Path, required=True, help="folder of photographs without text")
    parser.add_argument(
        "--part",
        choices=("all", "training", "validation"),
        default="all",
        help="which of them, see `split_backgrounds`",
    )
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"), help="folder searched for fonts")
    parser.add_argument("--words", type=Path, help="text file of words instead of the built-in ones")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 640), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=0, help="processes besides this one")
    options = parser.parse_args(arguments)
    try:
        training, validation = split_backgrounds(options.backgrounds)
    except FileNotFoundError as error:
        parser.error(str(error))
    backgrounds = dict(zip(_PARTS, (sorted(training + validation), training, validation), strict=True))[options.part]
    if not backgrounds:
        parser.error(f"{options.backgrounds} has no photograph for {options.part}")
    words = options.words.read_text(encoding="utf-8").split() if options.words else None
    renderer = SceneTextRenderer(backgrounds, find_fonts(options.fonts), words=words, size=tuple(options.size))
    write_scenes(renderer, options.output, options.count, options.seed, options.workers)
