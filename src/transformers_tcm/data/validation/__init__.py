"""Finds what is wrong with labelled photos: every problem of every file, where the loaders stop at the first one."""

from .checks import check_outline, check_photos
from .findings import KINDS, DatasetReport, Finding, LabelledPhoto, LabelledWord
from .reading import read_icdar2015_labels, read_jsonl_labels

__all__ = [
    "KINDS",
    "DatasetReport",
    "Finding",
    "LabelledPhoto",
    "LabelledWord",
    "check_outline",
    "check_photos",
    "read_icdar2015_labels",
    "read_jsonl_labels",
]
