"""The Dockerfile, as far as it can be looked at without Docker; `scripts/check_dockerfile.py` runs its steps."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from transformers_tcm.cli import app

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("check_dockerfile")


def test_the_image_has_a_user_a_health_check_and_a_command_that_exists(script: ModuleType) -> None:
    steps = script.parse_dockerfile((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    values = dict(steps)
    assert values["USER"] == "service"
    names = [step.name for step in steps]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name == "RUN")
    assert f":{values['EXPOSE']}/healthz" in values["HEALTHCHECK"]
    program, command, *_ = json.loads(values["ENTRYPOINT"])
    assert program == "transformers-tcm"
    assert command in {one.callback.__name__ for one in app.registered_commands}


def test_what_is_copied_exists_and_is_not_ignored(script: ModuleType) -> None:
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copies = [
        step.value.split()[:-1]
        for step in script.parse_dockerfile((ROOT / "Dockerfile").read_text("utf-8"))
        if step.name == "COPY" and "--from" not in step.value
    ]
    sources = [source for copy in copies for source in copy]
    assert "src" in sources
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in kept


def test_lines_are_joined_and_unknown_instructions_refused(script: ModuleType) -> None:
    assert script.parse_dockerfile("# no\nRUN a \\\n    b\n") == [("RUN", "a b")]
    with pytest.raises(ValueError, match="VOLUME"):
        script.parse_dockerfile("VOLUME /data")
