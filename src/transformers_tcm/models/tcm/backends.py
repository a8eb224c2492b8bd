"""What can be used here: image processor backends, number types. Imports none of torch, transformers and torchvision
until asked."""

import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .image_processing_pil_tcm import TCMImageProcessorPil
    from .image_processing_tcm import TCMImageProcessor

__all__ = ["emulates", "fastest_cpu_dtype", "image_processor_class", "torchvision_works"]


@cache
def torchvision_works() -> bool:
    """Whether torchvision is installed and really imports.

    transformers only looks whether it is installed, but a build for another torch is found and then fails to load,
    which takes every image processor of transformers down with it. That case gets a warning which says so.
    """
    if find_spec("torchvision") is None:
        return False
    try:
        import_module("torchvision.transforms.v2.functional")
    except Exception as error:  # a broken extension module may raise anything
        warnings.warn(
            f"torchvision is installed but cannot be imported ({error}). Image processors of transformers fail in this "
            "state: uninstall torchvision, which this package does not need, or install the build for your torch.",
            stacklevel=2,
        )
        return False
    return True


def image_processor_class() -> "type[TCMImageProcessor] | type[TCMImageProcessorPil]":
    """What the public name `TCMImageProcessor` stands for: without a working torchvision the PIL class."""
    if torchvision_works():
        from .image_processing_tcm import TCMImageProcessor

        return TCMImageProcessor
    from .image_processing_pil_tcm import TCMImageProcessorPil

    return TCMImageProcessorPil


def fastest_cpu_dtype() -> "torch.dtype":
    """bfloat16 where the processor has instructions for it and then is the fastest; elsewhere half precision crawls."""
    import torch

    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("avx512_bf16") else torch.float32


def emulates(dtype: "torch.dtype") -> bool:
    """Whether torch has no kernels of this processor for a half precision, which then takes some 20 times as long."""
    import torch

    if dtype is torch.bfloat16:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype is torch.float16 and not torch.ops.mkldnn._is_mkldnn_fp16_supported()
