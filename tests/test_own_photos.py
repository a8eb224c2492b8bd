"""docs/own_photos.md: every block runs as it stands there, in order, on exports of six labelled photos."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import pytest
from hub.conftest import client_environment
from hub.server import WRITER, HubServer

from transformers_tcm import TextInstances
from transformers_tcm.data.loaders import load_jsonl, row_to_instances

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own_photos.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SCRIPTS = [code for language, code in BLOCKS if language == "bash"]
# In place of hundreds of steps.
SHORTER = "--max_steps 2 --crop_size 96 --per_device_train_batch_size 2 --dataloader_num_workers 0"
SHORTER += " --dataloader_persistent_workers false"

Labelled = list[tuple[PIL.Image.Image, TextInstances]]


def block(start: str) -> str:
    (code,) = [code for code in SCRIPTS if code.startswith(start)]
    return code


@pytest.fixture(scope="module")
def labelled() -> Labelled:
    """Six photos that differ: the one of the examples in shades, every other one cropped."""
    (row,) = load_jsonl(ROOT / "examples" / "images" / "street.jsonl")
    photos = []
    for index in range(6):
        left = 400 if index % 2 else 0
        image = row["image"].crop((2 * left, 0, *row["image"].size))
        image = image.resize((image.width // 2, image.height // 2))
        instances = row_to_instances(row).scale(0.5, 0.5).transform(np.array([[1, 0, -left], [0, 1, 0]]))
        inside = [polygon.min() > 0 for polygon in instances.polygons]
        photos.append((PIL.ImageEnhance.Brightness(image).enhance(0.8 + 0.07 * index), instances.select(inside)))
    return photos


@pytest.fixture
def folder(labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a clone and a user have: the photos, and the same labels from each tool."""
    (tmp_path / "photos").mkdir()
    for index, (image, _) in enumerate(labelled):
        image.save(tmp_path / "photos" / f"{index}.jpg")
    (tmp_path / "project.json").write_text(json.dumps(label_studio(labelled)), encoding="utf-8")
    (tmp_path / "annotations.xml").write_text(cvat(labelled), encoding="utf-8")
    (tmp_path / "photos" / "Label.txt").write_text(ppocrlabel(labelled), encoding="utf-8")
    for name in ("examples", "scripts", "hub_configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(instances: TextInstances) -> list[tuple[list[list[float]], str]]:
    return [(polygon.tolist(), str(text)) for polygon, text in zip(instances.polygons, instances.texts, strict=True)]


def label_studio(labelled: Labelled) -> list[dict]:
    tasks = []
    for index, (image, instances) in enumerate(labelled):
        results = []
        for number, (polygon, text) in enumerate(words(instances)):
            points = (100 * np.array(polygon) / image.size).tolist()
            region = {"id": f"r{number}", "to_name": "image", "image_rotation": 0}
            region |= {"original_width": image.width, "original_height": image.height}
            shape = {"points": points, "closed": True}
            results.append({**region, "type": "polygonlabels", "value": {**shape, "polygonlabels": ["Text"]}})
            results.append(
                {**region, "type": "textarea", "from_name": "transcription", "value": {**shape, "text": [text]}}
            )
        data = {"image": f"/data/upload/1/0a1b2c3d-{index}.jpg"}
        tasks.append({"id": index, "data": data, "annotations": [{"result": results, "was_cancelled": False}]})
    return tasks


def cvat(labelled: Labelled) -> str:
    images = []
    for index, (image, instances) in enumerate(labelled):
        polygons = "".join(
            f'<polygon label="word" points="{";".join(f"{x:.2f},{y:.2f}" for x, y in polygon)}">'
            f'<attribute name="transcription">{text}</attribute></polygon>'
            for polygon, text in words(instances)
        )
        size = f'width="{image.width}" height="{image.height}"'
        images.append(f"<image id='{index}' name={quoteattr(f'{index}.jpg')} {size}>{polygons}</image>")
    attribute = "<attribute><name>transcription</name><input_type>text</input_type></attribute>"
    labels = f"<labels><label><name>word</name><attributes>{attribute}</attributes></label></labels>"
    return f"<annotations><version>1.1</version><meta><task>{labels}</task></meta>{''.join(images)}</annotations>"


def ppocrlabel(labelled: Labelled) -> str:
    lines = []
    for index, (_, instances) in enumerate(labelled):
        found = [{"transcription": text, "points": polygon, "difficult": False} for polygon, text in words(instances)]
        lines.append(f"photos/{index}.jpg\t{json.dumps(found)}\n")
    return "".join(lines)


@pytest.fixture
def run(hub: HubServer, folder: Path) -> Callable[[str], str]:
    """Runs a block in a shell that stops at the first error; the Hub is one on loopback."""
    environment = client_environment(hub, folder / "home", WRITER)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(code: str) -> str:
        done = subprocess.run(["bash", "-e", "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    return run


@pytest.fixture
def hub():
    with HubServer().running() as server:
        yield server


IMPORTS = [code for code in SCRIPTS if code.startswith("transformers-tcm import-labels")]


def test_no_block_is_left_out() -> None:
    """The kinds of blocks that the tests below run; the installation is that of the README."""
    assert [language for language, _ in BLOCKS if language != "bash"] == ["xml", "json"]
    assert len(IMPORTS) == 3
    starts = ("make install", "transformers-tcm", "awk", "python examples/", "cat > my_detector", "python scripts/push")
    assert all(code.startswith(starts) for code in SCRIPTS)


def test_the_line_of_labels_is_one(folder: Path) -> None:
    (line,) = [code for language, code in BLOCKS if language == "json"]
    PIL.Image.new("RGB", (100, 50)).save(folder / "photos" / "1.jpg")
    (folder / "labels.jsonl").write_text(line, encoding="utf-8")
    assert load_jsonl(folder / "labels.jsonl")[0]["texts"] == ["SALE"]


def test_exports_of_all_tools_give_the_same_labels(folder: Path, run: Callable[[str], str], labelled: Labelled) -> None:
    for code in IMPORTS:
        assert "6 photos, 72 words, 72 with text, 0 ignored" in run(code)
        for row, (_, instances) in zip(load_jsonl(folder / "labels.jsonl"), labelled, strict=True):
            assert row["texts"] == instances.texts
            for polygon, expected in zip(row["polygons"], instances.polygons, strict=True):
                np.testing.assert_allclose(polygon, expected, atol=0.01)
    assert "no problem found" in run(block("transformers-tcm validate-dataset"))
    run(block("awk"))
    assert [len(load_jsonl(folder / name)) for name in ("train.jsonl", "val.jsonl")] == [5, 1]


@pytest.mark.slow
def test_from_the_export_to_the_hub(folder: Path, run: Callable[[str], str], hub: HubServer) -> None:
    for code in SCRIPTS[1:]:
        run(f"{code.rstrip()} {SHORTER}" if code.startswith("python examples/") else code)
    assert "hmean" in json.loads((folder / "evaluation.json").read_text())
    for report in ("failures", "spotting_failures"):
        assert (folder / report / "index.html").stat().st_size > 1000
    assert len(list((folder / "results").glob("*_text.png"))) == 6
    card = (folder / "upload" / "README.md").read_text(encoding="utf-8")
    # What the user wrote, and nothing of what the bundled model was measured at.
    assert "license: cc-by-4.0" in card
    assert "held back for measuring" in card
    assert "model-index" not in card
    published = hub.repositories["org/my-detector"].files
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} <= set(published)
