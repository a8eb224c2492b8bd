"""Readers of annotated photos in the formats of other tools and data sets, one module for each family."""

from .aerial_xml import load_dior_r, load_hrsc2016
from .art import load_art
from .coco import load_coco, load_coco_text, load_text_ocr
from .ctw1500 import load_ctw1500
from .dota import load_dota
from .labelme import load_labelme
from .mlt import load_mlt
from .synth_text import load_synth_text
from .synth_text_150k import load_synth_text_150k
from .td500 import load_td500
from .total_text import load_total_text
from .yolo_obb import load_yolo_obb

__all__ = [
    "load_art",
    "load_coco",
    "load_coco_text",
    "load_ctw1500",
    "load_dior_r",
    "load_dota",
    "load_hrsc2016",
    "load_labelme",
    "load_mlt",
    "load_synth_text",
    "load_synth_text_150k",
    "load_td500",
    "load_text_ocr",
    "load_total_text",
    "load_yolo_obb",
]
