"""Rendered aerial scenes: the same for a number, objects where the labels say, pairs that differ in one thing only."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transformers_tcm.data.objects import row_to_objects
from transformers_tcm.data.readers import load_dota
from transformers_tcm.data.rendering.aerial import AERIAL_CLASSES, AerialRenderer, write_scenes


@pytest.fixture
def renderer(tmp_path: Path) -> AerialRenderer:
    Image.new("RGB", (200, 150), (90, 110, 80)).save(tmp_path / "ground.png")
    return AerialRenderer([tmp_path / "ground.png"], size=256)


def test_a_number_is_a_scene(renderer: AerialRenderer) -> None:
    first, again, other = (renderer.render(index) for index in (3, 3, 4))
    assert first[0].size == (256, 256)
    np.testing.assert_array_equal(np.asarray(first[0]), np.asarray(again[0]))
    assert first[1].to_json() == again[1].to_json()
    assert first[1].to_json() != other[1].to_json()


def test_objects_lie_in_the_scene_and_stand_out_from_the_ground(renderer: AerialRenderer) -> None:
    seen: set[int] = set()
    for index in range(12):
        image, objects = renderer.render(index)
        pixels = np.asarray(image).astype(int)
        for polygon, label in zip(objects.polygons, objects.labels, strict=True):
            assert polygon.min() > -1
            assert polygon.max() < 257
            x, y = polygon.mean(axis=0).astype(int)
            around = pixels[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5].reshape(-1, 3)
            assert np.abs(around - [90, 110, 80]).sum(axis=1).max() > 60, (index, AERIAL_CLASSES[label])
            seen.add(int(label))
    assert seen == set(range(len(AERIAL_CLASSES)))


def test_boats_and_ships_differ_by_size_alone(renderer: AerialRenderer) -> None:
    sides: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    for index in range(40):
        _, objects = renderer.render(index)
        for polygon, label in zip(objects.polygons, objects.labels, strict=True):
            if label in sides:
                edges = np.linalg.norm(np.roll(polygon, -1, axis=0) - polygon, axis=1)
                sides[int(label)].append((edges[0], edges[1] / edges[0]))
    boats, ships = (np.array(values) for values in sides.values())
    assert boats[:, 0].max() < ships[:, 0].min()
    np.testing.assert_allclose(np.concatenate([boats, ships])[:, 1], 0.3, atol=1e-3)


def test_scenes_are_written_in_the_form_of_dota(renderer: AerialRenderer, tmp_path: Path) -> None:
    write_scenes(renderer, tmp_path / "scenes", 2)
    dataset = load_dota(tmp_path / "scenes/images", tmp_path / "scenes/labelTxt", AERIAL_CLASSES)
    assert dataset["image_id"] == ["00000.png", "00001.png"]
    np.testing.assert_allclose(row_to_objects(dataset[0]).polygons, renderer.render(0)[1].polygons, atol=0.01)
    with pytest.raises(ValueError, match="no photographs"):
        AerialRenderer([])
