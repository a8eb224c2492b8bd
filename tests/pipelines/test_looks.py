"""Several looks at one picture: coarser, turned, and in a margin."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from spotting_fakes import BrightWords, photo
from transformers import pipeline

import transformers_tcm
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.heads.base import Regions
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from transformers_tcm.pipelines import text_spotting
from transformers_tcm.pipelines.looks import (
    CROP_MARGIN,
    Known,
    coarser,
    framed,
    turned,
    turned_back,
    unframed,
    worth_reading_again,
)
from transformers_tcm.pipelines.text_spotting import TextSpottingPipeline
from transformers_tcm.tiling import holds_large, may_hold_larger, merge_levels, worth_reading

EXAMPLES = Path(__file__).parents[2] / "examples" / "images"
PHOTO = Image.open(EXAMPLES / "street.jpg").convert("RGB")
WORDS = set(json.loads((EXAMPLES / "street.jsonl").read_text(encoding="utf-8"))["texts"])
QUAD = np.array([[10, 20], [50, 20], [50, 36], [10, 36]], np.float32)


def batch_of(height: int, width: int, padded: tuple[int, int]) -> dict[str, torch.Tensor]:
    pixels, mask = torch.zeros(1, 3, *padded), torch.zeros(1, *padded, dtype=torch.int64)
    pixels[..., :height, :width] = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    mask[:, :height, :width] = 1
    return {"pixel_values": pixels, "pixel_mask": mask}


def test_a_coarser_look_shows_the_same_smaller() -> None:
    batch = batch_of(90, 160, (96, 160))
    smaller = coarser(batch, 80, 32)
    assert smaller is not None
    assert smaller["pixel_values"].shape == (1, 3, 64, 96)
    assert smaller["pixel_mask"].sum() == 45 * 80
    inside = smaller["pixel_values"][..., :45, :80]
    torch.testing.assert_close(inside.mean(), batch["pixel_values"][..., :90, :160].mean(), atol=0.01, rtol=0)
    assert coarser(batch, 140, 32) is None


def test_a_coarser_look_rounds_bytes_and_does_not_cut_them_off() -> None:
    batch = batch_of(96, 160, (96, 160))
    batch["pixel_values"] = (255 * batch["pixel_values"]).to(torch.uint8)
    floats = {**batch, "pixel_values": batch["pixel_values"].float()}
    smaller, expected = coarser(batch, 80, 32), coarser(floats, 80, 32)
    assert smaller is not None
    assert expected is not None
    assert smaller["pixel_values"].dtype == torch.uint8
    torch.testing.assert_close(smaller["pixel_values"].float(), expected["pixel_values"], atol=0.5001, rtol=0)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_turning_back_undoes_turning(quarter_turns: int) -> None:
    height, width = 60, 90
    batch = batch_of(height, width, (64, 96))
    batch["pixel_values"][0, :, 20:36, 10:50] = 9.0
    upright = turned(batch, quarter_turns, 32)
    assert all(side % 32 == 0 for side in upright["pixel_values"].shape[-2:])
    assert upright["pixel_mask"].sum() == height * width
    rows, columns = (upright["pixel_values"][0, 0] == 9.0).nonzero(as_tuple=True)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    found = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    (back,) = turned_back(TextInstances([found]), quarter_turns, (height, width)).polygons
    assert {tuple(point) for point in back.tolist()} == {tuple(point) for point in QUAD.tolist()}


def test_four_quarter_turns_start_at_the_readings_top_left() -> None:
    # Text that runs down, in a picture turned clockwise: upright its first edge points to the right.
    (back,) = turned_back(TextInstances([QUAD]), 1, (90, 60)).polygons
    assert (back[1] - back[0]).tolist() == [0, 40]


def test_large_words_come_from_the_coarse_look_and_small_ones_from_the_fine() -> None:
    large, small = QUAD * 4, QUAD + 300
    fine = TextInstances(
        [large * np.array([0.5, 1], np.float32), small], scores=np.array([0.99, 0.6]), texts=["SC", "fine"]
    )
    coarse = TextInstances(
        [large, small + 2, QUAD + 500], scores=np.array([0.75, 0.8, 0.5]), texts=["SCHOOL", "fme", "x"]
    )
    assert merge_levels(fine, coarse, 0.5).texts == ["SCHOOL", "fine", "x"]
    # At a quarter of its size the large word is no clearer than the small one.
    assert merge_levels(fine, coarse, 0.25).texts == ["SC", "fine", "x"]
    # What is much surer counts all the same, and of readings that is what they say of themselves.
    unsure = replace(fine, scores=np.array([0.99, 0.45]))
    assert merge_levels(unsure, coarse, 0.5).texts == ["SCHOOL", "fme", "x"]
    sure, other = replace(unsure, text_scores=np.array([0.9, 0.9])), replace(coarse, text_scores=np.full(3, 0.5))
    assert merge_levels(sure, other, 0.5).texts == ["fine", "SC", "x"]


def test_a_coarse_look_reads_what_may_be_taken_and_its_neighbours() -> None:
    large, small = QUAD * 4, QUAD + 300
    fine = TextInstances([large, small])
    coarse = TextInstances([large, small + 2, QUAD + 500])
    assert worth_reading(fine, coarse, 0.5) == [0, 2]
    assert worth_reading(fine, coarse, 0.25) == [2]
    # Two words of which the fine look has one.
    twice_as_long = QUAD * np.array([2, 1], np.float32) + np.array([290, 300], np.float32)
    assert worth_reading(fine, TextInstances([twice_as_long]), 0.25) == [0]
    # Pieces of a word that goes on.
    pieces = TextInstances([small + np.array([shift, 0], np.float32) for shift in (0, 44, 100)])
    assert worth_reading(fine, pieces, 0.25) == [0, 1, 2]
    assert worth_reading(TextInstances([]), coarse, 0.25) == [0, 1, 2]
    assert worth_reading(fine, TextInstances([]), 0.25) == []


@pytest.mark.parametrize(("scale", "expected"), [(0.5, False), (1.0, False), (1.5, True), (2.0, True)])
def test_large_words_ask_for_a_coarser_look(scale: float, expected: bool) -> None:
    """16 pixels of the picture; where hardly anything was found everything else may be too large."""
    assert may_hold_larger(TextInstances([QUAD, QUAD * 0.5, QUAD * 0.5]), scale) == expected
    assert holds_large(TextInstances([QUAD]), scale) == expected
    for few in ([], [QUAD], [QUAD, QUAD * 0.5]):
        assert may_hold_larger(TextInstances(few), scale)
    assert not holds_large(TextInstances([]), scale)


def test_a_coarse_look_reads_what_the_fine_one_lacks_in_each_picture() -> None:
    regions = Regions.from_outlines([[QUAD, QUAD + 60], [QUAD + 60]], [np.array([0.9, 0.8]), np.array([0.7])])
    batch = {"pixel_mask": torch.ones(2, 96, 160, dtype=torch.int64)}
    # The pictures are twice as large as the input of the coarse look, and as high and twice as wide.
    known = [Known(TextInstances([QUAD * 2]), 0.5), Known(TextInstances([(QUAD + 60) * [2, 1]]), 0.5)]
    kept = worth_reading_again(known, batch, torch.tensor([[192, 320], [96, 320]]), regions)
    assert kept == [1]


def test_without_words_in_one_look_the_other_counts() -> None:
    some = TextInstances([QUAD], scores=np.array([0.5]), texts=["a"])
    none = TextInstances([], scores=np.zeros(0), texts=[])
    assert merge_levels(some, none, 0.5).texts == merge_levels(none, some, 0.5).texts == ["a"]


@pytest.fixture(scope="module")
def spotter() -> TextSpottingPipeline:
    return pipeline("text-spotting", model=str(transformers_tcm.bundled_model_path("fasttcm-spotter-tiny")))


def texts_and_edges(spotter: TextSpottingPipeline, picture: Image.Image) -> tuple[set[str], list[int]]:
    """What is read in a picture that stands upright, and the longest edges of the looks at it."""
    edges: list[int] = []
    hook = spotter.model.register_forward_pre_hook(
        lambda _, args, kwargs: edges.append(max(kwargs["pixel_values"].shape[-2:])), with_kwargs=True
    )
    with hook:
        return {found["text"] for found in spotter(picture, orientation="upright")}, edges


@pytest.mark.parametrize("degrees", [90, 180])
def test_the_bundled_spotter_reads_turned_pictures_along_the_text(spotter: TextSpottingPipeline, degrees: int) -> None:
    words = spotter(PHOTO.rotate(-degrees, expand=True))
    read = {word["text"]: np.array(word["polygon"]) for word in words}
    assert len(read.keys() & WORDS) >= 10
    along = read["SCHOOL"][1] - read["SCHOOL"][0]
    expected = {90: (0, 1), 180: (-1, 0)}[degrees]
    np.testing.assert_allclose(along / np.linalg.norm(along), expected, atol=0.2)


def test_a_coarse_look_leaves_out_what_would_not_be_taken(
    spotter: TextSpottingPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    look_at = spotter.model._read_regions
    monkeypatch.setattr(spotter.model, "_read_regions", lambda *args: read.append(len(args[-1])) or look_at(*args))
    found = [word["text"] for word in spotter(PHOTO, orientation="upright")]
    count = sum(read)
    read.clear()
    everything = lambda known, batch, sizes, regions: range(len(regions))  # noqa: E731
    monkeypatch.setattr(text_spotting, "worth_reading_again", everything)
    assert [word["text"] for word in spotter(PHOTO, orientation="upright")] == found
    assert count < sum(read)


@pytest.mark.parametrize("large", [False, True])
def test_large_pieces_that_are_not_reported_ask_for_a_coarser_look(large: bool) -> None:
    words = [(20, 10, 50, 20), (80, 10, 110, 20), (140, 10, 170, 20), *([(20, 100, 220, 200)] if large else [])]
    model = BrightWords()
    settings = {"box_threshold": 0.4, "text_threshold": 0.5, "unclip_ratio": 0.0, "coarse_edge": 128}
    processor = TCMImageProcessorPil(size={"longest_edge": 256}, **settings)
    spotter = pipeline("text-spotting", model=model, image_processor=processor)  # type: ignore[call-overload]
    assert spotter(photo(256, 256, *words, level=150), orientation="upright") == []
    assert [shape[-1] for shape in model.shapes] == ([256, 128, 64] if large else [256])


def test_letters_of_a_third_of_the_picture_are_read(spotter: TextSpottingPipeline) -> None:
    """At 1600 and 960 pixels some of them look like anything but letters."""
    picture = Image.new("RGB", (1400, 1000), (240, 240, 235))
    draw = ImageDraw.Draw(picture)
    draw.text((120, 250), "NAILS", (30, 30, 40), font=ImageFont.load_default(330))
    draw.text((900, 840), "Opening hours", (30, 30, 40), font=ImageFont.load_default(48))
    read, edges = texts_and_edges(spotter, picture)
    assert {"NAILS", "Opening", "hours"} <= read
    assert edges == [1600, 960, 480]


def test_crops_with_large_letters_are_also_read_in_their_own_size(spotter: TextSpottingPipeline) -> None:
    crop = Image.new("RGB", (200, 60), (240, 240, 235))
    ImageDraw.Draw(crop).text((14, 6), "HOTEL", (30, 30, 40), font=ImageFont.load_default(46))
    read, edges = texts_and_edges(spotter, crop)
    assert read == {"HOTEL"}
    # In a margin, three times as large and as it is, padded to multiples of 32.
    assert edges == [672, 224]
    assert texts_and_edges(spotter, Image.new("RGB", (200, 60), (240, 240, 235))) == (set(), [672])


def test_pictures_stay_as_they_are_where_that_is_asked_for(spotter: TextSpottingPipeline) -> None:
    upside_down = PHOTO.rotate(180)
    assert not {word["text"] for word in spotter(upside_down, orientation="upright")} & WORDS
    with pytest.raises(ValueError, match="'sideways'; expected one of 'auto', 'upright'"):
        spotter(upside_down, orientation="sideways")


def test_a_margin_has_the_colour_of_the_border() -> None:
    crop = Image.new("RGB", (50, 20), (10, 200, 30))
    crop.paste((255, 255, 255), (0, 5, 50, 15))  # a word that touches two edges
    picture = np.asarray(framed(crop))
    assert picture.shape == (20 + 2 * CROP_MARGIN, 50 + 2 * CROP_MARGIN, 3)
    inside = slice(CROP_MARGIN, -CROP_MARGIN)
    np.testing.assert_array_equal(picture[inside, inside], np.asarray(crop))
    margin = np.ones(picture.shape[:2], bool)
    margin[inside, inside] = False
    assert (picture[margin] == (10, 200, 30)).all()


def test_what_is_found_in_a_margin_ends_at_the_edge_of_the_crop() -> None:
    framed_size = (20 + 2 * CROP_MARGIN, 50 + 2 * CROP_MARGIN)
    reaching, beyond = QUAD - [14, 16] + CROP_MARGIN, QUAD * 0.1
    found = TextInstances([reaching.astype(np.float32), beyond.astype(np.float32)], scores=[0.9, 0.8], texts=["a", "b"])
    inside = unframed(found, framed_size)
    assert inside.texts == ["a"]
    np.testing.assert_allclose(inside.polygons[0], [[0, 4], [36, 4], [36, 20], [0, 20]])
