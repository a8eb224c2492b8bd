"""Patches for training: flipped and turned with their objects, each as often as the others, the same in any order."""

import numpy as np
import pytest
import torch

from transformers_tcm import OrientedInstances, TCMImageProcessorPil
from transformers_tcm.data.object_datasets import AerialPatches, OrientedImages, turned
from transformers_tcm.geometry import signed_area
from transformers_tcm.models.tcm.heads.oriented import OrientedHead, OrientedHeadConfig

QUAD = np.float32([[10, 10], [50, 20], [46, 36], [6, 26]])


def scene(quad: np.ndarray = QUAD) -> np.ndarray:
    """White where the quad is, as the masks of the auxiliary loss draw it."""
    targets = OrientedHead.targets(
        OrientedInstances([quad * 4], labels=[0]), (240, 320), (240, 320), OrientedHeadConfig(1)
    )
    return np.repeat(targets["class_masks"][0][:, :, None] * 255, 3, axis=2)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_objects_move_with_the_pixels(turns: int, flips: tuple[bool, bool]) -> None:
    image = scene()
    moved, objects = turned(image, OrientedInstances([QUAD], labels=[0]), turns, *flips)
    assert moved.shape[:2] == (image.shape[:2] if turns % 2 == 0 else image.shape[1::-1])
    ys, xs = np.nonzero(moved[:, :, 0])
    polygon = objects.polygons[0]
    assert np.abs(polygon.mean(axis=0) - [xs.mean() + 0.5, ys.mean() + 0.5]).max() < 0.5
    assert np.abs(polygon.min(axis=0) - [xs.min(), ys.min()]).max() < 2
    assert np.abs(polygon.max(axis=0) - [xs.max() + 1, ys.max() + 1]).max() < 2
    assert np.sign(signed_area(polygon)) == np.sign(signed_area(QUAD))


def rows(count: int) -> list[dict[str, object]]:
    return [
        {"image": scene() // (index + 1), "polygons": [QUAD, QUAD], "labels": [0, 0], "ignore": [False, True]}
        for index in range(count)
    ]


def test_every_patch_comes_once_before_any_comes_again() -> None:
    processor = TCMImageProcessorPil(do_resize=False, do_normalize=False)
    patches = AerialPatches(rows(5), processor, length=10, seed=3)
    brightest = [round(patches[index]["pixel_values"].max().item(), 3) for index in range(10)]
    assert len(set(brightest[:5])) == len(set(brightest[5:])) == 5
    again = AerialPatches(rows(5), processor, length=10, seed=3)
    for index in (7, 2):
        torch.testing.assert_close(again[index]["pixel_values"], patches[index]["pixel_values"])
    assert len(patches[0]["labels"]["counts"]) == 2
    without = AerialPatches(rows(5), processor, length=1, use_difficult=False)
    assert len(without[0]["labels"]["counts"]) == 1
    assert len(OrientedImages(rows(2), processor)) == 2
    assert OrientedImages(rows(2), processor)[1]["labels"]["ignore"].tolist() == [False, True]


def test_a_share_is_flipped_and_turned() -> None:
    processor = TCMImageProcessorPil(do_resize=False)
    shapes = {
        tuple(item["pixel_values"].shape)
        for item in (AerialPatches(rows(1), processor, 30, turn_probability=0.5)[index] for index in range(30))
    }
    assert shapes == {(3, 64, 96), (3, 96, 64)}
    with pytest.raises(ValueError, match="no patches"):
        AerialPatches([], processor, 1)
    with pytest.raises(ValueError, match="no probabilities"):
        AerialPatches(rows(1), processor, 1, flip_probability=2)
