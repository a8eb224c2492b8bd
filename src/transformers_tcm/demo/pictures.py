"""What was found, as a picture and as text."""

from collections import Counter
from collections.abc import Mapping

from PIL import Image

from ..instances import OrientedInstances, TextInstances
from ..results import lines_of_text
from ..visualization.drawing import draw_text_instances, overlay_score_map
from ..visualization.objects import draw_objects
from .finder import Found

__all__ = ["FOUND", "PROBABILITY_MAP", "SCORE_MAP", "draw", "summary", "text_of"]

FOUND, SCORE_MAP, PROBABILITY_MAP = "What was found", "Score map", "Probability map"
# Longer side in pixels: more than a screen shows takes long to draw and to send.
_LONGEST = 1600


def draw(found: Found, view: str, classes: Mapping[int, str] | None = None) -> Image.Image:
    """The photo, no larger than a screen shows, with outlines and words or under a heat map.

    Args:
        found: in the photo.
        view: `FOUND`, `SCORE_MAP` or `PROBABILITY_MAP`.
        classes: names of those of oriented objects; `None` for text.

    Raises:
        ValueError: if the model gave no such map.
    """
    photo = found.photo
    scale = min(1.0, _LONGEST / max(photo.size))
    if scale < 1:
        photo = photo.resize([round(side * scale) for side in photo.size], Image.Resampling.LANCZOS)
    if view == FOUND:
        if classes is None:
            return draw_text_instances(photo, TextInstances.from_detections(found.instances).scale(scale, scale))
        ids = {name: label for label, name in classes.items()}
        objects = OrientedInstances.from_detections(found.instances, ids).scale(scale, scale)
        return draw_objects(photo, objects, classes)
    values = found.score_map if view == SCORE_MAP else found.probability_map
    if values is None:
        raise ValueError(f"this model has no {view.lower()}")
    return overlay_score_map(photo, values, colorbar=True)


def summary(found: Found, reads: bool, classes: Mapping[int, str] | None = None) -> str:
    """How much was found, in a few words."""
    count = len(found.instances)
    what = "object" if classes is not None else "word" if reads else "region"
    return f"{count or 'no'} {what}{'s' * (count != 1)}"


def text_of(found: Found, reads: bool, classes: Mapping[int, str] | None = None) -> str:
    """Lines of words that were read, or how many objects of each class; nothing for mere regions."""
    if classes is not None:
        return "\n".join(f"{name}: {count}" for name, count in Counter(o["label"] for o in found.instances).items())
    return "\n".join(lines_of_text(found.instances)) if reads else ""
