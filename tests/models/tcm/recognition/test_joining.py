"""Words that were found in pieces: what reads as one takes the place of the pieces."""

from collections.abc import Sequence

import numpy as np
import pytest

from transformers_tcm.bezier import bezier_section, bezier_to_polygon
from transformers_tcm.models.tcm.heads.base import Regions
from transformers_tcm.models.tcm.recognition.joining import join_pieces
from transformers_tcm.models.tcm.recognition.reading import WordReading

Quads = list[np.ndarray]


def quad(left: float, right: float, top: float = 0, bottom: float = 10) -> np.ndarray:
    return np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])


def word(text: str, score: float = 1.0) -> WordReading:
    return WordReading(text, score, np.zeros((len(text), 1)))


def turned(quads: Quads, degrees: float) -> Quads:
    angle = np.deg2rad(degrees)
    matrix = np.float32([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [quad @ matrix for quad in quads]


class Reader:
    """Says what stands in regions, by where they are, and notes which it was asked for."""

    def __init__(self, wholes: dict[tuple[int, int], WordReading], words: int = 1):
        self.wholes, self.words = wholes, words
        self.looked_at: list[tuple[int, int]] = []
        self.read: list[tuple[int, int]] = []

    def _places(self, regions: Regions) -> list[tuple[int, int]]:
        return [
            (round(float(polygon[:, 0].min())), round(float(polygon[:, 0].max()))) for polygon in regions.polygons()
        ]

    def find(self, regions: Regions) -> list[list[tuple[float, float]]]:
        self.looked_at += self._places(regions)
        return [[(index / self.words, (index + 1) / self.words) for index in range(self.words)] for _ in regions.counts]

    def __call__(self, regions: Regions) -> list[WordReading]:
        self.read += self._places(regions)
        return [self.wholes[place] for place in self._places(regions)]


def scores_of(readings: Sequence[WordReading]) -> list[float]:
    """Likelihoods without spelling."""
    return [reading.score for reading in readings]


def joined(
    images: list[Quads], readings: list[WordReading], reader: Reader, likelihoods: object = scores_of
) -> tuple[Regions, list[str]]:
    regions = Regions.from_outlines(images, [np.linspace(0.9, 0.8, len(quads)).astype(np.float32) for quads in images])
    regions, readings = join_pieces(regions, readings, reader.find, reader, likelihoods)  # type: ignore[arg-type]
    assert len(regions) == len(readings)
    return regions, [reading.text for reading in readings]


PRICE = [quad(0, 30), quad(33, 50)]


def test_what_reads_as_one_takes_the_place_of_its_pieces() -> None:
    reader = Reader({(0, 50): word("$19.99")})
    regions, texts = joined(
        [[quad(0, 30, 40, 50)], [*PRICE, quad(80, 99)]], [word("a"), *map(word, ("$19", "99", "b"))], reader
    )
    assert texts == ["a", "$19.99", "b"]
    assert regions.batch_indices.tolist() == [0, 1, 1]
    np.testing.assert_allclose(regions.polygons()[1], quad(0, 50), atol=1e-4)
    assert regions.scores.tolist() == pytest.approx([0.9, 0.9, 0.8])


def test_pieces_may_come_in_any_order_and_overlap() -> None:
    reader = Reader({(0, 50): word("TRIBUTE")})
    regions, texts = joined([[quad(24, 50), quad(0, 30)]], [word("UTE"), word("TRIBU")], reader)
    assert texts == ["TRIBUTE"]
    np.testing.assert_allclose(regions.polygons()[0], quad(0, 50), atol=1e-4)


def test_three_pieces_are_joined_one_after_the_other() -> None:
    reader = Reader({(0, 50): word("400-10", 0.95), (33, 80): word("10.74", 0.6), (0, 80): word("400-10.74")})
    _, texts = joined([[*PRICE, quad(53, 80)]], [word("400"), word("10"), word("74")], reader)
    assert texts == ["400-10.74"]


def test_a_piece_is_of_one_word() -> None:
    """The surer of two readings that share a piece is taken, and what is left is no piece of that."""
    reader = Reader({(0, 50): word("a-b", 0.9), (33, 80): word("b-c", 0.95), (0, 80): word("abc", 0.1)})
    _, texts = joined([[*PRICE, quad(53, 80)]], [word("a"), word("b"), word("c")], reader)
    assert texts == ["a", "b-c"]


def test_what_was_not_joined_is_not_read_again() -> None:
    reader = Reader({(0, 50): word("$19.99"), (200, 250): word("ofit", 0.1)})
    _, texts = joined([[*PRICE, quad(200, 220), quad(223, 250)]], list(map(word, ("$19", "99", "of", "it"))), reader)
    assert texts == ["$19.99", "of", "it"]
    assert reader.looked_at == reader.read == [(0, 50), (200, 250)]


@pytest.mark.parametrize(("score", "texts"), [(0.8, ["$19.99"]), (0.7, ["$19", "99"])])
def test_what_reads_much_less_clear_is_not_joined(score: float, texts: list[str]) -> None:
    assert joined([PRICE], [word("$19"), word("99")], Reader({(0, 50): word("$19.99", score)}))[1] == texts


@pytest.mark.parametrize(("spelling", "texts"), [(0.65, ["GLORY"]), (0.75, ["GL", "ORY"])])
def test_the_same_letters_have_to_be_much_likelier_as_one_word(spelling: float, texts: list[str]) -> None:
    def likelihoods(readings: Sequence[WordReading]) -> list[float]:
        return [reading.score * (1 if reading.text == "GLORY" else spelling) for reading in readings]

    assert joined([PRICE], [word("GL"), word("ORY")], Reader({(0, 50): word("GLORY")}), likelihoods)[1] == texts


@pytest.mark.parametrize(("text", "texts"), [("99", ["$19.99"]), ("98", ["$19.99", "98"]), ("$19.99", ["$19.99"] * 2)])
def test_pieces_of_what_was_read_whole_are_left_out(text: str, texts: list[str]) -> None:
    regions, found = joined(
        [[quad(0, 30)], [quad(0, 50), quad(33, 51)]], [word("99"), word("$19.99"), word(text)], Reader({})
    )
    assert found == ["99", *texts]
    assert regions.batch_indices.tolist() == [0] + [1] * len(texts)


def test_two_words_along_both_stay_two() -> None:
    reader = Reader({}, words=2)
    assert joined([PRICE], [word("of"), word("kisses")], reader)[1] == ["of", "kisses"]
    assert (reader.looked_at, reader.read) == ([(0, 50)], [])


APART = {
    "too far": [quad(0, 30), quad(39, 60)],
    "above": [quad(0, 30), quad(33, 50, 6, 16)],
    "much larger": [quad(0, 30), quad(33, 80, -5, 15)],
    "one within the other": [quad(0, 50), quad(38, 50.5)],
    "another direction": [quad(0, 30), np.float32([[33, 0], [45, 12], [38, 19], [26, 7]])],
}


@pytest.mark.parametrize("quads", APART.values(), ids=APART)
def test_others_are_not_looked_at(quads: Quads) -> None:
    reader = Reader({})
    assert joined([quads], [word("a"), word("b")], reader)[1] == ["a", "b"]
    assert reader.looked_at == []


def test_nor_are_those_of_two_images() -> None:
    reader = Reader({})
    assert joined([[quad(0, 30)], [quad(33, 50)], []], [word("a"), word("b")], reader)[1] == ["a", "b"]
    assert joined([[], []], [], reader)[1] == []
    assert reader.looked_at == []


@pytest.mark.parametrize("degrees", [10, 90, 180, 270])
def test_neighbours_are_looked_for_in_reading_direction(degrees: float) -> None:
    class Any(Reader):
        def __call__(self, regions: Regions) -> list[WordReading]:
            return [word("$19.99") for _ in regions.counts]

    regions, texts = joined([turned(PRICE, degrees)], [word("$19"), word("99")], Any({}))
    assert texts == ["$19.99"]
    np.testing.assert_allclose(regions.polygons()[0], turned([quad(0, 50)], degrees)[0], atol=1e-4)


CURVED = np.float32([[0, 60], [40, 20], [80, 20], [120, 60], [100, 70], [75, 45], [45, 45], [20, 70]])


def test_curved_pieces_are_joined_along_the_curve() -> None:
    pieces = np.stack([bezier_section(CURVED, 0, 0.45), bezier_section(CURVED, 0.5, 1)])
    outlines = [bezier_to_polygon(piece) for piece in pieces]
    regions = Regions.from_outlines([outlines], [np.float32([0.9, 0.8])], control_points=[pieces])
    reader = Reader({(0, 120): word("ROUND")})
    regions, readings = join_pieces(regions, [word("ROU", 0.9), word("UND", 0.9)], reader.find, reader, scores_of)
    assert [reading.text for reading in readings] == ["ROUND"]
    assert regions.control_points is not None
    np.testing.assert_allclose(regions.polygons()[0], bezier_to_polygon(regions.control_points[0].numpy()), atol=1e-3)
