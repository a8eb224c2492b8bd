"""The figures of heads and recognisers are those that `scripts/draw_head_figures.py` draws."""

import importlib
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from docs_pages import ROOT

FIGURES = ROOT / "docs" / "images" / "heads"


@pytest.mark.slow
def test_figures_are_drawn_anew_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setattr(sys, "argv", ["draw_head_figures.py", str(tmp_path)])
    importlib.import_module("draw_head_figures").main()
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in FIGURES.iterdir() if path.suffix != ".svg"}
    for name in drawn:
        now, stored = (np.asarray(PIL.Image.open(folder / name), np.float32) for folder in (tmp_path, FIGURES))
        assert now.shape == stored.shape
        assert np.abs(now - stored).mean() < 2  # Pillow's font and JPEG differ a little between versions
