"""The example that lists words as they stand on signs."""

import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "text-spotting"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a list of so many words."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import sign_words

    (tmp_path / "english.txt").write_text("the\t1000000\nlighthouse\t100\nüber\t50\n", encoding="utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    (tmp_path / "crops.tsv").write_text("1.png\tStarbucks\n", encoding="utf-8")

    def written(count: int, seed: int = 0) -> list[str]:
        output = tmp_path / "signs.txt"
        arguments = ["--words", tmp_path / "english.txt", "--crops", tmp_path / "crops.tsv", "--output", output]
        monkeypatch.setattr(sys, "argv", ["sign_words.py", *map(str, [*arguments, "--count", count, "--seed", seed])])
        sign_words.main()
        return output.read_text(encoding="utf-8").splitlines()

    return written


def test_words_of_each_kind_in_printable_ascii(run) -> None:
    words = run(3000)
    assert len(words) == 3000
    assert max(map(len, words)) <= 18
    assert all(word.isascii() and word.isprintable() and " " not in word for word in words)
    # By the roots of their frequencies the one word comes a hundred times as often as the other.
    assert words.count("the") > 600 > 30 > words.count("lighthouse") > 0
    assert 200 < words.count("Starbucks") < 400
    assert any(word.startswith("#") and "-" in word for word in words)
    assert {"the,", "the:", "(the)"} <= set(words)
    assert sum("@" in word and "." in word for word in words) > 5


def test_a_seed_gives_the_same_words(run) -> None:
    assert run(50, seed=3) == run(50, seed=3) != run(50, seed=4)
