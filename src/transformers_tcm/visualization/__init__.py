"""What was found, drawn into pictures."""

from .drawing import draw_text_instances, overlay_score_map
from .objects import draw_objects

__all__ = ["draw_objects", "draw_text_instances", "overlay_score_map"]
