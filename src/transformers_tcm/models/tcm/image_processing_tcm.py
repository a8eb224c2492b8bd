"""Image processor for TCM, torchvision backend. Works only where `backends.torchvision_works()`."""

import torch
from transformers.image_processing_backends import TorchvisionBackend

from .image_processing_common_tcm import TCMBaseImageProcessor, TCMImageProcessorKwargs

__all__ = ["TCMImageProcessor"]


class TCMImageProcessor(TCMBaseImageProcessor, TorchvisionBackend):
    """Images to network inputs and back on torch tensors, on the device given by `device=`.

    Settings, inputs and outputs are those of `TCMBaseImageProcessor`.
    """

    valid_kwargs = TCMImageProcessorKwargs

    def _copy_into(self, canvas: torch.Tensor, image: torch.Tensor) -> None:
        canvas.copy_(image)
