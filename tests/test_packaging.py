"""What the installed package declares."""

import importlib
import importlib.util
import os
import runpy
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata, resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import transformers_tcm

# PyPI's torchvision beside another build of torch breaks all image processors of transformers; the others pull it in.
UNWANTED = {"torchvision", "timm", "open-clip-torch"}
SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def check_package(monkeypatch):
    """`scripts/check_package.py` as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("check_package")


@pytest.fixture
def sources(tmp_path, check_package):
    """A folder with an empty file for each that a wheel cannot do without, and a cache."""
    contents = importlib.import_module("check_package_contents")
    for name in [*contents.ESSENTIAL, "__init__.py", "__pycache__/__init__.cpython-311.pyc"]:
        (tmp_path / "sources" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sources" / name).touch()
    return tmp_path / "sources"


def write_wheel(folder: Path, sources: Path, metadata_lines: str = "", without: str = "", more: tuple[str, ...] = ()):
    """A wheel of the sources with a few more files, or without one."""
    path = folder / "transformers_tcm-1-py3-none-any.whl"
    kept = [file.relative_to(sources).as_posix() for file in sources.rglob("*") if file.is_file()]
    with zipfile.ZipFile(path, "w") as wheel:
        for name in kept:
            if name != without and "__pycache__" not in name:
                wheel.writestr(f"transformers_tcm/{name}", "")
        wheel.writestr("transformers_tcm-1.dist-info/METADATA", f"Name: transformers-tcm\n{metadata_lines}\n")
        for name in ("transformers_tcm-1.dist-info/entry_points.txt", "transformers_tcm-1.dist-info/licenses/LICENSE"):
            wheel.writestr(name, "")
        for name in more:
            wheel.writestr(name, "")
    return path


def required_names(package: str, extras: frozenset[str]) -> set[str]:
    """Names of all packages that `package[extras]` pulls in, followed through the installed ones."""
    names: set[str] = set()
    todo, seen = [(package, extras)], set()
    while todo:
        visit = todo.pop()
        if visit in seen:
            continue
        seen.add(visit)
        name, extras = visit
        names.add(name)
        try:
            requirements = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:  # meant for another platform, or an extra that is not installed
            continue
        for requirement in requirements:
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return names


def test_version_of_the_installation_is_that_of_the_package():
    assert metadata.version("transformers-tcm") == transformers_tcm.__version__


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["transformers-tcm", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("transformers_tcm", run_name="__main__")
    assert ended.value.code == 0
    assert transformers_tcm.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("extra", ["", "train", "onnx", "openvino", "demo", "serve", "notebooks", "test", "dev"])
def test_no_requirement_pulls_in_torchvision(extra):
    names = required_names("transformers-tcm", frozenset({extra}))
    assert {"torch", "transformers", "shapely"} <= names
    assert not names & UNWANTED


def test_torchvision_is_absent_or_works():
    assert importlib.util.find_spec("torchvision") is None or importlib.import_module("torchvision")


def test_console_script_resolves():
    (script,) = metadata.entry_points(group="console_scripts", name="transformers-tcm")
    assert callable(script.load())


def test_types_are_marked_as_exported():
    assert resources.files(transformers_tcm).joinpath("py.typed").is_file()


def test_wheel_of_all_sources_has_no_mistakes(tmp_path, sources, check_package):
    assert check_package.wheel_mistakes(write_wheel(tmp_path, sources), sources) == []


@pytest.mark.parametrize(
    ("without", "more", "mistake"),
    [
        ("py.typed", (), "lacks py.typed"),
        ("__init__.py", (), "lacks __init__.py"),
        ("", ("transformers_tcm/left_over.py",), "left_over.py is not among the sources"),
        ("", ("tests/test_auto.py",), "tests/test_auto.py lies outside transformers_tcm"),
        ("", ("transformers_tcm/__pycache__/a.pyc",), "holds __pycache__/a.pyc"),
    ],
)
def test_mistakes_of_wheels_are_named(without, more, mistake, tmp_path, sources, check_package):
    mistakes = check_package.wheel_mistakes(write_wheel(tmp_path, sources, without=without, more=more), sources)
    assert any(line.endswith(mistake) for line in mistakes), mistakes


def test_mistakes_of_source_distributions_are_named(tmp_path, sources, check_package):
    path = tmp_path / "transformers_tcm-1.tar.gz"
    with tarfile.open(path, "w:gz") as sdist:
        for name in ("LICENSE", "README.md", "pyproject.toml", "tests/test_auto.py"):
            sdist.add(sources / "py.typed", f"transformers_tcm-1/{name}")
        sdist.add(sources, "transformers_tcm-1/src/transformers_tcm")
    assert {line.split(": ")[1] for line in check_package.sdist_mistakes(path)} == {
        "lacks setup.cfg",
        "holds tests/test_auto.py",
        "holds __pycache__/__init__.cpython-311.pyc",
    }


def test_lowest_versions_leave_out_torch_and_extras(tmp_path, sources, check_package):
    lines = [
        "Requires-Dist: torch>=2.6",
        "Requires-Dist: transformers<6,>=5.23",
        'Requires-Dist: datasets>=5.0; extra == "train"',
    ]
    wheel = write_wheel(tmp_path, sources, "\n".join(lines))
    assert check_package.lowest_versions(wheel) == ["transformers==5.23"]


def test_requirement_without_lower_bound_is_an_error(tmp_path, sources, check_package):
    with pytest.raises(check_package.CheckError, match="numpy"):
        check_package.lowest_versions(write_wheel(tmp_path, sources, "Requires-Dist: numpy<3"))


def test_check_without_a_package_index_says_so(tmp_path):
    """The status differs from that of a package with mistakes."""
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    run = subprocess.run(
        [sys.executable, SCRIPTS / "check_package.py"], env={**os.environ, **nowhere}, capture_output=True, text=True
    )
    assert run.returncode == 2, run.stderr
    assert "package index" in run.stdout


def test_broken_torchvision_is_named_before_transformers_fails(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is missing')")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", "import transformers_tcm"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert "uninstall torchvision" in run.stderr
