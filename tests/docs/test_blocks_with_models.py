"""Blocks of the documentation that take a model of the reader, or would take minutes: they run with tiny models."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from docs_pages import PAGES, ROOT, WITH_TINY_MODELS, blocks_of, commands_of
from oriented_fakes import CONFIG as ORIENTED
from PIL import Image
from public_data_sets import unpack, unpack_lexicons
from spotting_fakes import save_wordy_spotter
from tiny_settings import SMALLEST
from typer.testing import CliRunner

from transformers_tcm import TCMConfig, TCMForOrientedObjectDetection, TCMForTextDetection, TCMImageProcessorPil
from transformers_tcm.cli import app

pytestmark = pytest.mark.slow

HAS_OPENVINO = all(find_spec(package) for package in ("openvino", "nncf"))
OF_OTHER_TESTS = ("README.md", *(f"docs/{name}.md" for name in ("using", "training", "measuring", "converting")))


def with_tiny_models(code: str) -> str:
    """The models of a command or block, and folders of the machine, become those of the fixture."""
    task = "objects" if "objects" in code else "spotter" if "--protocol e2e" in code else "detector"
    code = re.sub(r"runs/[\w-]+/\w+", f"my_{task}", code)
    for name, tiny in (("fasttcm-spotter-tiny", "my_spotter"), ("--model fasttcm-dbnet-tiny", "--model my_detector")):
        code = code.replace(name, tiny)
    if not HAS_OPENVINO:
        code = code.replace(', backend="openvino"', "")
    return code.replace("/data/text", ".").replace(
        'pipeline("oriented-object-detection", model="my_detector"',
        'pipeline("oriented-object-detection", model="my_objects"',
    )


def steps(page: str) -> Iterator[str]:
    """Each command and block of a page that runs here, once, in order."""
    for block in blocks_of(page):
        if block.code.startswith(WITH_TINY_MODELS) and block.code.startswith(("from", "import")):
            yield with_tiny_models(block.code)
        else:
            lines = (line for line in commands_of(block.code) if line.startswith(WITH_TINY_MODELS))
            yield from map(with_tiny_models, lines)


STEPS = {page: list(dict.fromkeys(steps(page))) for page in PAGES if page not in OF_OTHER_TESTS}


@pytest.fixture
def folder(reader: Path) -> Path:
    """The reader's, with models, more photos, and public data sets."""
    torch.manual_seed(0)
    save_wordy_spotter(reader / "my_spotter", most=3)
    found = {"threshold": 0.0, "max_detections": 5}
    for name, model, settings in (
        ("my_detector", TCMForTextDetection(TCMConfig(**SMALLEST)), {}),
        ("my_objects", TCMForOrientedObjectDetection(ORIENTED), {"head_type": "rotated_fcos", **found}),
    ):
        model.save_pretrained(reader / name)
        TCMImageProcessorPil(size={"longest_edge": 128}, **settings).save_pretrained(reader / name)
    for path in ("harbor.png", "test/images/P0001.png"):
        (reader / path).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((200, 160), 80).convert("RGB").save(reader / path)
    for name, target in (("photos", reader / "images"), *((name, ROOT / name) for name in ("scripts", "hub_configs"))):
        (reader / name).symlink_to(target)
    for name in ("icdar2015", "total-text", "ctw1500", "td500"):
        data_set = unpack(reader, name, "test")
        if name != "td500":
            unpack_lexicons(data_set, name)
    return reader


def run(step: str) -> None:
    if step.startswith(("from", "import")):
        exec(compile(step, "documentation", "exec"), {})
        return
    program, *arguments = shlex.split(step)
    if program == "python":
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=offline)
        assert done.returncode == 0, done.stderr[-3000:]
        return
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{step}\n{result.output}"
    if arguments[0] == "spot":
        shutil.rmtree("words")  # the next engine writes there, too


def test_each_beginning_is_of_a_block() -> None:
    codes = [block.code for page in STEPS for block in blocks_of(page)]
    lines = [line for code in codes for line in commands_of(code)]
    assert [start for start in WITH_TINY_MODELS if not any(code.startswith(start) for code in [*codes, *lines])] == []


@pytest.mark.parametrize("page", [page for page, found in STEPS.items() if found])
def test_the_blocks_of_a_page_run_one_after_the_other(page: str, folder: Path) -> None:
    for step in STEPS[page]:
        if HAS_OPENVINO or "openvino" not in step:
            run(step)


def scripts_of(pages: list[str]) -> dict[str, set[str]]:
    """Options that the documentation gives to each script of the repository."""
    given: dict[str, set[str]] = {}
    for page in pages:
        folder = "examples/text-spotting/"  # where pages go with `cd`
        for line in (line for block in blocks_of(page) for line in commands_of(block.code)):
            if line.startswith("python ") and ".py" in line:
                _, script, *arguments = shlex.split(line)
                path = script if (ROOT / script).is_file() else os.path.normpath(folder + script)
                options = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
                given.setdefault(path, set()).update(options)
    return given


GIVEN = scripts_of(PAGES)


# What this does not know goes to the training that it starts.
STARTED_BY = {
    "benchmarks/compare_recognizers.py": "examples/text-spotting/run_text_spotting.py",
    "benchmarks/oriented_proof.py": "examples/oriented-object-detection/run_oriented_detection.py",
    "benchmarks/score_map.py": "examples/text-detection/run_text_detection.py",
    "benchmarks/study.py": "examples/text-detection/run_text_detection.py",
}


def options_of(script: str) -> set[str]:
    done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(re.findall(r"(?<![\w-])--[\w-]+", done.stdout))


@pytest.mark.parametrize("script", sorted(GIVEN))
def test_every_option_of_a_script_in_the_documentation_exists(script: str) -> None:
    known = options_of(script)
    if script in STARTED_BY:
        known |= options_of(STARTED_BY[script])
    assert GIVEN[script] <= known, GIVEN[script] - known
