"""`transformers-tcm spot`, with a spotter that takes every image for one big word and reads it as "A"."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from spotting_fakes import tiny_spotter_config
from tiny_settings import SETTINGS
from typer.testing import CliRunner

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting, TCMImageProcessorPil, TextInstances
from transformers_tcm.cli import app
from transformers_tcm.data.loaders import load_jsonl

Run = Callable[..., Result]
# The word of 0.8 in probability is "A", and "B" is the second best.
PROBABILITIES = {"A": 0.8, "B": 0.15}


def constant(layer: torch.nn.Module, bias: float | torch.Tensor) -> None:
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.as_tensor(bias).expand_as(layer.bias))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_spotter_config(decoder="ctc")
    torch.manual_seed(0)
    spotter = TCMForTextSpotting(config)
    constant(spotter.head.probability[-1], 3.0)
    charset = config.recognizer_settings.charset
    logits = torch.full((len(charset) + 2,), 1e-6)
    for character, probability in PROBABILITIES.items():
        logits[charset.index(character)] = probability
    constant(spotter.recognizer.decoder, logits.log())
    folder = tmp_path_factory.mktemp("model")
    spotter.save_pretrained(folder)
    TCMImageProcessorPil(size={"longest_edge": 160}, text_threshold=0.5).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def speller(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a language model that expects the letter "b" everywhere."""
    recognizer = TCMConfig.from_pretrained(model).recognizer
    language = {"context": 2, "embedding_size": 4, "hidden_size": 8}
    spotter = TCMForTextSpotting.from_pretrained(model, recognizer={**recognizer, "language_model": language})
    spelling = spotter.recognizer.language_model
    preferred = torch.zeros(spelling.embedding.num_embeddings)
    preferred[spelling.symbols[spotter.recognizer.settings.charset.index("B")]] = 20.0
    constant(spelling.output[1], preferred)
    folder = tmp_path_factory.mktemp("speller")
    spotter.save_pretrained(folder)
    TCMImageProcessorPil.from_pretrained(model).save_pretrained(folder)
    return folder


@pytest.fixture
def run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `spot` in an empty folder with one photo, results in `out`."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (160, 96)).save("street.png")

    def spot(*arguments: object) -> Result:
        command = ["spot", "street.png", "--model", str(model), "--output", "out", "--force", *map(str, arguments)]
        result = CliRunner().invoke(app, command)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return spot


def read() -> list[dict]:
    return json.loads(Path("out/street.json").read_text(encoding="utf-8"))["instances"]


def write_lexicon(*words: str) -> str:
    Path("words.txt").write_text("\n".join(words), encoding="utf-8")
    return "words.txt"


def test_json_holds_words(run: Run) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert result.stdout == "A\n1 word in 1 of 1 image; results in out: street.json\n"
    [word] = read()
    assert set(word) == {"score", "label", "box", "polygon", "text", "text_score", "line"}
    assert word["line"] == 0
    assert word["text"] == "A"
    assert word["text_score"] == pytest.approx(0.8 / 0.95, abs=0.01)


def test_icdar_lines_end_with_the_word(run: Run) -> None:
    assert run("--format", "icdar").exit_code == 0
    text = Path("out/res_street.txt").read_text(encoding="utf-8")
    assert all(number.isdigit() for number in text.strip().split(",")[:8])
    found = TextInstances.from_icdar(text)
    assert found.texts == ["A"]
    assert found.polygons[0] == pytest.approx(np.array([[0, 0], [160, 0], [160, 96], [0, 96]]), abs=3)


def test_text_is_what_is_printed(run: Run) -> None:
    Image.new("RGB", (160, 96)).save("b.png")
    result = run("b.png", "--format", "text", "--draw")
    assert Path("out/street.txt").read_text(encoding="utf-8") == "A\n"
    assert result.stdout == (
        "==> street.png <==\nA\n==> b.png <==\nA\n"
        "2 words in 2 of 2 images; results in out: street.txt, street_text.png, b.txt, b_text.png\n"
    )
    assert run("--format", "text", "--quiet").stdout == ""


def test_json_lines_are_what_the_loader_reads(run: Run) -> None:
    assert run("--format", "jsonl").exit_code == 0
    [row] = load_jsonl("out/results.jsonl")
    assert row["texts"] == ["A"]
    line = json.loads(Path("out/results.jsonl").read_text(encoding="utf-8"))
    assert line["text_scores"] == pytest.approx([0.8 / 0.95], abs=0.01)


def test_a_language_model_is_asked_unless_told_otherwise(run: Run, speller: Path) -> None:
    texts, scores = [], []
    for arguments in ((), ("--language-model",), ("--no-language-model",)):
        assert run("--model", speller, "--text-threshold", 0, *arguments).exit_code == 0
        [word] = read()
        texts.append(word["text"])
        scores.append(word["text_score"])
    assert texts[0] == texts[1]
    assert "B" in texts[0]
    assert texts[2] == "A"
    assert scores[0] == scores[1] < scores[2]  # letters that spelling chose look less clear


def test_draw_writes_the_word(run: Run) -> None:
    assert run("--draw").exit_code == 0
    with_word = np.asarray(Image.open("out/street_text.png"))
    assert run("--draw", "--text-threshold", "0.99").exit_code == 0
    without = np.asarray(Image.open("out/street_text.png"))
    assert with_word.max() > 200
    assert without.max() == 0


@pytest.mark.parametrize(
    ("words", "options", "expected"),
    [
        (["a", "word"], [], ["a"]),
        (["Straße", "b"], [], ["b"]),
        (["word"], [], []),
        (["word"], ["--lexicon-rule", "nearest"], ["word"]),
        (["xy"], ["--max-distance", "2.5"], ["xy"]),
        (["x", "B"], ["--lexicon-rule", "weighted"], ["B"]),
    ],
)
def test_lexicons(run: Run, words: list[str], options: list[str], expected: list[str]) -> None:
    result = run("--lexicon", write_lexicon(*words), *options)
    assert result.exit_code == 0, result.output
    assert [word["text"] for word in read()] == expected


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (None, ["--lexicon", "nowhere.txt"], "nowhere.txt"),
        ([""], ["--lexicon", "words.txt"], "words.txt is empty"),
        (["señor"], ["--lexicon", "words.txt"], "cannot read: 'Ñ' in 'señor'"),
        (["a"], ["--lexicon", "words.txt", "--lexicon-rule", "closest"], "closest"),
        (["a"], ["--lexicon", "words.txt", "--lexicon-rule", "nearest", "--max-distance", "1"], "takes every distance"),
        (["a"], ["--lexicon", "words.txt", "--max-distance", "0"], "must be positive"),
        (None, ["--max-distance", "2"], "give it with --lexicon"),
        (None, ["--text-threshold", "2"], "--text-threshold"),
    ],
)
def test_wrong_usage_exits_with_2(run: Run, words: list[str] | None, options: list[str], message: str) -> None:
    if words is not None:
        write_lexicon(*words)
    result = run(*options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not Path("out").exists()


def test_a_detector_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    TCMForTextDetection(TCMConfig(**SETTINGS)).save_pretrained(tmp_path / "detector")
    TCMImageProcessorPil().save_pretrained(tmp_path / "detector")
    result = run("--model", "detector")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "describes a detector" in result.stderr


def test_help_explains_the_formats_and_rules() -> None:
    text = CliRunner().invoke(app, ["spot", "--help"]).stdout
    assert "x1,y1,x2,y2,x3,y3,x4,y4,word" in text
    assert "transformers-tcm spot photo.jpg --draw\n" in text
    assert all(f"\n    {rule}" in text for rule in ("within", "nearest", "weighted"))
