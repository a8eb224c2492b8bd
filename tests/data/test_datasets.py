"""Training crops and evaluation photos: determinism, mixing, what a batch holds."""

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader

from transformers_tcm.data.augmentation import TextAugmentation
from transformers_tcm.data.collation import TextDetectionCollator, labels_by_image, labels_to_instances
from transformers_tcm.data.datasets import DecodedRows, RandomTextCrops, TextPhotos
from transformers_tcm.data.loaders import load_jsonl, save_jsonl
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.configuration_tcm import TCMConfig
from transformers_tcm.models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from transformers_tcm.models.tcm.modeling_clip_resnet import normalized

WORD = np.float32([[40, 30], [90, 32], [90, 50], [40, 48]])


@pytest.fixture
def rows(tmp_path: Path):
    """Three photos of one colour each, with a word and an ignored one."""
    paths = []
    for index, colour in enumerate([(200, 0, 0), (0, 200, 0), (0, 0, 200)]):
        paths.append(tmp_path / f"{index}.png")
        PIL.Image.new("RGB", (160, 120), colour).save(paths[-1])
    instances = TextInstances([WORD, WORD + 50], texts=["sale", None], ignore=np.array([False, True]))
    save_jsonl(tmp_path / "labels.jsonl", paths, [instances] * 3)
    return load_jsonl(tmp_path / "labels.jsonl")


def crops(rows, **changes) -> RandomTextCrops:
    settings = {
        "sources": [rows],
        "weights": [1],
        "augmentation": TextAugmentation(crop_size=(64, 96)),
        "image_processor": TCMImageProcessorPil(),
        "length": 40,
    }
    return RandomTextCrops(**{**settings, **changes})


def test_a_crop_depends_on_seed_and_index_only(rows) -> None:
    first, again, other = crops(rows), crops(DecodedRows(rows)), crops(rows, seed=1)
    assert len(first) == 40
    for index in (0, 7, 39):
        assert torch.equal(first[index]["pixel_values"], again[index]["pixel_values"])
        assert torch.equal(first[index]["labels"]["points"], again[index]["labels"]["points"])
    assert not torch.equal(first[0]["pixel_values"], other[0]["pixel_values"])
    assert not torch.equal(first[0]["pixel_values"], first[1]["pixel_values"])


def test_workers_do_not_change_the_crops(rows) -> None:
    collate = TextDetectionCollator(TCMConfig.from_preset("tiny"))
    alone = list(DataLoader(crops(rows, length=8), batch_size=4, collate_fn=collate))
    shared = list(DataLoader(crops(rows, length=8), batch_size=4, collate_fn=collate, num_workers=2))
    for one, two in zip(alone, shared, strict=True):
        assert torch.equal(one["pixel_values"], two["pixel_values"])
        assert torch.equal(one["labels"]["shrink_map"], two["labels"]["shrink_map"])


def test_crops_are_bytes_that_a_model_normalises_as_the_image_processor_does(rows) -> None:
    plain = crops(rows, length=4)
    exact = crops(rows, length=4, image_processor=TCMImageProcessorPil(image_mean=[0.48145466, 0.4578275, 0.408210731]))
    assert plain[0]["pixel_values"].dtype == torch.uint8
    assert exact[0]["pixel_values"].dtype == torch.float32  # another mean than CLIP's
    torch.testing.assert_close(
        normalized(plain[0]["pixel_values"][None])[0], exact[0]["pixel_values"], atol=1e-5, rtol=1e-5
    )


def test_padding_of_bytes_is_what_the_model_takes_for_zero(rows) -> None:
    collate = TextDetectionCollator(TCMConfig.from_preset("tiny"))
    small, large = (crops(rows, augmentation=TextAugmentation(crop_size=size))[0] for size in ((40, 64), (60, 70)))
    batch = collate([small, large])
    assert batch["pixel_values"].shape == (2, 3, 64, 96)
    assert torch.equal(batch["pixel_values"][1, :, :60, :70], large["pixel_values"])
    assert batch["pixel_mask"].sum(dim=(1, 2)).tolist() == [40 * 64, 60 * 70]
    padding = normalized(batch["pixel_values"])[~batch["pixel_mask"][:, None].expand(-1, 3, -1, -1)]
    assert padding.abs().max() < 0.01


def test_workers_load_data_on_one_thread_each(rows) -> None:
    class Threads(RandomTextCrops):
        def __getitem__(self, index: int) -> int:
            super().__getitem__(index)
            return cv2.getNumThreads()

    cv2.setNumThreads(2)
    threads = Threads([rows], [1], TextAugmentation(crop_size=(32, 32)), TCMImageProcessorPil(), length=2)
    assert list(DataLoader(threads, batch_size=None, num_workers=1)) == [1, 1]


def test_sources_are_mixed_by_weight(rows) -> None:
    plain = TextAugmentation(crop_size=(32, 32), photometric=None, scale_range=(1, 1), rotation=0)
    sources = [rows.select([0]), rows.select([2])]
    mixed = crops(rows, sources=sources, weights=[3, 1], augmentation=plain, length=200)
    red = sum(bool(mixed[i]["pixel_values"][0].sum() > mixed[i]["pixel_values"][2].sum()) for i in range(200))
    assert 125 < red < 175


@pytest.mark.parametrize("changes", [{"sources": []}, {"weights": [1, 2]}, {"sources": [[]]}])
def test_bad_sources_are_named(rows, changes: dict) -> None:
    with pytest.raises(ValueError, match="one photo for each source"):
        crops(rows, **changes)


def test_photos_are_resized_and_collated_with_targets(rows) -> None:
    photos = TextPhotos(rows, TCMImageProcessorPil(size={"longest_edge": 320}))
    assert len(photos) == 3
    small = TextPhotos(rows, TCMImageProcessorPil(size={"longest_edge": 160}))
    batch = TextDetectionCollator(TCMConfig.from_preset("tiny"))([photos[0], small[1]])
    assert batch["pixel_values"].shape == (2, 3, 256, 320)
    assert batch["pixel_mask"].sum(dim=(1, 2)).tolist() == [240 * 320, 120 * 160]
    large, little = labels_by_image(batch["labels"])
    np.testing.assert_allclose(labels_to_instances(large).polygons[0], 2 * WORD)
    np.testing.assert_allclose(labels_to_instances(little).polygons[0], WORD)
    assert large["ignore"].tolist() == [False, True]
    assert large["orig_size"].tolist() == [120, 160]
    assert batch["labels"]["shrink_map"].shape == (2, 256, 320)
    large_map, little_map = batch["labels"]["shrink_map"]
    assert large_map.sum() > 3 * little_map.sum() > 0
    assert batch["labels"]["shrink_mask"][1, :, 160:].sum() == batch["labels"]["threshold_mask"][1, 120:].sum() == 0
