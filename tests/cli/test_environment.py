"""What `transformers-tcm env` says."""

import platform
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch

from transformers_tcm import __version__
from transformers_tcm.cli.environment import describe_environment


def test_versions_platform_and_precision() -> None:
    facts = describe_environment()
    assert facts["transformers-tcm"] == __version__
    assert facts["python"] == platform.python_version()
    for package in ("torch", "transformers", "numpy", "opencv-python-headless"):
        assert facts[package] == metadata.version(package)
    assert facts["torch threads"] == str(torch.get_num_threads())
    assert facts["half precision on the CPU"] in ("runs in bfloat16", "runs in float32")
    assert "hub" in facts["cache folder"]


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", version)
    assert describe_environment()["accelerate"] == "not installed"


def test_a_torchvision_that_does_not_fit_is_called_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    assert "BROKEN, uninstall it: operator torchvision::nms" in describe_environment()["torchvision"]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert describe_environment()["torchvision"] == "not installed, not needed"


def test_no_secrets_and_no_name_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", "https://user:password@hub.example")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "somebody")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "somebody" / "cache" / "hub"))
    facts = describe_environment()
    assert facts["cache folder"] == "~/cache/hub"
    for secret in ("secret", "password", "somebody"):
        assert not any(secret in value for value in facts.values())
