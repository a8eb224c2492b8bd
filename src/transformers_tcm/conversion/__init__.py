"""Checkpoints of CLIP and of the released detectors into models of this package."""

from .convert import convert_checkpoint
from .loading import read_state_dict

__all__ = ["convert_checkpoint", "read_state_dict"]
