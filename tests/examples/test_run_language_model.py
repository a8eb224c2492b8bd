"""The example that teaches a spotter's language model, run as a user would."""

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch
from spotting_fakes import tiny_spotter_config
from tiny_settings import SETTINGS

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting, TCMImageProcessor

FOLDER = Path(__file__).parents[2] / "examples" / "text-spotting"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    specification = importlib.util.spec_from_file_location("run_language_model", FOLDER / "run_language_model.py")
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "run_language_model", module)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def spotter(tmp_path: Path) -> Path:
    folder = tmp_path / "spotter"
    TCMForTextSpotting(tiny_spotter_config()).save_pretrained(folder)
    TCMImageProcessor(text_threshold=0.5).save_pretrained(folder)
    return folder


def word_list(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def test_teaches_words_and_nothing_else(
    script: ModuleType, spotter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {
        "model_name_or_path": str(spotter),
        "words": [word_list(tmp_path / "words.txt", "sale\t9", "open\t4")],
        "language_model": {"context": 3, "embedding_size": 8, "hidden_size": 32},
        "output_dir": str(tmp_path / "taught"),
        "max_steps": 60,
        "per_device_train_batch_size": 16,
        "learning_rate": 0.01,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["run_language_model.py", str(tmp_path / "recipe.json")])
    script.main()
    before, after = (TCMForTextSpotting.from_pretrained(folder) for folder in (spotter, tmp_path / "taught"))
    assert after.recognizer.settings.language_model["hidden_size"] == 32
    for name, weight in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], weight), name
    likelihood = script.WordLikelihood(after.recognizer.language_model, after.recognizer.settings.charset)
    losses = [likelihood(**script.collate([word]))["loss"].item() for word in ("Sale", "OPEN", "lase")]
    assert losses[0] < losses[1] < losses[2] - 1
    assert TCMImageProcessor.from_pretrained(tmp_path / "taught").text_threshold == 0.5


def test_teaches_the_language_model_inside_of_abinet(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"language_hidden_size": 32, "language_layers": 1, "language_heads": 2, "language_mlp_size": 32}
    spotter = TCMForTextSpotting(tiny_spotter_config(decoder="abinet", **small))
    spotter.save_pretrained(tmp_path / "spotter")
    TCMImageProcessor().save_pretrained(tmp_path / "spotter")
    words = word_list(tmp_path / "words.txt", "sale", "open")
    arguments = ["--model_name_or_path", str(tmp_path / "spotter"), "--words", words, "--max_steps", "60"]
    arguments += ["--output_dir", str(tmp_path / "taught"), "--use_cpu", "true", "--learning_rate", "0.01"]
    arguments += ["--per_device_train_batch_size", "16", "--disable_tqdm", "true", "--report_to", "none"]
    monkeypatch.setattr(sys, "argv", ["run_language_model.py", *arguments])
    script.main()
    taught = TCMForTextSpotting.from_pretrained(tmp_path / "taught")
    before, after = spotter.state_dict(), taught.state_dict()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("recognizer.decoder.language.") for name in changed)
    likelihood = script.WordLikelihood(taught.recognizer.spelling.eval(), taught.recognizer.settings.charset)
    losses = [likelihood(**script.collate([word]))["loss"].item() for word in ("sale", "open", "lase")]
    assert max(losses[:2]) < losses[2] - 1


def test_a_recogniser_that_learns_from_pictures_alone_is_refused(script: ModuleType, tmp_path: Path) -> None:
    TCMForTextSpotting(tiny_spotter_config(decoder="attention")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="goes with the decoder 'ctc'; 'attention' learns one itself"):
        script.LanguageArguments(str(tmp_path), []).load()


def test_shares(script: ModuleType, tmp_path: Path) -> None:
    """Lists count as their weights say, words within a list by a power of their frequency."""
    lists = [word_list(tmp_path / "a", "to\t16", "be\t1"), word_list(tmp_path / "b", "be", "or", "or", "or", "or")]
    shares = script.LanguageArguments("model", lists, words_weights=[3.0, 1.0]).shares()
    assert shares == pytest.approx({"to": 3 * 4 / 5, "be": 3 * 1 / 5 + 1 / 3, "or": 2 / 3})
    words = script.DrawnWords(shares, 2000, seed=0)
    drawn = [words[index] for index in range(2000)]
    assert drawn == [words[index] for index in range(2000)]
    frequencies = {word: count / 2000 for word, count in Counter(drawn).items()}
    assert frequencies == pytest.approx({word: share / 4 for word, share in shares.items()}, abs=0.03)


def test_words_with_spaces_are_words(script: ModuleType, tmp_path: Path) -> None:
    assert script.load_frequencies(word_list(tmp_path / "a", "19 99", "New York\t3")) == {"19 99": 1, "New York": 3}


@pytest.mark.parametrize("line", ["sale\tnine", "sale\t1\t2", "\t4", ""])
def test_bad_lines_are_named(script: ModuleType, tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match="a, line 2: expected `word` or `word<tab>frequency`"):
        script.load_frequencies(word_list(tmp_path / "a", "open", line))


def test_bad_arguments_are_named(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no words"):
        script.load_frequencies(word_list(tmp_path / "empty"))
    with pytest.raises(ValueError, match="1 --words_weights for 2 lists"):
        script.LanguageArguments("model", ["a", "b"], words_weights=[1.0]).shares()
    TCMForTextDetection(TCMConfig(**SETTINGS)).save_pretrained(tmp_path / "detector")
    with pytest.raises(ValueError, match=r"is a detector; run_text_spotting.py trains a"):
        script.LanguageArguments(str(tmp_path / "detector"), []).load()
