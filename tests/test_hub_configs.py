"""`hub_configs/` is current, and each folder in it builds."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from transformers_tcm import AutoModelForTextDetection, TCMForTextDetection

ROOT = Path(__file__).parents[1]
FOLDERS = sorted((ROOT / "hub_configs").iterdir())


def test_folders_are_what_the_script_writes() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_hub_configs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_builds(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        assert isinstance(AutoModelForTextDetection.from_config(config), TCMForTextDetection)
        assert isinstance(AutoModel.from_config(config), TCMForTextDetection)
    assert 0 < AutoImageProcessor.from_pretrained(folder).box_threshold < 1
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n")
