"""`Instances` and `TextInstances`: validation, selection, moves, and the two file formats."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.instances import Instances, TextInstances

SQUARE = [[0, 0], [10, 0], [10, 4], [0, 4]]

coordinates = st.floats(-1e4, 1e4, width=32)
# Any character but those that end a line; surrogates cannot be written as UTF-8.
words = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1).filter("###".__ne__)


@st.composite
def text_instances(draw: st.DrawFn, fewest: int = 4, most: int = 4) -> TextInstances:
    count = draw(st.integers(0, 5))
    point = st.tuples(coordinates, coordinates)
    polygons = [draw(st.lists(point, min_size=fewest, max_size=most)) for _ in range(count)]
    texts = draw(st.lists(st.none() | words, min_size=count, max_size=count))
    ignore = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    scores = draw(st.none() | st.lists(st.floats(0, 1, width=32), min_size=count, max_size=count))
    return TextInstances([np.array(p) for p in polygons], scores=scores, texts=texts, ignore=ignore)


def assert_equal(actual: TextInstances, expected: TextInstances) -> None:
    assert actual.texts == expected.texts
    assert len(actual) == len(expected)
    for one, other in zip(actual.polygons, expected.polygons, strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("scores", "text_scores", "ignore"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))


@given(text_instances(3, 7))
def test_json_round_trip(instances) -> None:
    assert_equal(TextInstances.from_json(json.loads(json.dumps(instances.to_json()))), instances)


def test_from_json_asks_for_polygons() -> None:
    with pytest.raises(ValueError, match=r"expected `polygons`, got \['texts'\]"):
        TextInstances.from_json({"texts": []})


@given(text_instances())
def test_icdar_round_trip(instances) -> None:
    read = TextInstances.from_icdar(instances.to_icdar())
    np.testing.assert_array_equal(read.ignore, instances.ignore)
    assert read.texts == ["###" if skip else word for word, skip in zip(instances.texts, instances.ignore, strict=True)]
    for one, other in zip(read.polygons, instances.polygons, strict=True):
        np.testing.assert_allclose(one, other, atol=0.0051, rtol=1e-6)


def test_from_icdar_reads_what_the_data_sets_hold() -> None:
    text = "\ufeff377,117,463,117,465,130,378,130,Genaxis, Theatre\r\n\r\n1,2,3,2,3,4,1,4.5,###\r\n5,5,9,5,9,8,5,8,"
    instances = TextInstances.from_icdar(text)
    assert instances.texts == ["Genaxis, Theatre", "###", None]
    assert instances.ignore.tolist() == [False, True, False]
    assert instances.polygons[1].tolist() == [[1, 2], [3, 2], [3, 4], [1, 4.5]]
    assert TextInstances.from_icdar("5,5,9,5,9,8,5,8").texts == [None]
    assert len(TextInstances.from_icdar("")) == 0


def test_from_detections_takes_the_words_where_there_are_any() -> None:
    detection = {"polygon": SQUARE, "score": 0.5, "label": "text", "box": {}}
    detected = TextInstances.from_detections([detection])
    assert detected.texts is None
    assert detected.text_scores is None
    spotted = TextInstances.from_detections([{**detection, "text": "SALE", "text_score": 0.25}])
    assert spotted.texts == ["SALE"]
    assert spotted.text_scores.tolist() == [0.25]
    assert spotted.scores.tolist() == [0.5]
    assert TextInstances.from_detections([]).texts is None


@pytest.mark.parametrize("bad", ["1,2,3,4,5,6,word", "1,2,3,4,5,6,7,x,word", "1,2,3,4,5,6,7,nan,word", "word"])
def test_from_icdar_names_the_bad_line(bad: str) -> None:
    with pytest.raises(ValueError, match="line 2: expected `x1,y1,"):
        TextInstances.from_icdar(f"1,2,3,2,3,4,1,4,good\n{bad}\n")


def test_to_icdar_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="four points, not 3"):
        TextInstances([SQUARE[:3]]).to_icdar()
    assert TextInstances([SQUARE], texts=["two\nlines"]).to_icdar() == "0,0,10,0,10,4,0,4,two lines\n"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"polygons": [SQUARE, SQUARE[:2]]}, r"polygon 1 has shape \(2, 2\)"),
        ({"polygons": [[1, 2, 3]]}, r"polygon 0 has shape \(3,\)"),
        ({"polygons": [[[0, 0], [1, np.nan], [1, 1]]]}, "polygon 0 has a NaN"),
        ({"polygons": [SQUARE], "texts": []}, "`texts` has 0 entries for 1 polygons"),
        ({"polygons": [SQUARE], "scores": [0.5, 0.5]}, "`scores` has 2 entries for 1 polygons"),
        ({"polygons": [], "ignore": [True]}, "`ignore` has 1 entries for 0 polygons"),
    ],
)
def test_fields_are_validated(fields, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextInstances(**fields)


@given(text_instances(3, 7), st.data())
def test_select_keeps_all_fields_together(instances, data) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(instances), max_size=len(instances))), dtype=bool)
    chosen = instances.select(mask)
    assert_equal(chosen, instances.select(np.flatnonzero(mask)))
    assert len(chosen) == mask.sum()
    assert chosen.texts == [word for word, keep in zip(instances.texts, mask, strict=True) if keep]
    assert chosen.ignored.tolist() == instances.ignored[mask].tolist()


@given(text_instances(), st.floats(0.1, 10), st.floats(0.1, 10))
def test_scale_is_undone_by_its_inverse(instances, x, y) -> None:
    restored = instances.scale(x, y).scale(1 / x, 1 / y)
    for one, other in zip(restored.polygons, instances.polygons, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(instances.scale(x, y).boxes, instances.boxes * [x, y, x, y], rtol=1e-5, atol=1e-4)
    moved = instances.transform(np.array([[x, 0, 0], [0, y, 0]]))
    for one, other in zip(moved.polygons, instances.scale(x, y).polygons, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


@given(text_instances())
def test_clip_leaves_nothing_outside(instances) -> None:
    clipped = instances.clip(1000, 500)
    assert len(clipped) <= len(instances)
    assert len(clipped.texts) == len(clipped)
    for polygon in clipped.polygons:
        assert polygon.min() >= 0
        assert (polygon <= [1000, 500]).all()


def test_clip_drops_the_words_outside() -> None:
    instances = TextInstances([SQUARE, np.add(SQUARE, 50), np.add(SQUARE, [5, 0])], texts=["in", "out", "half"])
    clipped = instances.clip(10, 10)
    assert clipped.texts == ["in", "half"]
    assert clipped.boxes.tolist() == [[0, 0, 10, 4], [5, 0, 10, 4]]


def test_empty() -> None:
    empty = TextInstances([])
    assert len(empty) == 0
    assert empty.boxes.shape == (0, 4)
    assert empty.ignored.shape == (0,)
    assert empty.to_icdar() == ""
    assert empty.to_json() == {"polygons": []}
    assert len(empty.clip(5, 5).select([])) == 0


def test_what_is_no_text_has_classes_and_keeps_its_own_class() -> None:
    ships = Instances([SQUARE, np.add(SQUARE, 50)], scores=[0.5, 0.75], labels=[3, 1], ignore=[False, True])
    assert ships.labels.dtype == np.int64
    moved = ships.scale(2, 2).transform(np.eye(3)).select([1, 0]).clip(1000, 1000)
    assert type(moved) is Instances
    assert (moved.labels.tolist(), moved.ignored.tolist()) == ([1, 3], [True, False])
    read = Instances.from_json(json.loads(json.dumps(ships.to_json())))
    assert type(read) is Instances
    assert read.to_json() == ships.to_json()
    assert type(TextInstances([SQUARE], labels=[0]).scale(2, 2)) is TextInstances


@pytest.mark.parametrize("labels", [["ship"], [0.5], [True], 3])
def test_labels_are_class_indices(labels) -> None:
    with pytest.raises(TypeError, match="`labels` is"):
        Instances([SQUARE], labels=labels)


def test_scores_and_words_can_be_given_by_position() -> None:
    word = TextInstances([SQUARE], [0.5], ["SALE"], [0.25])
    assert (word.scores.tolist(), word.texts, word.text_scores.tolist()) == ([0.5], ["SALE"], [0.25])
