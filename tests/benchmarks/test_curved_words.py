"""Words along arcs: how they are drawn, what counts as found, and that they are learned by heart."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from transformers_tcm import TextInstances, load_image


def test_words_are_drawn_within_curved_outlines(script: ModuleType) -> None:
    """One bends down at its ends, the other up."""
    for seed, texts in enumerate(script.WORDS):
        picture, words = script.draw_picture(seed)
        assert picture.shape == (script.HEIGHT, script.WIDTH, 3)
        assert words.texts == list(texts)
        for polygon, bend in zip(words.polygons, (1, -1), strict=True):
            assert polygon.shape == (14, 2)
            assert (polygon > 0).all()
            assert (polygon < [script.WIDTH, script.HEIGHT]).all()
            ends, middle = polygon[[0, 6], 1].mean(), polygon[3, 1]
            assert bend * (ends - middle) > 8


def test_a_word_counts_where_its_reading_is_and_its_outline_fits(script: ModuleType) -> None:
    _, words = script.draw_picture(0)
    assert script.agreement([words], [words]) == (2, 1.0)
    misread = TextInstances(words.polygons, texts=["harbour", "marked"])
    assert script.agreement([misread], [words]) == (1, 0.5)
    elsewhere = TextInstances(words.polygons[::-1], texts=words.texts)
    assert script.agreement([elsewhere], [words]) == (0, 0.0)


@pytest.mark.slow
def test_words_along_arcs_are_found_as_curved_polygons_and_read(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "arcs.png"
    monkeypatch.setattr("sys.argv", ["curved_words.py", "--output", str(picture)])
    script.main()
    assert "8 of 8 words exact" in capsys.readouterr().out
    assert np.ptp(load_image(picture)) > 200
