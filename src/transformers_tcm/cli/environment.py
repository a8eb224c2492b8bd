"""What a bug report should say about an installation."""

import importlib
import os
import platform
from importlib import metadata, util
from pathlib import Path

__all__ = ["describe_environment"]

_PACKAGES = (
    "torch",
    "transformers",
    "huggingface_hub",
    "tokenizers",
    "safetensors",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "shapely",
    "pyclipper",
    "rapidfuzz",
    "datasets",
    "accelerate",
    "evaluate",
)


def describe_environment() -> dict[str, str]:
    """Versions, platform, what torch computes with, and where models are kept, by name.

    Nothing in it is secret: no tokens, no contents of environment variables, and the home folder is written `~`.
    """
    import torch
    from huggingface_hub import constants

    from .. import __version__
    from ..models.tcm.backends import fastest_cpu_dtype

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "transformers-tcm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        **{name: _version(name) for name in _PACKAGES},
        "torchvision": _torchvision(),
        "torch threads": str(torch.get_num_threads()),
        "CUDA": f"{torch.version.cuda}: {', '.join(devices)}" if devices else "no device",
        "MPS": "yes" if torch.backends.mps.is_available() else "no",
        "half precision on the CPU": f"runs in {str(fastest_cpu_dtype()).removeprefix('torch.')}",
        "cache folder": _without_home(constants.HF_HUB_CACHE),
        "offline": "yes" if constants.HF_HUB_OFFLINE else "no",
        "package folder": _without_home(str(Path(__file__).parents[1])),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _torchvision() -> str:
    """One that does not fit torch makes all image processors of transformers fail."""
    if util.find_spec("torchvision") is None:
        return "not installed, not needed"
    try:
        importlib.import_module("torchvision")
    # Its operators raise RuntimeError beside another torch, damaged files anything.
    except Exception as error:
        return f"{_version('torchvision')}, BROKEN, uninstall it: {' '.join(str(error).split())}"
    return _version("torchvision")


def _without_home(folder: str) -> str:
    home = str(Path.home())
    return f"~{folder.removeprefix(home)}" if folder.startswith(home + os.sep) else folder
