"""Loading a checkpoint with another configuration than its own: another head, another alphabet, other precision."""

import copy
import os
from typing import Any, NamedTuple

import torch
from torch import nn

from .configuration_tcm import TCMConfig

__all__ = [
    "Configurations",
    "check_precision",
    "configurations",
    "is_default_precision",
    "new_parts",
    "quantisation_without",
]

# Settings of `from_pretrained` by which the stored configuration is found.
_HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class Configurations(NamedTuple):
    """What a checkpoint was saved with, and what it is loaded with.

    Args:
        stored: the checkpoint's own configuration.
        chosen: the one that was given, or the stored one with the settings that were given.
        arguments: what is left of the arguments of `from_pretrained`, `chosen` as `config` among them.
    """

    stored: TCMConfig
    chosen: TCMConfig
    arguments: dict[str, Any]

    @property
    def replaces_head(self) -> bool:
        """Whether another kind of head is asked for."""
        return self.stored.head_type != self.chosen.head_type

    @property
    def replaces_charset(self) -> bool:
        """Whether the same kind of recogniser is asked for with other characters."""
        stored, chosen = self.stored.recognizer, self.chosen.recognizer
        if stored is None or chosen is None or stored["decoder"] != chosen["decoder"]:
            return False
        return bool(stored["charset"] != chosen["charset"])

    def with_stored_charset(self) -> TCMConfig:
        """The chosen configuration with characters and language model of the checkpoint."""
        assert self.stored.recognizer is not None  # as in all that `replaces_charset`
        config = copy.deepcopy(self.chosen)
        names = ("charset", "language_model")
        config.recognizer = {**(config.recognizer or {}), **{name: self.stored.recognizer[name] for name in names}}
        return config


def configurations(name: str | os.PathLike[str] | None, arguments: dict[str, Any]) -> Configurations | None:
    """The configurations of a call of `from_pretrained`, or `None` where nothing of interest can differ.

    Args:
        name: the checkpoint.
        arguments: the keyword arguments of the call.
    """
    given = arguments.get("config")
    if name is None or not (isinstance(given, TCMConfig) or {"head_type", "recognizer"} & arguments.keys()):
        return None
    hub = {argument: arguments[argument] for argument in _HUB_ARGUMENTS if argument in arguments}
    known_commit = getattr(given, "_commit_hash", None)  # spares a question to the Hub
    try:
        stored = TCMConfig.from_pretrained(name, **hub, **({"_commit_hash": known_commit} if known_commit else {}))
    except OSError:
        return None  # weights alone
    if isinstance(given, TCMConfig):
        return Configurations(stored, given, arguments)
    chosen, left = TCMConfig.from_pretrained(given or name, return_unused_kwargs=True, **arguments)
    return Configurations(stored, chosen, {**left, **hub, "config": chosen})


def new_parts(report: dict[str, Any]) -> list[str]:
    """The parts of a new head, `head.output` and so on, whose weights a checkpoint lacks or has in other sizes.

    Args:
        report: the loading info of `from_pretrained`.

    Raises:
        ValueError: if anything outside of the head has another size.
    """
    mismatched = [name for name, *_ in report["mismatched_keys"]]
    if others := [name for name in mismatched if not name.startswith("head.")]:
        raise ValueError(f"{len(others)} weights have other sizes in the checkpoint, such as {others[0]!r}")
    names = [name for name in (*report["missing_keys"], *mismatched) if name.startswith("head.")]
    return sorted({".".join(name.split(".")[:2]) for name in names})


def quantisation_without(config: Any, modules: str) -> Any:
    """A copy of a `quantization_config`, an object or a dict, that leaves modules as they are.

    Args:
        config: of any method of quantisation.
        modules: pattern of their names.
    """
    config = copy.deepcopy(config)
    settings = config if isinstance(config, dict) else vars(config)
    of_bitsandbytes = "llm_int8_skip_modules" in settings or "bitsandbytes" in str(settings.get("quant_method"))
    name = "llm_int8_skip_modules" if of_bitsandbytes else "modules_to_not_convert"
    settings[name] = [*(settings.get(name) or ()), modules]
    return config


def is_default_precision(arguments: dict[str, Any]) -> bool:
    """Whether a call of `from_pretrained` leaves the precision to the checkpoint."""
    return arguments.get("dtype", arguments.get("torch_dtype")) in (None, "auto")


def check_precision(model: nn.Module) -> None:
    """Refuse to train weights in half precision, to which small updates are lost without a word.

    Raises:
        ValueError: with the remedy.
    """
    halves = {p.dtype for p in model.parameters() if p.requires_grad} & {torch.bfloat16, torch.float16}
    if halves:
        kind = str(halves.pop()).removeprefix("torch.")
        raise ValueError(
            f"the weights are in {kind}, as the checkpoint stores them, and would lose small updates silently: train "
            f"from_pretrained(…, dtype='float32'), with TrainingArguments(bf16=True) where that is faster; "
            f"from_pretrained(…, dtype='{kind}') trains them as they are all the same"
        )
