"""Every code block of the documentation is executed, here or by a test that is named here, or is listed with the reason
why it cannot be."""

import shlex
from pathlib import Path

import PIL.Image
import pytest
import typer
from docs_pages import PAGES, ROOT, WITH_TINY_MODELS, Block, blocks_of, commands_of
from typer.core import TyperGroup
from typer.testing import CliRunner

import transformers_tcm
from transformers_tcm.cli.app import app

# Pages whose blocks have tests of their own: what they run, and where.
README_PAGES = ("README.md", *(f"docs/{name}.md" for name in ("using", "training", "measuring", "converting")))
TESTED = {**dict.fromkeys(README_PAGES, "tests/test_readme.py"), "docs/own_photos.md": "tests/test_own_photos.py"}
# Blocks and commands that are run elsewhere, by their beginning.
RUN_ELSEWHERE = {
    "transformers-tcm demo": "tests/demo/test_browser.py",
    "transformers-tcm serve": "tests/serving/test_server.py",
    "from transformers_tcm import AutoModelForTextSpotting, TCMImageProcessor": "tests/models/tcm/test_loading.py",
    "transformers-tcm split-dota DOTA/images": "tests/examples/test_oriented_docs.py",
    "from transformers_tcm.data.known_datasets import load_text_dataset": "tests/data/test_known_datasets.py",
    "transformers-tcm datasets /data/text": "tests/cli/test_data_sets.py",
    **dict.fromkeys(WITH_TINY_MODELS, "tests/docs/test_blocks_with_models.py"),
}
# Commands and blocks that nobody can run in a test, by their beginning, with the reason.
NOT_RUN = {
    "installs packages, which takes a package index; scripts/check_package.py does it": (
        "python3 -m venv", "source", "pip install", "make ", "docker ",
    ),
    "trains or measures for minutes to days; tests/examples, tests/benchmarks and others run the scripts in small": (
        "python examples/", "python run_", "python benchmarks/", "python ../../benchmarks/",
        "cd examples/text-spotting", "accelerate launch", "python scripts/draw_accuracy_pictures.py",
    ),
    "takes weights of others, which are not in the repository; tests/conversion has small ones of the same form": (
        "transformers-tcm convert", "from transformers_tcm.conversion",
    ),
    "publishes to the Hub under the reader's name; tests/hub has a server for that": (
        "hf auth login", "python scripts/push_to_hub.py",
    ),
}  # fmt: skip
SKIPPED = tuple(start for starts in NOT_RUN.values() for start in starts)
BLOCKS = [block for page in PAGES if page not in TESTED for block in blocks_of(page) if block.language != "math"]


def is_python(block: Block) -> bool:
    if block.language:
        return block.language == "python"
    try:
        compile(block.code, block.page, "exec")
    except SyntaxError:
        return False
    return True


def is_left_to_others(block: Block) -> bool:
    return block.code.startswith((*RUN_ELSEWHERE, *SKIPPED))


PYTHON = [block for block in BLOCKS if is_python(block) and not is_left_to_others(block)]
SHELL = [block for block in BLOCKS if not is_python(block)]
COMMANDS = [
    pytest.param(command, id=f"{block.page}: {command[:40]}")
    for block in SHELL
    if not block.code.startswith(tuple(RUN_ELSEWHERE))
    for command in commands_of(block.code)
    if not command.startswith((*SKIPPED, *RUN_ELSEWHERE))
]


def test_at_most_five_reasons_excuse_blocks_and_each_start_is_of_one() -> None:
    assert len(NOT_RUN) <= 5
    everything = [block.code for page in PAGES for block in blocks_of(page)]
    lines = [command for code in everything for command in commands_of(code)]
    known = (*everything, *lines)
    unused = [start for start in (*SKIPPED, *RUN_ELSEWHERE) if not any(code.startswith(start) for code in known)]
    assert unused == []


@pytest.mark.parametrize("test", sorted({*TESTED.values(), *RUN_ELSEWHERE.values()}))
def test_tests_that_are_named_here_exist(test: str) -> None:
    assert (ROOT / test).is_file()


@pytest.fixture
def folder(reader: Path) -> Path:
    """The reader's, with the further photos that pages name."""
    with PIL.Image.open(reader / "photo.jpg") as photo:
        photo.resize((640, 426)).save(reader / "photo.jpg")
        photo.save(reader / "panorama.jpg")
    (reader / "src").symlink_to(ROOT / "src")
    return reader


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page}: {block.code[:30]!r}")
def test_python_blocks_run(folder: Path, block: Block) -> None:
    # Blocks that are only indented show a line or two with names of the package.
    known = {} if block.language else {name: getattr(transformers_tcm, name) for name in transformers_tcm.__all__}
    exec(compile(block.code, block.page, "exec"), known)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(folder: Path, command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "transformers-tcm"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output


def test_every_option_of_a_command_in_the_documentation_exists() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    lines = [command for page in PAGES for block in blocks_of(page) for command in commands_of(block.code)]
    calls = [shlex.split(line.split(" && ")[0]) for line in lines if line.startswith("transformers-tcm ")]
    assert len(calls) > 20
    for _, name, *arguments in calls:
        parameters = group.commands[name].params
        known = {option for one in parameters for option in (*one.opts, *one.secondary_opts)}
        given = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
        assert given <= known | {"--help"}, (name, given - known)
