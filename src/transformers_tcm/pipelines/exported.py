"""`OnnxTextDetector(folder)(image)`: an exported model with all that surrounds it, loaded without `pipeline`."""

import os
from typing import Any

from ..models.tcm.exported_tcm import load_exported
from ..models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from .oriented_object_detection import OrientedObjectDetectionPipeline
from .text_detection import TextDetectionPipeline
from .text_spotting import TextSpottingPipeline

__all__ = ["OnnxOrientedObjectDetector", "OnnxTextDetector", "OnnxTextSpotter"]


class OnnxTextDetector(TextDetectionPipeline):
    """Finds text in images with a detector that `transformers-tcm export` wrote; no network of torch is run.

    ```python
    >>> from transformers_tcm import OnnxTextDetector
    >>> detector = OnnxTextDetector("exported")
    >>> detector("photo.jpg")
    [{'score': 0.93, 'label': 'text', 'box': {'xmin': 31.5, …}, 'polygon': …}, …]
    ```

    A call takes and returns what that of a `TextDetectionPipeline` does.

    Args:
        folder: the exported model.
        backend: `"onnxruntime"` or `"openvino"`, by default what the files are for.
        **settings: arguments of every call, such as `box_threshold`.

    Raises:
        FileNotFoundError: if there is no exported model in the folder.
        ValueError: for a backend that does not take the files.
        ImportError: where the backend is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], backend: str | None = None, **settings: Any):
        model = load_exported(folder, self._model_class, backend)
        super().__init__(
            model=model, image_processor=TCMImageProcessorPil.from_pretrained(folder), task=self._task, **settings
        )


class OnnxTextSpotter(OnnxTextDetector, TextSpottingPipeline):
    """Finds and reads text with an exported spotter; used as `OnnxTextDetector`, called as `TextSpottingPipeline`."""


class OnnxOrientedObjectDetector(OnnxTextDetector, OrientedObjectDetectionPipeline):
    """Finds oriented objects with an exported model; called as `OrientedObjectDetectionPipeline`."""
