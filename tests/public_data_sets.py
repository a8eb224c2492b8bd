"""Public data sets as their archives unpack, with hand-made labels and grey photos."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

FIXTURES = Path(__file__).parent / "fixtures" / "readers"


@dataclass(frozen=True)
class Unpacked:
    """One split: its photos, and where each fixture goes; all within the folder of the data set."""

    photos: tuple[str, ...]
    labels: dict[str, str]
    folder: str
    words: tuple[tuple[tuple[str | None, bool], ...], ...]
    """Of each photo the words and whether they are ignored."""


_TRAIN_150K = ((("Hello!", False), (None, False)),)
_TOTAL_TEXT = ((("the", False), ("ALEX'S", False), ("###", True)),)
_CTW = ((("SALE & MORE", False), ("###", True)),)
_ART = ((("CAFÉ", False), ("###", True)), (("面馆", False), ("nei", True)))
_TD = (((None, False), (None, True)),)
_MLT = ((("Hotel, Bar", False), ("فندق", False), ("###", True), ("###", True)),)
UNPACKED: dict[tuple[str, str], Unpacked] = {
    ("icdar2013", "train"): Unpacked(
        ("Challenge2_Training_Task12_Images/100.jpg",),
        {"icdar2013/gt_100.txt": "Challenge2_Training_Task1_GT/gt_100.txt"},
        "ICDAR2013",
        ((("Footpath", False), ("To", False)),),
    ),
    ("icdar2013", "test"): Unpacked(
        ("Challenge2_Test_Task12_Images/img_1.jpg",),
        {"icdar2013/gt_img_1.txt": "Challenge2_Test_Task1_GT/gt_img_1.txt"},
        "icdar_2013",
        ((("Tiredness", False), ("kills", False)),),
    ),
    ("icdar2015", "train"): Unpacked(
        ("ch4_training_images/img_1.jpg",),
        {"icdar2015/gt_img_1.txt": "ch4_training_localization_transcription_gt/gt_img_1.txt"},
        "icdar2015",
        ((("Genaxis Theatre", False), ("###", True)),),
    ),
    ("icdar2015", "test"): Unpacked(
        ("ch4_test_images/img_1.jpg",),
        {"icdar2015/gt_img_1.txt": "Challenge4_Test_Task1_GT/gt_img_1.txt"},
        "icdar2015",
        ((("Genaxis Theatre", False), ("###", True)),),
    ),
    ("mlt2017", "train"): Unpacked(
        ("ch8_training_images_1/img_1.jpg",),
        {"mlt/gt_img_1.txt": "ch8_training_localization_transcription_gt_v2/gt_img_1.txt"},
        "MLT2017",
        _MLT,
    ),
    ("mlt2017", "val"): Unpacked(
        ("ch8_validation_images/img_1.jpg",),
        {"mlt/gt_img_1.txt": "ch8_validation_localization_transcription_gt_v2/gt_img_1.txt"},
        "MLT2017",
        _MLT,
    ),
    ("mlt2019", "train"): Unpacked(
        ("ImagesPart1/tr_img_00001.jpg", "ImagesPart2/tr_img_05001.jpg"),
        {
            "mlt/gt_img_1.txt": "train_gt_t13/tr_img_00001.txt",
            "mlt2019/tr_img_05001.txt": "train_gt_t13/tr_img_05001.txt",
        },
        "mlt-2019",
        (*_MLT, (("가", False),)),
    ),
    ("art", "train"): Unpacked(
        ("train_images/gt_0.jpg", "train_images/gt_1.jpg"), {"art/train_labels.json": "train_labels.json"}, "ArT", _ART
    ),
    ("nighttime-art", "test"): Unpacked(
        ("train_images/train_images/gt_0.jpg", "train_images/train_images/gt_1.jpg"),
        {"art/train_labels.json": "train_labels.json", "art/nighttime.txt": "nighttime.txt"},
        "art",
        _ART[1:],
    ),
    ("lsvt", "train"): Unpacked(
        ("train_full_images_0/gt_0.jpg", "train_full_images_1/gt_1.jpg"),
        {"art/train_labels.json": "train_full_labels.json"},
        "LSVT",
        _ART,
    ),
    ("total-text", "train"): Unpacked(
        ("Images/Train/img12.jpg",),
        {"total_text/poly_gt_img12.mat": "Polygon/Train/poly_gt_img12.mat"},
        "Total-Text",
        _TOTAL_TEXT,
    ),
    ("total-text", "test"): Unpacked(
        ("Images/Test/img11.jpg",),
        {"total_text/poly_gt_img11.txt": "txt_format/Test/poly_gt_img11.txt"},
        "totaltext",
        _TOTAL_TEXT,
    ),
    ("ctw1500", "train"): Unpacked(
        ("train_images/1001.jpg",), {"ctw1500/1001.xml": "ctw1500_train_labels/1001.xml"}, "CTW1500", _CTW
    ),
    ("ctw1500", "test"): Unpacked(
        ("test_images/1001.jpg",), {"ctw1500_test/0001001.txt": "gt_ctw1500/0001001.txt"}, "ctw1500", _CTW
    ),
    ("td500", "train"): Unpacked(("train/IMG_0030.JPG",), {"td500/IMG_0030.gt": "train/IMG_0030.gt"}, "TD500", _TD),
    ("td500", "test"): Unpacked(("test/IMG_0030.JPG",), {"td500/IMG_0030.gt": "test/IMG_0030.gt"}, "TD500", _TD),
    ("tr400", "train"): Unpacked(("IMG_0030.jpg",), {"td500/IMG_0030.gt": "IMG_0030.gt"}, "TR400", _TD),
    ("coco-text", "train"): Unpacked(
        ("train2014/COCO_train2014_000000390310.jpg",),
        {"coco_text/cocotext.v2.json": "cocotext.v2.json"},
        "COCO-Text",
        ((("try", False), (None, True)),),
    ),
    ("coco-text", "val"): Unpacked(
        ("train2014/COCO_train2014_000000217925.jpg",),
        {"coco_text/cocotext.v2.json": "cocotext.v2.json"},
        "COCO-Text",
        ((("out", False),),),
    ),
    ("textocr", "train"): Unpacked(
        ("train_images/a4ea732cd3d5948a.jpg",),
        {"text_ocr/TextOCR_0.1_train.json": "TextOCR_0.1_train.json"},
        "TextOCR",
        ((("Performance", False), (".", True)),),
    ),
    ("textocr", "val"): Unpacked(
        ("train_images/a4ea732cd3d5948a.jpg",),
        {"text_ocr/TextOCR_0.1_train.json": "TextOCR_0.1_val.json"},
        "TextOCR",
        ((("Performance", False), (".", True)),),
    ),
    ("synthtext", "train"): Unpacked(
        ("8/ballet_106_0.jpg", "9/hut_1_0.jpg"),
        {"synth_text/gt.mat": "gt.mat"},
        "SynthText",
        ((("Lines:", False), ("I", False), ("lost", False)), (("word", False),)),
    ),
    ("synthtext150k-curved", "train"): Unpacked(
        ("images/emcs_imgs/0060001.jpg",),
        {"synth_text_150k/train.json": "annotations/train.json"},
        "synthtext150k_curved",
        _TRAIN_150K,
    ),
    ("synthtext150k-straight", "train"): Unpacked(
        ("images/syntext_word_eng/0060001.jpg",),
        {"synth_text_150k/train.json": "annotations/train.json"},
        "synthtext150k_straight",
        _TRAIN_150K,
    ),
    **{
        ("jsonl", split): Unpacked(
            ("photo.jpg",),
            {"jsonl/train.jsonl": f"{split}.jsonl"},
            "jsonl",
            ((("OPEN", False), ("###", True)),),
        )
        for split in ("train", "val", "test")
    },
}


def unpack(root: Path, name: str, split: str) -> Path:
    """Lay out a split below `root`; returns the folder of the data set."""
    unpacked = UNPACKED[name, split]
    folder = root / unpacked.folder
    for photo in unpacked.photos:
        (folder / photo).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (1000, 500), "grey").save(folder / photo)
    for fixture, place in unpacked.labels.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FIXTURES / fixture, folder / place)
    return folder


LEXICONS = {
    "icdar2015": {
        "ch4_test_vocabularies_per_image/voc_img_1.txt": "\ufeffTheatre\r\nGenaxis\r\n",
        "ch4_test_vocabulary_pair_list.txt": "GENAXIS Genaxis Theatre\n",
        "ch4_test_vocabulary.txt": "THE-OTHER-LIST\n",
        "GenericVocabulary.txt": "Theatre\nCinema\n",
    },
    "total-text": {"lexicons/weak_voc_new.txt": "THE\nALEX\n"},
    "ctw1500": {"ctw1500_lexicon_pair_list.txt": "SALE sale\n"},
}


def unpack_lexicons(folder: Path, name: str) -> None:
    """Lay out the lexicons of a data set in its folder, in both forms that are published."""
    for place, text in LEXICONS[name].items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8", newline="")
