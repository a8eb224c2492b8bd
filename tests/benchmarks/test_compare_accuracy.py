"""The side-by-side comparison: RapidOCR's words, the process that gives them, turns, and the table."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from transformers_tcm import TextInstances

# Takes the place of RapidOCR: reads the name of each image as one line, and knows no image called "bad.png".
FAKE_WORKER = """
import json, sys
from pathlib import Path
print(json.dumps({"versions": {"rapidocr": "3.10.0"}, "model_bytes": 2_500_000}), flush=True)
for line in sys.stdin:
    name = Path(line.rstrip("\\n")).stem
    if name == "crash":
        sys.exit(3)
    box = [[0, 0], [20, 0], [20, 10], [0, 10]]
    answer = {"error": name + ": not an image"} if name == "bad" else {
        "seconds": 0.25, "lines": [{"text": name, "words": [[name, box]]}]}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def fake_command(tmp_path: Path) -> list[str]:
    path = tmp_path / "worker.py"
    path.write_text(FAKE_WORKER, encoding="utf-8")
    return [sys.executable, str(path)]


def box(left: float, right: float) -> list[list[float]]:
    """A word between two places of a line that is 10 pixels high."""
    return [[left, 0], [right, 0], [right, 10], [left, 10]]


def line(text: str | None, *words: tuple[str, float, float]) -> dict:
    return {"text": text, "words": [[word, box(left, right)] for word, left, right in words]}


def as_tuples(words: TextInstances) -> list[tuple[str, float, float]]:
    """Each word with its left and right end."""
    return [(text, left, right) for text, (left, _, right, _) in zip(words.texts, words.boxes.tolist(), strict=True)]


SHOP = line("HAIR SALON", ("HAIR", 0, 40), ("SAL", 50, 80), ("ON", 80, 100))
CHINESE = line("新品 A1", ("新", 0, 10), ("品", 10, 20), ("A", 30, 40), ("1", 40, 50))


def test_word_boxes_as_they_come(script: ModuleType) -> None:
    words = script.words_as_they_come([SHOP, CHINESE, line("EXIT", (" EXIT", 0, 30))])
    assert words.texts == ["HAIR", "SAL", "ON", "新", "品", "A", "1", "EXIT"]
    assert words.boxes[1].tolist() == [50, 0, 80, 10]


def test_word_boxes_joined_between_spaces(script: ModuleType) -> None:
    assert as_tuples(script.joined_words([SHOP, CHINESE])) == [
        ("HAIR", 0, 40),
        ("SALON", 50, 100),
        ("新品", 0, 20),
        ("A1", 30, 50),
    ]


@pytest.mark.parametrize("text", [None, "", "SALE ON", "SALON", "SALON 24h"])
def test_lines_that_do_not_add_up_stay_as_they_come(script: ModuleType, text: str | None) -> None:
    parts = [("SAL", 0, 30), ("ON", 30, 50), ("!", 50, 55)]
    assert as_tuples(script.joined_words([line(text, *parts)])) == parts


def test_nothing_found(script: ModuleType) -> None:
    assert len(script.words_as_they_come([])) == len(script.joined_words([])) == 0
    assert script.words_as_they_come([]).texts == []


def test_process_answers_image_by_image(script: ModuleType, fake_command: Sequence[str]) -> None:
    with script.started(fake_command) as worker:
        system = script.rapidocr_system(worker)
        assert system.megabytes == 2.5
        assert [row.split(",")[0] for row in system.rows] == ["RapidOCR 3.10.0"] * 2
        for name in ("EXIT", "SALE"):
            (words, joined), seconds = system.run(Path(f"{name}.png"))
            assert words.texts == joined.texts == [name]
            assert seconds == 0.25
        with pytest.raises(RuntimeError, match="RapidOCR failed on bad: not an image"):
            worker.ask(Path("bad.png"))
        assert worker.ask(Path("after.png"))["lines"][0]["text"] == "after"
    assert worker.process.returncode == 0


def test_process_that_ends_is_an_error(script: ModuleType, fake_command: Sequence[str]) -> None:
    with script.started(fake_command) as worker, pytest.raises(RuntimeError, match="ended with exit code 3"):
        worker.ask(Path("crash.png"))
    with pytest.raises(RuntimeError, match="ended with exit code 5"):
        script.Worker([sys.executable, "-c", "raise SystemExit(5)"])


def test_systems_take_turns_and_every_row_is_scored(script: ModuleType) -> None:
    photos = [(Path(f"{i}.png"), TextInstances([box(0, 40), box(60, 90)], texts=["HAIR", "CUT"])) for i in range(3)]
    runs = []

    def system(name: str, views: list[TextInstances], times: list[float], reads: bool = True) -> object:
        clock = iter([9.0, *times])  # 9 s to warm up, which do not count

        def run(path: Path) -> tuple[list[TextInstances], float]:
            runs.append(name + path.stem)
            return views, next(clock)

        return script.System([f"{name} {i}" for i in range(len(views))], 1.5, run, reads)

    both = TextInstances([box(0, 40), box(60, 90)], texts=["hair", "OUT"])
    one = TextInstances([box(0, 40)], texts=["hair"])
    systems = [system("a", [one], [1, 2, 6], reads=False), system("b", [both, one], [3, 3, 4])]
    rows = script.report(systems, script.measure(systems, photos))

    assert runs == ["a0", "b0", "a0", "b0", "b1", "a1", "a2", "b2"]
    assert [row["system"] for row in rows] == ["a 0", "b 0", "b 1"]
    assert [row["median_seconds"] for row in rows] == [2, 3, 3]
    assert rows[0]["end_to_end"] is None
    assert rows[1]["detection"]["hmean"] == 1
    assert rows[1]["end_to_end"]["hmean"] == 0.5
    assert rows[2]["detection"]["recall"] == 0.5
    assert len(rows[1]["end_to_end"]["images"]) == 3
    json.dumps(rows)


def test_table(script: ModuleType) -> None:
    detection = {"precision": 0.5, "recall": 0.25, "hmean": 1 / 3}
    row = {"detection": detection, "median_seconds": 0.1234, "megabytes": 15.75}
    rows = [{"system": "finds", "end_to_end": None, **row}, {"system": "reads", "end_to_end": {"hmean": 0.2}, **row}]
    assert script.table(rows).splitlines() == [
        "| system | precision | recall | hmean | end-to-end hmean | s per image | model MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| finds | 0.500 | 0.250 | 0.333 |  | 0.123 | 15.8 |",
        "| reads | 0.500 | 0.250 | 0.333 | 0.200 | 0.123 | 15.8 |",
    ]


def test_failed_installation_names_the_remedy(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def run(command: Sequence[object], **_: object) -> subprocess.CompletedProcess:
        commands.append([str(part) for part in command])
        return subprocess.CompletedProcess(command, returncode=int("pip" in command))

    monkeypatch.setattr(script.subprocess, "run", run)
    with pytest.raises(RuntimeError, match=r"pip failed with exit code 1.*--environment"):
        script.install_rapidocr(tmp_path / "env")
    assert commands[0] == [sys.executable, "-m", "venv", str(tmp_path / "env")]
    assert commands[1][-2:] == ["rapidocr==3.10.0", "onnxruntime"]


def test_environment_with_rapidocr_is_left_alone(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = script.python_of(tmp_path)
    python.parent.mkdir()
    python.touch()
    done = subprocess.CompletedProcess([], returncode=0, stdout="3.10.0\n")
    monkeypatch.setattr(script.subprocess, "run", lambda *_, **__: done)
    assert script.install_rapidocr(tmp_path) == python
