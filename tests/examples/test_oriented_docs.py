"""The five commands of docs/oriented.md, executed on rendered scenes, or on the images in `TCM_AERIAL_SAMPLES`."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from oriented_fakes import OVERRIDES
from PIL import Image
from typer.testing import CliRunner

from transformers_tcm.cli.app import app
from transformers_tcm.data.rendering.aerial import AERIAL_CLASSES, AerialRenderer, write_scenes
from transformers_tcm.dota import DOTA_V1_CLASSES

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def classes(tmp_path: Path) -> tuple[str, ...]:
    """Classes of what is in `DOTA` of the folder that is returned."""
    samples = os.environ.get("TCM_AERIAL_SAMPLES")
    if samples:
        shutil.copytree(samples, tmp_path / "DOTA")
        return DOTA_V1_CLASSES
    Image.new("RGB", (300, 300), (90, 110, 80)).save(tmp_path / "ground.png")
    write_scenes(AerialRenderer([tmp_path / "ground.png"], size=160), tmp_path / "DOTA", 2)
    return AERIAL_CLASSES


def five_commands() -> list[list[str]]:
    text = (REPOSITORY / "docs" / "oriented.md").read_text(encoding="utf-8")
    section = text.split("## DOTA in five commands")[1]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return [shlex.split(line) for line in block[1].splitlines()]


@pytest.mark.slow
def test_the_five_commands_run(tmp_path: Path, classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = five_commands()
    assert len(commands) == 5
    # As little as there can be to train, and everything found is kept.
    small = ["--preset", "tiny", "--config_overrides", json.dumps(OVERRIDES), "--classes", *classes, "--use_cpu"]
    small += ["--bf16", "false", "--epochs", "0.01", "--per_device_train_batch_size", "1", "--warmup_steps", "0"]
    small += ["--dataloader_num_workers", "0", "--save_strategy", "no", "--processor_overrides"]
    small += [json.dumps({"size": {"longest_edge": 128}})]
    outputs = []
    for program, *arguments in commands:
        if program == "python":
            paths = [str(REPOSITORY / one) if one.startswith("examples/") else one for one in arguments]
            done = subprocess.run([sys.executable, *paths, *small], capture_output=True, text=True, timeout=500)
            assert done.returncode == 0, done.stderr[-3000:]
        else:
            assert program == "transformers-tcm"
            more = ["--threshold", "0.0", "--decoding", "max_detections=5"] if arguments[0] == "detect-objects" else []
            result = CliRunner().invoke(app, [*arguments, *more])
            assert result.exit_code == 0, result.output
            outputs.append(result.output)
    assert "new patches" in outputs[0]
    assert (tmp_path / "merged" / "Task1.zip").exists()
    assert "mean over classes" in outputs[-1]
