"""`pipeline("text-detection")`: photos in, outlines of words out."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from transformers import BatchFeature
from transformers.pipelines import Pipeline
from transformers.pipelines.pt_utils import KeyDataset

from ..images import load_image
from ..models.tcm.modeling_tcm import TCMForTextDetection

__all__ = ["POST_PROCESSING", "TextDetectionPipeline", "as_pipeline_inputs"]

PREPROCESSING = ("timeout", "size")
POST_PROCESSING = ("threshold", "box_threshold", "unclip_ratio", "max_candidates", "min_size", "polygon")


class TextDetectionPipeline(Pipeline):
    """Finds the text in images.

    ```python
    >>> import transformers_tcm
    >>> from transformers import pipeline
    >>> detector = pipeline("text-detection")
    >>> detector("photo.jpg")
    [{'score': 0.93, 'label': 'text', 'box': {'xmin': 31.5, 'ymin': 12.0, 'xmax': 118.2, 'ymax': 40.7}, 'polygon': …}]
    ```

    On a CPU a model whose weights are stored in half precision runs in bfloat16 where the processor computes with it
    (AVX512-BF16) and in float32 elsewhere; `dtype=` decides otherwise. A model given as an object is changed in place:
    it is moved to the device and the dtype of the pipeline and put into evaluation mode.

    Raises:
        TypeError: for a model that is no text detector, and for an argument that neither the pipeline nor a call knows.
        ValueError: without an image processor.
    """

    # What a pipeline for more than detection has otherwise.
    _task: ClassVar[str] = "text-detection"
    _model_kind: ClassVar[str] = "text detector"
    _model_class: ClassVar[type] = TCMForTextDetection
    _forward_arguments: ClassVar[tuple[str, ...]] = POST_PROCESSING

    # Typed, because the base class leaves them open.
    model: Any
    image_processor: Any
    _load_processor: Any = False
    _load_image_processor: Any = True
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # `pipeline` hands this on although only the loading of the files needs it.
        kwargs.pop("local_files_only", None)
        # `pipeline` says "auto" where its user did not say anything.
        dtype_is_free = kwargs.get("dtype") == "auto"
        super().__init__(*args, **kwargs)
        if not isinstance(self.model, self._model_class):
            expected = self._model_class.__name__
            raise TypeError(f"{type(self.model).__name__} is no {self._model_kind}; expected a {expected}")
        if self.image_processor is None:
            raise ValueError("the pipeline needs the model's image processor: pass `image_processor=`")
        self._prepare_model(dtype_is_free)

    def _prepare_model(self, dtype_is_free: bool) -> None:
        if dtype_is_free and self.device.type == "cpu" and self.dtype in (torch.float16, torch.bfloat16):
            self.model.to(_fastest_cpu_dtype())
        self.model.to(memory_format=torch.channels_last)
        self.model.eval()

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Find the text in one image or in many.

        Args:
            inputs: an image, which is all that `transformers_tcm.load_image` takes: a path (`str` or `pathlib.Path`), a
                URL, the bytes of a file, an open binary file, a PIL image, or a numpy array. Or many of them, of any
                sizes: a list or tuple, a generator or other iterator, a torch dataset, or a dataset of `datasets` with
                a column "image".
            batch_size (`int`, *optional*, defaults to 1): images handed to the model at a time. Those of one size are
                computed together; images are never padded to each other's size, so the results are those of one by one.
            num_workers (`int`, *optional*, defaults to 0): processes that load and resize the images.
            timeout (`float`, *optional*): seconds to wait for a URL.
            size (`dict` or `int`, *optional*): as the image processor's; a number is the length of the longest edge.
            threshold (`float`, *optional*): a pixel whose probability of text is above this belongs to text.
            box_threshold (`float`, *optional*): lowest score of a detection.
            unclip_ratio (`float`, *optional*): how far the found cores of words are grown.
            max_candidates (`int`, *optional*): regions looked at in one image.
            min_size (`float`, *optional*): shortest side of a region's core, in pixels of the network's input.
            polygon (`bool`, *optional*): outlines that follow curved text instead of quads.

        All but the first can also be given to `pipeline(…)`; what is given nowhere comes from the image processor.

        Returns:
            For an image a list with a dict for each text instance, by falling score: `score` in [0, 1], `label`, `box`
            with `xmin`, `ymin`, `xmax`, `ymax`, and `polygon`, a list of [x, y] clockwise from the top-left corner of
            the reading direction, all in pixels of the upright image. For a list or tuple a list of such lists,
            otherwise an iterator over them.
        """
        inputs = as_pipeline_inputs(inputs)
        return [] if isinstance(inputs, list) and not inputs else super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **given: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        given = {name: value for name, value in given.items() if value is not None}
        preprocess: dict[str, Any] = {name: given.pop(name) for name in PREPROCESSING if name in given}
        forward = {name: given.pop(name) for name in self._forward_arguments if name in given}
        if given:
            known = ", ".join((*PREPROCESSING, *self._forward_arguments))
            raise TypeError(f"unknown arguments of the {self._task} pipeline: {', '.join(given)}; it takes {known}")
        return preprocess, forward, {}

    def preprocess(  # type: ignore[override]
        self, image: Any, timeout: float | None = None, size: dict[str, int] | int | None = None
    ) -> dict[str, dict[str, Any]]:
        features: BatchFeature = self.image_processor(load_image(image, timeout=timeout), size=size)
        # In a dict the collation of transformers leaves the tensors alone; it would pad them to one size.
        return {"images": dict(features.to(self.dtype))}

    def _forward(self, model_inputs: dict[str, Any], **post_processing: Any) -> dict[str, Any]:  # type: ignore[override]
        # Detections are read here and not in `postprocess`, because outputs lose their class on the way there.
        images = model_inputs["images"]
        if isinstance(images, dict):
            return {"detections": self._detect([images], post_processing)[0]}
        detections: list[Any] = [None] * len(images)
        for indices in _by_shape([image["pixel_values"] for image in images]):
            found = self._detect([images[index] for index in indices], post_processing)
            for index, detection in zip(indices, found, strict=True):
                detections[index] = detection
        return {"detections": detections}

    def _detect(self, images: list[dict[str, Any]], post_processing: dict[str, Any]) -> list[dict[str, Any]]:
        """Detections of images of one shape."""
        batch, target_sizes = self._batch(images)
        outputs = self.model(**batch, return_dict=True)
        return self.image_processor.post_process_text_detection(outputs, target_sizes, **post_processing)

    def _batch(self, images: list[dict[str, Any]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Images of one shape together, and their original sizes (B, 2)."""
        names = self.image_processor.model_input_names
        batch = {name: torch.cat([image[name] for image in images]) for name in names}
        return batch, torch.cat([image["target_sizes"] for image in images]).cpu()

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        found = model_outputs["detections"]
        names = self.model.config.id2label
        return [
            {
                "score": score.item(),
                "label": names[label.item()],
                "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box.tolist(), strict=True)),
                "polygon": polygon.tolist(),
            }
            for score, label, box, polygon in zip(
                found["scores"], found["labels"], found["boxes"], found["polygons"], strict=True
            )
        ]

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save the model and its image processor.

        The base class adds a copy of this file and an entry in the configuration that sends every later `pipeline(…)`
        call to that copy, where it fails.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.image_processor.save_pretrained(save_directory, **kwargs)


def as_pipeline_inputs(inputs: Any) -> Any:
    """One image as it is, many in a container that the base class of pipelines knows as such."""
    if "image" in (getattr(inputs, "column_names", None) or ()):
        return KeyDataset(inputs, "image") if hasattr(inputs, "__len__") else (row["image"] for row in inputs)
    if isinstance(inputs, Iterator) and not hasattr(inputs, "read"):
        # The base class knows generators only. An open file iterates as well, but is one image.
        return (image for image in inputs)
    return list(inputs) if isinstance(inputs, (list, tuple)) else inputs


def _by_shape(tensors: list[torch.Tensor]) -> list[list[int]]:
    """Indices of tensors, those of one shape together."""
    groups: dict[torch.Size, list[int]] = defaultdict(list)
    for index, tensor in enumerate(tensors):
        groups[tensor.shape].append(index)
    return list(groups.values())


def _fastest_cpu_dtype() -> torch.dtype:
    """bfloat16 where the processor has instructions for it and then is the fastest; elsewhere half precision crawls."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("avx512_bf16") else torch.float32
