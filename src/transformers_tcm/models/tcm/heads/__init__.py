"""Detection heads by name. Registering a head is one line here."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import DetectionHead

__all__ = ["HEADS", "head_class"]

HEADS = {
    "dbnet": "DBNetHead",
    "pan": "PANHead",
    "fcenet": "FCENetHead",
    "abcnet": "ABCNetHead",
    "spn": "SPNHead",
    "testr": "TESTRHead",
    "deepsolo": "DeepSoloHead",
    "rotated_fcos": "RotatedFCOSHead",
    "rotated_atss": "RotatedATSSHead",
    "rotated_retinanet": "RotatedRetinaNetHead",
}


def head_class(head_type: str) -> "type[DetectionHead]":
    """The head class registered under a name.

    Raises:
        ValueError: naming the heads there are.
    """
    if head_type not in HEADS:
        raise ValueError(f"unknown `head_type` {head_type!r}; choose one of {', '.join(HEADS)}")
    return getattr(import_module(f".{head_type}", __name__), HEADS[head_type])
