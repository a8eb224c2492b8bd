"""Scenes and signs that are rendered while a model is trained."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from transformers_tcm.data.rendering.rows import RenderedRows
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from transformers_tcm.training import PhotoArguments, words_of_rows


@pytest.fixture
def backgrounds(tmp_path: Path) -> Path:
    """Two to train on and one that is kept to judge by."""
    rng = np.random.default_rng(0)
    for index in (1, 2, 9):
        noise = rng.integers(90, 120, (200, 240, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).save(tmp_path / f"{index}.png")
    return tmp_path


def test_a_row_is_a_function_of_its_index(backgrounds: Path) -> None:
    rows, again = (RenderedRows(backgrounds, size=(160, 128)) for _ in range(2))
    first, second = rows[5], again[5]
    np.testing.assert_array_equal(first["image"], second["image"])
    assert first["texts"] == second["texts"]
    assert rows[6]["image"].shape != first["image"].shape or not np.array_equal(rows[6]["image"], first["image"])
    assert len(rows) > 10**9
    with pytest.raises(IndexError, match="got -1"):
        rows[-1]


def test_scenes_and_signs_have_their_share(backgrounds: Path) -> None:
    scenes, signs = (RenderedRows(backgrounds, signs=share, size=(160, 128)) for share in (0.0, 1.0))
    assert all(scenes[index]["image"].shape == (128, 160, 3) for index in range(4))
    assert len({signs[index]["image"].shape for index in range(4)}) > 1
    assert all(signs[index]["texts"] for index in range(4))
    assert not any(path.endswith("9.png") for path in scenes.scenes.backgrounds)
    with pytest.raises(ValueError, match="`signs` is 2; expected the share"):
        RenderedRows(backgrounds, signs=2)


def test_rendered_rows_are_a_source_of_a_recipe(backgrounds: Path) -> None:
    rendered = f'{{"backgrounds": "{backgrounds}", "signs": 0, "size": [160, 128]}}'
    crops = PhotoArguments(train_rendered=rendered, crop_size=64).training_crops(TCMImageProcessorPil(), 10, 0)
    assert [type(rows) for rows in crops.sources] == [RenderedRows]
    assert crops[3]["pixel_values"].shape == (3, 64, 64)
    assert list(words_of_rows(crops.sources[0])) == []
    row = crops.sources[0][3]
    assert TextInstances(row["polygons"], texts=row["texts"], ignore=row["ignore"]).texts == row["texts"]
