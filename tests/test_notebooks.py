"""Notebooks are stored without results, name no place of one machine, are linked, and run from end to end."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from docs_pages import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# A path that begins at the root of a disk, on any system.
ABSOLUTE = re.compile(r"""["'](/[a-z]+/|~/|[A-Z]:[\\/])""")

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def content(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_results_are_stripped(path: Path) -> None:
    notebook = content(path)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    # Versions of the machine that it was last run on do not belong into it.
    assert notebook["metadata"]["language_info"] == {"name": "python"}


def test_no_absolute_paths(path: Path) -> None:
    for cell in content(path)["cells"]:
        assert not ABSOLUTE.search("".join(cell["source"]))


def test_links_and_the_page_of_notebooks(path: Path) -> None:
    cells = ["".join(cell["source"]) for cell in content(path)["cells"] if cell["cell_type"] == "markdown"]
    targets = re.findall(r"\]\(([^)#\s]+)", "\n".join(cells))
    assert cells[0].startswith("# ")
    assert targets
    assert [target for target in targets if not (path.parent / target).exists()] == []
    assert f"](../notebooks/{path.name})" in (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_runs_to_the_end(path: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    shutil.copytree(ROOT / "examples" / "images", tmp_path / "examples" / "images")
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path / "notebooks")}}
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources=resources).execute()
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
