"""Oriented objects against numbers of MMRotate, MMDetection and the devkit of DOTA, of any folder of the same shape."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from transformers_tcm.data.splitting import (
    intersection_over_foreground,
    merge_patches,
    objects_in_window,
    patch_name,
    split_windows,
)
from transformers_tcm.evaluation.oriented import DotaEvaluation, DotaEvaluationResult
from transformers_tcm.models.tcm.heads import rotated_atss, rotated_fcos, rotated_retinanet
from transformers_tcm.models.tcm.heads.oriented import (
    OrientedDecoding,
    OrientedHead,
    OrientedHeadOutput,
    anchor_candidates,
    candidates,
    decode_deltas,
    decode_points,
    decode_regions,
    encode_deltas,
    encode_points,
    flat_maps,
    valid_anchors,
)
from transformers_tcm.models.tcm.losses_tcm import score_map_loss
from transformers_tcm.rotated_boxes import (
    boxes_to_quads,
    pairwise_rotated_iou,
    quads_to_boxes,
    regularize_boxes,
    rotated_iou,
)

HEADS: dict[str, tuple[ModuleType, type[OrientedHead]]] = {
    "fcos": (rotated_fcos, rotated_fcos.RotatedFCOSHead),
    "atss": (rotated_atss, rotated_atss.RotatedATSSHead),
    "retinanet": (rotated_retinanet, rotated_retinanet.RotatedRetinaNetHead),
}
ANCHOR_HEADS = ["atss", "retinanet"]
# Names of maps in the reference and here.
MAPS = {"cls": "class_logits", "box": "box_predictions", "angle": "angles", "centerness": "centerness_logits"}
LOSSES = {"loss_cls": "loss_classification", "loss_bbox": "loss_box", "loss_centerness": "loss_centerness"}


@pytest.fixture(scope="module")
def rotated_dir(golden_dir: Path) -> Path:
    return golden_dir / "rotated"


@pytest.fixture(scope="module")
def overlaps(rotated_dir: Path) -> dict[str, np.ndarray]:
    return dict(np.load(rotated_dir / "rotated_iou.npz"))


@pytest.fixture(scope="module")
def le90(rotated_dir: Path) -> dict[str, np.ndarray]:
    return dict(np.load(rotated_dir / "le90.npz"))


@pytest.fixture(scope="module")
def coders(rotated_dir: Path) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in np.load(rotated_dir / "coders.npz").items()}


@pytest.fixture(scope="module")
def tensors(rotated_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(rotated_dir / "heads.safetensors")


@pytest.fixture(scope="module")
def figures(rotated_dir: Path) -> dict[str, Any]:
    return json.loads((rotated_dir / "heads.json").read_text())


@pytest.fixture(scope="module")
def evaluation(rotated_dir: Path) -> dict[str, Any]:
    return json.loads((rotated_dir / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def splitting(rotated_dir: Path) -> dict[str, Any]:
    return json.loads((rotated_dir / "splitting_merging.json").read_text())


# Overlaps


def test_float64_iou_equals_the_exact_one(overlaps: dict[str, np.ndarray]) -> None:
    first, second = (torch.from_numpy(overlaps[name]) for name in ("boxes_a", "boxes_b"))
    for iou in (rotated_iou(first, second), rotated_iou(second, first)):
        np.testing.assert_allclose(iou.numpy(), overlaps["iou"], rtol=0, atol=1e-9)


def test_float32_iou_keeps_the_tolerance_of_each_kind_of_pair(overlaps: dict[str, np.ndarray]) -> None:
    first, second = (torch.from_numpy(overlaps[name]).float() for name in ("boxes_a", "boxes_b"))
    errors = np.abs(rotated_iou(first, second).numpy() - overlaps["iou"])
    tolerances = {"tiny": 1e-5, "huge_aspect": 1e-5, "far_from_origin": 2e-4}
    for kind in np.unique(overlaps["kind"]):
        assert errors[overlaps["kind"] == kind].max() <= tolerances.get(kind, 1e-6), kind


def test_pairwise_iou_equals_the_exact_one(overlaps: dict[str, np.ndarray]) -> None:
    rows, columns = overlaps["pairwise_iou_40x30"].shape
    first, second = torch.from_numpy(overlaps["boxes_a"][:rows]), torch.from_numpy(overlaps["boxes_b"][:columns])
    np.testing.assert_allclose(pairwise_rotated_iou(first, second), overlaps["pairwise_iou_40x30"], rtol=0, atol=1e-9)


def test_gradients_of_the_iou_equal_finite_differences_and_the_reference(overlaps: dict[str, np.ndarray]) -> None:
    boxes = {side: torch.from_numpy(overlaps[f"boxes_{side}"]).requires_grad_() for side in "ab"}
    rotated_iou(boxes["a"], boxes["b"]).sum().backward()
    for side, leaf in boxes.items():
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        for name, tolerance in (("finite_difference", 1e-8), ("autograd", 1e-9)):
            expected = overlaps[f"grad_{side}_{name}"]
            np.testing.assert_allclose(leaf.grad[: len(expected)], expected, rtol=0, atol=tolerance)


# Conversions


def test_boxes_of_rectangles_cover_the_regions_of_the_reference(le90: dict[str, np.ndarray]) -> None:
    sound = le90["le90"][:, 3] > 1e-3
    unique = sound & ~np.isin(le90["kind"], ["quadrilateral", "triangle"])
    boxes = quads_to_boxes(le90["polygons"].reshape(-1, 4, 2))
    iou = rotated_iou(torch.from_numpy(boxes[unique]), torch.from_numpy(le90["le90"][unique]).double())
    assert unique.sum() > 50
    assert iou.min() > 0.999
    assert (boxes[:, 2] >= boxes[:, 3]).all()
    assert (np.abs(boxes[:, 4]) <= np.pi / 2).all()


def test_boxes_of_rectangles_are_exact(le90: dict[str, np.ndarray]) -> None:
    known = ~np.isnan(le90["le90_true"]).any(axis=1)
    boxes = quads_to_boxes(le90["polygons"].reshape(-1, 4, 2))[known]
    iou = rotated_iou(torch.from_numpy(boxes), torch.from_numpy(le90["le90_true"][known]))
    np.testing.assert_allclose(iou, 1, rtol=0, atol=1e-4)


def test_boxes_of_any_quad_contain_it_and_have_the_smallest_area(le90: dict[str, np.ndarray]) -> None:
    quads = le90["polygons"].reshape(-1, 4, 2)
    boxes = torch.from_numpy(quads_to_boxes(quads))
    assert boxes.isfinite().all()
    distances = encode_points(torch.from_numpy(quads), boxes[:, None])
    assert distances.min() >= -1e-6 * np.abs(quads).max()
    theirs = le90["le90"][:, 2:4].astype(np.float64).prod(axis=1)
    np.testing.assert_allclose(boxes[:, 2:4].prod(dim=1), theirs, rtol=1e-4, atol=0.05)


def test_regularized_boxes_equal_the_reference(le90: dict[str, np.ndarray]) -> None:
    boxes = regularize_boxes(torch.from_numpy(le90["boxes_any"]))
    np.testing.assert_allclose(boxes, le90["boxes_any_le90"], rtol=0, atol=1e-9)
    quads = boxes_to_quads(boxes)
    hulls = torch.cat([quads.amin(dim=1), quads.amax(dim=1)], dim=1)
    np.testing.assert_allclose(hulls, le90["boxes_any_hbox"], rtol=0, atol=1e-6)


def test_quads_of_boxes_equal_the_reference(le90: dict[str, np.ndarray]) -> None:
    quads = boxes_to_quads(torch.from_numpy(le90["le90"]))
    np.testing.assert_allclose(quads.flatten(1), le90["polygons_back_v03"], rtol=0, atol=1e-3)


# Coders


def test_deltas_equal_the_reference(coders: dict[str, torch.Tensor]) -> None:
    encoded = encode_deltas(coders["anchors"], coders["gt"])
    torch.testing.assert_close(encoded, coders["encoded"], rtol=1e-5, atol=1e-5)
    for deltas, expected in (("encoded", "decoded_of_encoded"), ("deltas", "decoded")):
        boxes = decode_deltas(coders["anchors"], coders[deltas])
        torch.testing.assert_close(boxes[:, :4], coders[expected][:, :4], rtol=1e-5, atol=1e-4)
        turned = (boxes[:, 4] - coders[expected][:, 4] + np.pi / 2) % np.pi - np.pi / 2
        assert turned.abs().max() < 1e-5


def test_distances_to_the_sides_equal_the_reference(coders: dict[str, torch.Tensor]) -> None:
    encoded = encode_points(coders["points"], coders["point_boxes"])
    torch.testing.assert_close(encoded, coders["point_encoded"][:, :4], rtol=1e-5, atol=1e-4)
    for name, expected in (("point_encoded", "point_decoded_of_encoded"), ("point_predictions", "point_decoded")):
        boxes = decode_points(coders["points"], coders[name][:, :4], coders[name][:, 4])
        torch.testing.assert_close(boxes, coders[expected], rtol=1e-5, atol=1e-4)


# Heads


def renamed(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a head by their names here."""
    prefix, layers_per_conv = f"{name}.state.", 2 if name == "retinanet" else 3
    parts = {"cls": "class_tower", "reg": "box_tower"}
    predictors = {"cls": "classifier", "reg": "box", "angle": "angle", "centerness": "centerness"}
    state, scales = {}, {}
    for key, values in tensors.items():
        if not key.startswith(prefix):
            continue
        key = key.removeprefix(prefix)
        if layer := re.fullmatch(r"(cls|reg)_convs\.(\d+)\.(conv|gn)\.(weight|bias)", key):
            number = int(layer[2]) * layers_per_conv + (layer[3] == "gn")
            state[f"{parts[layer[1]]}.{number}.{layer[4]}"] = values
        elif scale := re.fullmatch(r"scales\.(\d+)\.scale", key):
            scales[int(scale[1])] = values
        elif key == "scale_angle.scale":
            state["angle_scale"] = values
        else:
            layer_name, parameter = key.split(".")
            state[f"{predictors[layer_name.split('_')[1]]}.{parameter}"] = values
    return state | ({"box_scales": torch.cat([scales[level] for level in sorted(scales)])} if scales else {})


@pytest.fixture(scope="module")
def build(tensors: dict[str, torch.Tensor]) -> Callable[[str], OrientedHead]:
    """A head with the weights of the reference."""

    def build(name: str) -> OrientedHead:
        state, head_class = renamed(name, tensors), HEADS[name][1]
        groups = {} if name == "retinanet" else {"num_groups": 32}
        num_classes = len(state["classifier.bias"]) // head_class.anchors_per_location
        num_convs = sum(1 for key, values in state.items() if key.startswith("class_tower.") and values.ndim == 4)
        channels = len(state["class_tower.0.weight"])
        settings = head_class.config_class(num_classes=num_classes, channels=channels, num_convs=num_convs, **groups)
        head = head_class(settings, [1, 2, 3, 4], num_classes)
        problems = head.load_state_dict(state, strict=False)
        assert not problems.unexpected_keys
        assert all(key.startswith("neck.") for key in problems.missing_keys)
        return head

    return build


@pytest.fixture(scope="module")
def scenes(figures: dict[str, Any]) -> list[int]:
    return [int(key.removeprefix("scene")) for key in figures if re.fullmatch(r"scene\d+", key)]


def levels_of(tensors: Mapping[str, torch.Tensor], prefix: str) -> list[torch.Tensor]:
    numbers = (int(key.removeprefix(prefix)) for key in tensors if re.fullmatch(re.escape(prefix) + r"\d+", key))
    return [tensors[f"{prefix}{number}"] for number in sorted(numbers)]


def labels_of(tensors: Mapping[str, torch.Tensor], figures: dict[str, Any], scene: int) -> dict[str, torch.Tensor]:
    images = figures[f"scene{scene}"]["images"]
    boxes = [regularize_boxes(tensors[f"scene{scene}.image{image}.boxes"]) for image in range(len(images))]
    counts = torch.tensor([len(one) for one in boxes])
    classes = torch.cat([tensors[f"scene{scene}.image{image}.labels"] for image in range(len(images))])
    return {
        "boxes": torch.cat(boxes),
        "boxes_counts": counts,
        "box_labels": classes,
        "box_labels_counts": counts,
        "valid_size": torch.tensor([image["pad_shape"] for image in images]),
    }


def assigned_by_the_reference(tensors: Mapping[str, torch.Tensor], name: str, scene: int, image: int) -> torch.Tensor:
    """Object of each anchor, -1 for none, -2 for anchors that do not count."""
    number = tensors[f"{name}.scene{scene}.assigned_gt.image{image}"].long()
    return torch.where(number > 0, number - 1, torch.where(number == 0, -1, -2))


def anchors_of(
    tensors: Mapping[str, torch.Tensor], name: str, scene: int, maps: OrientedHeadOutput
) -> torch.Tensor | None:
    """Stored anchors, whose angles are a matter of rounding in the release, otherwise our own."""
    if name == "fcos":
        return None
    exact = rotated_atss.square_anchors if name == "atss" else rotated_retinanet.rotated_anchors
    return tensors.get(f"{name}.anchors_scene{scene}", exact(maps.level_shapes))


@pytest.mark.parametrize("name", HEADS)
def test_maps_equal_the_reference(
    name: str, build: Callable, tensors: dict[str, torch.Tensor], scenes: list[int]
) -> None:
    head = build(name)
    for scene in scenes:
        maps = head.predict(levels_of(tensors, f"scene{scene}.features."))
        for theirs, ours in MAPS.items():
            levels = levels_of(tensors, f"{name}.scene{scene}.raw.{theirs}.")
            if levels:
                values = maps[ours] if maps[ours].ndim == 3 else maps[ours][..., None]
                expected = flat_maps(levels, values.shape[-1])
                # Large finest levels may have been left out.
                torch.testing.assert_close(values[:, -expected.shape[1] :], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_loss_terms_equal_the_reference(
    name: str, build: Callable, tensors: dict[str, torch.Tensor], figures: dict[str, Any], scenes: list[int]
) -> None:
    head = build(name)
    for scene in scenes:
        losses = scene_losses(head, name, scene, tensors, figures)[1]
        for theirs, ours in LOSSES.items():
            if ours in losses:
                expected = figures[f"{name}.scene{scene}.losses"][theirs]["total"]
                assert losses[ours].item() == pytest.approx(expected, rel=3e-5), (scene, ours)


def scene_losses(
    head: OrientedHead, name: str, scene: int, tensors: dict[str, torch.Tensor], figures: dict[str, Any]
) -> tuple[OrientedHeadOutput, dict[str, torch.Tensor]]:
    maps = head.predict(levels_of(tensors, f"scene{scene}.features."))
    labels = labels_of(tensors, figures, scene)
    if not isinstance(head, rotated_retinanet.RotatedRetinaNetHead):
        return maps, head.loss(maps, labels)
    # Which of several equally good anchors take an object is a matter of rounding: the stored choice.
    anchors = anchors_of(tensors, name, scene, maps)
    images = range(len(labels["valid_size"]))
    assigned = torch.stack([assigned_by_the_reference(tensors, name, scene, image) for image in images])
    return maps, head.loss_of_assigned(maps, labels, anchors, assigned)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_of_the_loss_equal_the_reference(
    name: str, build: Callable, tensors: dict[str, torch.Tensor], figures: dict[str, Any], scenes: list[int]
) -> None:
    head, compared = build(name), 0
    for scene in scenes:
        maps, losses = scene_losses(head, name, scene, tensors, figures)
        for ours in MAPS.values():
            if maps.get(ours) is not None:
                maps[ours].retain_grad()
        sum(losses.values()).backward()
        for theirs, ours in MAPS.items():
            levels = levels_of(tensors, f"{name}.scene{scene}.grad.{theirs}.")
            if levels:
                gradient = maps[ours].grad if maps[ours].ndim == 3 else maps[ours].grad[..., None]
                expected = flat_maps(levels, gradient.shape[-1])
                torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
                compared += 1
    assert compared >= 2


def test_locations_are_assigned_as_by_the_reference(
    build: Callable, tensors: dict[str, torch.Tensor], figures: dict[str, Any], scenes: list[int]
) -> None:
    for scene in scenes:
        shapes = torch.tensor([level.shape[-2:] for level in levels_of(tensors, f"scene{scene}.features.")])
        points, strides = rotated_fcos.locations(shapes, offset=0.5)
        torch.testing.assert_close(points, tensors[f"fcos.scene{scene}.points"], rtol=0, atol=0)
        expected = tensors[f"fcos.scene{scene}.target.labels"].long()
        labels = labels_of(tensors, figures, scene)
        classes = labels["box_labels"].split(labels["box_labels_counts"].tolist())
        found, distances, angles = [], [], []
        for boxes, own in zip(labels["boxes"].split(labels["boxes_counts"].tolist()), classes, strict=True):
            assigned = rotated_fcos.assign(shapes, boxes)
            background = torch.full_like(assigned, expected.max().item())
            found.append(background if not len(own) else torch.where(assigned >= 0, own[assigned], background))
            target = boxes[assigned] if len(boxes) else torch.zeros(len(points), 5)
            distances.append(encode_points(points, target) / strides[:, None])
            angles.append(target[:, 4:])
        sizes = shapes.prod(dim=1).tolist()
        in_order = [by_level(parts, sizes) for parts in (found, distances, angles)]
        assert torch.equal(in_order[0], expected)
        positive = tensors[f"fcos.scene{scene}.target.positive"]
        for values, name in ((in_order[1], "box"), (in_order[2], "angle")):
            torch.testing.assert_close(
                values[positive], tensors[f"fcos.scene{scene}.target.{name}"][positive], rtol=1e-4, atol=1e-4
            )
        central = rotated_fcos.centerness(in_order[1][positive])
        torch.testing.assert_close(central, tensors[f"fcos.scene{scene}.target.centerness"], rtol=1e-4, atol=1e-5)


def by_level(images: list[torch.Tensor], sizes: list[int]) -> torch.Tensor:
    """(P, …) of each image as the reference orders them: all images' first level, then their second one, …"""
    return torch.cat([level.flatten(0, 1) for level in torch.stack(images).split(sizes, dim=1)])


@pytest.mark.parametrize("name", ANCHOR_HEADS)
def test_anchors_and_their_objects_equal_the_reference(
    name: str, build: Callable, tensors: dict[str, torch.Tensor], figures: dict[str, Any], scenes: list[int]
) -> None:
    head = build(name)
    for scene in scenes:
        maps = head.predict(levels_of(tensors, f"scene{scene}.features."))
        labels, anchors = labels_of(tensors, figures, scene), anchors_of(tensors, name, scene, maps)
        exact = anchors_of({}, name, scene, maps)
        assert rotated_iou(anchors, exact).min() > 0.9999
        if name == "atss":
            torch.testing.assert_close(exact, anchors, rtol=0, atol=1e-6)
        for image, boxes in enumerate(labels["boxes"].split(labels["boxes_counts"].tolist())):
            valid = valid_anchors(maps.level_shapes, labels["valid_size"][image], head.anchors_per_location)
            stored = tensors.get(f"{name}.scene{scene}.valid_image{image}")
            assert stored is None or torch.equal(valid, stored.bool())
            arguments = (anchors, valid, boxes, maps.level_shapes)
            different = HEADS[name][0].assign(*arguments) != assigned_by_the_reference(tensors, name, scene, image)
            tied = tensors.get(f"{name}.scene{scene}.tie_zone.image{image}", torch.zeros_like(different))
            assert not (different & ~tied.bool()).any(), (scene, image)


@pytest.mark.parametrize("name", ANCHOR_HEADS)
def test_targets_at_positive_anchors_equal_the_reference(
    name: str, build: Callable, tensors: dict[str, torch.Tensor], figures: dict[str, Any], scenes: list[int]
) -> None:
    head = build(name)
    for scene in scenes:
        maps = head.predict(levels_of(tensors, f"scene{scene}.features."))
        labels, anchors = labels_of(tensors, figures, scene), anchors_of(tensors, name, scene, maps)
        images, places = tensors[f"{name}.scene{scene}.target.positive"].T
        boxes = labels["boxes"].split(labels["boxes_counts"].tolist())
        assigned = [assigned_by_the_reference(tensors, name, scene, image) for image in range(len(boxes))]
        own = torch.stack([boxes[i][assigned[i][p]] for i, p in zip(images.tolist(), places.tolist(), strict=True)])
        expected = tensors[f"{name}.scene{scene}.target.box_at_positive"]
        if name == "retinanet":
            torch.testing.assert_close(encode_deltas(anchors[places], own), expected, rtol=1e-4, atol=1e-5)
        else:
            assert rotated_iou(own, expected).min() > 0.9999
            central = rotated_atss.hull_centerness(anchors[places, :2], own)
            torch.testing.assert_close(central, tensors[f"atss.scene{scene}.target.centerness"], rtol=1e-4, atol=1e-5)


def boxes_at(
    name: str, maps: OrientedHeadOutput, sizes: torch.Tensor, anchors: torch.Tensor | None
) -> Callable[[int, torch.Tensor], torch.Tensor]:
    return rotated_fcos.boxes_of(maps) if anchors is None else anchor_candidates(maps, sizes, anchors)


@pytest.mark.parametrize("name", HEADS)
def test_candidates_and_results_equal_the_reference(
    name: str, build: Callable, tensors: dict[str, torch.Tensor], figures: dict[str, Any], scenes: list[int]
) -> None:
    head = build(name)
    for scene in scenes:
        with torch.no_grad():
            maps = head.predict(levels_of(tensors, f"scene{scene}.features."))
        images = figures[f"scene{scene}"]["images"]
        sizes = torch.tensor([image["img_shape"] for image in images])
        source = boxes_at(name, maps, sizes, anchors_of(tensors, name, scene, maps))
        regions = decode_regions(maps, OrientedDecoding(), source)
        if name != "retinanet":  # whose stored anchors are not quite its own
            assert torch.equal(regions.points, head.decode(maps, sizes, OrientedDecoding()).points)
        for image, described in enumerate(images):
            before = candidates(maps, image, OrientedDecoding(), source)
            prefix = f"{name}.scene{scene}.candidates.image{image}"
            if f"{prefix}.boxes" in tensors:
                assert_same_objects(before, tensors, prefix, scale=1.0)
            own = regions.batch_indices == image
            quads = regions.points.view(-1, 4, 2)[own]
            after = torch.from_numpy(quads_to_boxes(quads.numpy())), regions.scores[own], regions.labels[own]
            prefix = f"{name}.scene{scene}.result.image{image}"
            assert_same_objects(after, tensors, prefix, scale=described["scale_factor"][0])


def assert_same_objects(
    found: tuple[torch.Tensor, torch.Tensor, torch.Tensor], tensors: dict[str, torch.Tensor], prefix: str, scale: float
) -> None:
    boxes, scores, labels = found
    expected = tensors[f"{prefix}.boxes"] * torch.tensor([scale, scale, scale, scale, 1.0])
    expected_scores, expected_labels = tensors[f"{prefix}.scores"], tensors[f"{prefix}.labels"].long()
    assert len(boxes) == len(expected)
    torch.testing.assert_close(scores.sort()[0], expected_scores.sort()[0], rtol=0, atol=1e-6)
    # Objects of nearly equal scores come in an order that depends on the processor: each has to be among its peers.
    peers = (scores[:, None] - expected_scores).abs() <= 1e-6
    mine, theirs = (peers & (labels[:, None] == expected_labels)).nonzero(as_tuple=True)
    same = rotated_iou(boxes[mine], expected[theirs]) > 0.999
    assert len(mine[same].unique()) == len(theirs[same].unique()) == len(boxes)


def test_initial_weights_follow_the_reference(figures: dict[str, Any]) -> None:
    for name, (_, head_class) in HEADS.items():
        if f"{name}_initial_bias" not in figures:
            continue
        head = head_class(head_class.config_class(num_classes=4, channels=64), [1, 2, 3, 4], 4)
        head.init_weights()
        for layer, values in figures[f"{name}_initial_bias"].items():
            part = {"cls": "classifier", "reg": "box", "angle": "angle", "centerness": "centerness"}
            bias = head.get_parameter(f"{part[layer.split('.')[0].split('_')[1]]}.bias")
            torch.testing.assert_close(bias, torch.full_like(bias, values[0]), rtol=0, atol=1e-4)
        assert head.class_tower[0].weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_class_masks_agree_with_the_reference(
    tensors: dict[str, torch.Tensor], figures: dict[str, Any], scenes: list[int]
) -> None:
    shared = total = 0
    for scene in scenes:
        described = figures[f"scene{scene}"]
        size = described["height"], described["width"]
        for image in range(len(described["images"])):
            expected = tensors.get(f"scene{scene}.image{image}.mask_classes")
            if expected is None:
                continue
            quads = boxes_to_quads(tensors[f"scene{scene}.image{image}.boxes"]).numpy()
            labels = tensors[f"scene{scene}.image{image}.labels"].numpy()
            instances = SimpleNamespace(polygons=list(quads), labels=labels, ignored=np.zeros(len(labels), bool))
            settings = rotated_fcos.RotatedFCOSConfig(num_classes=len(expected))
            targets = rotated_fcos.RotatedFCOSHead.targets(instances, size, size, settings)
            masks = targets["class_masks"].astype(bool)
            assert targets["class_masks"].shape == expected.shape
            assert (targets["object_mask"] == masks.any(axis=0)).all()
            shared += (masks & expected.numpy().astype(bool)).sum()
            total += (masks | expected.numpy().astype(bool)).sum()
    assert shared / total > 0.93


# Evaluation


def evaluated(case: dict[str, Any], **settings: Any) -> DotaEvaluationResult:
    metric = DotaEvaluation(case["classes"], **settings)
    for image in case["images"]:
        rows = [line.split() for line in case["annotation_files"][image].splitlines() if len(line.split()) >= 9]
        found = [one for one in case["detections"] if one["image"] == image]
        metric.update(
            SimpleNamespace(
                polygons=[np.array(row[:8], np.float64).reshape(4, 2) for row in rows],
                labels=np.array([case["classes"].index(row[8]) for row in rows], np.int64),
                scores=None,
                ignored=np.array([row[9:] not in ([], ["0"]) for row in rows], bool),
            ),
            SimpleNamespace(
                polygons=[np.array(one["polygon"]).reshape(4, 2) for one in found],
                labels=np.array([case["classes"].index(one["label"]) for one in found], np.int64),
                scores=np.array([one["score"] for one in found]),
                ignored=np.zeros(len(found), bool),
            ),
        )
    return metric.compute()


def test_average_precision_equals_the_devkit(evaluation: dict[str, Any]) -> None:
    compared = 0
    for key, expected in evaluation["results"].items():
        if match := re.fullmatch(r"devkit_thr([\d.]+)_(11points|area)", key):
            result = evaluated(evaluation, iou_threshold=float(match[1]), form=match[2])
            assert result.mean_average_precision == pytest.approx(expected["map"], abs=1e-9)
            for name, one in result.classes.items():
                assert one.average_precision == pytest.approx(expected[name]["ap"], abs=1e-9)
                np.testing.assert_allclose(one.recall, expected[name]["recall"], atol=1e-12)
                np.testing.assert_allclose(one.precision, expected[name]["precision"], atol=1e-12)
            compared += 1
    assert compared


def test_average_precision_equals_mmrotate(evaluation: dict[str, Any]) -> None:
    compared = 0
    for key, expected in evaluation["results"].items():
        if match := re.fullmatch(r"mmrotate_thr([\d.]+)_(11points|area)_difficult_(ignored|counted)", key):
            difficult = {"ignored": "ignore", "counted": "count"}[match[3]]
            result = evaluated(evaluation, iou_threshold=float(match[1]), form=match[2], difficult=difficult)
            assert result.mean_average_precision == pytest.approx(expected["map"], abs=1e-6)
            compared += 1
    assert compared


# Splitting and merging


def test_windows_equal_the_reference(splitting: dict[str, Any]) -> None:
    for case in splitting["windows"]:
        windows = split_windows(case["width"], case["height"], case["sizes"], case["gaps"])
        assert len(windows) == case["count"]
        if "windows" in case:
            assert windows.tolist() == case["windows"]
        else:
            assert [windows[0].tolist(), windows[-1].tolist()] == [case["first"], case["last"]]
            assert windows.sum(axis=0).tolist() == case["sums"]


def test_windows_begin_where_those_of_the_devkit_do(splitting: dict[str, Any]) -> None:
    for case in splitting["devkit_windows"]:
        windows = split_windows(case["width"], case["height"], [case["size"]], [case["gap"]], min_image_share=0.0)
        assert {tuple(window[:2]) for window in windows.tolist()} == {tuple(one[:2]) for one in case["windows"]}


def test_objects_of_patches_equal_the_reference(splitting: dict[str, Any]) -> None:
    example = splitting["example"]
    polygons = [np.array(polygon).reshape(4, 2) for polygon in example["polygons"]]
    windows = split_windows(example["width"], example["height"])
    shares = intersection_over_foreground(polygons, windows)
    np.testing.assert_allclose(shares, example["iof"], rtol=0, atol=1e-6)
    for number, (window, patch) in enumerate(zip(windows, example["patches"], strict=True)):
        assert window.tolist() == patch["window"]
        assert patch["id"].endswith(patch_name("", window))
        found = objects_in_window(polygons, shares[:, number], window)
        assert found.indices.tolist() == patch["boxes"]
        assert found.truncated.tolist() == patch["truncated_exact"]
        written = np.array([line.split()[:8] for line in patch["lines"]], np.float32).reshape(-1, 4, 2)
        np.testing.assert_allclose(np.array(found.polygons).reshape(-1, 4, 2), written, rtol=0, atol=1e-3)


def merged(splitting: dict[str, Any], nms_threshold: float) -> dict[str, list[tuple[str, float, np.ndarray]]]:
    """Of each class the image, score and quad of every object, the best first."""
    case = splitting["merging"]
    by_patch: dict[str, list[dict[str, Any]]] = {}
    for one in case["patch_detections"]:
        by_patch.setdefault(one["patch"], []).append(one)
    patches = [
        (
            name,
            boxes_to_quads(torch.tensor([one["box"] for one in found], dtype=torch.float64)).numpy(),
            np.array([one["score"] for one in found]),
            np.array([case["classes"].index(one["label"]) for one in found]),
        )
        for name, found in by_patch.items()
    ]
    result: dict[str, list[tuple[str, float, np.ndarray]]] = {name: [] for name in case["classes"]}
    for image, objects in merge_patches(patches, nms_threshold).items():
        for label, score, quad in zip(objects.labels, objects.scores, objects.quads, strict=True):
            result[case["classes"][label]].append((image, float(score), quad))
    return result


def test_merged_scores_equal_the_devkit(splitting: dict[str, Any]) -> None:
    for threshold, expected in splitting["merging"]["devkit_kept_scores"].items():
        result = merged(splitting, float(threshold))
        for name, scores in expected.items():
            mine = sorted((score for _, score, _ in result[name]), reverse=True)
            np.testing.assert_allclose(mine, sorted(scores, reverse=True), rtol=0, atol=1e-5)


def test_merged_quads_equal_mmrotate(splitting: dict[str, Any]) -> None:
    result = merged(splitting, 0.1)
    for name, lines in splitting["merging"]["mmrotate_thr0_1_files"].items():
        rows = [line.split() for line in lines]
        quads = torch.from_numpy(np.array([row[2:] for row in rows], np.float64).reshape(-1, 4, 2))
        assert len(rows) == len(result[name])
        for image, score, quad in result[name]:
            distances = (quads.mean(dim=1) - torch.from_numpy(quad.mean(axis=0))).abs().amax(dim=1)
            nearest = int(distances.argmin())
            assert rows[nearest][0] == image
            assert float(rows[nearest][1]) == pytest.approx(score, abs=0.00501)
            corners = torch.cdist(quads[nearest], torch.from_numpy(quad).double())
            assert corners.amin(dim=1).max() < 0.02


# Auxiliary loss


def test_auxiliary_loss_and_its_gradient_equal_the_reference(
    tensors: dict[str, torch.Tensor], figures: dict[str, Any], scenes: list[int]
) -> None:
    for scene in scenes:
        logits = tensors[f"scene{scene}.score_logits"].clone().requires_grad_()
        classes, objects = (
            torch.stack(
                [
                    tensors[f"scene{scene}.image{image}.{name}"]
                    for image in range(len(figures[f"scene{scene}"]["images"]))
                    if f"scene{scene}.image{image}.{name}" in tensors
                ]
            ).float()
            for name in ("mask_classes", "mask_union")
        )
        loss = score_map_loss(logits, classes, objects[:, None], "masked_bce")
        assert loss.item() == pytest.approx(figures[f"scene{scene}.loss_seg"], rel=1e-5)
        loss.backward()
        torch.testing.assert_close(logits.grad, tensors[f"scene{scene}.score_logits_grad"], rtol=1e-4, atol=1e-7)
