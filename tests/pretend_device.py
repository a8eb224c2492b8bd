"""A device that computes on the processor but minds, as an accelerator does, which tensors are on it.

`PretendDevice` is a dispatch mode of torch. Within it `tensor.to("pretend")` gives tensors that hold one of the
processor; operators run on what they hold, and refuse, as CUDA does, tensors of both devices together, except numbers,
indices and copies. So what would fail on an accelerator for being on two devices fails here too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["CAN_PRETEND", "DEVICE", "PretendTensor", "pretend_device"]

# Whether this torch knows devices that are written in Python.
CAN_PRETEND = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")

NAME = "pretend"
DEVICE = f"{NAME}:0"

ATEN = torch.ops.aten
COPIES = (ATEN.copy_.default, ATEN._to_copy.default)
# Indices of tensors on an accelerator may be on the processor.
INDEXING = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default)


class PretendTensor(torch.Tensor):
    """A tensor on the pretended device, and the one of the processor that it `holds`."""

    holds: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor, requires_grad: bool = False) -> "PretendTensor":
        tensor: PretendTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(DEVICE),
            requires_grad=requires_grad,
        )
        tensor.holds = held
        return tensor

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"PretendTensor({self.holds})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def tolist(self) -> Any:  # as torch does for tensors on an accelerator, but not for those of a class of their own
        return self.cpu().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operator gives, on the device that it would be on."""
    if func is ATEN._has_compatible_shallow_copy_type.default:
        return isinstance(args[0], PretendTensor) == isinstance(args[1], PretendTensor)
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        # Made of simpler operators, each of which is looked at.
        with PretendDevice():
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    there = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, PretendTensor)]
    target = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    if there and func not in COPIES:
        _check_devices(func, args[2:] if func in INDEXING and isinstance(args[0], PretendTensor) else (args, kwargs))
    held_args, held_kwargs = tree_map_only(PretendTensor, lambda tensor: tensor.holds, (args, kwargs))
    if target == NAME:
        held_kwargs["device"] = "cpu"
    result = func(*held_args, **held_kwargs)
    stays = isinstance(args[0], PretendTensor) if func is ATEN.copy_.default else bool(there)
    if target == "cpu" or not (stays or target == NAME):
        return result
    # Operators in place give back their argument.
    known = {id(tensor.holds): tensor for tensor in there}
    return tree_map_only(
        torch.Tensor, lambda held: known[id(held)] if id(held) in known else PretendTensor(held), result
    )


def _check_devices(func: Any, arguments: Any) -> None:
    elsewhere = [
        tuple(leaf.shape)
        for leaf in tree_leaves(arguments)
        if isinstance(leaf, torch.Tensor) and not isinstance(leaf, PretendTensor) and leaf.ndim
    ]
    if elsewhere:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {func} got some on {DEVICE} and on cpu those of the "
            f"shapes {elsewhere}"
        )


class PretendDevice(TorchDispatchMode):
    """The mode, which also sees operators that make tensors or move them to the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
    return PretendTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    getattr(target, "holds", target).copy_(getattr(source, "holds", source))
    return target


def _gru_cell(states: Any, hidden: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> torch.Tensor:
    """The equations of `torch.nn.GRUCell`, whose own form on devices other than the processor is of one piece."""
    given = torch.nn.functional.linear(states, weight_ih, bias_ih).chunk(3, dim=1)
    kept = torch.nn.functional.linear(hidden, weight_hh, bias_hh).chunk(3, dim=1)
    reset, update = ((one + other).sigmoid() for one, other in zip(given[:2], kept[:2], strict=True))
    return update * hidden + (1 - update) * (given[2] + reset * kept[2]).tanh()


# What torch calls below any mode: it makes tensors of the lists that others are indexed with.
_KERNELS: dict[str, Callable[..., Any]] = {"empty_strided": _empty_strided, "_copy_from": _copy_from}
_libraries: list[torch.library.Library] = []


@contextmanager
def pretend_device() -> Iterator[None]:
    """Within it there is the device; torch knows its name for good."""
    if not _libraries:
        backend = backend_registration._DummyBackendModule()
        backend.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
        backend_registration._setup_privateuseone_for_python_backend(NAME, backend)
        _libraries.append(torch.library.Library("aten", "IMPL"))
        for name, kernel in _KERNELS.items():
            _libraries[0].impl(name, kernel, "PrivateUse1")
    gru_cell = torch._VF.gru_cell
    torch._VF.gru_cell = _gru_cell
    try:
        with PretendDevice():
            yield
    finally:
        torch._VF.gru_cell = gru_cell
