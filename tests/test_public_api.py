"""Every module says what is public in it, and every public name says what it is."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

import transformers_tcm

# A tuple such as (N, 2), (H, W, 3) or (4,), with or without a dtype after it.
SHAPE = re.compile(r"\((\.\.\.|…|\w+),[^()]*\)")
ARRAY = re.compile(r"ndarray|Tensor\b")
# By name, such as the weights of a model: they have no shape in common.
BY_NAME = re.compile(r"(dict|Mapping)\[str, (torch\.)?Tensor\]")

MODULES = [
    module.name
    for module in pkgutil.walk_packages(transformers_tcm.__path__, "transformers_tcm.")
    # Shims for the Hub are loaded by path; the page of the demo needs Gradio, which wants an environment of its own.
    if ".bundled" not in module.name and (module.name != "transformers_tcm.demo.page" or find_spec("gradio"))
]


def public_names(module_name: str) -> Iterator[tuple[str, Any]]:
    """Functions and classes of `__all__` that the module itself defines."""
    module = importlib.import_module(module_name)
    for name in module.__all__:
        value = getattr(module, name)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module_name:
            yield name, value


def functions(module_name: str) -> Iterator[tuple[str, Any, str]]:
    """Public functions and methods, each with its docstring or the one it inherits."""
    for name, value in public_names(module_name):
        if inspect.isfunction(value):
            yield name, value, inspect.getdoc(value) or ""
        else:
            fields = getattr(value, "__dataclass_fields__", {})  # a default may be a function
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_") and method not in fields:
                    doc = inspect.getdoc(getattr(value, method)) or ""
                    # torch documents a module by its class.
                    yield f"{name}.{method}", function, doc + (value.__doc__ or "") * (method == "forward")


@pytest.mark.parametrize("name", ["transformers_tcm", *MODULES])
def test_module_has_a_docstring_and_names_what_is_public(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    assert [public for public in module.__all__ if not hasattr(module, public)] == []


@pytest.mark.parametrize("module", MODULES)
def test_public_names_have_docstrings(module):
    undocumented = [
        name
        for name, value in public_names(module)
        # That of an undocumented dataclass is its signature.
        if not value.__doc__ or value.__doc__.startswith(f"{value.__name__}(")
    ]
    undocumented += [name for name, function, doc in functions(module) if not doc]
    assert undocumented == []


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_name_the_shapes_of_arrays(module):
    without_shapes = []
    for name, function, doc in functions(module):
        annotations = [BY_NAME.sub("", str(annotation)) for annotation in inspect.get_annotations(function).values()]
        if any(ARRAY.search(annotation) for annotation in annotations) and not SHAPE.search(doc):
            without_shapes.append(name)
    assert without_shapes == []
