"""`transformers-tcm datasets` and `transformers-tcm convert-dataset`."""

from pathlib import Path

from public_data_sets import unpack
from typer.testing import CliRunner

from transformers_tcm.cli import app
from transformers_tcm.data.known_datasets import KNOWN_DATASETS
from transformers_tcm.data.loaders import load_jsonl


def test_known_data_sets_are_listed_with_their_source() -> None:
    done = CliRunner().invoke(app, ["datasets"])
    assert done.exit_code == 0
    for name, known in KNOWN_DATASETS.items():
        assert name in done.stdout
        assert known.url in done.stdout


def test_what_lies_in_a_root_is_told(tmp_path: Path) -> None:
    unpack(tmp_path, "icdar2015", "train")
    lines = CliRunner().invoke(app, ["datasets", str(tmp_path)]).stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("icdar2015"))
    assert lines[start + 1].split() == ["train:", "there"]
    assert "test: no ch4_test_images and no Challenge4_Test_Task1_GT" in lines[start + 2]
    assert sum("not there" in line for line in lines) == len(KNOWN_DATASETS) - 1
    missing = CliRunner().invoke(app, ["datasets", str(tmp_path / "nowhere")])
    assert (missing.exit_code, "no such folder" in missing.stderr) == (2, True)


def test_a_data_set_becomes_json_lines_or_parquet(tmp_path: Path) -> None:
    unpack(tmp_path, "td500", "test")
    arguments = ["convert-dataset", "td500", str(tmp_path), str(tmp_path / "out"), "--split", "test"]
    done = CliRunner().invoke(app, [*arguments, "--format", "jsonl"])
    assert (done.exit_code, done.stdout) == (0, f"1 file in {tmp_path / 'out'}: test.jsonl\n")
    assert load_jsonl(tmp_path / "out" / "test.jsonl")[0]["ignore"] == [False, True]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (tmp_path / "out" / "test-00000.parquet").is_file()


def test_what_cannot_be_converted_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["convert-dataset", "td500", str(tmp_path), str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "MSRA-TD500, split 'train': there is no train" in done.stderr
    assert "published at http" in done.stderr
