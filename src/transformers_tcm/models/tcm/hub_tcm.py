"""What a saved model needs to load from the Hub where nobody has imported this package.

A configuration names classes of one module beside the weights, and that module is a single line that imports this
package. transformers runs it for `trust_remote_code=True` only, and says what to install where the package is missing.
"""

import os
from pathlib import Path
from typing import Any

__all__ = ["SHIM_FILE", "LoadsThroughShim", "auto_map", "take_publication_options", "write_shim"]

SHIM_FILE = "modeling_tcm_hub.py"
SHIM = "from transformers_tcm import *  # noqa: F403 (pip install transformers-tcm)\n"

# Arguments of `save_pretrained` that are about pushing to the Hub.
PUBLICATION_OPTIONS = (
    "repo_id",
    "commit_message",
    "commit_description",
    "private",
    "token",
    "revision",
    "create_pr",
    "tags",
)


def take_publication_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Remove those of the arguments of `save_pretrained` that are about pushing to the Hub, and return them."""
    return {name: arguments.pop(name) for name in PUBLICATION_OPTIONS if name in arguments}


def auto_map(**classes: str) -> dict[str, str]:
    """The entry `auto_map` of a configuration: for each auto class of transformers the class of this package."""
    return {auto_class: f"{Path(SHIM_FILE).stem}.{name}" for auto_class, name in classes.items()}


def write_shim(folder: str | os.PathLike[str]) -> None:
    """Put the module that `auto_map` refers to into a folder."""
    (Path(folder) / SHIM_FILE).write_text(SHIM, encoding="utf-8")


class LoadsThroughShim:
    """For classes that are saved beside the module above instead of a copy of their own source code."""

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Nothing for classes of this package: transformers calls it after loading, to save their source code later."""
        if not cls.__module__.startswith("transformers_tcm."):
            super().register_for_auto_class(auto_class)  # type: ignore[misc]
