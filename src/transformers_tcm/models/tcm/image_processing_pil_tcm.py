"""Image processor for TCM, PIL and numpy backend."""

from typing import Any

import numpy as np
import PIL.Image
import torch
from transformers.image_processing_backends import PilBackend

from .image_processing_common_tcm import TCMBaseImageProcessor, TCMImageProcessorKwargs

__all__ = ["TCMImageProcessorPil"]


class TCMImageProcessorPil(TCMBaseImageProcessor, PilBackend):
    """Images to network inputs and back with PIL and numpy on the CPU.

    Settings, inputs and outputs are those of `TCMBaseImageProcessor`.
    """

    valid_kwargs = TCMImageProcessorKwargs

    def process_image(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        # It takes longer to make an array of a large photo than to make the photo smaller.
        return image if isinstance(image, PIL.Image.Image) else super().process_image(image, *args, **kwargs)

    def _copy_into(self, canvas: torch.Tensor, image: np.ndarray | PIL.Image.Image) -> None:
        if isinstance(image, PIL.Image.Image):
            image = np.moveaxis(np.asarray(image), -1, 0)  # (h, w, 3) -> (3, h, w)
        # Through numpy, because torch takes neither negative strides (a flipped image) nor read-only arrays.
        canvas.numpy()[...] = image
