"""What contributors are told is what there is."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from docs_pages import PAGES

import transformers_tcm
from transformers_tcm.data.known_datasets import KNOWN_DATASETS
from transformers_tcm.models.tcm.heads import base

ROOT = Path(__file__).parents[1]


def test_pre_commit_runs_what_make_lint_runs() -> None:
    content = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    [hook] = [hook for repository in content["repos"] for hook in repository["hooks"]]
    assert (hook["entry"], hook["pass_filenames"]) == ("make lint", False)


@pytest.mark.parametrize("target", ["test-slow", "test-all"])
@pytest.mark.parametrize("has_driver", [False, True])
def test_the_slow_suite_tries_the_demo_in_a_browser_or_says_that_there_is_none(
    target: str, has_driver: bool, tmp_path: Path
) -> None:
    for name in ("make", "sh", "python3"):
        (tmp_path / name).symlink_to(shutil.which(name))
    if has_driver:
        (tmp_path / "chromedriver").touch(mode=0o755)
    # Variables of the make that runs the tests, such as PYTEST_ARGS, are not to reach this one.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "PYTEST_ARGS")}
    # Recipes that call make are run although nothing else is.
    done = subprocess.run(
        ["make", target, "--dry-run"],
        cwd=ROOT, env={**environment, "PATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ("pytest -q tests/demo" in done.stdout) == has_driver
    assert ("\nThe demo is not tested: there is no chromedriver" in done.stdout) != has_driver


@pytest.mark.parametrize(
    "template", [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
)
def test_issue_forms_ask_for_the_environment(template: Path) -> None:
    form = yaml.safe_load(template.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    assert "`transformers-tcm env`" in " ".join(field["attributes"]["label"] for field in form["body"])


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_files_that_are_named_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#\s]+)\)", text) if not target.startswith("http")]
    named = re.findall(r"`((?:src|tests)/[\w/.]+)`", text)
    assert links
    assert [name for name in links + named if not (ROOT / name).exists()] == []


def test_names_of_the_contract_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in ("DecodingSettings", "HeadInputs", "Regions", "check_range"):
        assert name in text
        assert hasattr(base, name)


def test_the_page_of_data_sets_has_all_of_them() -> None:
    page = (ROOT / "docs" / "data_sets.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([\w-]+)`", page, re.MULTILINE) == list(KNOWN_DATASETS)


def test_the_version_is_the_same_wherever_it_stands() -> None:
    version = transformers_tcm.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    newest = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert newest == version
    wheels = [re.findall(r"transformers_tcm-([\d.]+)-py3", (ROOT / page).read_text(encoding="utf-8")) for page in PAGES]
    assert {name for names in wheels for name in names} == {version}
