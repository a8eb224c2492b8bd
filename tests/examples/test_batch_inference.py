"""Reading many photos in parts: nothing lost and nothing twice, whatever happens to the workers."""

import importlib
import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from spotting_fakes import save_wordy_spotter

from transformers_tcm.serving.reading import PhotoReader

FOLDER = Path(__file__).parents[2] / "examples" / "batch-inference"
PHOTOS, BAD = 300, ("photo_017.png", "photo_150.png", "photo_299.png")
# Kills its process at two parts, once each: before it has begun and after the file was written.
MORTAL = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import run_ray

class Mortal(run_ray.PartReader):
    def __call__(self, batch):
        names = {{str(name) for part in batch["photos"] for name in part}}
        self.die_once("photo_100.png" in names, "first")
        result = super().__call__(batch)
        self.die_once("photo_200.png" in names, "second")
        return result

    def die_once(self, here, name):
        marker = Path({markers!r}) / name
        if here and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

run_ray.PartReader = Mortal
run_ray.main()
"""


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with a reader that finds one word in every photo."""
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("parts")

    def find(photos: list[Image.Image], batch_size: int) -> list[list[dict[str, Any]]]:
        word = {"score": 0.5, "polygon": [[0, 0], [9, 0], [9, 9]], "text": "A", "text_score": 0.25, "line": 0}
        return [[word] for _ in photos]

    monkeypatch.setattr(module, "_reader", lambda task, model: PhotoReader(find, max_pixels=10_000))
    return module


def png(width: int = 30, seed: int = 0) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (48, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def read_all(parts: ModuleType, source: Path, output: Path, size: int = 3) -> list[int]:
    found = parts.find_parts(source, output, size)
    return [parts.read_part(part, source, output, "text-spotting", None, batch_size=2) for part in found]


def test_photos_of_folders_are_rows_and_bad_ones_say_why(parts: ModuleType, tmp_path: Path) -> None:
    source, output = tmp_path / "photos", tmp_path / "words"
    (source / "more").mkdir(parents=True)
    for name in ("a.png", "b.png", "more/c.png", "more/d.PNG"):
        (source / name).write_bytes(png())
    (source / "b.png").write_bytes(b"no image")
    (source / "more" / "notes.txt").touch()
    assert read_all(parts, source, output) == [1, 0]
    rows = {row["id"]: row for row in parts.results_in(output)}
    assert sorted(rows) == ["a.png", "b.png", "more/c.png", "more/d.PNG"]
    assert "not an image" in rows["b.png"]["error"]
    assert rows["b.png"]["texts"] is None
    good = {"width": 30, "height": 48, "texts": ["A"], "scores": [0.5], "text_scores": [0.25], "lines": [0]}
    expected = {"id": "a.png", **good, "polygons": [[[0, 0], [9, 0], [9, 9]]], "error": None}
    assert rows["a.png"] == expected


def test_a_later_run_reads_what_is_left_and_what_is_new(parts: ModuleType, tmp_path: Path) -> None:
    source, output = tmp_path / "photos", tmp_path / "words"
    source.mkdir()
    for index in range(7):
        (source / f"{index}.png").write_bytes(png())
    first = parts.find_parts(source, output, 3)[0]
    for _ in range(2):  # as a worker that repeats the part of a dead one
        parts.read_part(first, source, output, "text-spotting", None, 2)
    (output / "abc.123.tmp").write_bytes(b"half a file")
    (source / "0_new.png").write_bytes(png())
    assert len(read_all(parts, source, output)) == 2
    assert sorted(row["id"] for row in parts.results_in(output)) == sorted(path.name for path in source.iterdir())
    assert parts.find_parts(source, output, 3) == []


def test_photos_in_parquet_files(parts: ModuleType, tmp_path: Path) -> None:
    """Of several row groups, as `datasets` writes images and as bytes alone."""
    source, output = tmp_path / "shards", tmp_path / "words"
    source.mkdir()
    images = [{"bytes": png(20 + index), "path": None} for index in range(7)]
    images[4] = {"bytes": None, "path": "gone.png"}
    pq.write_table(pa.table({"image": images}), source / "a.parquet", row_group_size=2)
    pq.write_table(pa.table({"image": [png(90), b""]}), source / "b#1.parquet")
    assert sum(read_all(parts, source, output, size=4)) == 2
    rows = {row["id"]: row for row in parts.results_in(output)}
    widths = {f"a.parquet#{index}": 20 + index for index in range(7)} | {"b#1.parquet#0": 90, "b#1.parquet#1": None}
    assert {name: row["width"] for name, row in rows.items()} == {**widths, "a.parquet#4": None}
    assert rows["a.parquet#4"]["error"] == "the row holds no image"
    assert "empty" in rows["b#1.parquet#1"]["error"]


def test_places_that_cannot_be(parts: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no photos"):
        parts.find_parts(tmp_path, tmp_path.parent / "words", 3)
    with pytest.raises(ValueError, match="choose another --output"):
        parts.find_parts(tmp_path, tmp_path / "words", 3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(PHOTOS):
        name = f"photo_{index:03d}.png"
        (folder / name).write_bytes(b"no image" if name in BAD else png((48, 64, 96)[index % 3], index))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_wordy_spotter(folder, most=2)
    return folder


def run(script: Path, photos: Path, model: Path, output: Path) -> str:
    options = ["--source", photos, "--output", output, "--model", model, "--workers", "2", "--part-size", "20"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, script, *options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(parts: ModuleType, output: Path) -> None:
    rows = parts.results_in(output)
    assert Counter(row["id"] for row in rows) == Counter(f"photo_{index:03d}.png" for index in range(PHOTOS))
    assert {row["id"] for row in rows if row["error"]} == set(BAD)
    assert sum(len(row["texts"] or []) for row in rows) > PHOTOS / 2


@pytest.mark.slow
def test_two_workers_of_ray_of_which_some_are_killed(
    parts: ModuleType, photos: Path, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    script, output = tmp_path / "mortal.py", tmp_path / "words"
    script.write_text(MORTAL.format(folder=str(FOLDER), markers=str(tmp_path)), encoding="utf-8")
    assert "300 photos" in run(script, photos, model, output)
    assert (tmp_path / "first").exists()
    assert (tmp_path / "second").exists()
    check(parts, output)
    assert "nothing is left" in run(FOLDER / "run_ray.py", photos, model, output)


@pytest.mark.slow
def test_two_processes_of_one_machine(parts: ModuleType, photos: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "words"
    first = run(FOLDER / "run_datasets.py", photos, model, output)
    assert "300 photos" in first
    check(parts, output)
    victims = sorted(output.glob("*.parquet"))[:2]
    for file in victims:
        file.unlink()
    assert "40 photos" in run(FOLDER / "run_datasets.py", photos, model, output)
    check(parts, output)
