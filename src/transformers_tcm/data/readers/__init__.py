"""Readers of annotated photos in the formats of other tools and data sets, one module for each family."""

from .ctw1500 import load_ctw1500
from .labelme import load_labelme
from .total_text import load_total_text

__all__ = ["load_ctw1500", "load_labelme", "load_total_text"]
