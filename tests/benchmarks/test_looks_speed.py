"""The benchmark of further looks: all take turns on the photos asked for."""

import sys
from pathlib import Path

import pytest
from PIL import Image

PHOTO = Path(__file__).parents[2] / "examples" / "images" / "street.jpg"


def run(script, monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["looks_speed.py", *arguments])
    script.main()


def test_all_runs_are_timed_on_the_photos_asked_for(script, tmp_path, monkeypatch, capsys) -> None:
    for name in ("one.jpg", "two.jpg", "three.jpg"):
        Image.open(PHOTO).resize((480, 270)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("one\nthree.jpg\n")
    run(script, monkeypatch, "--images", str(tmp_path), "--include", str(tmp_path / "list.txt"), "--rounds", "1")
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("2 photos")
    assert [row[:24].strip() for row in rows] == [*script.RUNS, script.WITHOUT_BOUNDARIES]
    assert "1.00 times" in rows[0]
    assert rows[2].endswith("1.00 looks")


def test_a_folder_without_photos_is_named(script, tmp_path, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit):
        run(script, monkeypatch, "--images", str(tmp_path))
    assert f"{tmp_path} holds none of the photos asked for" in capsys.readouterr().err
