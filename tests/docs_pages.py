"""Pages of the documentation, their code blocks, and a folder as a reader has it; a plugin of the tests."""

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import PIL.Image
import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]

# Beginnings of blocks and commands that take a model of their reader, or minutes: tests/docs/test_blocks_with_models.py
# runs them with tiny ones.
WITH_TINY_MODELS = (
    "transformers-tcm context my_detector",
    "transformers-tcm export",
    "transformers-tcm spot photo.jpg --model exported",
    "transformers-tcm evaluate --images photos --annotations labels --model int8",
    "transformers-tcm evaluate --dataset",
    "transformers-tcm split-dota test/images",
    "transformers-tcm detect-objects test_patches/images",
    "transformers-tcm merge-dota found --output submission",
    "from transformers import pipeline\nfrom transformers_tcm import Onnx",
    'import transformers_tcm\nfrom transformers import pipeline\n\ndetector = pipeline("oriented-object-detection"',
    "python scripts/push_to_hub.py hub_configs/fasttcm-dbnet-tiny --repo-id org/fasttcm-dbnet --dry-run",
)


class Block(NamedTuple):
    """A code block; `language` is empty for one that is only indented."""

    page: str
    language: str
    code: str


def blocks_of(page: str) -> list[Block]:
    """All code blocks of a page of the repository, in order."""
    tokens = MarkdownIt("commonmark").parse((ROOT / page).read_text(encoding="utf-8"))
    return [Block(page, token.info, token.content) for token in tokens if token.type in ("fence", "code_block")]


def commands_of(code: str) -> list[str]:
    """Shell commands, a line each, without comments."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.strip()]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a photo, and six labelled photos of which one is in `val.txt`."""
    street = PIL.Image.open(ROOT / "examples" / "images" / "street.jpg")
    street.save(tmp_path / "photo.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    instances = json.loads((ROOT / "examples" / "images" / "street.jsonl").read_text(encoding="utf-8"))
    for index in range(6):
        street.resize((640, 426)).save(tmp_path / "images" / f"{index}.jpg")
        lines = [
            ",".join(f"{value / 2:.1f}" for point in polygon for value in point) + f",{word}"
            for polygon, word in zip(instances["polygons"], instances["texts"], strict=True)
        ]
        (tmp_path / "labels" / f"gt_{index}.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "val.txt").write_text("5.jpg\n", encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path
