"""Data sets by name, as `datasets.load_dataset` takes them, at once and streamed."""

import io
import itertools
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from training_fakes import detector

from transformers_tcm import TCMImageProcessor
from transformers_tcm.data.datasets import RandomTextCrops, StreamedTextCrops
from transformers_tcm.data.loaders import load_named_dataset, row_to_instances
from transformers_tcm.training import PhotoArguments, TCMTrainer, TCMTrainingArguments
from transformers_tcm.training.recipes import words_of_rows

pytestmark = pytest.mark.usefixtures("streams_that_end_at_once")
COUNT = 6
BOX = [8, 12, 40, 16]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A data set with `objects` in the manner of COCO, a word on each photo."""
    rng = np.random.default_rng(0)
    objects = [{"bbox": [BOX], "category": [0], "text": [f"w{index}"], "ignore": [False]} for index in range(COUNT)]
    columns: dict[str, list[Any]] = {
        "image_id": list(range(COUNT)),
        "image": [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(COUNT)],
        "objects": objects,
    }
    rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    folder = tmp_path / "named"
    folder.mkdir()
    rows.to_parquet(folder / "train.parquet")
    rows.select([0, 1]).to_parquet(folder / "validation.parquet")
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_objects_become_the_columns_of_text(named: Path, streaming: bool) -> None:
    rows = list(load_named_dataset(str(named), "train", streaming=streaming))
    assert [row["texts"] for row in rows] == [[f"w{index}"] for index in range(COUNT)]
    assert row_to_instances(rows[0]).polygons[0].tolist() == [[8, 12], [48, 12], [48, 28], [8, 28]]
    assert rows[0]["image"].size == (96, 64)


def test_other_columns_are_named(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"label": [1]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"expected the columns .* got \['label'\]"):
        load_named_dataset(str(tmp_path), "train")


def test_a_recipe_trains_and_evaluates_on_splits(named: Path) -> None:
    photos = PhotoArguments(dataset_name=str(named), eval_split="validation", crop_size=64, few_shot=0.5)
    crops = photos.training_crops(TCMImageProcessor(), 4, seed=0)
    assert isinstance(crops, RandomTextCrops)
    assert [len(rows) for rows in crops.sources] == [COUNT / 2]
    assert len(list(words_of_rows(crops.sources[0]))) == COUNT / 2
    assert crops[0]["pixel_values"].shape == (3, 64, 64)
    assert len(photos.evaluation_rows()) == 2


def streamed(folder: Path, seed: int = 0) -> StreamedTextCrops:
    photos = PhotoArguments(dataset_name=str(folder), streaming=True, crop_size=64)
    crops = photos.training_crops(TCMImageProcessor(), 0, seed)
    assert isinstance(crops, StreamedTextCrops)
    return crops


def test_streamed_crops_go_on_and_are_the_same_each_time(named: Path) -> None:
    def crops_of(seed: int) -> torch.Tensor:
        # More than an epoch of the photos.
        return torch.stack([item["pixel_values"] for item in itertools.islice(streamed(named, seed), COUNT + 2)])

    first = crops_of(0)
    torch.testing.assert_close(crops_of(0), first)
    assert not torch.allclose(crops_of(1), first)
    assert len({crop.numpy().tobytes() for crop in first}) == COUNT + 2


def test_workers_share_the_shards_of_a_stream(named: Path) -> None:
    """One file is one shard: the second worker has nothing to do, and stops."""
    loader = DataLoader(streamed(named), batch_size=None, num_workers=2)
    assert len(list(itertools.islice(loader, COUNT))) == COUNT


def in_archives(folder: Path, count: int) -> None:
    """Archives of WebDataset, a photo with its word in each; that of the first one is not known."""
    for index in range(count):
        picture = io.BytesIO()
        Image.new("RGB", (96, 64), (index, index, index)).save(picture, "PNG")
        word = f"w{index}" if index else None
        labels = {"polygons": [[[8, 12], [48, 12], [48, 28], [8, 28]]], "texts": [word], "ignore": [False]}
        with tarfile.open(folder / f"train-{index}.tar", "w") as archive:
            for suffix, content in (("png", picture.getvalue()), ("json", json.dumps(labels).encode())):
                member = tarfile.TarInfo(f"{index:05d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def test_archives_of_webdataset_are_streamed(tmp_path: Path) -> None:
    in_archives(tmp_path, 2)
    rows = load_named_dataset(str(tmp_path), "train", streaming=True)
    assert isinstance(rows, datasets.IterableDataset)
    assert rows.num_shards == 2
    first, second = rows
    assert (first["image_id"], first["texts"], second["texts"]) == ("00000", [None], ["w1"])
    assert row_to_instances(second).polygons[0].tolist() == [[8, 12], [48, 12], [48, 28], [8, 28]]
    assert second["image"].getpixel((0, 0)) == (1, 1, 1)


@pytest.mark.parametrize("files", [2, 3])
def test_processes_share_the_photos_of_a_pass(named: Path, files: int) -> None:
    """Each has its own shards, or with an odd number of these every other photo."""
    rows = datasets.load_dataset(str(named), split="train")
    for index in range(files):
        rows.shard(files, index).to_parquet(named / f"train-{index}.parquet")
    (named / "train.parquet").unlink()
    parts = []
    for process in range(2):
        crops = streamed(named)
        crops.set_process(process, 2)
        seen: list[str] = []

        def noted(image: Any, instances: Any, rng: Any, seen: list[str] = seen, cut: Any = crops.augmentation) -> Any:
            seen.extend(instances.texts)
            return cut(image, instances, rng)

        crops.augmentation = noted
        assert len(list(itertools.islice(crops, COUNT // 2))) == COUNT // 2
        parts.append(seen)
    assert sorted(parts[0] + parts[1]) == [f"w{index}" for index in range(COUNT)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--streaming is for one --dataset_name"),
        ({"dataset_name": "x", "train_jsonl": ["photos.jsonl"]}, "--streaming is for one --dataset_name"),
        ({"dataset_name": "x", "few_shot": 0.5}, "need all photos at once"),
    ],
)
def test_what_cannot_be_streamed_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhotoArguments(streaming=True, **settings).training_crops(TCMImageProcessor(), 1, 0)


@pytest.mark.parametrize("report_to", ["none", "tensorboard"])
def test_the_trainer_trains_on_a_stream(
    named: Path, tmp_path: Path, report_to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if report_to == "tensorboard":
        pytest.importorskip("tensorboard")
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    arguments = TCMTrainingArguments(
        tmp_path / "out", max_steps=3, per_device_train_batch_size=2, logging_steps=1, report_to=report_to, use_cpu=True
    )
    trainer = TCMTrainer(detector(), arguments, train_dataset=streamed(named), image_processor=TCMImageProcessor())
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    if report_to == "tensorboard":
        assert list((tmp_path / "board").rglob("events.out.tfevents.*"))
