"""What the checks find in an outline, in the words of a photo and in a set of photos, and what they leave alone."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transformers_tcm.data.validation import KINDS, LabelledPhoto, LabelledWord, check_outline, check_photos

# A word of 60 x 20 pixels in a photo of 100 x 50.
WORD = np.array([[20.0, 10.0], [80.0, 10.0], [80.0, 30.0], [20.0, 30.0]])
SIZE = (100, 50)


def moved(polygon: np.ndarray, x: float, y: float) -> np.ndarray:
    return polygon + np.array([x, y])


def kinds_of(polygon: object, *size: float) -> list[str]:
    return [kind for kind, _ in check_outline(np.array(polygon, dtype=np.float64), *(size or SIZE))]


@pytest.mark.parametrize(
    ("polygon", "kind"),
    [
        (np.zeros((0, 2)), "too-few-points"),
        (WORD[:2], "too-few-points"),
        ([[20, 10], [80, np.nan], [80, 30]], "not-finite"),
        ([[20, 10], [np.inf, 10], [80, 30]], "not-finite"),
        # float32, in which the loaders keep them, ends at 3.4e38.
        ([[20, 10], [1e39, 10], [80, 30]], "not-finite"),
        ([[20, 10]] * 4, "zero-area"),
        ([[20, 10], [40, 20], [60, 30]], "zero-area"),
        ([[20, 10], [21, 10], [21, 10.5], [20, 10.5]], "zero-area"),
        (WORD[[0, 2, 1, 3]], "self-intersection"),
        (WORD[[0, 1, 3, 2]], "self-intersection"),
        ([[0, 0], [40, 0], [40, 40], [20, 0], [0, 40]], "self-intersection"),
        (WORD[::-1], "counter-clockwise"),
        (WORD[[0, 3, 2, 1]], "counter-clockwise"),
        (moved(WORD, 30, 0), "outside-photo"),
        (WORD - [0, 12], "outside-photo"),
        (moved(WORD, 200, 0), "outside-photo"),
    ],
)
def test_bad_outlines(polygon: object, kind: str) -> None:
    assert kinds_of(polygon) == [kind]


@pytest.mark.parametrize(
    "polygon",
    [
        WORD,
        np.roll(WORD, -2, axis=0),
        np.concatenate([WORD, WORD[:1]]),  # closed, as some formats do
        [[0, 0], [100, 0], [100, 50], [0, 50]],
        [[-1, -1], [101, -1], [101, 51], [-1, 51]],  # rounding of a pixel
        [[10, 20], [50, 5], [90, 20], [90, 40], [50, 25], [10, 40]],
        [[10, 10], [14, 10], [12, 12]],
    ],
)
def test_sound_outlines(polygon: object) -> None:
    assert kinds_of(polygon) == []


def test_masks_of_thousands_of_points() -> None:
    angles = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    circle = 20 * np.stack([np.cos(angles), np.sin(angles)], axis=1) + 25
    assert kinds_of(circle) == ["too-many-points"]
    assert kinds_of(circle[::10]) == []


def test_an_outline_can_have_several_problems() -> None:
    assert kinds_of(moved(WORD[::-1], 60, 0)) == ["counter-clockwise", "outside-photo"]
    assert kinds_of(WORD[[0, 2, 1, 3]] - [30, 0]) == ["self-intersection", "outside-photo"]


def test_descriptions_say_where_and_how_much() -> None:
    assert dict(check_outline(WORD[[0, 2, 1, 3]])) == {"self-intersection": "crosses or touches itself at (50, 20)"}
    assert dict(check_outline(moved(WORD, 30, 0), *SIZE)) == {
        "outside-photo": "2 points outside of 100 x 50 pixels, by up to 10 pixels"
    }
    assert "the whole outline outside" in dict(check_outline(moved(WORD, 200, 0), *SIZE))["outside-photo"]


coordinates = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 12), st.just(2)), elements=coordinates))
def test_no_outline_raises(polygon: np.ndarray) -> None:
    assert set(kinds_of(polygon)) <= set(KINDS)


@given(hnp.arrays(np.float64, st.tuples(st.integers(3, 8), st.just(2)), elements=st.integers(0, 6).map(float)))
def test_reversing_an_outline_changes_its_order_and_nothing_else(polygon: np.ndarray) -> None:
    # Everything else that can be wrong with it stays.
    turns = {(): ("counter-clockwise",), ("counter-clockwise",): ()}
    kinds = tuple(kinds_of(polygon))
    assert tuple(kinds_of(polygon[::-1])) == turns.get(kinds, kinds)


class Photos:
    """Photos in a folder, with words given as (polygon, text, ignore)."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.photos: list[LabelledPhoto] = []

    def add(self, *words: tuple, shade: int | None = None) -> LabelledPhoto:
        number = len(self.photos)
        path = self.folder / f"{number}.png"
        PIL.Image.new("L", SIZE, number if shade is None else shade).save(path)
        read = [LabelledWord(index, None, *word) for index, word in enumerate(words, start=1)]
        self.photos.append(LabelledPhoto(path, path.with_suffix(".txt"), read))
        return self.photos[-1]

    def found(self) -> list[tuple[str, str, int | None]]:
        findings = check_photos(self.photos).findings
        return [(finding.kind, finding.file.name, finding.line) for finding in findings]


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    return Photos(tmp_path)


def test_nothing_is_found_in_sound_photos(photos: Photos) -> None:
    photos.add((WORD, "SALE"), (moved(WORD, 0, 15), "now"))
    photos.add()
    assert photos.found() == []
    assert check_photos(photos.photos).summary == "2 photos with 2 words, 1 of them without any: no problem found"


def test_every_problem_of_every_photo_is_reported(photos: Photos) -> None:
    for _ in range(3):
        photos.add((WORD[:2], "a"), (WORD, "b"), (WORD[[0, 2, 1, 3]], "c"))
    assert photos.found() == [
        (kind, f"{number}.txt", line)
        for kind, line in (("too-few-points", 1), ("self-intersection", 3))
        for number in range(3)
    ]


@pytest.mark.parametrize("content", [b"", b"no photo", None])
def test_photos_that_cannot_be_decoded(photos: Photos, content: bytes | None) -> None:
    photo = photos.add((moved(WORD, 500, 0), "far away"), (WORD[::-1], "turned"))
    photo.image.write_bytes(photo.image.read_bytes()[:60] if content is None else content)
    photos.add((WORD, "SALE"))
    # Without a size no point is outside; the rest is checked.
    assert photos.found() == [("unreadable-photo", "0.png", None), ("counter-clockwise", "0.txt", 2)]


def test_empty_and_missing_words(photos: Photos) -> None:
    photos.add((WORD, "SALE"), (moved(WORD, 0, 15), " "))
    photos.add((WORD, None), (moved(WORD, 0, 15), "", True), (WORD - [0, 9], None, True))
    assert photos.found() == [("empty-word", "0.txt", 2), ("missing-word", "1.txt", 1)]


def test_labels_for_a_detector_have_no_words(photos: Photos) -> None:
    photos.add((WORD, None), (moved(WORD, 0, 15), None))
    assert photos.found() == []


@pytest.mark.parametrize(
    ("shift", "first_ignored", "second_ignored", "found"),
    [
        (0, False, False, True),
        (5, False, False, True),  # IoU 55 / 65
        (20, False, False, False),
        (0, True, False, True),
        (0, True, True, False),
    ],
)
def test_a_word_labelled_twice(
    photos: Photos, shift: float, first_ignored: bool, second_ignored: bool, found: bool
) -> None:
    # From another corner, which makes no difference.
    second = np.roll(moved(WORD, shift, 0), 1, axis=0)
    photos.add((WORD, None, first_ignored), (second, None, second_ignored))
    assert photos.found() == ([("duplicate-word", "0.txt", 2)] if found else [])


def test_the_overlap_of_doubles_is_given(photos: Photos) -> None:
    photos.add((WORD, "SALE"), (moved(WORD, 5, 0), "SALES"))
    (finding,) = check_photos(photos.photos).findings
    assert finding.message == "covers line 1 (IoU 0.85): 'SALES' and 'SALE'"
    assert finding.place == f"{photos.folder / '0.txt'}, line 2"


def test_the_same_photo_twice_is_known_by_its_content(photos: Photos) -> None:
    photos.add(shade=7)
    photos.add(shade=9)
    photos.add(shade=7)
    assert photos.found() == [("duplicate-photo", "2.png", None)]


def turned(quad: np.ndarray, start: int) -> np.ndarray:
    """Clockwise from another corner."""
    return np.roll(quad, -start, axis=0)


TALL = np.array([[40.0, 2.0], [55.0, 2.0], [55.0, 48.0], [40.0, 48.0]])


@pytest.mark.parametrize(
    ("quad", "text", "told"),
    [
        (WORD, "SALE", False),
        (turned(WORD, 1), "SALE", True),  # starts at the top-right corner
        (turned(WORD, 3), "SALE", True),  # starts at the bottom-left corner
        (turned(WORD, 1), None, False),
        (turned(WORD, 1), "II", False),  # could be tall letters that lie
        (TALL, "BAR", False),  # letters stacked on each other
        (turned(TALL, 1), "BAR", False),  # reads downwards
        (turned(TALL, 3), "BAR", False),  # reads upwards
        (turned(TALL, 2), "BAR", True),
    ],
)
def test_quads_that_start_at_the_wrong_corner(photos: Photos, quad: np.ndarray, text: str | None, told: bool) -> None:
    photos.add((quad, text), (np.array([[1.0, 1], [9, 1], [9, 4], [1, 4]]), None, True))
    assert photos.found() == ([("reading-start", "0.txt", 1)] if told else [])


def test_words_upside_down_are_told_by_the_others(photos: Photos) -> None:
    rows = [WORD * [1, 0.3] + [0, 14 * row] for row in range(3)]
    photos.add((rows[0], "one"), (turned(rows[1], 2), "two"), (rows[2], "six"))
    assert photos.found() == [("reading-start", "0.txt", 2)]


def test_a_photo_upside_down_is_no_mistake_but_a_whole_set_is(photos: Photos) -> None:
    rows = [WORD * [1, 0.3] + [0, 14 * row] for row in range(3)]
    photos.add(*((turned(row, 2), "one") for row in rows))
    for _ in range(2):
        photos.add(*((row, "one") for row in rows))
    assert photos.found() == []
    for _ in range(3):
        photos.add(*((turned(row, 2), "one") for row in rows))
    assert [(kind, name) for kind, name, _ in photos.found()] == [
        ("reading-start", f"{number}.txt") for number in (0, 3, 4, 5) for _ in rows
    ]


def test_reports_as_text_and_as_json(photos: Photos) -> None:
    photos.add((WORD[:2], "a"), (WORD, "b"))
    photos.add((WORD[::-1], "a"))
    report = check_photos(photos.photos)
    assert report.to_text().splitlines() == [
        "too-few-points (1): outlines of fewer than three points",
        f"  {photos.folder / '0.txt'}, line 1: 2 points; at least 3 are needed",
        "",
        f"counter-clockwise (1): {KINDS['counter-clockwise']}",
        f"  {photos.folder / '1.txt'}, line 1: first point (20, 30)",
        "",
        "2 photos with 3 words: 2 problems",
    ]
    plain = report.to_dict()
    assert (plain["photos"], plain["words"]) == (2, 3)
    assert plain["counts"] == {"too-few-points": 1, "counter-clockwise": 1}
    assert plain["findings"][0] == {
        "kind": "too-few-points",
        "file": str(photos.folder / "0.txt"),
        "line": 1,
        "word": None,
        "photo": str(photos.folder / "0.png"),
        "message": "2 points; at least 3 are needed",
    }
    assert [finding.kind for finding in report.without({"too-few-points"}).findings] == ["counter-clockwise"]


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        ("8,9,10,11", "4 numbers"),
        ("130,66,SHOP", "2 numbers"),
        ("Latin,SHOP", "name of a script"),
        ("0,SHOP", "a mark or a score"),
        ("0.93,SHOP", "a mark or a score"),
        ("###", "marks what does not count"),
        (" SHOP", "blanks around it"),
        ("1,000", None),
        ("1,000,000", None),
        ("5,50 EUR", None),
        ("Latin", None),
        ("A, B", None),
        ("2015", None),
    ],
)
def test_words_that_look_like_something_else_are_told(tmp_path: Path, text: str, odd: str | None) -> None:
    PIL.Image.new("L", SIZE).save(tmp_path / "a.png")
    words = [LabelledWord(1, None, WORD, text), LabelledWord(2, None, moved(WORD, 0, 20), text, ignore=True)]
    findings = check_photos([LabelledPhoto(tmp_path / "a.png", tmp_path / "a.txt", words)]).findings
    assert [(finding.kind, finding.line) for finding in findings] == ([("odd-word", 1)] if odd else [])
    assert all(odd in finding.message for finding in findings)


def test_words_that_are_all_scores_or_marks_are_told(tmp_path: Path) -> None:
    photo = tmp_path / "1.png"
    PIL.Image.new("RGB", (200, 100)).save(photo)
    quad = np.array([[10, 10], [90, 10], [90, 40], [10, 40]])
    for texts, told in ((("0.91", "0.5"), 2), (("0", "1"), 2), (("0.91", "SALE"), 0), (("SALE,0.98",), 1)):
        words = [LabelledWord(row, None, moved(quad, 0, 45 * row), text) for row, text in enumerate(texts)]
        report = check_photos([LabelledPhoto(photo, photo, words)])
        assert [finding.kind for finding in report.findings] == ["odd-word"] * told
