"""A Hub on loopback, clients of it in processes of their own, and small models to publish."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub.server import WRITER, HubServer
from tiny_settings import SETTINGS

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting, TCMImageProcessor

RECOGNIZER = {"channels": [8, 16, 16], "num_blocks": [0, 1, 0]}

Client = Callable[..., Any]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A new one for each test."""
    with HubServer().running() as server:
        yield server


def client_environment(hub: HubServer, home: Path, token: str | None, **changes: str) -> dict[str, str]:
    """What huggingface_hub reads when it is imported."""
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
        },
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
        **changes,
    }
    return environment if token is None else {**environment, "HF_TOKEN": token}


def run_client(
    hub: HubServer, home: Path, code: str, *arguments: object, token: str | None = WRITER, **changes: str
) -> Any:
    """Run code in a new process and return the JSON of its last line of output."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=client_environment(hub, home, token, **changes),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small detector with random weights, and thresholds of its own."""
    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    TCMForTextDetection(TCMConfig(fused=True, **SETTINGS)).save_pretrained(folder)
    TCMImageProcessor(size={"longest_edge": 160}, box_threshold=0.41, threshold=0.2).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=["testr", "deepsolo"])
def query_spotter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small spotter whose head reads what it finds, with random weights."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    head = {"hidden_size": 32, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "num_queries": 3}
    settings = {**SETTINGS, "head_type": request.param, "head_config": {**head, "charset": "abc"}}
    config = TCMConfig(**settings, fused=True)
    TCMForTextSpotting(config).save_pretrained(folder)
    TCMImageProcessor(size={"longest_edge": 160}, text_threshold=0.0).for_model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def spotter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small spotter with random weights."""
    folder = tmp_path_factory.mktemp("spotter")
    torch.manual_seed(0)
    TCMForTextSpotting(TCMConfig(fused=True, **SETTINGS, recognizer=RECOGNIZER)).save_pretrained(folder)
    TCMImageProcessor(size={"longest_edge": 160}, box_threshold=0.1, text_threshold=0.0).save_pretrained(folder)
    return folder
