"""`tile=` and `output_score_maps=` of both pipelines, mostly with models that take bright pixels for text."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from detection_fakes import CONFIG, BrightPixels, box_of, photo
from PIL import Image, ImageDraw, ImageFont
from spotting_fakes import BrightWords
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from transformers_tcm import TCMImageProcessorPil, TextDetectionPipeline
from transformers_tcm.tiling import TileGrid

WORDS = [(20, 20, 60, 30), (150, 15, 190, 27), (100, 100, 140, 112), (185, 115, 225, 125), (240, 150, 290, 165)]
LARGE = photo(300, 200, *WORDS)
PHOTOS = [LARGE, photo(100, 60, (20, 20, 60, 32)), photo(220, 210, (120, 100, 160, 112)), photo(300, 200)]
# With the processors below it is made smaller to be read, and fits into no tile.
TILES = {"tile": 128, "tile_overlap": 64}


def processor(**settings: Any) -> TCMImageProcessorPil:
    defaults = {"size": {"longest_edge": 160}, "unclip_ratio": 0.0, "box_threshold": 0.4, "min_size": 2}
    return TCMImageProcessorPil(**{**defaults, **settings})


@pytest.fixture
def detector() -> TextDetectionPipeline:
    return pipeline("text-detection", model=BrightPixels(CONFIG), image_processor=processor())


def boxes(found: list[dict[str, Any]]) -> list[list[int]]:
    return sorted([round(value) for value in box_of(one)] for one in found)


def test_words_are_found_at_the_scale_of_the_photo_once_and_whole(detector: TextDetectionPipeline) -> None:
    found = detector(LARGE, **TILES)
    np.testing.assert_allclose(boxes(found), sorted(map(list, WORDS)), atol=1)
    assert set(found[0]) == {"score", "label", "box", "polygon"}
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    # The overview at the size of the processor or half that of the photo, then twelve tiles, each on its own.
    assert detector.model.shapes == [(1, 3, 128, 160)] + [(1, 3, 128, 128)] * 12


@pytest.mark.parametrize("size", [None, 160])
def test_a_photo_that_fits_into_a_tile_is_read_as_without(detector: TextDetectionPipeline, size: int | None) -> None:
    assert detector(LARGE, size=size, tile=320) == detector(LARGE, size=size)
    assert detector(PHOTOS[1], size=size, tile=160) == detector(PHOTOS[1], size=size)
    assert len(detector.model.shapes) == 4


def test_a_photo_that_is_not_made_smaller_is_read_as_without(detector: TextDetectionPipeline) -> None:
    small = LARGE.crop((0, 0, 160, 80))
    assert detector(small, tile=64) == detector(small)
    assert detector.model.shapes == [(1, 3, 96, 160)] * 2


def test_size_is_the_one_that_photos_are_cut_at(detector: TextDetectionPipeline) -> None:
    found = detector(LARGE, size=600, tile=256, tile_overlap=100)
    np.testing.assert_allclose(boxes(found), sorted(map(list, WORDS)), atol=1)
    assert detector.model.shapes == [(1, 3, 128, 160)] + [(1, 3, 256, 256)] * 8
    detector(LARGE, size={"height": 100, "width": 300}, tile=128)
    assert detector.model.shapes[9:] == [(1, 3, 64, 160)] + [(1, 3, 128, 128)] * 3


def test_without_resizing_tiles_bound_the_input(detector: TextDetectionPipeline) -> None:
    detector.image_processor.do_resize = False
    np.testing.assert_allclose(boxes(detector(LARGE, **TILES)), sorted(map(list, WORDS)), atol=1)
    assert max(shape[3] for shape in detector.model.shapes) == 160


def test_a_word_too_long_for_the_overlap_is_taken_from_the_overview(detector: TextDetectionPipeline) -> None:
    long = (60, 80, 280, 110)
    [found] = detector(photo(300, 200, long), **TILES)
    np.testing.assert_allclose(box_of(found), long, atol=4)


CONTAINERS: dict[str, Callable[[list[Image.Image]], Any]] = {
    "list": list,
    "generator": lambda images: (image for image in images),
    "key of a dataset": lambda images: KeyDataset([{"photo": image} for image in images], "photo"),
}


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_many_photos_give_what_each_gives(kind: str, batch_size: int, detector: TextDetectionPipeline) -> None:
    results = list(detector(CONTAINERS[kind](PHOTOS), batch_size=batch_size, **TILES))
    shapes = list(detector.model.shapes)
    assert results == [detector(image, **TILES) for image in PHOTOS]
    assert [len(found) for found in results] == [5, 1, 1, 0]
    assert max(shape[0] for shape in shapes) <= batch_size
    # Tiles of several photos fill a batch together.
    assert batch_size < 64 or (34, 3, 128, 128) in shapes


@pytest.mark.parametrize("num_workers", [1, 3])
def test_another_process_may_cut_the_photos(num_workers: int, detector: TextDetectionPipeline) -> None:
    expected = [detector(image, **TILES) for image in PHOTOS]
    assert list(detector((image for image in PHOTOS), num_workers=num_workers, batch_size=3, **TILES)) == expected


def test_threads_share_a_pipeline(detector: TextDetectionPipeline) -> None:
    expected = [detector(image, **TILES) for image in PHOTOS] * 4
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda image: detector(image, **TILES), PHOTOS * 4)) == expected


def test_photos_are_loaded_and_cut_when_their_turn_comes(
    detector: TextDetectionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, cut = [], []
    crop = Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda self, box: cut.append(box) or crop(self, box))
    results = detector((loaded.append(image) or image for image in [LARGE] * 3), batch_size=2, **TILES)
    assert len(next(iter(results))) == 5
    assert (len(loaded), len(cut)) == (2, 12)  # the overview of the second photo shares the last batch of the first


def test_batches_of_a_single_photo_are_of_its_tiles(detector: TextDetectionPipeline) -> None:
    one_by_one = detector(LARGE, **TILES)
    detector.model.shapes.clear()
    assert detector(LARGE, batch_size=8, **TILES) == one_by_one
    assert sum(shape[0] for shape in detector.model.shapes) == 13
    assert len(detector.model.shapes) == 3  # 1 + 7, and 5


def test_tiles_of_the_pipeline_hold_until_a_call_says_otherwise() -> None:
    tiled = pipeline("text-detection", model=BrightPixels(CONFIG), image_processor=processor(), **TILES)
    assert len(tiled(LARGE)) == len(tiled([LARGE])[0]) == 5
    assert tiled([], tile=128) == []
    tiled.model.shapes.clear()
    tiled(LARGE, tile=0)
    tiled([LARGE], tile=0)
    assert tiled.model.shapes == [(1, 3, 128, 160)] * 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tile": 10}, ValueError, "`tile` is 10; expected at least 64"),
        ({"tile": 128, "tile_overlap": 65}, ValueError, "`tile_overlap` is 65; expected 0 to 64"),
        ({"tile": 128.5}, TypeError, "whole pixels"),
        ({"tile": 128, "size": 0}, ValueError, "`size` is 0"),
        ({"tile": 128, "size": {"longest": 100}}, ValueError, "longest_edge"),
    ],
)
def test_impossible_tiles_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str, detector: TextDetectionPipeline
) -> None:
    with pytest.raises(error, match=message):
        detector(LARGE, **arguments)


def test_tiled_words_keep_text_lexicon_and_reading_order() -> None:
    spotter = pipeline("text-spotting", model=BrightWords(), image_processor=processor(text_threshold=0.2))
    found = spotter(LARGE, **TILES)
    np.testing.assert_allclose([box_of(word) for word in found], WORDS, atol=1)
    # The fake reads where in its input a word starts; each of these is deepest in the tile whose corner is given.
    for word, (x, y), (left, top) in zip(
        found, [row[:2] for row in WORDS], [(0, 0), (114, 0), (57, 36), (114, 72), (172, 72)], strict=True
    ):
        assert word["text"] == "abcd"[(x - left) * 4 // 128] + "1234"[(y - top) * 4 // 128]
        assert word["text_score"] == pytest.approx(0.8, abs=1e-4)
    # A word counts if one of the tiles that see it whole reads what is in the lexicon: the second one starts at the
    # left of another tile.
    lexicon = ["A9", "xyz"]
    matched = spotter(LARGE, lexicon=lexicon, **TILES)
    assert [word["text"] for word in matched] == ["A9", "A9"]
    np.testing.assert_allclose([box_of(word) for word in matched], [WORDS[0], WORDS[3]], atol=1)
    assert spotter([LARGE, LARGE], lexicon=[lexicon, None], batch_size=4, **TILES) == [matched, found]


def scene(size: tuple[int, int], tile: int, overlap: int) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """Bright words of many sizes on black, apart from each other, most of them across borders of tiles."""
    rng = np.random.default_rng(0)
    grid = TileGrid(*size, tile, overlap)
    edges = [np.unique([box[axis::2] for box in grid.tiles]) for axis in (0, 1)]
    placed: list[tuple[int, int, int, int]] = [(1200, 1500, 3600, 1900), (300, 3200, 700, 3280)]
    for _ in range(1500):
        width, height = rng.integers(40, 230), rng.integers(16, 50)
        # Around a border of a tile more often than anywhere.
        near = [rng.choice(ends[1:-1]) + rng.integers(-100, 100) for ends in edges]
        far = [rng.uniform(0, side) for side in size]
        x, y = (int(one if rng.random() < 0.7 else other) for one, other in zip(near, far, strict=True))
        box = (x - width // 2, y - height // 2, x + width // 2, y + height // 2)
        inside = min(box[:2]) > 0 and box[2] < size[0] and box[3] < size[1]
        apart = all(
            box[0] > o[2] + 30 or box[2] < o[0] - 30 or box[1] > o[3] + 30 or box[3] < o[1] - 30 for o in placed
        )
        if inside and apart:
            placed.append(tuple(map(int, box)))
    return photo(*size, *placed), placed


@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_word_of_a_photo_of_24_megapixels_is_found_once(batch_size: int) -> None:
    image, words = scene((6000, 4000), tile=1024, overlap=256)
    reader = pipeline(
        "text-detection", model=BrightPixels(CONFIG), image_processor=processor(size={"longest_edge": 1920})
    )
    found = reader(image, tile=1024, batch_size=batch_size)
    assert len(words) > 300
    # Long words come from the overview, a third as large as the photo.
    np.testing.assert_allclose(boxes(found), sorted(map(list, words)), atol=5)
    assert {shape[1:] for shape in reader.model.shapes} == {(3, 1280, 1920), (3, 1024, 1024)}


def letters(size: tuple[int, int]) -> tuple[Image.Image, list[tuple[str, list[float]]]]:
    """A wall with signs of Pillow's own font, across the borders of tiles of 1024 with an overlap of 256 pixels."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size[1], : size[0]]
    shades = [
        110 + 40 * np.sin(columns / 900),
        120 + 30 * np.cos(rows / 700),
        130 + 20 * np.sin((columns + rows) / 1100),
    ]
    image = Image.fromarray(np.stack(shades, axis=-1).astype(np.uint8))
    draw, placed = ImageDraw.Draw(image), []
    names = "STREET MARKET OPEN COFFEE BAKERY HOTEL GARDEN MUSEUM SCHOOL STATION BOOKS FLOWERS THEATRE".split()
    corners = {(x, y) for box in TileGrid(*size, 1024, 256).tiles for x in box[::2] for y in box[1::2]}
    for center in sorted(corners):
        name, font = names[rng.integers(len(names))], ImageFont.load_default(int(rng.integers(28, 44)))
        box = np.array(draw.textbbox(center, name, font=font, anchor="mm"))
        sign = box + np.array([-14, -12, 14, 12])
        if (sign[:2] > 5).all() and (sign[2:] < np.subtract(size, 5)).all():
            draw.rectangle(sign.tolist(), fill=(245, 245, 240))
            draw.text(center, name, font=font, anchor="mm", fill=(20, 20, 60))
            placed.append((name, box.tolist()))
    return image, placed


@pytest.mark.slow
def test_the_bundled_spotter_reads_a_photo_of_24_megapixels_in_tiles() -> None:
    image, words = letters((6000, 4000))
    # The language model would make up for what a small photo does not show.
    spotter = pipeline("text-spotting", dtype=torch.float32, device="cpu", use_language_model=False)
    whole, tiled = spotter(image), spotter(image, tile=1024)
    outlines = [shapely.Polygon(word["polygon"]) for word in tiled]
    found = read = 0
    for name, box in words:
        word = shapely.box(*box)
        seen = [i for i, outline in enumerate(outlines) if outline.intersection(word).area > 0.5 * word.area]
        assert len(seen) <= 1, (name, box)
        found += len(seen)
        read += sum(tiled[i]["text"] == name for i in seen)
    assert len(words) > 60
    assert found > 0.97 * len(words)
    assert read > 0.85 * len(words)
    assert read > 1.5 * sum(word["text"] in dict(words) for word in whole)
    assert len(tiled) < 1.03 * len(words)


@pytest.mark.parametrize("tiles", [{}, TILES])
def test_score_maps_are_of_the_size_of_the_photo(detector: TextDetectionPipeline, tiles: dict[str, int]) -> None:
    image = photo(300, 200, (0, 0, 150, 200))
    result = detector(image, output_score_maps=True, **tiles)
    assert set(result) == {"instances", "score_map"}
    assert result["instances"] == detector(image, **tiles)
    score_map = result["score_map"]
    assert score_map.shape == (200, 300)
    assert score_map.dtype == np.float32
    # Lower down the fake sees the padding. The sigmoid of a cosine of 0.07 or -0.07 over a temperature of 0.07.
    np.testing.assert_allclose(score_map[:140, :85], 1 / (1 + np.exp(-1)), atol=1e-3)
    np.testing.assert_allclose(score_map[:140, 215:], 1 / (1 + np.exp(1)), atol=1e-3)


def test_score_maps_of_batches_are_those_of_single_photos(detector: TextDetectionPipeline) -> None:
    alone = [detector(image, output_score_maps=True, **TILES) for image in PHOTOS]
    for batch_size in (1, 3):
        together = detector(PHOTOS, output_score_maps=True, batch_size=batch_size, **TILES)
        for one, other in zip(alone, together, strict=True):
            assert one["instances"] == other["instances"]
            np.testing.assert_array_equal(one["score_map"], other["score_map"])


@pytest.mark.parametrize("tiles", [{}, TILES])
def test_models_without_a_score_map_say_so(tiles: dict[str, int]) -> None:
    model = BrightPixels(CONFIG, with_score_map=False)
    without = pipeline("text-detection", model=model, image_processor=processor(), output_score_maps=True)
    result = without(LARGE, **tiles)
    assert result["score_map"] is None
    assert without(LARGE, output_score_maps=False, **tiles) == result["instances"]
