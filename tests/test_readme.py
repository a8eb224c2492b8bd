"""Every code block of the README runs, with small stand-ins where it names photos, labels or weights of the reader."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch

from transformers_tcm.data.loaders import load_jsonl

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [code for name, code in BLOCKS if name == language]


def commands() -> list[str]:
    """The shell commands, a line each, without comments."""
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
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


def run(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def one_command(start: str) -> str:
    (command,) = [command for command in commands() if command.startswith(start)]
    return command


def test_no_block_is_left_out() -> None:
    """The kinds of blocks, and of commands, that the tests below run."""
    assert {language for language, _ in BLOCKS} == {"bash", "python", "json"}
    starts = ("make demo", "make test", "transformers-tcm detect", "transformers-tcm spot", "transformers-tcm evaluate")
    starts += ("transformers-tcm convert RN50.pt", "transformers-tcm convert released.pth", "python examples/")
    assert all(command.startswith(starts) for command in commands())


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks(reader: Path, code: str, capsys: pytest.CaptureFixture) -> None:
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_json_block_is_a_line_of_labels(reader: Path) -> None:
    (line,) = blocks("json")
    (reader / "labels.jsonl").write_text(line, encoding="utf-8")
    assert load_jsonl(reader / "labels.jsonl")[0]["texts"] == ["SALE"]


@pytest.mark.parametrize("target", ["make demo", "make test"])
def test_make_targets_exist(target: str) -> None:
    """What they would run: both install into a virtual environment, which this test must not do."""
    one_command(target)
    plan = subprocess.run([*target.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"make demo": "transformers-tcm spot", "make test": "-m pytest"}[target] in plan


def test_detect(reader: Path) -> None:
    run(one_command("transformers-tcm detect"))
    assert json.loads((reader / "results" / "photo.json").read_text())["instances"]
    assert PIL.Image.open(reader / "results" / "photo_text.png").size == (1280, 853)


def test_spot(reader: Path) -> None:
    (reader / "words.txt").write_text("SCHOOL\nPUPPY\nPLEASE\n", encoding="utf-8")
    run(one_command("transformers-tcm spot"))
    found = json.loads((reader / "results" / "photo.json").read_text())["instances"]
    assert {word["text"] for word in found} <= {"SCHOOL", "PUPPY", "PLEASE"}
    assert PIL.Image.open(reader / "results" / "photo_text.png").size == (1280, 853)


def test_evaluate(reader: Path) -> None:
    assert "hmean" in run(one_command("transformers-tcm evaluate"))


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
