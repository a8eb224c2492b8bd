"""Recognisers by name, and what they share. Registering a recogniser is one line here."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Recognizer

__all__ = ["RECOGNIZERS", "recognizer_class"]

RECOGNIZERS = {
    "ctc": "CTCRecognizer",
    "attention": "AttentionRecognizer",
    "abinet": "ABINetRecognizer",
    "masked": "MaskedRecognizer",
}


def recognizer_class(decoder: str) -> "type[Recognizer]":
    """The recogniser registered under a name, `recognizer["decoder"]` of the configuration.

    Raises:
        ValueError: naming the recognisers there are.
    """
    if decoder not in RECOGNIZERS:
        raise ValueError(f"unknown `decoder` {decoder!r} of the recogniser; choose one of {', '.join(RECOGNIZERS)}")
    return getattr(import_module(f".{decoder}", __name__), RECOGNIZERS[decoder])
