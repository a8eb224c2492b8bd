"""Words cut out of photos and pasted into others: where they come to lie, what they leave alone."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import shapely
import torch

from transformers_tcm import TCMImageProcessor, TextInstances
from transformers_tcm.data.augmentation import TextAugmentation
from transformers_tcm.data.copy_paste import CopyPaste, WordPatch, cut_words, patches_of_words
from transformers_tcm.data.datasets import RandomTextCrops
from transformers_tcm.data.word_crops import WordCrop

GREY, RED = 128, (230, 20, 20)
STRAIGHT = np.float32([[30, 40], [110, 48], [108, 70], [28, 62]])
ANGLES = np.linspace(np.pi, 2 * np.pi, 7)
ARC = np.concatenate(
    [np.stack([100 + r * np.cos(a), 120 + r * np.sin(a)], 1) for r, a in ((80, ANGLES), (56, ANGLES[::-1]))]
)


def coverage(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Share (H, W) of each pixel that lies inside the polygon."""
    large = np.zeros((8 * size[0], 8 * size[1]), np.float32)
    # Outlines count from the pixels' corners, OpenCV from their centres.
    cv2.fillPoly(large, [np.rint(8 * polygon - 0.5).astype(np.int32)], 1.0)
    return cv2.resize(large, size[::-1], interpolation=cv2.INTER_AREA)


def photo(*polygons: np.ndarray, size: tuple[int, int] = (160, 200), colour: tuple = RED) -> np.ndarray:
    """Grey, with the polygons filled to their outlines."""
    image = np.full((*size, 3), GREY, np.float32)
    for polygon in polygons:
        image += coverage(polygon, size)[..., None] * (np.float32(colour) - image)
    return np.rint(image).astype(np.uint8)


def red_patches(*polygons: np.ndarray) -> list[WordPatch]:
    texts = [f"word{index}" for index in range(len(polygons))]
    return cut_words(photo(*polygons), TextInstances(list(polygons), texts=texts))


def nothing() -> TextInstances:
    return TextInstances([], texts=[], ignore=np.zeros(0, bool))


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("polygon", [STRAIGHT, ARC], ids=["straight", "curved"])
def test_the_outline_is_where_the_ink_is(polygon: np.ndarray) -> None:
    """Red pixels fill the outline and lie inside it, give or take one at its border."""
    paste = CopyPaste(red_patches(polygon), probability=1.0, max_words=1, word_heights=(14, 40))
    pasted = 0
    for seed in range(25):
        image, instances = paste(photo(size=(240, 320)), nothing(), rng(seed))
        if not len(instances):
            continue
        pasted += 1
        [outline] = instances.polygons
        assert outline.shape == polygon.shape
        assert instances.texts == ["word0"]
        assert not instances.ignored.any()
        ink = image[..., 0].astype(int) - image[..., 1] > 105  # half way between grey and red
        inside = coverage(outline, ink.shape) > 0.5
        wider, narrower = (change(inside.astype(np.uint8), np.ones((3, 3))) > 0 for change in (cv2.dilate, cv2.erode))
        assert ink[narrower].all()
        assert not ink[~wider].any()
        assert (ink & inside).sum() > 0.9 * (ink | inside).sum()
    assert pasted >= 20


def test_nothing_overlaps_and_labelled_text_is_untouched() -> None:
    old = TextInstances(
        [STRAIGHT + np.float32([20, 10]), STRAIGHT + np.float32([120, 130]), STRAIGHT + np.float32([10, 150])],
        ignore=np.array([False, True, False]),
    )
    before = photo(*old.polygons, size=(240, 320), colour=(10, 200, 10))
    paste = CopyPaste(red_patches(STRAIGHT), probability=1.0, max_words=6, word_heights=(12, 30))
    count = 0
    for seed in range(20):
        image, instances = paste(before, old, rng(seed))
        count += len(instances) - len(old)
        assert instances.ignored[: len(old)].tolist() == [False, True, False]
        assert instances.texts[: len(old)] == [None] * 3
        for index, polygon in enumerate(old.polygons):
            assert np.array_equal(instances.polygons[index], polygon)
        outlines = [shapely.Polygon(polygon) for polygon in instances.polygons]
        for (i, one), (j, two) in itertools.combinations(enumerate(outlines), 2):
            assert max(i, j) < len(old) or one.intersection(two).area == 0
        text = (before != GREY).any(axis=2)
        assert (image[text] == before[text]).all()
        for polygon in instances.polygons[len(old) :]:
            assert (polygon >= 0).all()
            assert (polygon <= [320, 240]).all()
    assert count > 30


def test_words_stay_inside_the_photo() -> None:
    """A turned photo leaves black corners in a crop; a word hanging there would be no street scene."""
    frame = np.float32([[60, 0], [320, 40], [260, 240], [0, 200]])
    paste = CopyPaste(red_patches(STRAIGHT), probability=1.0, max_words=8, word_heights=(12, 24))
    image = np.zeros((240, 320, 3), np.uint8)
    cv2.fillPoly(image, [frame.astype(np.int32)], (GREY,) * 3)
    count = 0
    for seed in range(10):
        _, instances = paste(image, nothing(), rng(seed), frame)
        count += len(instances)
        assert all(shapely.Polygon(frame).buffer(1).contains(shapely.Polygon(p)) for p in instances.polygons)
    assert count > 20


def test_flat_places_are_preferred() -> None:
    """Half of the photo is noise, half is plain."""
    image = photo(size=(240, 320))
    image[:, :160] = rng(0).integers(0, 256, (240, 160, 3))
    paste = CopyPaste(red_patches(STRAIGHT), probability=1.0, max_words=1, word_heights=(12, 16))
    centres = [
        polygon.mean(axis=0)[0] for seed in range(40) for polygon in paste(image, nothing(), rng(seed))[1].polygons
    ]
    assert np.mean(np.array(centres) > 160) > 0.85


def test_colours_are_matched_and_contrast_is_kept() -> None:
    """Dark letters on a bright sign, pasted onto a dark wall."""
    sign = np.full((160, 200, 3), 220, np.uint8)
    sign[44:66:4, 32:106] = 60  # stripes for letters
    patches = cut_words(sign, TextInstances([STRAIGHT]))
    paste = CopyPaste(patches, probability=1.0, max_words=1, word_heights=(20, 22), rotation=0, warp=0)
    brightest, ranges = [], []
    for seed in range(40):
        image, instances = paste(np.full((100, 160, 3), 40, np.uint8), nothing(), rng(seed))
        for polygon in instances.polygons:
            inside = cv2.fillPoly(np.zeros((100, 160), np.uint8), [polygon.astype(np.int32)], 1).astype(bool)
            values = image[inside][:, 0].astype(int)
            brightest.append(values.max())
            ranges.append(np.ptp(values))
    # From the sign's own colour down to where its letters would vanish.
    assert min(brightest) < 175 < 200 < max(brightest)
    assert min(ranges) > 100


def test_what_is_cut() -> None:
    """Whole legible words that no other word reaches into, each with a margin without its neighbours."""
    below = STRAIGHT + np.float32([0, 26])
    instances = TextInstances(
        [
            STRAIGHT,
            below,
            STRAIGHT + np.float32([60, -60]),
            STRAIGHT * 0.3,
            STRAIGHT + np.float32([70, 70]),
            STRAIGHT + np.float32([80, 75]),
        ],
        texts=["whole", "ignored", "outside", "small", "under", "over"],
        ignore=np.array([False, True, False, False, False, False]),
    )
    image = rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    image = image[:, :160]
    [patch] = [patch for patch in cut_words(image, instances) if patch.text == "whole"]
    assert {patch.text for patch in cut_words(image, instances)} == {"whole"}
    assert patch.height == pytest.approx(22.0, abs=0.5)
    # The patch is the part of the photo that its outline says.
    offset = (STRAIGHT - patch.polygon)[0].astype(int)
    np.testing.assert_allclose(STRAIGHT - patch.polygon, np.tile(offset, (4, 1)))
    height, width = patch.pixels.shape[:2]
    assert np.array_equal(patch.pixels, image[offset[1] :, offset[0] :][:height, :width])
    word, neighbour = np.zeros((2, height, width), np.uint8)
    cv2.fillPoly(word, [np.rint(patch.polygon).astype(np.int32)], 1)
    cv2.fillPoly(neighbour, [np.rint(below - offset).astype(np.int32)], 1)
    assert (patch.opacity[word == 1] == 255).all()
    assert neighbour.any()
    assert (patch.opacity[neighbour == 1] == 0).all()
    assert patch.opacity[0].max() == patch.opacity[:, 0].max() == 0


def test_words_of_crops(tmp_path: Path) -> None:
    """A word that fills its picture gets a margin of the picture's last pixels."""
    PIL.Image.new("RGB", (80, 24), RED).save(tmp_path / "whole.png")
    PIL.Image.new("RGB", (80, 6), RED).save(tmp_path / "low.png")
    PIL.Image.fromarray(photo(STRAIGHT)).save(tmp_path / "part.png")
    words = [WordCrop(tmp_path / "whole.png", "ab"), WordCrop(tmp_path / "low.png", "no")]
    words.append(WordCrop(tmp_path / "part.png", "cd", tuple(map(tuple, STRAIGHT.tolist()))))
    whole, part = patches_of_words(words)
    assert (whole.text, part.text) == ("ab", "cd")
    assert (whole.pixels == RED).all()
    assert whole.pixels.shape == (24 + 2 * 7, 80 + 2 * 7, 3)
    assert whole.polygon.tolist() == [[7, 7], [87, 7], [87, 31], [7, 31]]


def test_heights_and_enlargement() -> None:
    """Words are drawn in the range of heights, but not enlarged beyond a quarter."""
    paste = CopyPaste(red_patches(STRAIGHT), probability=1.0, max_words=1, word_heights=(16, 90), rotation=45, warp=0)
    heights = []
    for seed in range(40):
        _, instances = paste(photo(size=(400, 400)), nothing(), rng(seed))
        heights += [min(cv2.minAreaRect(polygon)[1]) for polygon in instances.polygons]
    assert 15.5 < min(heights) < 20
    assert max(heights) == pytest.approx(1.25 * 22, rel=0.03)


def test_probability_and_full_photos() -> None:
    image, old = photo(), TextInstances([np.float32([[0, 0], [200, 0], [200, 160], [0, 160]])])
    never = CopyPaste(red_patches(STRAIGHT), probability=0.0)
    assert all(never(image, old, rng(seed))[0] is image for seed in range(5))
    full, instances = CopyPaste(red_patches(STRAIGHT), probability=1.0)(image, old, rng(0))
    assert len(instances) == 1
    assert np.array_equal(full, image)
    half = CopyPaste(red_patches(STRAIGHT), probability=0.5, word_heights=(12, 13))
    share = np.mean([len(half(photo(size=(300, 300)), nothing(), rng(seed))[1]) > 0 for seed in range(200)])
    assert 0.4 < share < 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patches": []}, "there is no word to paste"),
        ({"probability": 1.5}, "expected one in"),
        ({"word_heights": (20, 10)}, "0 < low <= high"),
    ],
)
def test_bad_settings_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CopyPaste(**{"patches": red_patches(STRAIGHT), **changes})


class TestTrainingCrops:
    """Copy-paste as a part of the augmentation."""

    row = {
        "image": photo(STRAIGHT, colour=(10, 200, 10)),
        "polygons": [STRAIGHT.tolist()],
        "texts": ["a"],
        "ignore": [False],
    }

    def crops(self, paste: CopyPaste | None) -> RandomTextCrops:
        augmentation = TextAugmentation(crop_size=(128, 128), scale_range=(0.7, 1.0), copy_paste=paste)
        return RandomTextCrops([[self.row]], [1], augmentation, TCMImageProcessor(), length=30)

    def test_a_crop_depends_on_its_index_only(self) -> None:
        paste = CopyPaste(red_patches(STRAIGHT), probability=0.5, word_heights=(12, 24))
        one, two = self.crops(paste), self.crops(paste)
        counts = [len(one[index]["labels"]["counts"]) for index in range(30)]
        assert len(set(counts)) > 2
        for index in (29, 3, 17):
            assert torch.equal(one[index]["pixel_values"], two[index]["pixel_values"])
            assert torch.equal(one[index]["labels"]["points"], two[index]["labels"]["points"])

    def test_crops_without_pasted_words_keep_their_place(self) -> None:
        """The own words of a crop are those of the same crop without copy-paste."""
        paste = CopyPaste(red_patches(STRAIGHT), probability=1.0, word_heights=(12, 24))
        for index in range(10):
            plain, pasted = self.crops(None)[index]["labels"], self.crops(paste)[index]["labels"]
            own = len(plain["points"])
            assert torch.equal(pasted["points"][:own], plain["points"])
