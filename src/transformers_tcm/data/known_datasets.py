"""The public data sets of text in photos by name. A set is one entry of `KNOWN_DATASETS`."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..text_files import read_text
from .lexicon_files import FULL_LEXICON, LexiconFiles, PublishedLexicon, icdar_lexicons, read_lexicon
from .loaders import load_icdar2015, load_jsonl
from .readers import (
    load_art,
    load_coco_text,
    load_ctw1500,
    load_mlt,
    load_synth_text,
    load_synth_text_150k,
    load_td500,
    load_text_ocr,
    load_total_text,
)

if TYPE_CHECKING:
    import datasets

__all__ = [
    "KNOWN_DATASETS",
    "KnownDataset",
    "Split",
    "folder_of",
    "known_dataset",
    "lexicon_of",
    "load_text_dataset",
    "missing_parts",
]

_MARKS = re.compile(r"[^a-z0-9]")


@dataclass(frozen=True)
class Split:
    """Where a part of a data set lies within its folder, as its archives unpack.

    Args:
        images: patterns of folders, the first that matches counts, with all its matches; empty where the annotations
            name the photos.
        annotations: patterns of a folder or a file, likewise; of several matches the first.
        options: more arguments of the reader.
        names: file with the names of the photos that count, one a line; all where it is `None`.
    """

    images: tuple[str, ...]
    annotations: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    names: str | None = None


@dataclass(frozen=True)
class KnownDataset:
    """A public data set.

    Args:
        title: what papers call it.
        url: where it is published.
        read: its reader, of images and annotations (of annotations only, where `images` of its splits are empty).
        splits: its parts by name.
        ignored: which words neither count as found nor as missed.
        folder: another set in whose folder it lies.
        conventions: how models are judged on it, a name of `transformers_tcm.evaluation.protocols.CONVENTIONS`.
        lexicons: those published with it, by the names that `evaluate --lexicon` takes.
    """

    title: str
    url: str
    read: Callable[..., "datasets.Dataset | datasets.IterableDataset"]
    splits: Mapping[str, Split]
    ignored: str = "###"
    folder: str | None = None
    conventions: str = "icdar2015"
    lexicons: Mapping[str, LexiconFiles] = field(default_factory=dict)


_RRC = "https://rrc.cvc.uab.es/"
_ART = Split(("train_images/train_images", "train_images"), ("train_labels.json",))
_TOTAL_TEXT_LABELS = (
    "*Polygon*/{split}",
    "Groundtruth/Polygon/{split}",
    "[Tt]xt*[Ff]ormat/{split}",
    "annotations/{split}",
)


def _total_text(split: str) -> Split:
    return Split((f"Images/{split}",), tuple(pattern.format(split=split) for pattern in _TOTAL_TEXT_LABELS))


def _text_ocr(split: str) -> Split:
    return Split(("train_val_images", "train_images"), (f"TextOCR_*_{split}.json",))


def _coco_text(split: str) -> Split:
    return Split(("train2014",), ("cocotext.v2.json",), {"split": split})


KNOWN_DATASETS: dict[str, KnownDataset] = {
    "icdar2013": KnownDataset(
        "ICDAR 2013, Focused Scene Text",
        f"{_RRC}?ch=2",
        load_icdar2015,
        {
            "train": Split(("Challenge2_Training_Task12_Images",), ("Challenge2_Training_Task1_GT",)),
            "test": Split(("Challenge2_Test_Task12_Images",), ("Challenge2_Test_Task1_GT",)),
        },
        conventions="icdar2013",
        lexicons=icdar_lexicons("ch2"),
    ),
    "icdar2015": KnownDataset(
        "ICDAR 2015, Incidental Scene Text",
        f"{_RRC}?ch=4",
        load_icdar2015,
        {
            "train": Split(("ch4_training_images",), ("ch4_training_localization_transcription_gt",)),
            "test": Split(("ch4_test_images",), ("Challenge4_Test_Task1_GT", "Challenge4_Test_Task4_GT")),
        },
        lexicons=icdar_lexicons("ch4"),
    ),
    "mlt2017": KnownDataset(
        "ICDAR 2017 MLT",
        f"{_RRC}?ch=8",
        load_mlt,
        {
            "train": Split(("ch8_training_images*",), ("ch8_training_localization_transcription_gt*",)),
            "val": Split(("ch8_validation_images*",), ("ch8_validation_localization_transcription_gt*",)),
        },
    ),
    "mlt2019": KnownDataset(
        "ICDAR 2019 MLT",
        f"{_RRC}?ch=15",
        load_mlt,
        {"train": Split(("ImagesPart*",), ("train_gt_t13", "*_gt_t13"))},
    ),
    "art": KnownDataset("ICDAR 2019 ArT", f"{_RRC}?ch=14", load_art, {"train": _ART}, "### or illegibility"),
    "nighttime-art": KnownDataset(
        "NightTime-ArT, the dark photos of ArT",
        f"{_RRC}?ch=14 (photos and labels; the list of names comes from the authors of FastTCM)",
        load_art,
        {"test": Split(_ART.images, _ART.annotations, names="nighttime.txt")},
        "### or illegibility",
        folder="art",
    ),
    "lsvt": KnownDataset(
        "ICDAR 2019 LSVT",
        f"{_RRC}?ch=16",
        load_art,
        {"train": Split(("train_full_images*",), ("train_full_labels.json",))},
        "### or illegibility",
    ),
    "total-text": KnownDataset(
        "Total-Text",
        "https://github.com/cs-chan/Total-Text-Dataset",
        load_total_text,
        {"train": _total_text("Train"), "test": _total_text("Test")},
        "#",
        conventions="total-text",
        lexicons=FULL_LEXICON,
    ),
    "ctw1500": KnownDataset(
        "SCUT-CTW1500",
        "https://github.com/Yuliang-Liu/Curve-Text-Detector",
        load_ctw1500,
        {
            "train": Split(("train_images", "train/text_image"), ("ctw1500_train_labels", "train/text_label_curve")),
            "test": Split(("test_images", "test/text_image"), ("gt_ctw1500", "test/text_label_curve")),
        },
        conventions="ctw1500",
        lexicons=FULL_LEXICON,
    ),
    "td500": KnownDataset(
        "MSRA-TD500",
        "http://www.iapr-tc11.org/mediawiki/index.php/MSRA_Text_Detection_500_Database_(MSRA-TD500)",
        load_td500,
        {"train": Split(("train",), ("train",)), "test": Split(("test",), ("test",))},
        "difficult lines",
        conventions="td500",
    ),
    "tr400": KnownDataset(
        "HUST-TR400",
        "https://mclab.eic.hust.edu.cn/~xbai/",
        load_td500,
        {"train": Split((".",), (".",))},
        "difficult lines",
        conventions="td500",
    ),
    "coco-text": KnownDataset(
        "COCO-Text 2.0",
        "https://bgshih.github.io/cocotext/",
        load_coco_text,
        {"train": _coco_text("train"), "val": _coco_text("val")},
        "illegible words",
    ),
    "textocr": KnownDataset(
        "TextOCR",
        "https://textvqa.org/textocr/dataset/",
        load_text_ocr,
        {"train": _text_ocr("train"), "val": _text_ocr("val")},
        "`.`",
    ),
    "synthtext": KnownDataset(
        "SynthText",
        "https://www.robots.ox.ac.uk/~vgg/data/scenetext/",
        load_synth_text,
        {"train": Split((".",), ("gt.mat",))},
        "none",
    ),
    "synthtext150k-curved": KnownDataset(
        "SynthText-150k, curved words",
        "https://github.com/aim-uofa/AdelaiDet/tree/master/datasets",
        load_synth_text_150k,
        {"train": Split(("images/emcs_imgs", "images", "emcs_imgs"), ("annotations/train.json", "train.json"))},
        "none",
    ),
    "synthtext150k-straight": KnownDataset(
        "SynthText-150k, straight words",
        "https://github.com/aim-uofa/AdelaiDet/tree/master/datasets",
        load_synth_text_150k,
        {
            "train": Split(
                ("images/syntext_word_eng", "images", "syntext_word_eng"), ("annotations/train.json", "train.json")
            )
        },
        "none",
    ),
    "jsonl": KnownDataset(
        "JSON lines of this package",
        "your own photos, see docs/own_photos.md",
        load_jsonl,
        {name: Split((), (f"{name}.jsonl",)) for name in ("train", "val", "test")},
        "### and `ignore`",
    ),
}


def known_dataset(name: str) -> KnownDataset:
    """The data set of that name, however it is written (`Total-Text`, `total_text`).

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    for known, entry in KNOWN_DATASETS.items():
        if _plain(known) == _plain(name):
            return entry
    raise ValueError(f"no data set {name!r} is known; there are {', '.join(KNOWN_DATASETS)}")


def load_text_dataset(
    name: str,
    root: str | os.PathLike[str],
    split: str = "train",
    include: str | os.PathLike[str] | Iterable[str] | None = None,
) -> "datasets.Dataset | datasets.IterableDataset":
    """A part of a public data set that lies on disk as its archives unpack.

    Args:
        name: of `KNOWN_DATASETS`.
        root: the folder of the data set, or one that has it as a subfolder, called as `name` is, up to case and marks.
        split: which part.
        include: only these photos: file names, or a text file with one a line.

    Returns:
        Rows with the columns of `text_features`; streamed for SynthText and SynthText-150k.

    Raises:
        ValueError: for an unknown name or split, and what the reader cannot read.
        FileNotFoundError: naming what is missing and where the set is published.
    """
    known = known_dataset(name)
    if split not in known.splits:
        raise ValueError(f"{known.title} has no split {split!r}; there are {', '.join(known.splits)}")
    part = known.splits[split]
    folder = folder_of(name, root) or Path(root)
    missing = missing_parts(name, folder, split)
    if missing := [one for one in missing if include is None or one != part.names]:
        raise FileNotFoundError(
            f"{known.title}, split {split!r}: there is no {' and no '.join(missing)} in {folder}; the set is "
            f"published at {known.url}"
        )
    annotations = _matches(folder, part.annotations)[0]
    images = _matches(folder, part.images)
    places = ([images[0] if len(images) == 1 else images] if images else []) + [annotations]
    rows = known.read(*places, **part.options)
    names = include if include is not None or part.names is None else folder / part.names
    return rows if names is None else _only(rows, names)


def lexicon_of(lexicon: str, name: str, root: str | os.PathLike[str], image_ids: Sequence[str]) -> PublishedLexicon:
    """A lexicon out of the files of a data set, with the rule by which the papers use it.

    Args:
        lexicon: such as `"strong"`, `"weak"`, `"generic"` or `"full"`.
        name: the data set.
        root: as for `load_text_dataset`.
        image_ids: names of the photos, for lexicons of single photos.

    Raises:
        ValueError: if none of that name is published with the data set; the message lists those that are.
        FileNotFoundError: naming the files that are missing.
    """
    known = known_dataset(name)
    if lexicon not in known.lexicons:
        raise ValueError(
            f"no lexicon {lexicon!r} is published with {known.title}; there is {', '.join(known.lexicons) or 'none'}, "
            "or give a file with a word a line"
        )
    return read_lexicon(known.lexicons[lexicon], folder_of(name, root) or Path(root), image_ids)


def folder_of(name: str, root: str | os.PathLike[str]) -> Path | None:
    """The subfolder that is called like a data set, up to case and marks; `None` if there is none.

    Raises:
        FileNotFoundError: if there is no folder `root`.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    wanted = _plain(known_dataset(name).folder or name)
    return next((path for path in sorted(Path(root).iterdir()) if path.is_dir() and _plain(path.name) == wanted), None)


def missing_parts(name: str, folder: str | os.PathLike[str], split: str) -> list[str]:
    """What a split of a data set lacks in the data set's folder, each as its patterns; empty if all is there."""
    folder = Path(folder)
    part = known_dataset(name).splits[split]
    alternatives = [patterns for patterns in (part.images, part.annotations) if patterns]
    missing = [" or ".join(patterns) for patterns in alternatives if not _matches(folder, patterns)]
    return [*missing, part.names] if part.names and not (folder / part.names).is_file() else missing


def _plain(name: str) -> str:
    return _MARKS.sub("", name.lower())


def _matches(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """What the first pattern matches that matches anything."""
    for pattern in patterns:
        if found := [folder] if pattern == "." else sorted(folder.glob(pattern)):
            return found
    return []


def _only(
    rows: "datasets.Dataset | datasets.IterableDataset", names: str | os.PathLike[str] | Iterable[str]
) -> "datasets.Dataset | datasets.IterableDataset":
    if isinstance(names, str | os.PathLike):
        names = [line.strip() for line in read_text(Path(names)).split("\n") if line.strip()]
    wanted = {Path(name).stem for name in names}
    if not hasattr(rows, "select"):
        return rows.filter(lambda name: Path(name).stem in wanted, input_columns=["image_id"])
    there = [Path(name).stem for name in rows["image_id"]]
    if absent := sorted(wanted - set(there)):
        raise FileNotFoundError(f"{len(absent)} listed photos are not in the data set: {', '.join(absent[:5])}")
    return rows.select([index for index, name in enumerate(there) if name in wanted])
