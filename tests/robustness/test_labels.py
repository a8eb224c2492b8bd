"""Labels and probability maps that nobody drew on purpose, up to targets and detections."""

import json
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_tcm import TCMConfig, TCMImageProcessor, TextInstances
from transformers_tcm.data.collation import MAX_VERTICES, TextDetectionCollator
from transformers_tcm.data.loaders import load_jsonl
from transformers_tcm.models.tcm.heads.dbnet import DBNetOutput
from transformers_tcm.models.tcm.modeling_tcm import TCMTextDetectionOutput

PROCESSOR = TCMImageProcessor(do_resize=False)
SIDE = 64
SQUARE = [[0, 0], [10, 0], [10, 4], [0, 4]]
COLLATORS = {
    "dbnet": TextDetectionCollator(TCMConfig.from_preset("tiny")),
    "dbnet spotter": TextDetectionCollator(TCMConfig.from_preset("tiny", recognizer={})),
    "abcnet spotter": TextDetectionCollator(TCMConfig.from_preset("tiny", head_type="abcnet", recognizer={})),
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"polygons": None}, "`polygons` is of type NoneType; expected a list"),
        ({"polygons": "abc"}, "`polygons` is of type str"),
        ({"polygons": {"a": SQUARE}}, "`polygons` is of type dict"),
        ({"polygons": ["abc"]}, "polygon 0 of `polygons` holds something else than numbers: 'abc'"),
        ({"polygons": [SQUARE, [[0, 0], [1], [2, 2]]]}, "polygon 1 of `polygons` holds something else than numbers"),
        ({"polygons": [[["0", "0"], ["1", "1"], ["2", "0"]]]}, "polygon 0 of `polygons` holds something else"),
        ({"polygons": [np.array(SQUARE) * 1j]}, "polygon 0 of `polygons` holds something else than numbers"),
        ({"texts": "a"}, "`texts` is of type str; expected a list"),
        ({"texts": 5}, "`texts` is of type int; expected a list"),
        ({"texts": {"a": 1}}, "`texts` is of type dict"),
        ({"texts": [3]}, "entry 0 of `texts` is 3; expected a string"),
        ({"texts": [b"a"]}, "entry 0 of `texts` is b'a'"),
        ({"texts": [float("nan")]}, "entry 0 of `texts` is nan"),
        ({"ignore": "x"}, "`ignore` is of type str"),
        ({"ignore": True}, "`ignore` is of type bool"),
        ({"ignore": ["False"]}, r"`ignore` is \['False'\]; expected one boolean"),
        ({"ignore": [None]}, r"`ignore` is \[None\]; expected one boolean"),
        ({"ignore": [7]}, r"`ignore` is \[7\]; expected one boolean"),
        ({"scores": 0.5}, "`scores` is of type float"),
        ({"scores": ["a"]}, "`scores` holds something else than numbers"),
    ],
)
def test_fields_of_the_wrong_type_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TextInstances(**{"polygons": [SQUARE], **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scores": [np.nan]}, "`scores` is .*expected one finite number"),
        ({"text_scores": [[1, 2]]}, "`text_scores` is .*expected one finite number"),
        ({"ignore": [[True, False]]}, "`ignore` has shape"),
        ({"polygons": [np.array(SQUARE) * 1e40]}, "polygon 0 has a NaN or infinite coordinate"),
    ],
)
def test_fields_out_of_range_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextInstances(**{"polygons": [SQUARE], **fields})


@pytest.mark.parametrize("annotations", ["abc", 3, ["a"], [None], [[SQUARE]]])
def test_annotations_of_the_wrong_type_are_refused(annotations: Any) -> None:
    with pytest.raises(TypeError, match=r"annotations of type|expected a dictionary with `polygons`"):
        PROCESSOR(np.zeros((SIDE, SIDE, 3), np.uint8), annotations=annotations)


@settings(max_examples=200)
@given(
    row=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["image", "polygons", "texts", "ignore", "x"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_json_line_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, row: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=r"any\.jsonl, line 1: "):
        load_jsonl(path)


def around(angles: np.ndarray, radii: np.ndarray) -> np.ndarray:
    return np.stack([32 + radii * np.cos(angles), 32 + radii * np.sin(angles)], axis=1)


RNG = np.random.default_rng(0)
TURN = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
ODD_POLYGONS = {
    "crossed sides": [[10, 10], [50, 50], [50, 10], [10, 50]],
    "a point": [[10, 10]] * 4,
    "a line": [[10, 10], [30, 10], [50, 10]],
    "there and back": [[10, 10], [50, 10], [50, 10], [10, 10]],
    "thousands of points": around(TURN, 20 + 8 * np.sin(9 * TURN)),
    "thousands of spikes": around(TURN, 10 + 20 * RNG.random(5000)),
    "thousands of crossings": RNG.random((5000, 2)) * SIDE,
    "outside": np.array(SQUARE) + 1e6,
    "far outside": np.array(SQUARE) * 1e9 + 1e9,
    "astronomic": np.array(SQUARE) * 1e36,
    "tiny": np.array(SQUARE) * 1e-6,
    "all of it": [[-1e9, -1e9], [1e9, -1e9], [1e9, 1e9], [-1e9, 1e9]],
    "a spike": [[10, 10], [50, 10], [50, 30], [1e7, 20], [50, 31], [10, 30]],
    "anticlockwise": SQUARE[::-1],
}


def targets_of(collator: TextDetectionCollator, polygons: list[Any]) -> dict[str, torch.Tensor]:
    """Targets without a warning of numpy's."""
    instances = TextInstances(polygons, texts=["abc"] * len(polygons))
    batch = PROCESSOR(np.zeros((SIDE, SIDE, 3), np.uint8), annotations=instances)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return collator([{name: batch[name][0] for name in ("pixel_values", "pixel_mask", "labels")}])["labels"]


def assert_finite(label: dict[str, torch.Tensor]) -> None:
    assert all(tensor.isfinite().all() for name, tensor in label.items() if name != "points")


@pytest.mark.parametrize("head", COLLATORS)
@pytest.mark.parametrize("name", ODD_POLYGONS)
def test_targets_of_odd_polygons(head: str, name: str) -> None:
    assert_finite(targets_of(COLLATORS[head], [ODD_POLYGONS[name]]))


def test_an_odd_polygon_leaves_the_targets_of_others_alone() -> None:
    word = [[20, 20], [44, 20], [44, 40], [20, 40]]
    alone = targets_of(COLLATORS["dbnet"], [word])["shrink_map"]
    assert alone.any()
    for name in ("a point", "a line", "outside", "far outside", "astronomic", "tiny"):
        with_others = targets_of(COLLATORS["dbnet"], [word, ODD_POLYGONS[name]])["shrink_map"]
        assert torch.equal(with_others, alone), name


def test_outlines_of_thousands_of_points_keep_their_shape() -> None:
    fine = targets_of(COLLATORS["dbnet"], [ODD_POLYGONS["thousands of points"]])
    coarse = targets_of(COLLATORS["dbnet"], [ODD_POLYGONS["thousands of points"][:: 5000 // MAX_VERTICES]])
    differing = (fine["shrink_map"] != coarse["shrink_map"]).float().mean()
    assert fine["shrink_map"].any()
    assert differing < 0.01


@settings(max_examples=60)
@given(
    polygons=st.lists(
        st.lists(st.tuples(*[st.floats(-1e5, 1e5, width=32) | st.integers(-5, SIDE + 5)] * 2), min_size=3, max_size=8),
        max_size=3,
    ),
    head=st.sampled_from(sorted(COLLATORS)),
)
def test_targets_of_any_polygons(polygons: list[list[tuple[float, float]]], head: str) -> None:
    assert_finite(targets_of(COLLATORS[head], polygons))


def detections(prob_map: np.ndarray, **given_settings: Any) -> dict[str, Any]:
    outputs = TCMTextDetectionOutput(
        head_output=DBNetOutput(prob_map=torch.from_numpy(prob_map)[None, None]),
        valid_sizes=torch.tensor([prob_map.shape]),
    )
    return PROCESSOR.post_process_text_detection(outputs, [prob_map.shape], **given_settings)[0]


@pytest.mark.parametrize("polygon", [False, True])
def test_ten_thousand_regions(polygon: bool) -> None:
    """Memory is a few maps' worth; `max_candidates` bounds what is found."""
    prob_map = np.zeros((1000, 1000), np.float32)
    prob_map.reshape(100, 10, 100, 10)[:, 2:8, :, 2:8] = 0.9
    tracemalloc.start()
    found = detections(prob_map, polygon=polygon)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found["scores"]) == 1000
    assert peak < 50e6
    assert len(detections(prob_map, polygon=polygon, max_candidates=7)["scores"]) == 7


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 48), st.integers(1, 48)),
    polygon=st.booleans(),
    kind=st.sampled_from(["noise", "zero", "one", "NaN"]),
)
def test_any_probability_map_gives_outlines_inside(seed: int, size: tuple[int, int], polygon: bool, kind: str) -> None:
    prob_map = np.random.default_rng(seed).random(size, dtype=np.float32)
    if kind != "noise":
        prob_map[:] = {"zero": 0, "one": 1, "NaN": np.nan}[kind]
    if kind == "NaN":
        with pytest.raises(ValueError, match="`prob_map` has values that are NaN or infinite"):
            detections(prob_map, polygon=polygon, min_size=0, box_threshold=0)
        return
    found = detections(prob_map, polygon=polygon, min_size=0, box_threshold=0)
    for outline in found["polygons"]:
        assert outline.isfinite().all()
        assert outline.min() >= 0
        assert (outline <= torch.tensor(size[::-1])).all()


def test_a_file_of_labels_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.jsonl").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"bytes\.jsonl: not a UTF-8 text file"):
        load_jsonl(tmp_path / "bytes.jsonl")
