"""The benchmarks as modules: they import their neighbours, as Python does where one is run as a script."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest) -> ModuleType:
    """`NAME.py` of the benchmarks, for `test_NAME.py`."""
    return importlib.import_module(request.path.stem.removeprefix("test_"))
