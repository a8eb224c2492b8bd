"""Colours of text and boards, and how layers of ink are put onto a photograph."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Paint", "choose_colour", "luminance", "paint_layers", "street_colour"]

# What boards and letters of streets are mostly painted with.
_STREET = np.array(
    [[245, 245, 242], [20, 20, 22], [200, 30, 36], [20, 60, 140], [245, 205, 40], [20, 110, 60], [235, 120, 30],
     [120, 30, 40], [60, 60, 66], [205, 200, 185], [90, 160, 210], [110, 70, 40]], np.float32,
)  # fmt: skip


@dataclass
class Paint:
    """Colours (3,) float of a block's layers; `None` leaves a layer out."""

    ink: np.ndarray
    outline: np.ndarray | None = None
    board: np.ndarray | None = None
    frame: np.ndarray | None = None
    shadow: np.ndarray | None = None
    opacity: float = 1.0
    lighting: float = 0.3


def luminance(colour: np.ndarray) -> float:
    """Brightness of a colour (3,) in grey levels."""
    return float(colour @ np.array([0.299, 0.587, 0.114], np.float32))


def street_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour (3,) float32 RGB in 0 to 255: one of the palette, varied, or any."""
    if rng.random() < 0.25:
        return rng.uniform(0, 255, 3).astype(np.float32)
    return np.clip(_STREET[rng.integers(len(_STREET))] + rng.normal(0, 14, 3), 0, 255).astype(np.float32)


def choose_colour(rng: np.random.Generator, behind: np.ndarray, contrast: float) -> np.ndarray:
    """A colour that differs from `behind` (3,) by about `contrast` grey levels, up to what the range allows."""
    best, best_miss = behind, np.inf
    for _ in range(6):
        colour = street_colour(rng)
        difference = max(abs(luminance(colour) - luminance(behind)), 0.5 * float(np.abs(colour - behind).max()))
        miss = max(contrast - difference, 0.0)
        if miss < best_miss:
            best, best_miss = colour, miss
        if miss == 0.0:
            break
    if best_miss > 20.0:
        best = np.full(3, 240.0 if luminance(behind) < 128 else 15.0, np.float32)
    if contrast < 45.0:
        # Faint text: pull the colour towards what is behind it.
        distance = float(np.abs(best - behind).max())
        best = behind + (best - behind) * min(contrast / max(distance, 1.0), 1.0)
    return best.astype(np.float32)


def paint_layers(region: np.ndarray, layers: dict[str, np.ndarray], paint: Paint) -> tuple[np.ndarray, np.ndarray]:
    """Put the layers onto a part of the photograph.

    Args:
        region: (h, w, 3) float32.
        layers: coverage (h, w) float32 in [0, 1] by name: `board`, `frame`, `shadow`, `outline`, `ink`.
        paint: the colours.

    Returns:
        The region without and with the text, (h, w, 3) float32 each.
    """
    light = _lighting(region, paint.lighting)
    base = region
    for name in ("board", "frame", "shadow"):
        colour = getattr(paint, name)
        if colour is not None and name in layers:
            # A shadow darkens what is there, it takes no light of its own.
            base = _blend(base, layers[name], colour if name == "shadow" else colour * light)
    final = base
    for name in ("outline", "ink"):
        colour = getattr(paint, name)
        if colour is not None and name in layers:
            final = _blend(final, layers[name] * paint.opacity, colour * light)
    return base, final


def _lighting(region: np.ndarray, strength: float) -> np.ndarray:
    """(h, w, 1) brightness of the photograph relative to its mean there, which paint on it shares."""
    import cv2

    gray = region.mean(axis=2)
    side = max(3, min(gray.shape) // 4 * 2 + 1)
    smooth = cv2.blur(gray, (side, side))
    relative = np.clip((smooth + 24.0) / (float(gray.mean()) + 24.0), 0.5, 1.6)
    return (1.0 + strength * (relative - 1.0))[..., None]


def _blend(below: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return below + coverage[..., None] * (colour - below)
