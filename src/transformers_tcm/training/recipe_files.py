"""Recipes: the arguments of a training script in a file, which the command line overrides."""

import argparse
import difflib
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from ..text_files import read_text

__all__ = ["json_settings", "parse_recipe", "recipe_file"]

# What `--smoke` makes of a recipe: two steps that show whether the recipe and its data work.
_SMOKE: dict[str, Any] = {
    "max_steps": 2,
    "epochs": None,
    "crop_size": 96,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "bf16": False,
    "warmup_steps": 0,
    "logging_steps": 1,
    "save_strategy": "no",
}

# Of a recipe, what means nothing, and is refused by torch or transformers, without processes that load the data.
_OF_WORKERS = ("dataloader_persistent_workers", "dataloader_prefetch_factor")


def parse_recipe(*argument_classes: type, arguments: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Arguments of a script from one YAML or JSON file, if it is named first, then from the command line.

    Args:
        argument_classes: dataclasses, as `HfArgumentParser` takes them.
        arguments: in place of those the script was called with.

    Returns:
        An object of each class.

    Raises:
        FileNotFoundError: if there is no such recipe.
        ValueError: if the file cannot be read as settings, or one of them is unknown or given twice.
    """
    parser = HfArgumentParser(argument_classes)  # type: ignore[arg-type]
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if recipe_file(arguments) is None:
        return parser.parse_args_into_dataclasses(arguments)
    recipe, *overrides = arguments
    given = {override[2:].split("=")[0].replace("-", "_") for override in overrides if override.startswith("--")}
    from_recipe: list[str] = []
    settings = _read_recipe(Path(recipe))
    _check_names(settings, _names(argument_classes), recipe)
    if "--smoke" in overrides:
        settings |= {name: _SMOKE[name] for name in _SMOKE.keys() & _names(argument_classes)}
    if _workers(overrides, settings) == 0:
        settings = {name: value for name, value in settings.items() if name not in _OF_WORKERS}
    for name, value in settings.items():
        # An empty list is as good as none.
        if name not in given and value is not None and value != []:
            values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
            from_recipe += [f"--{name}", *map(str, values)]
    return parser.parse_args_into_dataclasses(from_recipe + overrides)


def _names(argument_classes: Iterable[type]) -> set[str]:
    """The settings that the classes have."""
    return {name for one in argument_classes for name in getattr(one, "__dataclass_fields__", ())}


def _check_names(settings: Iterable[str], known: Collection[str], where: str) -> None:
    for name in settings:
        if name not in known:
            alike = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(alike)}?" if alike else f"there are {', '.join(sorted(known))}"
            raise ValueError(f"{where}: there is no setting {name!r}; {hint}")


def json_settings(option: str, text: str | None, known: Collection[str]) -> dict[str, Any]:
    """Settings that a recipe gives as a mapping, and the command line as JSON.

    Args:
        option: what they are given for, without dashes.
        text: the JSON; `None` is as good as an empty object.
        known: names of the settings there are.

    Raises:
        ValueError: if the text is no JSON object, or a setting is unknown.
    """
    try:
        settings = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"--{option} is no JSON: {error}; it reads {text}") from error
    if not isinstance(settings, dict):
        raise ValueError(f'--{option} is no JSON object, such as {{"name": 1}}; it reads {text}')
    _check_names(settings, known, f"--{option}")
    return settings


def recipe_file(arguments: Sequence[str] | None = None) -> str | None:
    """The file that `parse_recipe` takes settings from; `None` if the arguments begin with none."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return arguments[0] if arguments and arguments[0].lower().endswith((".yaml", ".yml", ".json")) else None


def _read_recipe(path: Path) -> dict[str, Any]:
    """Settings of a YAML or JSON file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {path}")
    is_json = path.suffix.lower() == ".json"
    try:
        settings, names = (_json if is_json else _yaml)(read_text(path))
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no {'JSON' if is_json else 'YAML'}: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is no recipe; expected settings such as `max_steps: 1000`, a line for each")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path} gives {twice[0]!r} more than once; keep one of the lines")
    return {str(name).replace("-", "_"): value for name, value in settings.items()}


def _json(text: str) -> tuple[Any, list[str]]:
    """What a text holds, and the names of its settings as often as they are given."""
    pairs = json.loads(text, object_pairs_hook=tuple)
    settings = json.loads(text)
    return settings, [name for name, _ in pairs] if isinstance(settings, dict) else []


def _yaml(text: str) -> tuple[Any, list[str]]:
    """Likewise of YAML."""
    node = yaml.compose(text, yaml.SafeLoader)
    return yaml.safe_load(text), [name.value for name, _ in node.value] if isinstance(node, yaml.MappingNode) else []


def _workers(overrides: Sequence[str], settings: Mapping[str, Any]) -> int | None:
    """How many processes load the data, as the command line or the recipe says."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--dataloader_num_workers", "--dataloader-num-workers", type=int)
    given, _ = options.parse_known_args(overrides)
    workers = given.dataloader_num_workers
    return settings.get("dataloader_num_workers") if workers is None else workers
