"""The sheet of pictures that show where the bundled spotter reads and where it fails."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from transformers_tcm import TextInstances

SCRIPT = Path(__file__).parents[1] / "scripts" / "draw_accuracy_pictures.py"
WORDS = [[[10, 10], [50, 10], [50, 30], [10, 30]], [[60, 50], [110, 50], [110, 70], [60, 70]]]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("draw_accuracy_pictures", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def words(texts: list[str]) -> TextInstances:
    return TextInstances([np.float32(one) for one in WORDS], texts=texts)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_words_turn_with_their_picture(script: ModuleType, quarters: int) -> None:
    pixels = np.zeros((90, 120, 3), np.uint8)
    pixels[10:30, 10:50] = 255
    picture, turned = script.turned(Image.fromarray(pixels), words(["one", "two"]), quarters)
    left, top = turned.polygons[0].min(axis=0).astype(int)
    right, bottom = turned.polygons[0].max(axis=0).astype(int)
    assert np.asarray(picture)[top:bottom, left:right].min() == 255
    assert np.asarray(picture).sum() == pixels.sum()


def test_colours_tell_what_became_of_each_word(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}

    def draw(picture: Image.Image, instances: TextInstances, color: list) -> Image.Image:
        drawn.update(zip([text or "missed" for text in instances.texts], color, strict=True))
        return picture

    monkeypatch.setattr(script, "draw_text_instances", draw)
    truth = words(["exit", "open"])
    found = [{"text": "exit", "polygon": WORDS[0]}, {"text": "noise", "polygon": [[0, 80], [9, 80], [9, 89], [0, 89]]}]
    sheet = script.panel("signs", Image.new("RGB", (120, 90)), truth, found)
    assert sheet.size == (script.PANEL[0], script.PANEL[1] + script.TITLE)
    assert drawn == {"exit": script.GREEN, "noise": script.MAGENTA, "missed": script.RED}
    misread = [{"text": "exlt", "polygon": WORDS[0]}]
    script.panel("signs", Image.new("RGB", (120, 90)), truth, misread)
    assert drawn["exlt"] == script.ORANGE
