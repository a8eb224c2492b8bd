"""A validation set that looks like use: street photos at three sizes, signs, scenes, words, turned, without text.

    python benchmarks/make_validation_set.py --icdar-images I/images --icdar-annotations I/gt --include I/val.txt \
        --icdar-words W/labels.tsv --words V/labels.tsv --backgrounds backgrounds --exclude 0029 0099 0289 0469 0509 \
        0539 --fonts /usr/share/fonts --output validation_set

Never train on it. It is made of what training leaves out: the photos of `--include`, the words that
`examples/text-spotting/hold_out_words.py` holds back by default, and the tenth of the backgrounds that
`split_backgrounds` keeps for validation, less those of `--exclude`, which show text of their own. Seeds are fixed: the
same data, fonts and versions of OpenCV, Pillow and numpy give the same bytes, of which a digest is printed.

The folder holds `images/`; `labels.jsonl` as `load_jsonl` reads it, where each line also has its `group`, the degrees
of its `turn` (clockwise) and, if it is another picture turned, that one as `source`; and the lists `fonts.txt` and
`backgrounds.txt`. The groups:

- `val`, `val_half`, `val_double`: the photos, at half and at double size (words below 8 px at half size are ignored);
- `sign`: crisp words on plain and mild grounds; `scene`: words rendered into photographs, seen by a camera;
- `word`: held-back word crops, each as a whole picture;
- `turned`: every fifth sign and scene, turned by 90, 180 and 270 degrees in turn;
- `no_text`: photographs, plain grounds and patterns.
"""

import argparse
import hashlib
import importlib.util
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from transformers_tcm import TextInstances, load_image
from transformers_tcm.data.loaders import load_icdar2015, row_to_instances
from transformers_tcm.data.rendering.backgrounds import split_backgrounds
from transformers_tcm.data.rendering.block import SceneStyle
from transformers_tcm.data.rendering.fonts import find_fonts
from transformers_tcm.data.rendering.signs import SignRenderer
from transformers_tcm.data.rendering.words import PlainWordSampler
from transformers_tcm.data.synthetic import PRINTABLE_ASCII, SceneTextRenderer
from transformers_tcm.data.word_crops import WordCrop, load_word_crops
from transformers_tcm.geometry import word_height

HOLD_OUT = Path(__file__).resolve().parents[1] / "examples" / "text-spotting" / "hold_out_words.py"
HELD_OUT_WORDS = 500
# Words of a photo at half size that nobody reads are ignored, as its annotators did at full size.
LOWEST_WORD = 8.0
MOST_WORDS = 40
TURNS = (90, 180, 270)
# Streams of seeds, far enough from each other and from what is rendered to train on, which starts at 0.
SIGN_SEED, SCENE_SEED, BLANK_SEED = 900_000_000, 910_000_000, 920_000_000
# Letters as they come in photos, but none below 10 px, none written up or down, none faint.
SCENES = {"blocks": (1, 4), "median_height": 24.0, "height_spread": 0.8, "min_height": 10.0, "max_height": 300.0}
SCENE_STYLE = SceneStyle(**SCENES, steep=0.0, faint=0.0, bend=0.05)  # type: ignore[arg-type]
PATTERN_STYLE = SceneStyle(blocks=(2, 6), median_height=40.0, pattern=1.0)


@dataclass(frozen=True)
class Counts:
    """How many pictures of each kind; one in `turned_every` signs and scenes comes turned as well."""

    signs: int = 200
    scenes: int = 100
    words: int = 100
    turned_every: int = 5
    without_text: int = 60


@dataclass(frozen=True)
class Sources:
    """What the set is made of, as on the command line."""

    icdar_images: Path
    icdar_annotations: Path
    include: Path
    icdar_words: Path
    words: list[Path]
    backgrounds: Path
    fonts: Path
    exclude: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """A picture of the set: the name of its file, what the file holds or the pixels (H, W, 3) RGB, and its labels."""

    name: str
    content: bytes | np.ndarray
    instances: TextInstances
    group: str
    turn: int = 0
    source: str | None = None

    def encoded(self) -> bytes:
        """The bytes of the file."""
        if isinstance(self.content, bytes):
            return self.content
        options = [cv2.IMWRITE_JPEG_QUALITY, 95] if self.name.endswith(".jpg") else []
        return bytes(cv2.imencode(Path(self.name).suffix, self.content[..., ::-1], options)[1])

    def row(self) -> dict[str, Any]:
        """The line of `labels.jsonl`; coordinates to hundredths of a pixel."""
        labels = self.instances.to_json()
        labels["polygons"] = [polygon.astype(float).round(2).tolist() for polygon in self.instances.polygons]
        ignore = self.instances.ignored.tolist()
        row = {"image": f"images/{self.name}", **labels, "ignore": ignore, "group": self.group, "turn": self.turn}
        return row if self.source is None else {**row, "source": f"images/{self.source}"}


def photos(sources: Sources) -> Iterator[Picture]:
    """The annotated photos at their own, half and double size."""
    rows = load_icdar2015(sources.icdar_images, sources.icdar_annotations, include=sources.include)
    for row in rows.remove_columns("image"):
        path, truth = sources.icdar_images / row["image_id"], row_to_instances(row)
        yield Picture(f"val_{path.name}", path.read_bytes(), truth, "val")
        image = np.asarray(load_image(path))
        for group, scale, method in (("val_half", 0.5, cv2.INTER_AREA), ("val_double", 2.0, cv2.INTER_CUBIC)):
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            scaled = truth.scale(size[0] / image.shape[1], size[1] / image.shape[0])
            if scale < 1:
                low = np.array([word_height(polygon) < LOWEST_WORD for polygon in scaled.polygons], bool)
                scaled.ignore = scaled.ignored | low
            resized = cv2.resize(image, size, interpolation=method)
            yield Picture(f"{group}_{path.stem}.jpg", resized, scaled, group)


def rendered(backgrounds: list[Path], fonts: list[Path], counts: Counts) -> Iterator[Picture]:
    """Signs and scenes; every so many come turned as well."""
    words = PlainWordSampler(PRINTABLE_ASCII)
    signs = SignRenderer(words, fonts, backgrounds)
    for index in range(counts.signs + counts.scenes):
        if index < counts.signs:
            image, truth = signs.render(SIGN_SEED + index)
            picture = Picture(f"sign_{index:03d}.png", image, truth, "sign")
        else:
            picture = scene(index - counts.signs, words, backgrounds, fonts)
        yield picture
        if index % counts.turned_every == 0:
            yield turned(picture, TURNS[index // counts.turned_every % len(TURNS)])


def scene(index: int, words: PlainWordSampler, backgrounds: list[Path], fonts: list[Path]) -> Picture:
    """A scene of 320 to 1,400 pixels with at least one word that can be read, and at most 40."""
    rng = np.random.default_rng(SCENE_SEED + index)
    while True:
        longer = float(np.exp(rng.uniform(np.log(320), np.log(1400))))
        size = round(longer), round(longer / float(rng.choice([1.0, 4 / 3, 1.5, 16 / 9])))
        size = size if rng.random() < 0.7 else size[::-1]
        renderer = SceneTextRenderer(backgrounds, fonts, words, size=size, style=SCENE_STYLE)
        image, truth = renderer.render(int(rng.integers(2**31)))
        if not truth.ignored.all() and len(truth) <= MOST_WORDS:
            return Picture(f"scene_{index:03d}.jpg", image, truth, "scene")


def turned(picture: Picture, degrees: int) -> Picture:
    """A picture turned clockwise; outlines still begin where their words do."""
    assert isinstance(picture.content, np.ndarray)  # rendered
    height, width = picture.content.shape[:2]
    matrix = {
        90: [[0, -1, height], [1, 0, 0]],
        180: [[-1, 0, width], [0, -1, height]],
        270: [[0, 1, 0], [-1, 0, width]],
    }[degrees]
    image = np.ascontiguousarray(np.rot90(picture.content, -degrees // 90))
    instances = picture.instances.transform(np.array(matrix, np.float64))
    return Picture(f"turned_{degrees}_{picture.name}", image, instances, "turned", degrees, picture.name)


def single_words(sources: Sources, count: int) -> Iterator[Picture]:
    """Some of the held-back word crops, evenly spread over their list."""
    held_out = held_out_words(sources)
    for index in np.linspace(0, len(held_out) - 1, min(count, len(held_out))).round().astype(int):
        crop = held_out[index]
        width, height = load_image(crop.image).size
        truth = TextInstances([crop.corners(width, height)], texts=[crop.text])
        yield Picture(f"word_{index:03d}{crop.image.suffix.lower()}", crop.image.read_bytes(), truth, "word")


def held_out_words(sources: Sources) -> list[WordCrop]:
    """The words that `hold_out_words.py` holds back by default."""
    script = _load_script(HOLD_OUT)
    validation = {Path(line.strip()).stem for line in sources.include.read_text().splitlines() if line.strip()}
    icdar, others = load_word_crops(sources.icdar_words), [load_word_crops(words) for words in sources.words]
    return script.split_words(sources.icdar_annotations, validation, icdar, others, HELD_OUT_WORDS)[1]


def without_text(backgrounds: list[Path], fonts: list[Path], count: int) -> Iterator[Picture]:
    """Of five pictures three are photographs, one a plain ground or gradient, one shows boards and patterns."""
    nothing = TextInstances([], texts=[])
    for index in range(count):
        rng = np.random.default_rng(BLANK_SEED + index)
        longer = round(float(np.exp(rng.uniform(np.log(160), np.log(1600)))))
        kind = index % 5
        if kind == 3:
            top, bottom = rng.uniform(0, 255, (2, 3))
            bottom = top if rng.random() < 0.5 else bottom
            image = np.linspace(top, bottom, longer * 2 // 3)[:, None].repeat(longer, axis=1)
        elif kind == 4:
            size = (longer, longer * 2 // 3)
            renderer = SceneTextRenderer(backgrounds, fonts, size=size, style=PATTERN_STYLE)
            image, _ = renderer.render(BLANK_SEED + index)
        else:
            photo = np.asarray(load_image(backgrounds[(index // 5 * 3 + kind) % len(backgrounds)]))
            scale = longer / max(photo.shape[:2])
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            image = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=method)
        yield Picture(f"no_text_{index:03d}.jpg", np.rint(image).astype(np.uint8), nothing, "no_text")


def build(sources: Sources, output: Path, counts: Counts | None = None) -> Counter[str]:
    """Write the set to a new or empty folder; how many pictures there are of each group.

    Raises:
        FileExistsError: if the folder holds something.
        FileNotFoundError: if a source is missing, or none of the backgrounds is for validation.
    """
    counts = counts or Counts()
    if output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty; give a new folder, or remove it first")
    cv2.setNumThreads(1)
    fonts = find_fonts(sources.fonts)
    _, backgrounds = split_backgrounds(sources.backgrounds, sources.exclude)
    if not backgrounds:
        raise FileNotFoundError(f"none of the images of {sources.backgrounds} has a number that ends with a 9")
    (output / "images").mkdir(parents=True, exist_ok=True)
    (output / "fonts.txt").write_text(_listing(fonts, sources.fonts), encoding="utf-8")
    (output / "backgrounds.txt").write_text(_listing(backgrounds, sources.backgrounds), encoding="utf-8")
    groups: Counter[str] = Counter()
    pictures = (photos(sources), rendered(backgrounds, fonts, counts), single_words(sources, counts.words))
    with (output / "labels.jsonl").open("w", encoding="utf-8", newline="\n") as labels:
        for part in (*pictures, without_text(backgrounds, fonts, counts.without_text)):
            for picture in part:
                (output / "images" / picture.name).write_bytes(picture.encoded())
                labels.write(json.dumps(picture.row(), ensure_ascii=False) + "\n")
                groups[picture.group] += 1
    return groups


def digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _listing(paths: list[Path], folder: Path) -> str:
    return "".join(f"{path.relative_to(folder).as_posix()}\n" for path in paths)


def _load_script(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None  # a Python file
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icdar-images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--icdar-annotations", type=Path, required=True, help="folder of gt_img_N.txt of all photos")
    parser.add_argument("--include", type=Path, required=True, help="text file of the validation photos")
    parser.add_argument("--icdar-words", type=Path, required=True, help="list of the word crops of these photos")
    parser.add_argument("--words", type=Path, nargs="*", default=[], help="lists of other word crops")
    parser.add_argument("--backgrounds", type=Path, required=True, help="folder of photographs without text")
    parser.add_argument("--exclude", nargs="*", default=[], help="names of backgrounds that do show text")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"), help="folder searched for fonts")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="remove the folder first")
    options = vars(parser.parse_args())
    output, overwrite = options.pop("output"), options.pop("overwrite")
    if overwrite and (output / "labels.jsonl").is_file():
        shutil.rmtree(output)
    try:
        groups = build(Sources(**options), output)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    for group, number in groups.items():
        print(f"{group}: {number}")
    print(f"{groups.total()} pictures, SHA-256 {digest(output)}")


if __name__ == "__main__":
    main()
