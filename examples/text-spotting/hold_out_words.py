"""Split lists of word crops into words to train on and words to judge a recogniser by.

The crops of ICDAR 2015 show the words of the training photos, in the order of the legible words of gt_img_1 … 1000.
Those of the photos that a spotter is validated on must not be trained on: none of them is, and the held-back words of
ICDAR 2015 are drawn from them. Each list gives its share of the held-back words. A crop is the box around a word that
may be slanted; the annotations tell its four corners, which the lists written here hold (as the `coords.txt` of the
original data set).

    python hold_out_words.py --annotations gt --photos val.txt --icdar words_icdar2015/labels.tsv \
        --words words_iiit5k/labels.tsv --count 500 --output lists
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from transformers_tcm.data.word_crops import WordCrop, load_word_crops
from transformers_tcm.instances import TextInstances


def locate_crops(annotations: Path, crops: list[WordCrop]) -> tuple[list[str], list[WordCrop]]:
    """The photo that each crop was cut from, and the crops with corners; ValueError unless the words all agree."""
    photos, words, polygons = [], [], []
    files = sorted(annotations.glob("gt_img_*.txt"), key=lambda file: int(file.stem.rsplit("_", 1)[1]))
    for file in files:
        instances = TextInstances.from_icdar(file.read_text(encoding="utf-8-sig"))
        legible = instances.select(~instances.ignored)
        words += legible.texts or []
        polygons += legible.polygons
        photos += [file.stem.removeprefix("gt_")] * len(legible)
    # Quotes around a word are taken for those of the file format in the annotations, and kept in the list.
    if words != [re.sub('^"(.+)"$', r"\1", crop.text) for crop in crops]:
        raise ValueError(f"the crops do not show the {len(words)} legible words of {annotations} in their order")
    return photos, [with_corners(crop, polygon) for crop, polygon in zip(crops, polygons, strict=True)]


def with_corners(crop: WordCrop, polygon: np.ndarray) -> WordCrop:
    """The crop with its word's corners, from the word's polygon (4, 2) in the photo that the crop is a box of."""
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    with Image.open(crop.image) as picture:
        corners = (polygon - low) / (high - low) * picture.size
    return replace(crop, quad=tuple(map(tuple, corners.round(1).tolist())))


def split_words(
    annotations: Path, validation: set[str], icdar: list[WordCrop], others: list[list[WordCrop]], count: int
) -> tuple[list[WordCrop], list[WordCrop]]:
    """Words to train on and `count` words held back, a share of each list in proportion to its length."""
    rng = np.random.default_rng(0)
    photos, icdar = locate_crops(annotations, icdar)
    train = [crop for crop, photo in zip(icdar, photos, strict=True) if photo not in validation]
    candidates = [[crop for crop, photo in zip(icdar, photos, strict=True) if photo in validation], *others]
    total = sum(map(len, [icdar, *others]))
    held_out = []
    for full, crops in zip([icdar, *others], candidates, strict=True):
        chosen = set(rng.permutation(len(crops))[: round(count * len(full) / total)].tolist())
        held_out += [crop for i, crop in enumerate(crops) if i in chosen]
        if full is not icdar:
            train += [crop for i, crop in enumerate(crops) if i not in chosen]
    return train, held_out


def to_line(crop: WordCrop) -> str:
    """As `load_word_crops` reads it."""
    corners = "" if crop.quad is None else "\t" + ",".join(str(value) for corner in crop.quad for value in corner)
    return f"{crop.image.resolve()}\t{crop.text}{corners}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True, help="folder of gt_img_N.txt of ICDAR 2015")
    parser.add_argument("--photos", type=Path, required=True, help="text file of the validation photos")
    parser.add_argument("--icdar", type=Path, required=True, help="list of the crops of these photos")
    parser.add_argument("--words", type=Path, nargs="*", default=[], help="lists of other crops")
    parser.add_argument("--count", type=int, default=500, help="words to hold back")
    parser.add_argument("--output", type=Path, required=True, help="folder for train.tsv and held_out.tsv")
    arguments = parser.parse_args()
    validation = {Path(line.strip()).stem for line in arguments.photos.read_text().splitlines() if line.strip()}
    icdar, others = load_word_crops(arguments.icdar), [load_word_crops(words) for words in arguments.words]
    train, held_out = split_words(arguments.annotations, validation, icdar, others, arguments.count)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, crops in (("train", train), ("held_out", held_out)):
        (arguments.output / f"{name}.tsv").write_text("".join(map(to_line, crops)), encoding="utf-8")
        print(f"{name}.tsv: {len(crops)} words")


if __name__ == "__main__":
    main()
