"""What the installed package declares."""

import importlib
import importlib.util
from importlib import metadata, resources

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import transformers_tcm

# PyPI's torchvision beside another build of torch breaks all image processors of transformers; the others pull it in.
UNWANTED = {"torchvision", "timm", "open-clip-torch"}


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


@pytest.mark.parametrize("extra", ["", "train", "test", "dev"])
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
