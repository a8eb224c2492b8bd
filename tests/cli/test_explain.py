"""`transformers-tcm explain`, `context` and `env`, and what all commands have in common."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from detection_fakes import CONFIG
from PIL import Image
from typer.testing import CliRunner

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMImageProcessorPil, __version__
from transformers_tcm.cli import app, support


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with its text tower."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    TCMForTextDetection(TCMConfig(**{**CONFIG.to_dict(), "fused": False})).save_pretrained(folder)
    TCMImageProcessorPil(size={"longest_edge": 160}).save_pretrained(folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Image.fromarray(noise).save(f"{folder}/street.png")
    return tmp_path


def test_explain_draws_a_heat_map_of_each_photo(photos: Path, model: Path) -> None:
    result = run("explain", "a", "b", "--model", model, "--output", "out")
    assert (result.exit_code, result.stdout) == (
        0,
        "score maps of 2 of 2 images; results in out: street_score_map.png, street_2_score_map.png\n",
    )
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "street_2_score_map.png",
        "street_score_map.png",
    ]
    drawn = Image.open("out/street_score_map.png")
    assert drawn.size == (150, 90 + 28)  # and the bar of colours
    pixels = np.asarray(drawn)
    assert (pixels[:, :, 0] != pixels[:, :, 2]).any()  # the photo is grey below it


def test_explain_with_alpha_and_tiles(photos: Path, model: Path) -> None:
    run("explain", "a/street.png", "--model", model, "--output", "grey", "--alpha", 0, "--quiet")
    grey = np.asarray(Image.open("grey/street_score_map.png"))[:90]
    assert (grey[:, :, 0] == grey[:, :, 2]).all()
    Image.new("RGB", (400, 300)).save("large.png")
    result = run("explain", "large.png", "--model", model, "--output", "out", "--tile", 128)
    assert result.exit_code == 0, result.output
    assert Image.open("out/large_score_map.png").size == (400, 300 + 28)


def test_explain_replaces_pictures_only_when_told(photos: Path, model: Path) -> None:
    assert run("explain", "a", "--model", model, "--output", "out").exit_code == 0
    again = run("explain", "b", "--model", model, "--output", "out")
    assert again.exit_code == 2
    assert "out/street_score_map.png is there already" in again.stderr
    assert run("explain", "b", "--model", model, "--output", "out", "--force").exit_code == 0


def test_explain_reports_photos_that_cannot_be_read(photos: Path, model: Path) -> None:
    Path("broken.png").write_text("no image")
    result = run("explain", "broken.png", "a", "--model", model, "--output", "out")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: broken.png: not an image, or of a format that Pillow cannot read: convert it to PNG or JPEG first\n"
    )
    assert result.stdout == "score maps of 1 of 2 images; results in out: street_score_map.png\n"
    assert run("explain", "a", "--model", "nowhere").exit_code == 2


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_context_prints_a_line_for_each_vector(model: Path, distance: str) -> None:
    result = run("context", model, "--count", 3, "--distance", distance)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4"]
    for line in lines:
        near, median = line.removesuffix(")").split("  (median ")
        distances = [float(entry.rsplit(" ", 1)[1]) for entry in near.split("  ")[1:]]
        assert len(distances) == 3
        assert distances == sorted(distances)
        assert distances[-1] < float(median)


def test_context_of_a_fused_model_is_an_error_that_says_what_to_do() -> None:
    from transformers_tcm import bundled_model_path

    result = run("context", bundled_model_path())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "this model is fused" in result.stderr
    assert "from before `fuse_text_embeddings()`" in result.stderr
    assert result.stderr.count("\n") == 1
    assert run("context", "nowhere").exit_code == 2


def test_env_is_a_list_of_names_and_values() -> None:
    lines = run("env").stdout.splitlines()
    assert lines[0].split() == ["transformers-tcm", __version__]
    assert {"torch", "platform", "cache"} <= {line.split()[0] for line in lines}


def test_help_tells_the_exit_codes_and_how_to_complete() -> None:
    text = run("--help").stdout
    assert "Exit codes:\n    0  all was done\n    1  " in text
    assert "--install-completion" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --command")]
)
def test_completion_is_there_for_every_shell(shell: str, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    shown = run("--show-completion", shell)
    assert shown.exit_code == 0, shown.output
    assert mark in shown.stdout


@pytest.mark.parametrize(
    ("terminal", "no_color", "colored"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_errors_are_colored_on_a_terminal_only(
    terminal: bool, no_color: str, colored: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    support.complain("no  such\nfile")
    written = capsys.readouterr().err
    assert ("\x1b[" in written) is colored
    assert written.endswith(" no such file\n")
