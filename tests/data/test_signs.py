"""Plain signs: words where their outlines say, of the heights asked for, as sharp as drawn."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from transformers_tcm.data.rendering.signs import SignRenderer, SignStyle
from transformers_tcm.data.rendering.words import PlainWordSampler
from transformers_tcm.data.synthetic import PRINTABLE_ASCII
from transformers_tcm.geometry import signed_area, word_height

SMALL = SignStyle(sides=(96, 500), heights=(10.0, 100.0))


@pytest.fixture(scope="module")
def font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pillow's own font as a file, so that no installed one is needed."""
    path = tmp_path_factory.mktemp("fonts") / "aileron.ttf"
    path.write_bytes(ImageFont.load_default(20).font_bytes)
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backgrounds") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 120, 3), np.uint8)).save(path)
    return path


def renderer(font: Path, photo: Path, style: SignStyle = SMALL, words: list[str] | None = None) -> SignRenderer:
    return SignRenderer(PlainWordSampler(PRINTABLE_ASCII, words), [font], [photo], style)


def test_a_sign_depends_on_its_seed_alone(font: Path, photo: Path) -> None:
    one, other = renderer(font, photo), renderer(font, photo)
    other.render(1)
    (image, words), (again, words_again) = one.render(7), other.render(7)
    assert np.array_equal(image, again)
    assert words.to_json() == words_again.to_json()
    assert not np.array_equal(image, one.render(8)[0][: len(image), : image.shape[1]])


def test_signs_have_words_within_the_picture_and_the_sizes_asked_for(font: Path, photo: Path) -> None:
    signs = renderer(font, photo)
    for seed in range(30):
        image, words = signs.render(seed)
        assert 96 <= max(image.shape) <= 500
        assert 1 <= len(words) <= 40
        for polygon in words.polygons:
            assert signed_area(polygon) > 0
            assert (polygon >= -0.5).all()
            assert (polygon <= np.array(image.shape[1::-1]) + 0.5).all()


def test_capitals_have_the_heights_asked_for(font: Path, photo: Path) -> None:
    style = SignStyle(sides=(600, 900), heights=(50.0, 54.0), words=(1, 3), slant=0.0)
    signs = renderer(font, photo, style, words=["HEN"])
    heights = [
        word_height(polygon)
        for seed in range(8)
        for polygon, text in zip(signs.render(seed)[1].polygons, signs.render(seed)[1].texts, strict=True)
        if text == "HEN"
    ]
    assert heights
    assert 46 <= min(heights) <= max(heights) <= 56


def test_the_ink_lies_within_the_outlines(font: Path, photo: Path) -> None:
    import cv2

    plain = SignStyle(sides=(200, 400), photo=0.0, gradient=0.0, board=0.0, slant=0.5)
    signs = renderer(font, photo, plain)
    for seed in range(10):
        image, words = signs.render(seed)
        outside = np.ones(image.shape[:2], np.uint8)
        for polygon in words.polygons:
            cv2.fillPoly(outside, [np.rint(polygon).astype(np.int32)], 0)
        outside = cv2.erode(outside, np.ones((5, 5), np.uint8)).astype(bool)
        ground = np.median(image.reshape(-1, 3), axis=0)
        assert np.abs(image[outside] - ground).max() <= 2
        assert np.abs(image.astype(int) - ground).max() > 50


def test_empty_lists_and_missing_backgrounds_are_reported(font: Path, photo: Path) -> None:
    words = PlainWordSampler(PRINTABLE_ASCII)
    with pytest.raises(ValueError, match="`fonts` is empty"):
        SignRenderer(words, [], [photo])
    with pytest.raises(ValueError, match="`backgrounds` is empty"):
        SignRenderer(words, [font], [])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        renderer(font, photo.with_name("nowhere.png"), SignStyle(sides=(96, 200), photo=1.0)).render(0)


def test_words_too_long_for_every_picture_are_reported(font: Path, photo: Path) -> None:
    style = SignStyle(sides=(96, 120), heights=(20.0, 30.0))
    with pytest.raises(ValueError, match="give shorter words"):
        renderer(font, photo, style, words=["incomprehensibilities"]).render(0)
