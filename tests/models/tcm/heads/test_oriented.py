"""Heads of oriented objects: what they learn is what they decode, whatever the padding, also without any object."""

from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from transformers_tcm.models.tcm.heads import rotated_atss, rotated_fcos, rotated_retinanet
from transformers_tcm.models.tcm.heads.base import HeadInputs, Regions
from transformers_tcm.models.tcm.heads.necks import InputFeaturePyramid
from transformers_tcm.models.tcm.heads.oriented import (
    BACKGROUND,
    NOT_COUNTED,
    STRIDES,
    OrientedDecoding,
    OrientedHead,
    OrientedHeadOutput,
    encode_deltas,
    encode_points,
    locations,
    valid_anchors,
)
from transformers_tcm.rotated_boxes import (
    boxes_to_quads,
    pairwise_rotated_iou,
    quads_to_boxes,
    regularize_boxes,
    rotated_iou,
)

NUM_CLASSES = 3
SIZE = 128, 192
HEADS: list[tuple[ModuleType, type[OrientedHead]]] = [
    (rotated_fcos, rotated_fcos.RotatedFCOSHead),
    (rotated_atss, rotated_atss.RotatedATSSHead),
    (rotated_retinanet, rotated_retinanet.RotatedRetinaNetHead),
]
BOXES = torch.tensor([[40.0, 50.0, 44.0, 20.0, 0.4], [120.0, 70.0, 60.0, 36.0, -1.1], [70.0, 100.0, 30.0, 30.0, 0.2]])
CLASSES = torch.tensor([0, 2, 1])

every_head = pytest.mark.parametrize("head_class", [head for _, head in HEADS])


def small_head(head_class: type[OrientedHead]) -> OrientedHead:
    torch.manual_seed(0)
    groups = {} if head_class is rotated_retinanet.RotatedRetinaNetHead else {"num_groups": 4}
    settings = head_class.config_class(num_classes=NUM_CLASSES, channels=16, num_convs=1, **groups)
    head = head_class(settings, [4, 8, 12, 16 + NUM_CLASSES], NUM_CLASSES)
    head.init_weights()
    return head


def inputs_of(count: int = 2, size: tuple[int, int] = SIZE) -> HeadInputs:
    generator = torch.Generator().manual_seed(1)
    channels = zip([4, 8, 12, 16 + NUM_CLASSES], (4, 8, 16, 32), strict=True)
    pyramid = tuple(
        torch.randn(count, width, size[0] // stride, size[1] // stride, generator=generator)
        for width, stride in channels
    )
    return HeadInputs(pyramid, torch.zeros(count, 4, size[0] // 2, size[1] // 2), torch.tensor([size] * count))


def instances_of(boxes: torch.Tensor = BOXES, classes: torch.Tensor = CLASSES) -> SimpleNamespace:
    polygons = list(boxes_to_quads(boxes).numpy())
    return SimpleNamespace(polygons=polygons, labels=classes.numpy(), ignored=np.zeros(len(boxes), bool))


def labels_of(head: OrientedHead, images: list[SimpleNamespace]) -> dict[str, torch.Tensor]:
    """What the collator makes of the targets."""
    targets = [head.targets(instances, SIZE, SIZE, head.settings) for instances in images]
    labels = {
        name: torch.stack([torch.from_numpy(target[name]) for target in targets])
        for name in ("valid_size", "class_masks", "object_mask")
    }
    for name in ("boxes", "box_labels"):
        labels[name] = torch.cat([torch.from_numpy(target[name]) for target in targets])
        labels[f"{name}_counts"] = torch.tensor([len(target[name]) for target in targets])
    return labels


NOTHING = instances_of(BOXES[:0], CLASSES[:0])


@every_head
def test_maps_have_a_row_for_every_anchor_of_every_level(head_class: type[OrientedHead]) -> None:
    head = small_head(head_class)
    maps = head(inputs_of())
    count = head.anchors_per_location * int(maps.level_shapes.prod(dim=1).sum())
    assert len(maps.level_shapes) == len(STRIDES)
    assert maps.class_logits.shape == (2, count, NUM_CLASSES)
    assert maps.box_predictions.shape == (2, count, head.box_size)
    assert maps.level_shapes[0].tolist() == [SIZE[0] // 8, SIZE[1] // 8]


@every_head
@pytest.mark.parametrize("images", [[instances_of(), instances_of()], [instances_of(), NOTHING], [NOTHING, NOTHING]])
def test_loss_trains_every_weight_with_and_without_objects(
    head_class: type[OrientedHead], images: list[SimpleNamespace]
) -> None:
    head = small_head(head_class)
    losses = head.loss(head(inputs_of()), labels_of(head, images))
    assert {"loss_classification", "loss_box"} <= set(losses)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    gradients = [parameter.grad for parameter in head.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    if images[0] is NOTHING:
        assert losses["loss_box"] == 0


@every_head
def test_labels_of_equally_many_objects_may_be_stacked(head_class: type[OrientedHead]) -> None:
    head, maps = small_head(head_class), None
    concatenated = labels_of(head, [instances_of(), instances_of()])
    stacked = {name: values for name, values in concatenated.items() if not name.endswith("_counts")}
    for name in ("boxes", "box_labels"):
        stacked[name] = concatenated[name].unflatten(0, (2, -1))
    maps = head(inputs_of())
    for name, loss in head.loss(maps, concatenated).items():
        torch.testing.assert_close(loss, head.loss(maps, stacked)[name])


def ideal_maps(module: ModuleType) -> OrientedHeadOutput:
    """Maps of one image that hold its objects and nothing else."""
    shapes = torch.tensor([[-(-SIZE[0] // stride), -(-SIZE[1] // stride)] for stride in STRIDES])
    anchors, deltas, angles = None, None, None
    if module is rotated_fcos:
        points, strides = locations(shapes, offset=0.5)
        assigned = module.assign(shapes, BOXES)
        deltas = encode_points(points, BOXES[assigned]) / strides[:, None]
        angles = BOXES[assigned, 4][None]
    elif module is rotated_atss:
        anchors = module.square_anchors(shapes)
        assigned = module.assign(anchors, valid_anchors(shapes, torch.tensor(SIZE), 1), BOXES, shapes)
    else:
        anchors = module.rotated_anchors(shapes)
        assigned = module.assign(anchors, valid_anchors(shapes, torch.tensor(SIZE), 9), BOXES, shapes)
    if anchors is not None:
        deltas = encode_deltas(anchors, BOXES[assigned])
    logits = torch.full((1, len(assigned), NUM_CLASSES), -20.0)
    logits[0, assigned >= 0, CLASSES[assigned[assigned >= 0]]] = 5.0
    return OrientedHeadOutput(logits, deltas[None], shapes, angles=angles)


def decoded(head_class: type[OrientedHead], maps: object, **settings: float) -> Regions:
    return head_class.decode(maps, torch.tensor([SIZE]), OrientedDecoding(**settings))


@pytest.mark.parametrize(("module", "head_class"), HEADS)
def test_what_is_assigned_is_what_is_decoded(module: ModuleType, head_class: type[OrientedHead]) -> None:
    regions = decoded(head_class, ideal_maps(module))
    found = torch.from_numpy(quads_to_boxes(regions.points.view(-1, 4, 2).numpy()))
    order = regions.labels.argsort()
    expected = CLASSES.argsort()
    assert regions.labels[order].tolist() == [0, 1, 2]
    assert rotated_iou(found[order], BOXES[expected]).min() > 0.999
    assert regions.counts.tolist() == [4, 4, 4]
    assert regions.batch_indices.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("module", "head_class"), HEADS)
def test_decoding_takes_arrays_and_gives_at_most_so_many(module: ModuleType, head_class: type[OrientedHead]) -> None:
    maps = {name: values.numpy() for name, values in ideal_maps(module).items()}
    assert len(decoded(head_class, maps, max_detections=2).scores) == 2
    assert len(decoded(head_class, maps, threshold=1.0).scores) == 0
    assert decoded(head_class, maps, threshold=1.0).points.shape == (0, 2)


@pytest.mark.parametrize(("module", "head_class"), HEADS[1:])
def test_anchors_beyond_the_padded_image_do_not_count(module: ModuleType, head_class: type[OrientedHead]) -> None:
    head = small_head(head_class)
    maps = head(inputs_of(1))
    labels = labels_of(head, [instances_of(BOXES[:1], CLASSES[:1])])
    labels["valid_size"] = torch.tensor([[90, 120]])
    valid = valid_anchors(maps.level_shapes, labels["valid_size"][0], head.anchors_per_location)
    assert 0 < valid.sum() < len(valid)
    before = head.loss(maps, labels)
    maps["class_logits"] = torch.where(valid[:, None], maps.class_logits, 9.0)
    for name, loss in head.loss(maps, labels).items():
        torch.testing.assert_close(loss, before[name])


def test_the_smallest_object_takes_a_location_of_several() -> None:
    boxes = torch.tensor([[60.0, 60.0, 60.0, 60.0, 0.0], [60.0, 60.0, 30.0, 20.0, 0.0]])
    shapes = torch.tensor([[16, 16], [8, 8], [4, 4], [2, 2], [1, 1]])
    assigned = rotated_fcos.assign(shapes, boxes)
    assert assigned[7 * 16 + 7] == 1  # the location at 60, 60
    assert rotated_fcos.assign(shapes, boxes[:1])[7 * 16 + 7] == 0


def test_every_object_has_an_anchor_however_small() -> None:
    shapes = torch.tensor([[16, 24], [8, 12], [4, 6], [2, 3], [1, 2]])
    anchors = rotated_retinanet.rotated_anchors(shapes)
    boxes = torch.tensor([[50.0, 50.0, 4.0, 2.0, 0.3], [100.0, 60.0, 190.0, 3.0, 0.1]])
    assigned = rotated_retinanet.assign(anchors, torch.ones(len(anchors), dtype=torch.bool), boxes, shapes)
    assert set(assigned[assigned >= 0].tolist()) == {0, 1}
    outside = torch.tensor([[5000.0, 50.0, 40.0, 20.0, 0.3]])
    assert (rotated_retinanet.assign(anchors, torch.ones(len(anchors), dtype=torch.bool), outside, shapes) < 0).all()
    nowhere = torch.zeros(len(anchors), dtype=torch.bool)
    assert (rotated_retinanet.assign(anchors, nowhere, boxes, shapes) == NOT_COUNTED).all()


def test_targets_hold_boxes_and_masks_of_the_classes_without_padding() -> None:
    settings = rotated_fcos.RotatedFCOSConfig(num_classes=NUM_CLASSES)
    targets = rotated_fcos.RotatedFCOSHead.targets(instances_of(), SIZE, (100, 130), settings)
    assert rotated_iou(torch.from_numpy(targets["boxes"]), BOXES).min() > 0.999
    assert targets["box_labels"].tolist() == CLASSES.tolist()
    assert targets["class_masks"].shape == (NUM_CLASSES, SIZE[0] // 4, SIZE[1] // 4)
    assert targets["class_masks"].any(axis=(1, 2)).all()
    assert not targets["object_mask"][25:].any()
    assert not targets["object_mask"][:, 33:].any()
    area = 16 * int(targets["class_masks"][0].sum())
    assert area == pytest.approx(44 * 20, rel=0.1)


def test_polygons_of_any_number_of_points_are_fitted() -> None:
    instances = instances_of()
    quad = instances.polygons[0]
    instances.polygons[0] = np.insert(quad, [1, 2], (quad[:2] + np.roll(quad, -1, axis=0)[:2]) / 2, axis=0)
    targets = rotated_fcos.RotatedFCOSHead.targets(instances, SIZE, SIZE)
    assert rotated_iou(torch.from_numpy(targets["boxes"]), BOXES).min() > 0.999


def test_further_levels_of_anchor_heads_come_from_the_input_without_activation() -> None:
    neck = InputFeaturePyramid([3, 5], 4, 4)
    features = [torch.randn(1, 3, 16, 16), torch.randn(1, 5, 8, 8)]
    levels = neck(features)
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2]
    torch.testing.assert_close(levels[2], neck.further[0](features[1]))
    torch.testing.assert_close(levels[3], neck.further[1](levels[2]))


def test_objects_without_an_area_are_no_targets() -> None:
    flat = instances_of(torch.tensor([[40.0, 50.0, 44.0, 0.0, 0.4]]), CLASSES[:1])
    targets = rotated_fcos.RotatedFCOSHead.targets(flat, SIZE, SIZE)
    assert targets["boxes"].shape == (0, 5)


@pytest.mark.parametrize("labels", [None, np.array([0, 1, NUM_CLASSES]), np.array([-1, 0, 0])])
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray | None) -> None:
    instances = instances_of()
    instances.labels = labels
    settings = rotated_fcos.RotatedFCOSConfig(num_classes=NUM_CLASSES)
    with pytest.raises(ValueError, match="`labels`"):
        rotated_fcos.RotatedFCOSHead.targets(instances, SIZE, SIZE, settings)


@every_head
def test_presets_build(head_class: type[OrientedHead]) -> None:
    for preset in head_class.presets.values():
        assert head_class.config_class(**preset).channels % 32 == 0


@pytest.mark.parametrize(
    "settings", [{"channels": 20, "num_groups": 32}, {"num_convs": 0}, {"prior_probability": 1.0}, {"box_weight": -1.0}]
)
def test_settings_without_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        rotated_atss.RotatedATSSConfig(**settings)


@pytest.mark.parametrize("settings", [{"threshold": 1.5}, {"nms_threshold": -0.1}, {"max_detections": 0}])
def test_decoding_settings_without_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        OrientedDecoding(**settings)


def varied_boxes(count: int) -> torch.Tensor:
    """Boxes of all sizes and forms, some of them thin, tiny, or mostly outside of an image of 192 x 128 pixels."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(count, 5, generator=generator)
    width = 2 * 200 ** numbers[:, 2]
    height = width * 0.02 ** numbers[:, 3]
    centers = numbers[:, :2] * torch.tensor([232.0, 168.0]) - 20
    return regularize_boxes(
        torch.cat([centers, torch.stack([width, height, (numbers[:, 4] - 0.5) * torch.pi], dim=1)], dim=1)
    )


SHAPES = torch.tensor([[16, 24], [8, 12], [4, 6], [2, 3], [1, 2]])


def test_retinanet_finds_the_objects_that_a_look_at_all_pairs_finds() -> None:
    anchors = rotated_retinanet.rotated_anchors(SHAPES)
    valid = valid_anchors(SHAPES, torch.tensor([100, 150]), 9)
    for boxes in varied_boxes(200).split(10):
        solid = torch.cat([boxes[:, :2], boxes[:, 2:4].clamp(min=1e-3), boxes[:, 4:]], dim=1)
        iou = pairwise_rotated_iou(solid, anchors) * valid
        best, chosen = iou.max(dim=0)
        expected = torch.where(best < 0.4, BACKGROUND, NOT_COUNTED)
        expected = torch.where(best >= 0.5, chosen, expected)
        for number, own in enumerate(iou):
            if own.max() > 0:
                expected[own >= own.max() * (1 - 1e-6)] = number
        expected = torch.where(valid, expected, NOT_COUNTED)
        assert torch.equal(rotated_retinanet.assign(anchors, valid, boxes, SHAPES), expected)


def test_fcos_finds_the_objects_that_a_look_at_all_pairs_finds() -> None:
    points, strides = locations(SHAPES, offset=0.5)
    for boxes in varied_boxes(200).split(20):
        distances = encode_points(points[:, None], boxes)  # (P, N, 4)
        offsets = (distances[..., :2] - distances[..., 2:]).abs().amax(dim=-1) / 2
        reach, stride = distances.amax(dim=-1), strides[:, None]
        found = (distances.amin(dim=-1) > 0) & (offsets < 1.5 * stride)
        found &= (reach >= 4 * stride) | (stride == 8)
        found &= (reach <= 8 * stride) | (stride == 128)
        areas, chosen = torch.where(found, boxes[:, 2] * boxes[:, 3], torch.inf).min(dim=1)
        expected = torch.where(areas.isinf(), BACKGROUND, chosen)
        assert torch.equal(rotated_fcos.assign(SHAPES, boxes), expected)
