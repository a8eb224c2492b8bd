"""Lexicons: equal to a search through all words, ties, characters beyond ASCII, files, one lexicon for each image."""

import logging
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.lexicon import (
    Lexicon,
    LexiconArgument,
    checked_limit,
    is_per_image,
    lexicon_per_image,
    weighted_distances,
)

CHARSET = "abAB1é"
some_words = st.text("abAB1éßx", min_size=1, max_size=5)


@st.composite
def readings(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    """A word and, for each of its characters, probabilities in 64ths, which add up exactly, to less than 1 or to 1."""
    word = draw(st.text("abAB1éx", max_size=5))
    cuts = st.lists(st.integers(0, 64), min_size=len(CHARSET), max_size=len(CHARSET))
    rows = [np.diff(sorted(draw(cuts)), prepend=0) / 64 for _ in word]
    return word, np.reshape(rows, (len(word), len(CHARSET)))


def plain_distance(one: str, other: str) -> int:
    """Edit distance as it is defined."""

    @lru_cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        replaced = distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, replaced)

    return distance(len(one), len(other))


def weighted_distance(word: str, candidate: str, rows: np.ndarray) -> Fraction:
    """The weighted edit distance as it is defined, in exact arithmetic, for words without ß."""
    word, candidate = word.upper(), candidate.upper()

    def probability(place: int, letter: str) -> Fraction:
        return sum((Fraction(rows[place, c]) for c, known in enumerate(CHARSET) if known.upper() == letter), Fraction())

    read = [
        probability(place, letter) if letter in CHARSET.upper() else 1 - sum(map(Fraction, rows[place]), Fraction())
        for place, letter in enumerate(word)
    ]

    def replace(place: int, letter: str) -> Fraction:
        new = probability(place, letter)
        if word[place] == letter or (new and not read[place]):
            return Fraction(0)
        return max(1 - 5 * new / read[place], Fraction(0)) if new else Fraction(1)

    @lru_cache
    def distance(i: int, j: int) -> Fraction:
        if i == 0 or j == 0:
            return Fraction(i + j)
        insert = (read[i - 1] + read[min(i, len(read) - 1)]) / 2
        replaced = distance(i - 1, j - 1) + replace(i - 1, candidate[j - 1])
        return min(distance(i - 1, j) + read[i - 1], distance(i, j - 1) + insert, replaced)

    return distance(len(word), len(candidate))


@given(st.lists(some_words, min_size=1, max_size=12), st.lists(st.text("abAB1éßx", max_size=6), max_size=4))
def test_nearest_is_the_first_minimum_of_all(words: list[str], read: list[str]) -> None:
    expected = [min(words, key=lambda word: plain_distance(one.upper(), word.upper())) for one in read]
    assert Lexicon(words).match_all(read) == expected


@given(
    st.lists(some_words, min_size=1, max_size=12), st.text("abAB1éßx", max_size=6), st.sampled_from([1, 1.5, 2, 2.5])
)
def test_within_is_nearest_strictly_below_the_limit(words: list[str], read: str, limit: float) -> None:
    lexicon = Lexicon(words)
    nearest = lexicon.match(read)
    assert nearest is not None
    accepted = plain_distance(read.upper(), nearest.upper()) < limit
    assert lexicon.match(read, "within", max_distance=limit) == (nearest if accepted else None)


@given(readings(), st.lists(st.text("abAB1éx", min_size=1, max_size=6), min_size=1, max_size=8))
def test_weighted_distances_follow_their_definition(reading: tuple[str, np.ndarray], words: list[str]) -> None:
    word, rows = reading
    expected = [float(weighted_distance(word, candidate, rows)) for candidate in words]
    np.testing.assert_allclose(weighted_distances(word, words, rows, CHARSET), expected, atol=1e-9)


@given(readings(), st.lists(st.text("abAB1éx", min_size=1, max_size=6), min_size=1, max_size=12, unique_by=str.upper))
def test_weighted_is_the_minimum_of_the_nearest(reading: tuple[str, np.ndarray], words: list[str]) -> None:
    word, rows = reading
    plain = {candidate: plain_distance(word.upper(), candidate.upper()) for candidate in words}
    near = sorted((one for one in words if plain[one] <= min(plain.values()) + 2), key=lambda one: plain[one])
    distances = {one: weighted_distance(word, one, rows) for one in near}
    match = Lexicon(words).match(word, "weighted", probabilities=rows, charset=CHARSET)
    assert match is not None
    assert distances[match] - min(distances.values()) < 1e-9
    if word.upper() in map(str.upper, words):
        assert match.upper() == word.upper()


def test_the_probabilities_decide() -> None:
    """A plain distance cannot tell CAT from CAR for CAB; a recogniser that almost read T can."""
    rows = np.full((3, 26), 0.001)
    rows[[0, 1, 2, 2, 2], ["abcdefghijklmnopqrstuvwxyz".index(letter) for letter in "cabtr"]] = 0.9, 0.9, 0.6, 0.1, 0.02
    lexicon = Lexicon(["Car", "Cat"])
    assert lexicon.match("cab") == "Car"
    assert lexicon.match("cab", "weighted", probabilities=rows, charset="abcdefghijklmnopqrstuvwxyz") == "Cat"
    np.testing.assert_allclose(
        weighted_distances("cab", ["cat", "car", "cb", "caab", "ca"], rows, "abcdefghijklmnopqrstuvwxyz"),
        [1 - 5 * 0.1 / 0.6, 1 - 5 * 0.02 / 0.6, 0.9, 0.75, 0.6],
    )
    options: dict[str, Any] = {"probabilities": rows, "charset": "abcdefghijklmnopqrstuvwxyz"}
    assert lexicon.match("cab", "weighted", max_distance=0.2, **options) == "Cat"
    assert lexicon.match("cab", "weighted", max_distance=0.1, **options) is None


def test_ties_and_case() -> None:
    lexicon = Lexicon(["Bat", "cat", "CAT", "Rat"])
    assert list(lexicon) == ["Bat", "cat", "Rat"]
    assert len(lexicon) == 3
    assert lexicon.match_all(["hat", "CAT", "hät", "rat"]) == ["Bat", "cat", "Bat", "Rat"]
    # A word that was read is not given up for one that costs nothing either.
    rows = np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    assert Lexicon(["ax", "bx"]).match("bx", "weighted", probabilities=rows, charset="abx") == "bx"


def test_upper_case_that_is_longer() -> None:
    lexicon = Lexicon(["STRASSE", "Gasse"])
    assert lexicon.match("straße") == "STRASSE"
    rows = np.eye(7)[[0, 1, 2, 3, 4, 5]]
    assert lexicon.match("straße", "weighted", probabilities=rows, charset="straße?") == "STRASSE"
    assert weighted_distances("straße", ["strasbe"], rows, "straße?") == pytest.approx(1)
    assert Lexicon(["ΟΔΟΣ", "東京駅"]).match_all(["οδος", "東京"]) == ["ΟΔΟΣ", "東京駅"]


def test_many_readings_equal_single_ones() -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcde"), rng.integers(2, 9))) for _ in range(3000)]
    read = ["".join(rng.choice(list("ABCDEF"), rng.integers(2, 9))) for _ in range(150)]
    rows = [rng.dirichlet(np.ones(6), size=len(word)) for word in read]
    lexicon = Lexicon(words)
    assert lexicon.match_all(read) == [lexicon.match(word) for word in read]
    assert lexicon.match_all(read, "weighted", probabilities=rows, charset="abcdef") == [
        lexicon.match(word, "weighted", probabilities=row, charset="abcdef")
        for word, row in zip(read, rows, strict=True)
    ]


def test_weighted_looks_at_the_nearest_words_of_many() -> None:
    letters = "abcdefghijklmnop"
    far = [f"{a}{b}{c}{d}z" for a in letters for b in letters for c in letters for d in letters]
    rows = np.eye(26)[[25] * 5] * 0.9
    lexicon = Lexicon([*far, "azzzz", "zzzqz"])
    rows[3, 16] = 0.1
    options: dict[str, Any] = {"probabilities": rows, "charset": "abcdefghijklmnopqrstuvwxyz"}
    assert len(far) > 50_000
    assert lexicon.match("zzzzz") == "azzzz"
    assert lexicon.match("zzzzz", "weighted", **options) == "zzzqz"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffCafé\r\n\r\nTwo words \r\n".encode())
    assert list(Lexicon.from_file(path)) == ["Café", "Two words"]
    path.write_text("CAFE Café\nSALE Sale now!\nCAFE other\n", encoding="utf-8")
    pairs = Lexicon.from_file(path, pairs=True)
    assert pairs.match_all(["cafe", "sale"]) == ["Café", "Sale now!"]
    path.write_text("ONE one\n\nTWO\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"words.txt, line 3.*'TWO'"):
        Lexicon.from_file(path, pairs=True)
    path.write_text("\n \n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"words.txt is empty"):
        Lexicon.from_file(path)
    path.write_bytes("Café".encode("latin-1"))
    with pytest.raises(ValueError, match=r"words.txt: not a UTF-8 text file .*; save it as UTF-8"):
        Lexicon.from_file(path)
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        Lexicon.from_file(tmp_path / "missing.txt")


def test_check_charset_names_characters_and_words() -> None:
    lexicon = Lexicon(["Cafe", "Crème", "naïve"])
    lexicon.check_charset("acefmnrvèï")
    with pytest.raises(ValueError, match=r"2 of 3 words.*'È', 'Ï' in 'Crème', 'naïve'"):
        lexicon.check_charset(map(chr, range(32, 127)))
    with pytest.raises(ValueError, match="'8', '9' and 3 more in"):
        Lexicon(["0123456789ABC"]).check_charset("45")


@pytest.mark.parametrize("lexicon", [None, [], ["one"], ("one", "two"), {"ONE": "one"}, Lexicon(["one"]), "one"])
def test_one_lexicon_for_all_images(lexicon: LexiconArgument) -> None:
    assert not is_per_image(lexicon)


@pytest.mark.parametrize("lexicon", [[None], [["one"], None], [Lexicon(["one"])], ["one", ["two"]]])
def test_a_lexicon_for_each_image(lexicon: LexiconArgument) -> None:
    assert is_per_image(lexicon)


def test_limits_of_the_rules() -> None:
    assert checked_limit("within", None) == 1.5
    assert checked_limit("within", 2.5) == 2.5
    assert checked_limit("nearest", None) is None
    assert checked_limit("weighted", None) is None
    with pytest.raises(ValueError, match="takes every distance"):
        checked_limit("nearest", 1.5)
    with pytest.raises(ValueError, match="must be positive"):
        checked_limit("within", 0)


def test_lexicon_per_image() -> None:
    one = Lexicon(["a"])
    assert lexicon_per_image(None, 2) == [None, None]
    assert lexicon_per_image(one, 2) == [one, one]
    shared = lexicon_per_image(["a", "b"], 3)
    assert shared[0] is not None
    assert list(shared[0]) == ["a", "b"]
    assert shared[0] is shared[1] is shared[2]
    first, second, third, fourth = lexicon_per_image([one, ["b", "c"], None, {"D": "d"}], 4)
    assert first is one
    assert second is not None
    assert list(second) == ["b", "c"]
    assert third is None
    assert fourth is not None
    assert fourth.match("D") == "d"
    with pytest.raises(ValueError, match="2 lexicons for 3 images"):
        lexicon_per_image([["a"], ["b"]], 3)


@pytest.mark.parametrize(
    ("lexicon", "error", "message"),
    [
        ([], ValueError, "empty"),
        ({}, ValueError, "empty"),
        ([["a"], []], ValueError, "empty"),
        (["a", " "], ValueError, "word 1 of the lexicon is blank"),
        ("words.txt", TypeError, "from_file"),
        (5, TypeError, "expected a list of words, got 5"),
        (["a", ["b"]], TypeError, "both, with 'a'"),
        ([["a"], [1.5]], TypeError, "expected strings, got 1.5"),
        ([["a"], [True]], TypeError, "expected strings, got True"),
    ],
)
def test_bad_lexicons(lexicon: LexiconArgument, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lexicon_per_image(lexicon, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "closest"}, "unknown lexicon rule 'closest'; expected one of nearest, within, weighted"),
        ({"rule": "within"}, "needs `max_distance`"),
        ({"rule": "within", "max_distance": 0}, "must be positive"),
        ({"rule": "nearest", "max_distance": 2}, 'use "within"'),
        ({"rule": "weighted"}, "needs `probabilities` and `charset`"),
        ({"rule": "weighted", "charset": "ab", "probabilities": []}, "0 arrays of probabilities for 1 readings"),
        ({"rule": "weighted", "charset": "ab", "probabilities": [np.zeros((2, 2))]}, r"shape \(2, 2\).*\(3, 2\)"),
        ({"rule": "weighted", "charset": "ab", "probabilities": [np.full((3, 2), -4.0)]}, "softmax"),
        ({"rule": "weighted", "charset": "ab", "probabilities": [np.full((3, 2), np.nan)]}, "softmax"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lexicon(["abc"]).match_all(["abb"], **options)


def test_blanks_around_words_are_no_part_of_them() -> None:
    lexicon = Lexicon([" OPEN ", "SHOP\t", "\u00a0Two words "])
    assert list(lexicon) == ["OPEN", "SHOP", "Two words"]
    assert lexicon.match_all(["open", "SHOP ", "two words"], "within", max_distance=0.5) == [
        "OPEN",
        "SHOP",
        "Two words",
    ]
    assert list(Lexicon({" A ": " b "})) == ["b"]


def test_whole_numbers_are_words() -> None:
    lexicon = Lexicon([2015, np.int64(7), "A"])
    assert lexicon.match("2O15") == "2015"
    assert not is_per_image([2015, "A"])
    assert [len(one) for one in lexicon_per_image([2015, "A"], 2)] == [2, 2]
    assert [list(one) for one in lexicon_per_image([[1], ["a"]], 2)] == [["1"], ["a"]]


@pytest.mark.parametrize(("listed", "read"), [("Cafe\u0301", "CAF\u00c9"), ("CAF\u00c9", "cafe\u0301")])
def test_composed_and_decomposed_letters_are_one(listed: str, read: str) -> None:
    lexicon = Lexicon([listed, "CAFF"])
    assert lexicon.match(read, "within", max_distance=0.5) == listed
    lexicon.check_charset("CAF\u00c9")
    lexicon.check_charset("CAFE\u0301")
    with pytest.raises(ValueError, match="cannot read"):
        lexicon.check_charset("CAFE")


def test_unseen_blanks_around_words_are_no_part_of_them() -> None:
    lexicon = Lexicon(["\ufeffEXIT", "OPEN\u200b"])
    assert list(lexicon) == ["EXIT", "OPEN"]
    assert lexicon.match("exit") == "EXIT"
    with pytest.raises(TypeError, match="expected a list of words, got b'EXIT'"):
        Lexicon(b"EXIT")


def test_entries_of_several_words_are_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("transformers_tcm").addHandler(caplog.handler)
    Lexicon(["exit", " open "])
    assert not caplog.text
    Lexicon(["exit", "no parking"])
    logging.getLogger("transformers_tcm").removeHandler(caplog.handler)
    assert "1 of 2 entries of the lexicon are several words, such as 'no parking'" in caplog.text
