"""Which tensor of a foreign checkpoint becomes which of ours, checked for completeness and shapes."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Plan", "Source", "count", "remap_state_dict", "renamed_modules", "shape_of"]

# Batch norms count their steps only for averaging modes that CLIP does not use, and older files lack the counters.
OPTIONAL = "num_batches_tracked"


@dataclass(frozen=True)
class Source:
    """Where one of our tensors comes from: a name in the file, and what is done to the tensor."""

    name: str
    read: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.detach


Plan = dict[str, Source]


def renamed_modules(modules: Mapping[str, str], ours: Collection[str]) -> Plan:
    """A plan for all tensors of renamed modules.

    Args:
        modules: our module names to theirs; a tensor keeps its own name (`weight`, `running_mean`, …).
        ours: all names of our state dict.
    """
    parts = ((name, *name.rpartition(".")[::2]) for name in ours)
    return {name: Source(f"{modules[module]}.{leaf}") for name, module, leaf in parts if module in modules}


def remap_state_dict(
    plan: Plan,
    state_dict: Mapping[str, torch.Tensor],
    shapes: Mapping[str, torch.Size],
    unused: Collection[str] = (),
) -> dict[str, torch.Tensor]:
    """Our tensors in float32 (counters as they are).

    Args:
        plan: what comes from where.
        state_dict: the file's tensors.
        shapes: shapes our model expects, by our names.
        unused: names in the file that have no counterpart in a detector.

    Raises:
        ValueError: naming every missing, unmapped or misshapen tensor of the file.
    """
    wanted = {source.name for source in plan.values()}
    missing = sorted(name for name in wanted - state_dict.keys() if not name.endswith(OPTIONAL))
    unmapped = sorted(state_dict.keys() - wanted - set(unused))
    if missing or unmapped:
        lists = [
            f"{title}: {', '.join(names)}" for title, names in (("missing", missing), ("unmapped", unmapped)) if names
        ]
        raise ValueError(f"the checkpoint's tensors do not fit the model; {'; '.join(lists)}")
    converted = {
        name: source.read(state_dict[source.name]) for name, source in plan.items() if source.name in state_dict
    }
    wrong = [
        f"{plan[name].name} gives {tuple(tensor.shape)} where {tuple(shapes[name])} is expected"
        for name, tensor in converted.items()
        if tensor.shape != shapes[name]
    ]
    if wrong:
        raise ValueError(f"the checkpoint's tensors contradict each other in size: {'; '.join(wrong)}")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in converted.items()}


def shape_of(state_dict: Mapping[str, torch.Tensor], name: str, dims: int) -> torch.Size:
    """Shape of a tensor of that many dimensions, which sizes are read from.

    Raises:
        ValueError: if the file lacks it, or has one of other dimensions.
    """
    if name not in state_dict:
        raise ValueError(f"the checkpoint lacks {name}, which tells a size of the model; it may be of another model")
    shape = state_dict[name].shape
    if len(shape) != dims:
        raise ValueError(f"the checkpoint's {name} has shape {tuple(shape)}; expected {dims} dimensions")
    return shape


def count(state_dict: Mapping[str, torch.Tensor], pattern: str) -> int:
    """How many of a numbered series there are, from 0 on; `pattern` has `{}` in place of the number."""
    number = 0
    while pattern.format(number) in state_dict:
        number += 1
    return number
