"""The trained models that are installed along with the package."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "BUNDLED_MODELS",
    "DEFAULT_MODEL",
    "DEFAULT_SPOTTER",
    "bundled_model_path",
    "folder_of_bundled",
    "take_bundled_names",
]

BUNDLED_MODELS = Path(__file__).parents[1] / "bundled"
DEFAULT_MODEL = "fasttcm-dbnet-tiny"
DEFAULT_SPOTTER = "fasttcm-spotter-tiny"


def bundled_model_path(name: str = DEFAULT_MODEL) -> Path:
    """Folder of a bundled model, for `from_pretrained` and `pipeline(…, model=…)`.

    Raises:
        ValueError: naming the bundled models, if `name` is none of them.
    """
    names = sorted(config.parent.name for config in BUNDLED_MODELS.glob("*/config.json"))
    if name not in names:
        raise ValueError(f"no bundled model is called {name!r}; there are: {', '.join(names) or 'none'}")
    return BUNDLED_MODELS / name


def folder_of_bundled(name: Any) -> Any:
    """The folder of a bundled model for its name, unless a folder here is called so; anything else as it is.

    Raises:
        ValueError: for `fasttcm-…` that is none of them.
    """
    if not isinstance(name, str) or "/" in name or not name or Path(name).exists():
        return name
    # Names on the Hub have an owner in front; what only looks like one of ours is an error that says which there are.
    return str(bundled_model_path(name)) if name.startswith("fasttcm-") else name


def take_bundled_names(owner: Any, name: str) -> None:
    """Let a function or class method, whose first argument names a model, take those of the bundled models too.

    Doing it again changes nothing.

    Args:
        owner: the class or module.
        name: of the method or function there.
    """
    original = getattr(owner, name)
    if hasattr(original, "takes_bundled_names"):
        return
    is_method = isinstance(owner, type)
    function: Callable[..., Any] = original.__func__ if is_method else original

    @functools.wraps(function)
    def with_names(*arguments: Any, **kwargs: Any) -> Any:
        given = list(arguments)
        place = 1 if is_method else 0  # the class comes first
        if len(given) > place:
            given[place] = folder_of_bundled(given[place])
        for keyword in ("pretrained_model_name_or_path", "path_or_repo_id", "model_id"):
            if keyword in kwargs:
                kwargs[keyword] = folder_of_bundled(kwargs[keyword])
        return function(*given, **kwargs)

    with_names.takes_bundled_names = True  # type: ignore[attr-defined]
    setattr(owner, name, classmethod(with_names) if is_method else with_names)
