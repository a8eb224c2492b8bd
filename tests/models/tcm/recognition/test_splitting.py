"""Words that were found as one: parts take the place of what reads worse as a whole."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from transformers_tcm.bezier import bezier_points, bezier_to_polygon
from transformers_tcm.models.tcm.heads.base import Regions
from transformers_tcm.models.tcm.recognition.reading import WordReading
from transformers_tcm.models.tcm.recognition.splitting import split_at_boundaries, split_at_spaces, split_joined_words

# Parts by what a region says; the places of regions tell which it is.
Parts = dict[str, list[str]]


def quad(name: str) -> np.ndarray:
    """A place for a region of a name."""
    return np.float32([[0, 0], [9, 0], [9, 3], [0, 3]]) + np.float32([0, sum(map(ord, name))])


def regions_of(names: Sequence[Sequence[str]]) -> Regions:
    outlines = [[quad(name) for name in image] for image in names]
    return Regions.from_outlines(outlines, [np.ones(len(image)) for image in names])


def said(regions: Regions, scores: dict[str, float]) -> list[WordReading]:
    names = {float(quad(name)[0, 1]): name for name in scores}
    texts = [names[float(polygon[0, 1])] for polygon in regions.polygons()]
    return [WordReading(text, scores[text], np.zeros((len(text), 1))) for text in texts]


def kept(
    images: Sequence[Sequence[str]], parts: Parts, scores: dict[str, float], looks: dict[str, float] | None = None
) -> tuple[list[str], list[int], list[str]]:
    """What is read in the end, in which image, and which parts were read, of words in images.

    Args:
        images: the words.
        parts: that some of them have.
        scores: of all readings.
        looks: of those that look otherwise at first sight.
    """
    read_parts: list[str] = []

    def split(regions: Regions) -> tuple[Regions, Sequence[int]]:
        wholes = [reading.text for reading in said(regions, scores)]
        found = [
            (part, index, image)
            for index, (whole, image) in enumerate(zip(wholes, regions.batch_indices.tolist(), strict=True))
            for part in parts.get(whole, [])
        ]
        by_image = [[part for part, _, there in found if there == image] for image in range(len(images))]
        return regions_of(by_image), [index for _, index, _ in sorted(found, key=lambda one: one[2])]

    def read(regions: Regions) -> list[WordReading]:
        found = said(regions, scores)
        read_parts.extend(reading.text for reading in found)
        return found

    def glance(regions: Regions) -> list[WordReading]:
        return said(regions, {**scores, **(looks or {})})

    regions = regions_of(images)
    split_regions, readings = split_joined_words(regions, said(regions, scores), split, glance, read)
    texts = [reading.text for reading in readings]
    assert [reading.text for reading in said(split_regions, scores)] == texts
    return texts, split_regions.batch_indices.tolist(), read_parts


def test_parts_that_read_surer_take_the_place_of_the_whole() -> None:
    scores = {"before": 0.9, "HOLLOWOFFCE": 0.1, "HOLLOW": 1.0, "OFFICER": 0.9, "after": 0.95}
    images = [["before", "HOLLOWOFFCE"], ["after"]]
    texts, where, read_parts = kept(images, {"HOLLOWOFFCE": ["HOLLOW", "OFFICER"]}, scores)
    assert texts == ["before", "HOLLOW", "OFFICER", "after"]
    assert where == [0, 0, 0, 1]
    assert read_parts == ["HOLLOW", "OFFICER"]


def test_parts_that_read_hardly_surer_do_not() -> None:
    scores = {"mill": 0.6, "mi": 0.75, "ll": 0.8}
    assert kept([["mill"]], {"mill": ["mi", "ll"]}, scores)[0] == ["mill"]


def test_what_looks_worse_is_not_read() -> None:
    scores = {"noise": 0.3, "no": 1.0, "ise": 1.0}
    looks = {"no": 0.1, "ise": 0.2}
    texts, _, read_parts = kept([["noise"]], {"noise": ["no", "ise"]}, scores, looks)
    assert (texts, read_parts) == (["noise"], [])


def test_what_spelling_doubts_may_look_clear() -> None:
    scores = {"DEARRESIDENTS": 0.3, "DEAR": 0.7, "RESIDENTS": 0.7}
    looks = {"DEARRESIDENTS": 0.88, "DEAR": 0.86, "RESIDENTS": 0.8}
    assert kept([["DEARRESIDENTS"]], {"DEARRESIDENTS": ["DEAR", "RESIDENTS"]}, scores, looks)[0] == [
        "DEAR",
        "RESIDENTS",
    ]


def test_sure_words_are_not_split() -> None:
    scores = {"sure": 0.7, "su": 1.0, "re": 1.0}
    assert kept([["sure"]], {"sure": ["su", "re"]}, scores)[0] == ["sure"]


def test_long_parts_count_for_more() -> None:
    """A scrap that says nothing does not keep two words together."""
    scores = {"0024Trip": 0.2, "0024": 1.0, "5": 0.1, "Trip": 0.9}
    assert kept([["0024Trip"]], {"0024Trip": ["0024", "5", "Trip"]}, scores)[0] == ["0024", "5", "Trip"]


def test_three_words_fall_apart_one_after_the_other() -> None:
    scores = {"aabbcc": 0.0, "aa": 1.0, "bbcc": 0.2, "bb": 0.9, "cc": 0.8}
    parts = {"aabbcc": ["aa", "bbcc"], "bbcc": ["bb", "cc"]}
    assert kept([[], ["aabbcc"]], parts, scores)[:2] == (["aa", "bb", "cc"], [1, 1, 1])


def test_nothing_found_is_nothing_split() -> None:
    assert kept([[], []], {}, {}) == ([], [], [])


def test_regions_keep_what_is_known_of_them() -> None:
    first, second = regions_of([["a"], ["b", "c"]]), regions_of([[], ["d"]])
    first.char_logits, second.char_logits = torch.zeros(3, 1, 4, 5), torch.ones(1, 1, 4, 5)
    chosen = Regions.joined([first, second]).select([3, 0])
    assert [polygon[0, 1] for polygon in chosen.polygons()] == [quad("d")[0, 1], quad("a")[0, 1]]
    assert chosen.char_logits is not None
    assert chosen.char_logits.amax(dim=(1, 2, 3)).tolist() == [1, 0]
    assert chosen.batch_indices.tolist() == [1, 0]
    assert chosen.control_points is None
    assert len(first.select([])) == 0


WORD = np.float32([[10, 20], [110, 20], [110, 40], [10, 40]])
CURVED = np.float32([[0, 60], [40, 20], [80, 20], [120, 60], [100, 70], [75, 45], [45, 45], [20, 70]])


def scores_of(readings: Sequence[WordReading]) -> list[float]:
    """Likelihoods without spelling."""
    return [reading.score for reading in readings]


def apart_at(
    regions: Regions, spaces: list[list[tuple[float, float]]], whole_score: float, part_score: float
) -> tuple[Regions, list[str]]:
    """Regions told apart at spaces, and their texts: wholes are capital letters, parts small ones from a on."""
    wholes = [WordReading(chr(65 + index), whole_score, np.zeros((1, 1))) for index in range(len(regions))]

    def read(parts: Regions) -> list[WordReading]:
        return [WordReading(chr(97 + index), part_score, np.zeros((1, 1))) for index in range(len(parts))]

    split_regions, readings = split_at_spaces(regions, wholes, spaces, read, scores_of)
    return split_regions, [reading.text for reading in readings]


def test_regions_are_cut_at_their_spaces() -> None:
    regions = Regions.from_outlines([[WORD], [WORD + 5, WORD]], [np.float32([0.9]), np.float32([0.8, 0.7])])
    spaces = [[], [(0.25, 0.5), (0.75, 0.75)], []]
    parts, texts = apart_at(regions, spaces, 0.9, 0.85)
    assert texts == ["A", "a", "b", "c", "C"]
    assert parts.batch_indices.tolist() == [0, 1, 1, 1, 1]
    assert parts.scores.tolist() == pytest.approx([0.9, 0.8, 0.8, 0.8, 0.7])
    sides = [(polygon[0, 0], polygon[1, 0]) for polygon in parts.polygons()]
    np.testing.assert_allclose(sides, [(10, 110), (15, 40), (65, 90), (90, 115), (10, 110)], atol=1e-3)
    assert all(np.ptp(polygon[:, 1]) == pytest.approx(20, abs=1e-3) for polygon in parts.polygons())


def test_parts_that_read_much_worse_than_the_whole_are_no_words() -> None:
    regions = Regions.from_outlines([[WORD]], [np.float32([0.9])])
    assert apart_at(regions, [[(0.5, 0.5)]], 0.9, 0.7)[1] == ["A"]


def test_no_spaces_ask_for_no_reading() -> None:
    regions = Regions.from_outlines([[WORD]], [np.float32([0.9])])
    same, texts = apart_at(regions, [[]], 0.9, 0.9)
    assert (same, texts) == (regions, ["A"])


@pytest.mark.parametrize(
    ("words", "part_score", "parts", "texts"),
    [
        ([(-0.1, 1.0)], 0.85, "a", ["a", "B"]),
        ([(-0.1, 1.0)], 0.8, "a", ["A", "B"]),
        ([(0.0, 0.4), (0.5, 1.1)], 0.75, "ab cd", ["ab", "cd", "B"]),
        ([(0.0, 0.4), (0.5, 1.1)], 0.65, "ab cd", ["A", "B"]),
        ([(0.0, 0.4), (0.5, 1.1)], 0.75, "abc d", ["A", "B"]),
        ([(0.0, 1.0)], 0.99, "", ["A", "B"]),
    ],
)
def test_words_along_a_region_take_its_place(
    words: list[tuple[float, float]], part_score: float, parts: str, texts: list[str]
) -> None:
    """One with other ends has to be likelier, several may read a little less sure; they are no single letters."""
    regions = Regions.from_outlines([[WORD, WORD + 5]], [np.float32([0.9, 0.8])])
    wholes = [WordReading(text, 0.8, np.zeros((1, 1))) for text in "AB"]

    def read(regions: Regions) -> list[WordReading]:
        return [WordReading(text, part_score, np.zeros((len(text), 1))) for text in parts.split()]

    found, readings = split_at_boundaries(regions, wholes, [words, [(0.0, 1.0)]], read, scores_of)
    assert [reading.text for reading in readings] == texts
    if texts[0] != "A":
        np.testing.assert_allclose(found.polygons()[0][0], [10 + 100 * words[0][0], 20], atol=1e-3)
        np.testing.assert_allclose(found.polygons()[len(words) - 1][2], [10 + 100 * words[-1][1], 40], atol=1e-3)


@pytest.mark.parametrize(("spelling", "text"), [(1.0, "ORSE"), (0.5, "HORSE")])
def test_words_do_not_lose_letters_by_which_they_are_spelled(spelling: float, text: str) -> None:
    """What is left of a word looks clearer than the whole, and is no word."""
    regions = Regions.from_outlines([[WORD]], [np.float32([0.9])])
    whole, part = WordReading("HORSE", 0.8, np.zeros((5, 1))), WordReading("ORSE", 0.99, np.zeros((4, 1)))

    def likelihoods(readings: Sequence[WordReading]) -> list[float]:
        return [reading.score * (spelling if reading.text == "ORSE" else 1) for reading in readings]

    readings = split_at_boundaries(regions, [whole], [[(0.2, 1.0)]], lambda _: [part], likelihoods)[1]
    assert [reading.text for reading in readings] == [text]


@pytest.mark.parametrize(("score", "text"), [(0.9, "finish."), (0.7, "finish")])
def test_spelling_has_no_say_in_punctuation(score: float, text: str) -> None:
    regions = Regions.from_outlines([[WORD]], [np.float32([0.9])])
    whole, longer = WordReading("finish", 0.8, np.zeros((6, 1))), WordReading("finish.", score, np.zeros((7, 1)))

    def likelihoods(readings: Sequence[WordReading]) -> list[float]:
        return [reading.score * (0.1 if reading is longer else 1) for reading in readings]

    readings = split_at_boundaries(regions, [whole], [[(0.0, 1.2)]], lambda _: [longer], likelihoods)[1]
    assert [reading.text for reading in readings] == [text]


@pytest.mark.parametrize(("spelling", "texts"), [(0.75, ["SAND", "WICH"]), (0.65, ["SANDWICH"])])
def test_much_likelier_words_stay_in_one_piece(spelling: float, texts: list[str]) -> None:
    regions = Regions.from_outlines([[WORD]], [np.float32([0.9])])
    whole, *parts = [WordReading(text, 0.9, np.zeros((len(text), 1))) for text in ("SANDWICH", "SAND", "WICH")]

    def likelihoods(readings: Sequence[WordReading]) -> list[float]:
        return [reading.score * (1 if reading is whole else spelling) for reading in readings]

    found = split_at_boundaries(regions, [whole], [[(0.0, 0.5), (0.5, 1.0)]], lambda _: parts, likelihoods)[1]
    assert [reading.text for reading in found] == texts


def test_curved_regions_are_cut_across_the_curve() -> None:
    """Where the head knows the sides, parts have theirs; the outlines are those of the parts."""
    regions = Regions.from_outlines([[bezier_to_polygon(CURVED)]], [np.float32([0.9])], control_points=[CURVED[None]])
    parts, texts = apart_at(regions, [[(0.4, 0.6)]], 0.9, 0.9)
    assert texts == ["a", "b"]
    assert parts.control_points is not None
    upper = bezier_points(CURVED[:4], np.array([0.0, 0.4, 0.6, 1.0]))
    np.testing.assert_allclose(parts.control_points[:, [0, 3]].flatten(0, 1), upper, atol=1e-3)
    for polygon, control_points in zip(parts.polygons(), parts.control_points, strict=True):
        np.testing.assert_allclose(polygon, bezier_to_polygon(control_points.numpy()), atol=1e-3)
