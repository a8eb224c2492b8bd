"""The folder for a Hugging Face Space has the header that Spaces read, and it fits the package."""

import ast
from configparser import ConfigParser

import yaml
from docs_pages import ROOT
from packaging.requirements import Requirement

SPACE = ROOT / "examples" / "space"


def test_the_header_names_the_app_and_a_gradio_that_the_extra_takes() -> None:
    _, header, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(header)
    assert card["sdk"] == "gradio"
    assert (SPACE / card["app_file"]).is_file()
    assert len(card["short_description"]) <= 60  # as Spaces allow
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    gradio = Requirement(setup["options.extras_require"]["demo"].strip())
    assert gradio.specifier.contains(card["sdk_version"])
    assert "transformers-tcm[demo]" in (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()


def test_the_app_starts_the_page() -> None:
    tree = ast.parse((SPACE / "app.py").read_text(encoding="utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
    assert imported == {"launch_demo"}
