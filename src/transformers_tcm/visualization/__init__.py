"""What was found, drawn into pictures."""

from .drawing import draw_text_instances, overlay_score_map

__all__ = ["draw_text_instances", "overlay_score_map"]
