"""ABCNet's assignment, losses and decoding: the ground truth seen by each location comes back, and nothing else."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_tcm.bezier import bezier_to_polygon, fit_bezier
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.geometry import signed_area
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.heads.abcnet import ABCNetConfig, ABCNetDecoding, ABCNetHead, ABCNetOutput
from transformers_tcm.models.tcm.heads.base import HeadInputs, Regions
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection
from transformers_tcm.models.tcm.post_processing_tcm import instances_of_images

SMALL: dict[str, Any] = {"channels": 16, "num_convs": 1, "num_groups": 4}
DECODING: dict[str, Any] = {
    "box_threshold": 0.5,
    "max_candidates": 100,
    "min_size": 3,
    "polygon": True,
}


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def arch(x: float, y: float, radius: float, height: float, degrees: float) -> np.ndarray:
    """A curved word of 14 points whose middle is at x, y."""
    half = np.deg2rad(degrees) / 2
    angles = np.linspace(-half, half, 7)
    arc = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    sides = np.concatenate([(radius + height / 2) * arc, (radius - height / 2) * arc[::-1]])
    return (sides + np.array([x, y + radius])).astype(np.float32)


def targets_of(words: list[np.ndarray], size: tuple[int, int], **changes: Any) -> dict[str, np.ndarray]:
    return ABCNetHead.targets(TextInstances(words), size, size, ABCNetConfig(**changes))


def labels_of(*targets: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """As the collator makes them of several images with different numbers of words."""
    labels: dict[str, torch.Tensor] = {}
    for name in ("text_map", "text_mask", "assigned_words"):
        labels[name] = torch.from_numpy(np.stack([one[name] for one in targets]))
    for name in ("word_boxes", "word_curves"):
        labels[name] = torch.from_numpy(np.concatenate([one[name] for one in targets]))
        labels[f"{name}_counts"] = torch.tensor([len(one[name]) for one in targets])
    return labels


def locations_of(size: tuple[int, int], config: ABCNetConfig) -> torch.Tensor:
    """(L, 3) of all levels, spelled out."""
    return torch.tensor(
        [
            [(column + 0.5) * stride, (row + 0.5) * stride, stride]
            for stride in config.strides
            for row in range(math.ceil(size[0] / stride))
            for column in range(math.ceil(size[1] / stride))
        ]
    )


def perfect_output(targets: dict[str, np.ndarray], size: tuple[int, int], **changes: Any) -> ABCNetOutput:
    """What a head that has learned everything would give for one image."""
    locations = locations_of(size, ABCNetConfig(**changes))
    assigned = torch.from_numpy(targets["assigned_words"])
    found = assigned >= 0
    # A last, empty word for locations without one.
    boxes = torch.cat([torch.from_numpy(targets["word_boxes"]), torch.zeros(1, 4)])[assigned]
    curves = torch.cat([torch.from_numpy(targets["word_curves"]), torch.zeros(1, 8, 2)])[assigned]
    x, y = locations[:, 0], locations[:, 1]
    across = torch.stack([x - boxes[:, 0], boxes[:, 2] - x])
    down = torch.stack([y - boxes[:, 1], boxes[:, 3] - y])
    centerness = (across.amin(0) / across.amax(0) * down.amin(0) / down.amax(0)).clamp(min=0).sqrt()
    return ABCNetOutput(
        class_logits=torch.where(found, 12.0, -12.0)[None],
        centerness_logits=torch.where(found, centerness, 0.5).logit(eps=1e-6)[None],
        boxes=boxes[None],
        control_points=curves[None],
        locations=locations[None],
    )


def regions_of(output: ABCNetOutput, size: tuple[int, int], **changes: Any) -> Regions:
    return ABCNetHead.decode(output, torch.tensor([size]), ABCNetDecoding(**{**DECODING, **changes}))


def decode(output: ABCNetOutput, size: tuple[int, int], **changes: Any) -> TextInstances:
    return instances_of_images(regions_of(output, size, **changes), 1)[0]


def outline_distance(first: np.ndarray, second: np.ndarray) -> float:
    return shapely.hausdorff_distance(shapely.LinearRing(first), shapely.LinearRing(second), densify=0.25)


def made_head(**changes: Any) -> tuple[ABCNetHead, list[torch.Tensor]]:
    """A small head with reproducible weights, and C2 … C5 of two images of 64 x 96 pixels."""
    torch.manual_seed(0)
    channels = [4, 6, 8, 9]
    head = ABCNetHead(ABCNetConfig(**{**SMALL, **changes}), channels)
    head.init_weights()
    pyramid = [torch.randn(2, size, 64 // stride, 96 // stride) for size, stride in zip(channels, (4, 8, 16, 32))]  # noqa: B905
    return head, pyramid


def inputs_of(pyramid: list[torch.Tensor]) -> HeadInputs:
    sizes = torch.tensor([[64, 96]] * 2)
    return HeadInputs(tuple(pyramid), torch.zeros(2, 4, 32, 48), sizes)


# --- assignment


def test_words_take_the_locations_near_their_centre() -> None:
    """Level 3 of 64 x 64 pixels has 8 x 8 locations at 4, 12, …; within 12 pixels of (30, 20) and the box lie six."""
    targets = targets_of([rectangle(0, 12, 60, 28)], (64, 64))
    assigned = targets["assigned_words"]
    assert len(assigned) == 64 + 16 + 4 + 1 + 1
    level = assigned[:64].reshape(8, 8)
    expected = np.full((8, 8), -1)
    expected[2, 2:5] = 0  # y = 20; x = 20, 28, 36: between 18 and 42. The rows at 12 and 28 lie on the border.
    np.testing.assert_array_equal(level, expected)
    assert (assigned[64:] == -1).all()


def test_larger_words_are_found_on_coarser_levels() -> None:
    words = [rectangle(8, 8, 88, 40), rectangle(100, 40, 260, 120), rectangle(10, 130, 310, 310)]
    config = ABCNetConfig()
    stride = locations_of((320, 320), config)[:, 2].numpy()
    assigned = targets_of(words, (320, 320))["assigned_words"]
    # Farthest sides 40 to 52, 80 to 104 and 150 to 198 pixels away, for levels up to 64, 128 and 256.
    assert [set(stride[assigned == word].tolist()) for word in range(3)] == [{8}, {16}, {32}]
    with_finest = targets_of(words, (320, 320), finest_level=2)["assigned_words"]
    stride = locations_of((320, 320), ABCNetConfig(finest_level=2))[:, 2].numpy()
    assert set(stride[with_finest == 0].tolist()) == {8}
    assert len(with_finest) == 80 * 80 + len(assigned)


def test_finest_level_two_gives_low_words_more_locations() -> None:
    word = rectangle(10, 21, 40, 30)
    counts = [(targets_of([word], (64, 64), finest_level=level)["assigned_words"] == 0).sum() for level in (2, 3)]
    assert counts == [6, 3]  # two rows of three at stride 4 (22, 26), one row of three at stride 8 (28)


def test_long_low_words_without_a_location_on_their_level_fall_back_to_the_finest() -> None:
    word = rectangle(10, 34, 310, 46)  # reaches 150 pixels, for stride 32 with rows at 16 and 48
    assigned = targets_of([word], (320, 320))["assigned_words"]
    stride = locations_of((320, 320), ABCNetConfig())[:, 2].numpy()
    assert (assigned == 0).sum() == 4  # x = 156 and 164, y = 36 and 44
    assert set(stride[assigned == 0].tolist()) == {8}


@pytest.mark.parametrize("small", [0, 1])
def test_smallest_of_overlapping_words_wins(small: int) -> None:
    words = [rectangle(0, 0, 60, 60), rectangle(20, 24, 44, 40)]
    level = targets_of(words[::-1] if small == 0 else words, (64, 64))["assigned_words"][:64].reshape(8, 8)
    expected = np.full((8, 8), -1)
    expected[2:5, 2:5] = 1 - small  # at 20, 28 and 36, within 12 pixels of 30
    expected[3:5, 3:5] = small  # between 20 and 44, 24 and 40
    np.testing.assert_array_equal(level, expected)


def brute_force(words: list[np.ndarray], size: tuple[int, int], config: ABCNetConfig) -> np.ndarray:
    """FCOS' assignment, one location after the other, for words that each have one on their level."""
    assigned = []
    limits = [0, *(config.size_per_stride * stride for stride in config.strides[:-1]), math.inf]
    for x, y, stride in locations_of(size, config).tolist():
        level, best, smallest = config.strides.index(int(stride)), -1, math.inf
        for index, word in enumerate(words):
            (left, top), (right, bottom) = word.min(axis=0), word.max(axis=0)
            sides = [x - left, right - x, y - top, bottom - y]
            near = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2)) < config.center_radius * stride
            fits = limits[level] < max(sides) <= limits[level + 1]
            area = (right - left) * (bottom - top)
            if min(sides) > 0 and near and fits and area <= smallest:
                best, smallest = index, area
        assigned.append(best)
    return np.array(assigned)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.integers(0, 60), st.integers(18, 90), st.integers(17, 60)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([0.5, 1.5, 2.2]),
)
def test_assignment_is_that_of_fcos(boxes: list[tuple[int, int, int, int]], radius: float) -> None:
    words = [rectangle(left, top, left + width, top + height) for left, top, width, height in boxes]
    config, size = ABCNetConfig(center_radius=radius, coarsest_level=5), (128, 192)
    assigned = targets_of(words, size, center_radius=radius, coarsest_level=5)["assigned_words"]
    expected = brute_force(words, size, config)
    # Where no level has a location for a word, the finest one takes it.
    direct = np.isin(assigned, np.unique(expected[expected >= 0]))
    np.testing.assert_array_equal(assigned[direct], expected[direct])
    assert ((expected >= 0) <= (assigned >= 0)).all()


def test_maps_show_text_and_leave_out_what_is_ignored() -> None:
    plain, ignored, tiny, flat = rectangle(8, 8, 56, 24), rectangle(8, 40, 56, 56), rectangle(70, 8, 90, 10), None
    flat = np.array([[70, 40], [80, 40], [90, 40], [75, 40]], np.float32)
    instances = TextInstances([plain, ignored, tiny, flat], ignore=np.array([False, True, False, False]))
    targets = ABCNetHead.targets(instances, (64, 96), (64, 96), ABCNetConfig())
    assert targets["text_map"][16, 30] == targets["text_mask"][16, 30] == 1
    for y, x in ((48, 30), (9, 80), (40, 80)):
        assert targets["text_map"][y, x] == targets["text_mask"][y, x] == 0
    assert set(targets["assigned_words"].tolist()) == {-1, 0}
    assert targets["text_map"].dtype == targets["text_mask"].dtype == np.uint8


def test_no_words_no_targets() -> None:
    targets = targets_of([], (32, 64))
    assert targets["word_boxes"].shape == (0, 4)
    assert targets["word_curves"].shape == (0, 8, 2)
    assert (targets["assigned_words"] == -1).all()
    assert targets["text_mask"].all()
    assert not targets["text_map"].any()


# --- losses


def test_perfect_predictions_cost_next_to_nothing() -> None:
    head, _ = made_head()
    size = (128, 160)
    targets = targets_of([rectangle(8, 8, 80, 30), arch(80, 80, 60, 20, 80)], size)
    losses = head.loss(perfect_output(targets, size), labels_of(targets))
    assert set(losses) == {"loss_class", "loss_box", "loss_centerness", "loss_bezier"}
    assert float(losses["loss_class"]) < 1e-3
    assert float(losses["loss_box"]) == pytest.approx(0, abs=1e-5)
    assert float(losses["loss_bezier"]) == pytest.approx(0, abs=1e-5)
    # Cross-entropy with targets between 0 and 1 is at its least, but not zero: moving any prediction raises it.
    for change in (-0.5, 0.5):
        output = perfect_output(targets, size)
        output.centerness_logits += change
        assert float(head.loss(output, labels_of(targets))["loss_centerness"]) > float(losses["loss_centerness"])


def test_losses_by_hand() -> None:
    """One word, one location: at (20, 20) in a box of 40 x 16 that is predicted 4 pixels too far to the right."""
    head, _ = made_head(center_radius=0.4)
    targets = targets_of([rectangle(0, 12, 40, 28)], (32, 64), center_radius=0.4)
    assert (targets["assigned_words"] == 0).sum() == 1
    output = perfect_output(targets, (32, 64))
    position = int(np.flatnonzero(targets["assigned_words"] == 0)[0])
    output.boxes = output.boxes + torch.tensor([4.0, 0, 4, 0])
    output.control_points = output.control_points + torch.tensor([4.0, 0])
    output.class_logits = torch.full_like(output.class_logits, -30.0)
    output.class_logits[0, position] = 0.0
    losses = head.loss(output, labels_of(targets))
    assert float(losses["loss_box"]) == pytest.approx(1 - 36 / 44, abs=1e-6)
    # Half of the 16 numbers are off by half a stride, beyond the bend of the smooth L1 loss at a ninth.
    assert float(losses["loss_bezier"]) == pytest.approx(0.5 * (0.5 - 1 / 18), abs=1e-6)
    assert float(losses["loss_class"]) == pytest.approx(0.25 * 0.5**2 * math.log(2), abs=1e-6)
    # x is in the middle and y is in the middle: centre-ness 1, predicted as sure as the test allows.
    assert float(losses["loss_centerness"]) == pytest.approx(0, abs=1e-4)


def test_ignored_words_and_padding_are_no_background() -> None:
    head, _ = made_head()
    ignored = TextInstances([rectangle(8, 8, 56, 56)], ignore=np.array([True]))
    targets = ABCNetHead.targets(ignored, (64, 96), (64, 64), ABCNetConfig())
    assert not targets["text_mask"][:, 64:].any()
    output = perfect_output(targets, (64, 96))
    x, y = output.locations[0, :, 0], output.locations[0, :, 1]
    left_out = ((x > 8) & (x < 56) & (y > 8) & (y < 56)) | (x > 64) | (y > 64)
    output.class_logits = torch.where(left_out, 5.0, -12.0)[None]
    assert float(head.loss(output, labels_of(targets))["loss_class"]) < 1e-3
    output.class_logits = torch.full_like(output.class_logits, 5.0)
    assert float(head.loss(output, labels_of(targets))["loss_class"]) > 1


@pytest.mark.parametrize("words", [[], [rectangle(8, 8, 56, 30)]], ids=["no words", "one word"])
def test_losses_without_and_with_words_are_finite_and_reach_everything(words: list[np.ndarray]) -> None:
    head, pyramid = made_head()
    pyramid = [features.requires_grad_() for features in pyramid]
    targets = [targets_of(words, (64, 96)), targets_of([], (64, 96))]
    losses = head.loss(head(inputs_of(pyramid)), labels_of(*targets))
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())
    # C2 is no part of a pyramid that starts at level 3.
    assert pyramid[0].grad is None
    assert all(features.grad.abs().sum() > 0 for features in pyramid[1:])
    trained = [name for name, parameter in head.named_parameters() if parameter.grad.abs().sum() > 0]
    assert all(any(name.startswith(part) for name in trained) for part in ("neck.lateral.2", "neck.coarser", "class"))
    assert any(name.startswith("bezier") for name in trained) == bool(words)


def test_words_of_several_images_are_told_apart() -> None:
    head, _ = made_head()
    size = (64, 96)
    targets = [
        targets_of([rectangle(8, 8, 60, 30)], size),
        targets_of([], size),
        targets_of([rectangle(30, 20, 90, 50)], size),
    ]
    singles = [perfect_output(one, size) for one in targets]
    batch = ABCNetOutput(*(torch.cat([one[name] for one in singles]) for name in singles[0]))
    losses = head.loss(batch, labels_of(*targets))
    assert float(losses["loss_box"]) == pytest.approx(0, abs=1e-5)
    assert float(losses["loss_bezier"]) == pytest.approx(0, abs=1e-5)


def test_labels_for_something_else_are_named() -> None:
    head, pyramid = made_head()
    output = head(inputs_of(pyramid))
    with pytest.raises(ValueError, match="lack the target 'assigned_words'"):
        head.loss(output, {})
    other_size = labels_of(targets_of([], (64, 64)), targets_of([], (64, 64)))
    with pytest.raises(ValueError, match=r"assign words to \(2, 86\) locations, the head has \(2, 129\)"):
        head.loss(output, other_size)


# --- the head itself


@pytest.mark.parametrize("neck", ["fpn", "bifpn"])
@pytest.mark.parametrize(("finest", "coarsest"), [(2, 5), (2, 7), (3, 5), (3, 7)])
def test_shapes_and_locations(finest: int, coarsest: int, neck: str) -> None:
    head, pyramid = made_head(finest_level=finest, coarsest_level=coarsest, pyramid=neck)
    output = head(inputs_of(pyramid))
    locations = locations_of((64, 96), head.settings)
    count = len(locations)
    assert {name: tuple(value.shape) for name, value in output.items()} == {
        "class_logits": (2, count),
        "centerness_logits": (2, count),
        "boxes": (2, count, 4),
        "control_points": (2, count, 8, 2),
        "locations": (2, count, 3),
    }
    torch.testing.assert_close(output.locations, locations.float().expand(2, -1, -1))
    assert (output.boxes[..., 2:] > output.boxes[..., :2]).all()
    targets = targets_of([], (64, 96), finest_level=finest, coarsest_level=coarsest)
    assert targets["assigned_words"].shape == (count,)


def test_only_the_bidirectional_pyramid_takes_c2_where_no_word_is_looked_for_there() -> None:
    for neck, takes in (("fpn", False), ("bifpn", True)):
        head, pyramid = made_head(finest_level=3, pyramid=neck)
        before = head.eval()(inputs_of(pyramid)).class_logits
        pyramid[0] = pyramid[0] + 1
        assert torch.equal(head(inputs_of(pyramid)).class_logits, before) is not takes


def test_initial_predictions() -> None:
    """A low score everywhere, and boxes that reach about a stride in each direction."""
    head, pyramid = made_head(prior_probability=0.02)
    output = head(inputs_of(pyramid))
    assert output.class_logits.sigmoid().mean().item() == pytest.approx(0.02, abs=0.005)
    stride = output.locations[..., 2:]
    torch.testing.assert_close(
        (output.boxes[..., 2:] - output.boxes[..., :2]) / stride, torch.full((2, 129, 2), 2.0), rtol=0.2, atol=0
    )


def test_bfloat16_keeps_coordinates() -> None:
    head, pyramid = made_head()
    expected = head(inputs_of(pyramid))
    output = head.to(torch.bfloat16)(inputs_of([features.bfloat16() for features in pyramid]))
    assert all(value.dtype == torch.float32 for value in output.values())
    torch.testing.assert_close(output.control_points, expected.control_points, atol=1.5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 48, "num_groups": 32}, "48 channels in 32 groups"),
        ({"channels": 32, "num_groups": 32}, "at least two channels"),
        ({"num_groups": 0}, "`num_groups`"),
        ({"num_convs": 0}, "`num_convs`"),
        ({"finest_level": 4}, "`finest_level` must be 2 or 3"),
        ({"coarsest_level": 4}, "`coarsest_level` 5, 6 or 7"),
        ({"size_per_stride": 0}, "`size_per_stride`"),
        ({"center_radius": -1.0}, "`center_radius`"),
        ({"prior_probability": 1.0}, "`prior_probability`"),
        ({"box_weight": -1}, "not be negative, got .*'box_weight': -1"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        ABCNetConfig(**changes)


# --- decoding


@settings(max_examples=25, deadline=None)
@given(
    st.floats(70, 250), st.floats(70, 180), st.floats(40, 130), st.floats(12, 30), st.floats(-90, 90), st.floats(1, 60)
)
def test_ground_truth_comes_back(x: float, y: float, length: float, height: float, turn: float, bend: float) -> None:
    angle = np.deg2rad(turn)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    word = arch(0, 0, length / np.deg2rad(bend), height, bend) @ matrix + [x, y]
    size = (256, 320)
    targets = targets_of([word.astype(np.float32)], size)
    output = perfect_output(targets, size)
    found = decode(output, size)
    assert len(found) == 1
    assert found.polygons[0].shape == (20, 2)
    assert outline_distance(found.polygons[0], bezier_to_polygon(fit_bezier(word), 20)) < 0.1
    assert outline_distance(found.polygons[0], word) < 1
    assert signed_area(found.polygons[0]) > 0
    quad = decode(output, size, polygon=False).polygons[0]
    np.testing.assert_allclose(quad, word[[0, 6, 7, 13]], atol=1e-3)


def test_many_words_come_back_with_their_scores() -> None:
    words = [rectangle(x, y, x + 50, y + 14) for x in (6, 70, 140) for y in (5, 30, 55, 80)]
    size = (96, 192)
    found = decode(perfect_output(targets_of(words, size), size), size, polygon=False)
    assert len(found) == 12
    boxes = {tuple(box) for box in found.boxes.round().tolist()}
    assert boxes == {tuple(box) for box in TextInstances(words).boxes.tolist()}
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.min() > 0.5


def one_word(scores: list[float], curves: list[np.ndarray]) -> ABCNetOutput:
    """Locations 8 pixels apart in a row, the first ones with these scores and words."""
    control_points = torch.from_numpy(np.stack(curves).astype(np.float32))
    probabilities = torch.tensor(scores)
    boxes = torch.cat([control_points.amin(dim=1), control_points.amax(dim=1)], dim=1)
    steps = torch.arange(len(scores))
    return ABCNetOutput(
        class_logits=probabilities.logit()[None],
        centerness_logits=probabilities.logit()[None],
        boxes=boxes[None],
        control_points=control_points[None],
        locations=torch.stack([4.0 + 8 * steps, steps * 0 + 4.0, steps * 0 + 8.0], dim=1)[None],
    )


def test_thresholds_and_limits() -> None:
    words = [
        fit_bezier(rectangle(10, 10 + 30 * row, 70, 10 + 30 * row + height))
        for row, height in enumerate([20, 20, 2, 12])
    ]
    output, size = one_word([0.9, 0.55, 0.95, 0.7], words), (128, 128)
    assert decode(output, size).scores.tolist() == pytest.approx([0.9, 0.7, 0.55], abs=1e-6)
    assert decode(output, size, box_threshold=0.6).scores.tolist() == pytest.approx([0.9, 0.7], abs=1e-6)
    assert len(decode(output, size, min_size=1)) == 4
    assert len(decode(output, size, min_size=15)) == 2
    assert decode(output, size, max_candidates=2, min_size=1).scores.tolist() == pytest.approx([0.95, 0.9], abs=1e-6)
    assert len(decode(output, size, box_threshold=0.99)) == 0


def test_locations_in_the_padding_are_not_looked_at() -> None:
    words = [fit_bezier(rectangle(4, 40 * row, 44, 40 * row + 20)) for row in range(3)]
    output = one_word([0.9, 0.8, 0.7], words)  # at x = 4, 12, 20
    assert len(decode(output, (64, 64))) == 3
    assert decode(output, (64, 16)).scores.tolist() == pytest.approx([0.9, 0.8], abs=1e-6)
    assert len(decode(output, (4, 64))) == 0


def test_duplicates_give_way_to_the_best() -> None:
    word, shifted, beside = (fit_bezier(rectangle(left, 10, left + 60, 30)) for left in (10, 16, 50))
    found = decode(one_word([0.7, 0.9, 0.8], [word, shifted, beside]), (64, 128), polygon=False)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8], abs=1e-6)
    assert found.boxes[:, 0].tolist() == [16, 50]
    assert len(decode(one_word([0.7, 0.9, 0.8], [word, shifted, beside]), (64, 128), nms_threshold=0.9)) == 3


def test_settings_of_another_head_are_unknown() -> None:
    """There is no map of text pixels and nothing to grow."""
    for name in ("threshold", "unclip_ratio"):
        with pytest.raises(TypeError, match=name):
            ABCNetDecoding(**{name: 0.5})
    with pytest.raises(Exception, match=r"`nms_threshold` is 1\.5; expected a number between 0 and 1"):
        ABCNetDecoding(nms_threshold=1.5)


def test_regions_keep_their_curves_and_images() -> None:
    first, second = fit_bezier(arch(60, 40, 50, 16, 60)), fit_bezier(rectangle(10, 80, 70, 100))
    alone = [one_word([0.9], [first]), one_word([0.0], [first]), one_word([0.8], [second])]
    maps = {name: torch.cat([one[name] for one in alone]).numpy() for name in alone[0]}  # arrays do as well
    regions = ABCNetHead.decode(maps, torch.tensor([[128, 128]] * 3), ABCNetDecoding(**DECODING))
    assert regions.batch_indices.tolist() == [0, 2]
    assert regions.scores.tolist() == pytest.approx([0.9, 0.8], abs=1e-6)
    assert regions.labels.tolist() == [0, 0]
    np.testing.assert_allclose(regions.control_points, np.stack([first, second]))
    for outline, curves in zip(regions.polygons(), (first, second), strict=True):
        assert outline_distance(outline, bezier_to_polygon(curves, 20)) < 0.1


def test_scores_that_are_not_finite_are_refused() -> None:
    output = one_word([0.9, 0.8], [fit_bezier(rectangle(10, 10, 70, 30))] * 2)
    output.class_logits[0, 1] = math.nan
    with pytest.raises(ValueError, match="scores are NaN or infinite"):
        decode(output, (64, 128))


def test_outlines_are_finite_simple_and_clockwise() -> None:
    plain = fit_bezier(rectangle(10, 10, 70, 30))
    reversed_word = plain[::-1] + np.array([0, 40], np.float32)
    crossed = plain[[0, 1, 2, 3, 7, 6, 5, 4]] + np.array([0, 80], np.float32)
    infinite = np.full((8, 2), np.inf, np.float32)
    flat = fit_bezier(rectangle(100, 10, 160, 30)) * np.array([1, 1e-4], np.float32)
    output = one_word([0.9, 0.85, 0.8, 0.75, 0.7], [plain, reversed_word, crossed, infinite, flat])
    for polygon in (True, False):
        found = decode(output, (200, 200), polygon=polygon, min_size=0)
        assert found.scores.tolist() == pytest.approx([0.9, 0.85, 0.8], abs=1e-6)
        assert all(shapely.Polygon(outline).is_valid for outline in found.polygons)
        assert all(signed_area(outline) > 0 for outline in found.polygons)
        # What ran anticlockwise starts at the left end of its other side.
        np.testing.assert_allclose(found.polygons[1][0], plain[0] + [0, 40], atol=1e-3)


# --- within the model


@pytest.fixture
def detector(small_config: Any) -> TCMForTextDetection:
    torch.manual_seed(0)
    return TCMForTextDetection(small_config(head_type="abcnet", head_config={**SMALL, "channels": 32}))


def collated(config: TCMConfig, *photos: tuple[tuple[int, int], TextInstances]) -> dict[str, Any]:
    """Photos of such sizes, words brighter than the rest, as the data loader gives them."""
    import cv2

    processor, items = TCMImageProcessorPil(do_resize=False), []
    for size, instances in photos:
        image = np.full((*size, 3), 60, np.uint8)
        for polygon in instances.polygons:
            cv2.fillPoly(image, [polygon.astype(np.int32)], (230, 220, 120))
        batch = processor(image, annotations=instances, return_tensors="pt")
        items.append({name: batch[name][0] for name in ("pixel_values", "pixel_mask", "labels")})
    return TextDetectionCollator(config)(items)


def test_initialisation_survives_saving_and_loading(detector: TCMForTextDetection, tmp_path: Path) -> None:
    prior = math.log(0.01 / 0.99)
    assert detector.head.classifier.bias.item() == pytest.approx(prior)
    assert detector.head.bezier.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert detector.head.box_scales.tolist() == [1.0] * 5
    # Layers that a checkpoint lacks start in the same way.
    fresh = TCMForTextDetection.from_pretrained(None, config=detector.config, state_dict={})
    assert fresh.head.classifier.bias.item() == pytest.approx(prior)
    assert fresh.head.box_scales.tolist() == [1.0] * 5
    detector.head.classifier.bias.data.fill_(0.25)
    detector.save_pretrained(tmp_path)
    loaded, report = TCMForTextDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert loaded.head.classifier.bias.item() == 0.25
    assert loaded.config.head_settings == detector.config.head_settings
    assert loaded.head.score_map_loss == "dice"


def test_training_step_with_padded_and_empty_photos(detector: TCMForTextDetection) -> None:
    words = TextInstances([rectangle(10, 12, 70, 34), rectangle(8, 40, 60, 60)], ignore=np.array([False, True]))
    batch = collated(detector.config, ((64, 96), words), ((96, 64), TextInstances([])))
    assert batch["labels"]["text_mask"][1, :, 64:].sum() == 0
    assert batch["labels"]["word_boxes_counts"].tolist() == [2, 0]
    outputs = detector.train()(**batch)
    assert set(outputs.loss_dict) == {"loss_class", "loss_box", "loss_centerness", "loss_bezier", "loss_score_map"}
    outputs.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)
    assert detector.head.neck.lateral[2].weight.grad[:, -1].abs().sum() > 0  # the score map's channel of C5


def test_tall_words_begin_where_the_recogniser_reads_them(small_config: Any) -> None:
    """The curves that ABCNet learns of a word written downwards are those that the recogniser is taught with."""
    config = small_config(head_type="abcnet", head_config={**SMALL, "channels": 32}, recognizer={})
    tall = rectangle(20, 8, 36, 84)
    labels = collated(config, ((96, 64), TextInstances([tall], texts=["SALE"])))["labels"]
    corners = [0, 3, 4, 7]
    learned, read = labels["word_curves"][0, :, corners], labels["control_points"][:, corners]
    torch.testing.assert_close(learned, read)
    np.testing.assert_allclose(read[0], np.roll(tall, -1, axis=0), atol=1e-4)  # from the upper right corner


def test_small_photo_is_learned_by_heart(detector: TCMForTextDetection) -> None:
    words = TextInstances([rectangle(8, 10, 60, 28), arch(92, 40, 60, 14, 50)])
    batch = collated(detector.config, ((64, 128), words))
    optimizer = torch.optim.AdamW(detector.parameters(), lr=5e-3)
    detector.train()
    losses = []
    for _ in range(40):
        loss = detector(**batch).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.mean(losses[-5:]) < 0.4 * losses[0]
