"""The README and the pages it leads to: every code block runs, with small stand-ins where it names photos, labels or
weights of the reader. Links are in `docs/test_pages.py`."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import PIL.Image
import pytest
import torch
from docs_pages import ROOT, blocks_of, commands_of
from public_data_sets import unpack, unpack_lexicons

from transformers_tcm.data.loaders import load_jsonl

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Those whose blocks run here; the others have tests of their own.
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("using", "training", "measuring", "converting"))]
BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.language]


def blocks(language: str) -> list[str]:
    return [block.code for block in BLOCKS if block.language == language]


def commands() -> list[str]:
    return commands_of("\n".join(blocks("bash")))


def run(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def one_command(start: str) -> str:
    (command,) = [command for command in commands() if command.startswith(start)]
    return command


def test_no_block_is_left_out() -> None:
    """The kinds of blocks, and of commands, that the tests below run; what installs is run by `make check-package`."""
    assert {block.language for block in BLOCKS} == {"bash", "python", "json"}
    starts = ("python3 -m venv", "source", "pip install", "make install", "printf", "python examples/")
    starts += tuple(f"transformers-tcm {name}" for name in ("spot", "detect", "explain", "evaluate", "convert"))
    assert all(command.startswith(starts) for command in commands())


def test_the_readme_is_short_and_has_one_table_of_figures() -> None:
    assert len(README.splitlines()) < 160
    assert len(re.findall(r"^\| .*precision.*recall", README, re.MULTILINE)) == 1


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks(reader: Path, code: str, capsys: pytest.CaptureFixture) -> None:
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_json_block_is_a_line_of_labels(reader: Path) -> None:
    (line,) = blocks("json")
    (reader / "labels.jsonl").write_text(line, encoding="utf-8")
    assert load_jsonl(reader / "labels.jsonl")[0]["texts"] == ["SALE"]


@pytest.mark.parametrize("target", ["make demo", "make test", "make lint", "make docs"])
def test_make_targets_exist(target: str) -> None:
    """What they would run: they install into a virtual environment, which this test must not do."""
    assert f"`{target}`" in README
    plan = subprocess.run([*target.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    expected = {"make demo": "transformers-tcm spot", "make test": "-m pytest", "make lint": "ruff check"}
    expected["make docs"] = "mkdocs build --strict"
    assert expected[target] in plan
    assert "--force" in plan or target != "make demo"  # so that it can be repeated


@pytest.mark.slow
def test_the_commands_of_the_readme_one_after_the_other(reader: Path) -> None:
    said = {
        command: run(command) for command in commands() if command.startswith(("transformers-tcm spot photo", "printf"))
    }
    (words, *_) = said.values()
    assert "SCHOOL" in words
    assert "words in 1 of 1 image; results in words: photo.json, photo_text.png" in words
    assert PIL.Image.open(reader / "words" / "photo_text.png").size == (1280, 853)
    found = json.loads((reader / "found" / "photo.json").read_text())["instances"]
    assert {word["text"] for word in found} == {"school"}
    assert (reader / "texts" / "photo.txt").read_text(encoding="utf-8") in words


@pytest.mark.slow
def test_detect_and_explain(reader: Path) -> None:
    run(one_command("transformers-tcm detect"))
    assert json.loads((reader / "results" / "photo.json").read_text())["instances"]
    run(one_command("transformers-tcm explain"))
    assert PIL.Image.open(reader / "score_maps" / "photo_score_map.png").width == 1280


def test_evaluate(reader: Path) -> None:
    assert "hmean" in run(one_command("transformers-tcm evaluate --images"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model", "bundled"),
    [("total-text", "my_detector", "fasttcm-dbnet-tiny"), ("icdar2015", "my_spotter", "fasttcm-spotter-tiny")],
)
def test_evaluate_public_data_sets(reader: Path, name: str, model: str, bundled: str) -> None:
    unpack_lexicons(unpack(reader, name, "test"), name)
    command = one_command(f"transformers-tcm evaluate --dataset {name}")
    assert "hmean" in run(command.replace("/data/text", str(reader)).replace(model, bundled))


@pytest.mark.slow
def test_training_in_one_command(reader: Path) -> None:
    # Two steps in place of a thousand, on crops of a tenth of the area.
    shorter = "--max_steps 2 --crop_size 96 --per_device_train_batch_size 2 --dataloader_num_workers 0"
    run(f"{one_command('python examples/')} {shorter}")
    assert (reader / "my_detector" / "model.safetensors").is_file()
    assert "eval_hmean" in json.loads((reader / "my_detector" / "eval_results.json").read_text())


def test_convert_clip(reader: Path, clip_state_dict: dict[str, torch.Tensor]) -> None:
    torch.save(clip_state_dict, reader / "RN50.pt")
    run(one_command("transformers-tcm convert RN50.pt"))
    assert json.loads((reader / "my_start" / "config.json").read_text())["clip_pretrained"]


def test_convert_released(reader: Path, golden_dir: Path) -> None:
    shutil.copy(golden_dir / "tcm_dbnet_tiny_official_keys.pth", reader / "released.pth")
    shutil.copy(golden_dir / "tcm_dbnet_tiny_config.json", reader / "sizes.json")
    run(one_command("transformers-tcm convert released.pth"))
    assert (reader / "my_detector" / "preprocessor_config.json").is_file()
