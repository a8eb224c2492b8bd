"""Everything of `on_another_device.py`, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from pretend_device import CAN_PRETEND

TESTS = Path(__file__).with_name("on_another_device.py")


@pytest.mark.skipif(not CAN_PRETEND, reason="this torch knows no devices that are written in Python")
def test_models_and_pipelines_on_another_device() -> None:
    """Torch knows a device for good once it knows it, and libraries take it for the accelerator of the machine; at the
    first backward pass torch counts the devices, and takes notice of no later ones."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(TESTS)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "skipped" not in run.stdout
