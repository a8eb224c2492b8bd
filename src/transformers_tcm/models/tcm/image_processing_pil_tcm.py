"""Image processor for TCM, PIL and numpy backend."""

import numpy as np
import torch
from transformers.image_processing_backends import PilBackend

from .image_processing_common_tcm import TCMBaseImageProcessor, TCMImageProcessorKwargs

__all__ = ["TCMImageProcessorPil"]


class TCMImageProcessorPil(TCMBaseImageProcessor, PilBackend):
    """Images to network inputs and back with PIL and numpy on the CPU.

    Settings, inputs and outputs are those of `TCMBaseImageProcessor`.
    """

    valid_kwargs = TCMImageProcessorKwargs

    def _copy_into(self, canvas: torch.Tensor, image: np.ndarray) -> None:
        # Through numpy, because torch takes neither negative strides (a flipped image) nor read-only arrays.
        canvas.numpy()[...] = image
