from pathlib import Path

from typer.testing import CliRunner

from transformers_tcm.cli import app
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection


def test_convert_writes_a_model(golden_dir: Path, tmp_path: Path) -> None:
    source, config = golden_dir / "tcm_dbnet_tiny_official_keys.pth", golden_dir / "tcm_dbnet_tiny_config.json"
    result = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "out"), "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert "a tcm detector with" in result.output
    assert TCMForTextDetection.from_pretrained(tmp_path / "out").config.prompting == "tcm"


def test_convert_tells_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "clip.pt").touch()
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "clip.pt"), str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr == f"error: {tmp_path / 'clip.pt'} is empty; expected a checkpoint\n"
    assert not (tmp_path / "out").exists()
