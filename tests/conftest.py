"""Fixtures for all tests. Nothing here or in the tests reaches for the network."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Both are read when huggingface_hub and torch are first imported, hence before any test is.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The models under test are tiny, and `make test` runs as many processes as there are processors.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, however slow the machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

pytest_plugins = ["clip_fixtures", "docs_pages"]


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Reference numbers: the folder `TCM_GOLDEN_DIR` where set, otherwise the one among the fixtures."""
    return Path(os.environ.get("TCM_GOLDEN_DIR") or Path(__file__).parent / "fixtures" / "golden")


@pytest.fixture
def streams_that_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` sleeps for five seconds after every pass over a stream, for threads of remote files to end."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
