"""The parts of the scene-text renderer: fonts, words, layout, warping, placement, paint and camera."""

__all__: list[str] = []
