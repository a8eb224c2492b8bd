"""Readers of annotated photos in the formats of other tools and data sets, one module for each family."""

from .labelme import load_labelme

__all__ = ["load_labelme"]
