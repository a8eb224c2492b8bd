"""The photo of the demo, and the script that made it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from transformers_tcm import TextInstances, geometry
from transformers_tcm.data.loaders import load_jsonl, row_to_instances

ROOT = Path(__file__).parents[1]


def read(json_lines: Path) -> tuple[Image.Image, TextInstances]:
    [row] = load_jsonl(json_lines)
    return row["image"], row_to_instances(row)


def contrast(image: Image.Image, outline: np.ndarray) -> float:
    """Standard deviation of the grey levels in the bounding box of an outline."""
    return float(np.std(np.asarray(image.convert("L").crop(geometry.bounding_box(outline).tolist()), np.float32)))


def test_the_photo_and_its_words() -> None:
    image, instances = read(ROOT / "examples/images/street.jsonl")
    assert image.size == (1280, 853)
    assert (ROOT / "examples/images/street.jpg").stat().st_size < 300_000
    assert instances.texts == "DOG SCHOOL since 1987 PUPPY CLASS Saturday 10:30 PLEASE RING 27 Beware of kisses".split()
    for polygon in instances.polygons:
        assert geometry.signed_area(polygon) > 500
        assert (polygon == geometry.order_clockwise(polygon)).all()
        assert (polygon == geometry.clamp_polygon(polygon, *image.size)).all()
        assert contrast(image, polygon) > 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes of a plain grey photo and the font within Pillow."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "font.ttf").write_bytes(ImageFont.load_default(10).font_bytes)
    Image.new("RGB", (2056, 3088), (150, 150, 150)).save(folder / "grey.png")
    command = [sys.executable, str(ROOT / "scripts/make_demo_photo.py"), "grey.png", "made.jpg"]
    command += [part for role in ("sans", "display", "script") for part in (f"--{role}", "font.ttf")]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "made.jsonl"


def test_the_script_draws_words_where_it_says(made: Path) -> None:
    assert json.loads(made.read_text())["image"] == "made.jpg"
    image, instances = read(made)
    assert len(instances) == 14
    assert all(contrast(image, polygon) > 10 for polygon in instances.polygons)
    # A quad beside the words is plain wall.
    assert contrast(image, np.array([[400, 100], [600, 100], [600, 400], [400, 400]])) < 4
