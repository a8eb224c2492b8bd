"""What both image processor backends of TCM share: sizes, padding, annotations, post-processing."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers.image_processing_base import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import (
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    ImageInput,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs

from ...images import load_image
from ...instances import Instances, OrientedInstances, TextInstances
from ...lexicon import LexiconArgument, LexiconRule
from ...saving import atomic_write
from .configuration_tcm import TCMConfig
from .heads import head_class
from .hub_tcm import LoadsThroughShim, auto_map, take_publication_options, write_shim
from .post_processing_tcm import (
    TargetSizes,
    as_tensors,
    by_score,
    checked_target_sizes,
    instances_of_images,
    maps_of,
    objects_of_images,
    to_original_size,
    words_of_images,
)
from .recognition.reading import PRINTABLE_ASCII
from .score_calibration import ScoreCalibration

__all__ = ["TCMBaseImageProcessor", "TCMImageProcessorKwargs", "padded_size", "resized_size"]

RESIZE_POLICIES = ({"shortest_edge", "longest_edge"}, {"longest_edge"}, {"height", "width"})

Annotations = Instances | dict[str, Any] | Sequence[Instances | dict[str, Any]]


class TCMImageProcessorKwargs(ImagesKwargs, total=False):
    r"""
    size_divisor (`int`, *optional*, defaults to 32): height and width are padded to a multiple of this.
    max_scale (`float`, *optional*): images are enlarged by no more than this, whatever `size` says; `None` sets no
        limit.
    coarse_edge (`int`, *optional*, defaults to 0): longest edge in pixels of the second, coarser look that pipelines
        take at images that may hold large letters, with a third one of half of it for larger ones; 0 means neither.
    crop_edge (`int`, *optional*, defaults to 0): longest edge in pixels up to which pipelines take a picture for a crop
        of a word or a sign and read it in a margin; 0 means that they take none for one.
    head_type (`str`, *optional*, defaults to `"dbnet"`): the head whose maps are decoded. Its `decoding_class` says
        which decoding settings there are beside these; they are arguments and attributes of the processor like them.
    text_threshold (`float`, *optional*): lowest score of a word that a spotter read; `None` for detectors.
    score_calibration (`dict`, *optional*): the fields of a `ScoreCalibration`, which makes what is reported as
        `text_scores`, the probability that a reading is right, of what the spotter gives. `None` reports the latter.
    charset (`str`, *optional*): the characters that a spotter reads; `None` is printable ASCII.
    """

    size_divisor: int | None
    max_scale: float | int | None
    coarse_edge: int | None
    crop_edge: int | None
    head_type: str | None
    text_threshold: float | int | None
    score_calibration: dict[str, float] | None
    charset: str | None


def resized_size(height: int, width: int, size: SizeDict, max_scale: float | None = None) -> tuple[int, int]:
    """Height and width of an image after resizing, each at least 1 pixel, and at most `max_scale` times its own.

    `{"height", "width"}` is taken as it is. Otherwise the aspect ratio is kept: `{"longest_edge"}` gives the longer
    side that length, `{"shortest_edge", "longest_edge"}` the shorter side its length unless the longer one would exceed
    its own. The longest edge always wins, so that it bounds the memory whatever the shape.
    """
    if size.height is not None and size.width is not None:
        return size.height, size.width
    assert size.longest_edge is not None, "size policies are checked before"
    factor = size.longest_edge / max(height, width)
    if size.shortest_edge is not None:
        factor = min(factor, size.shortest_edge / min(height, width))
    if max_scale is not None:
        factor = min(factor, max_scale)
    return max(1, round(height * factor)), max(1, round(width * factor))


def padded_size(sizes: Sequence[tuple[int, int]], divisor: int) -> tuple[int, int]:
    """The smallest height and width that hold every image (h, w) of a batch and are multiples of `divisor`."""
    height, width = (-(-max(side) // divisor) * divisor for side in zip(*sizes, strict=True))
    return height, width


class TCMBaseImageProcessor(LoadsThroughShim, BaseImageProcessor):
    """Resizes, normalises and pads images for TCM, moves annotations along, and turns outputs into text instances.

    All settings are attributes, saved in `preprocessor_config.json`; `None` in a call means the stored value.

    - `size`: `{"shortest_edge", "longest_edge"}`, `{"longest_edge"}` or `{"height", "width"}`, see `resized_size`.
      Only the last one may change the aspect ratio. A plain number means `{"longest_edge": number}`.
    - `max_scale`: images are not enlarged by more than this, `None` for no limit; a fixed height and width knows none.
    - `coarse_edge`, `crop_edge`: see `TextDetectionPipeline.__call__`.
    - `size_divisor`, `do_pad`: zeros are added right and below after normalisation, up to a multiple of `size_divisor`
      and to the largest image of the batch. Without `do_pad` all images must have the same size after resizing.
    - `head_type` and the fields of that head's `decoding_class`, such as `box_threshold`: how detections are read from
      the outputs of a model.
    - `text_threshold`: set for spotters, whose batches then also hold the decoding settings, because a spotter has to
      decode what it detects before it can read it. `charset`: what it can read.

    Raises:
        ValueError: if a threshold is outside [0, 1], or another setting is out of range.
    """

    resize: Callable[..., Any]  # of the backend

    model_input_names = ["pixel_values", "pixel_mask"]

    do_convert_rgb = True
    do_resize = True
    size = {"shortest_edge": 736, "longest_edge": 1333}
    resample = PILImageResampling.BILINEAR
    do_rescale = True
    do_normalize = True
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    do_pad = True
    size_divisor = 32
    max_scale = None
    coarse_edge = 0
    crop_edge = 0

    head_type = "dbnet"
    text_threshold = None
    score_calibration = None
    charset = None

    def __init__(self, **kwargs: Any) -> None:
        decoding_class = head_class(kwargs.get("head_type") or self.head_type).decoding_class
        decoding = _take(kwargs, decoding_class)
        super().__init__(**kwargs)
        _check_probabilities(text_threshold=self.text_threshold)
        if self.score_calibration is not None:
            ScoreCalibration.of(self.score_calibration)
        for name, value in asdict(_decoding(decoding_class, decoding)).items():
            setattr(self, name, value)

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """See `ImageProcessingMixin.from_dict`. The settings of the head are changed before the processor is made, as
        its own are, so that they are checked; the base class sets what it does not know on a finished one."""
        head_type = kwargs.get("head_type") or image_processor_dict.get("head_type") or cls.head_type
        names = [field.name for field in fields(head_class(head_type).decoding_class)]
        decoding = {name: kwargs.pop(name) for name in names if name in kwargs}
        return super().from_dict({**image_processor_dict, **decoding}, **kwargs)

    def for_model(self, config: TCMConfig) -> "TCMBaseImageProcessor":
        """This processor if it fits a model, else a copy with the model's head and charset.

        Decoding settings that the head shares with the former one stay, the others are those that fit its settings; for
        another task all of them are, since a name may mean something else there.
        """
        head, settings = head_class(config.head_type), config.reading_settings
        charset = None if settings is None or settings.charset == PRINTABLE_ASCII else settings.charset
        if (self.head_type, self.charset) == (config.head_type, charset):
            return self
        kept = self.to_dict()
        given = {} if self.head_type == config.head_type else asdict(head.default_decoding(config.head_settings))
        same_task = head_class(self.head_type).task == head.task
        for field in fields(head_class(self.head_type).decoding_class):
            if field.name in given and same_task:
                given[field.name] = kept[field.name]
            elif self.head_type != config.head_type:
                kept.pop(field.name)
        kept.pop("image_processor_type")
        return type(self)(**{**kept, **given, "head_type": config.head_type, "charset": charset})

    def preprocess(
        self,
        images: ImageInput | Path | Sequence[Path],
        annotations: Annotations | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare images, and their annotations if given, as a batch.

        Args:
            images: one image or several: paths, URLs, PIL images (turned upright as their EXIF orientation says), numpy
                arrays or tensors (with a channel axis, first or last, and values 0…255 unless `do_rescale=False`).
            annotations: for each image its text or objects in pixels of the upright image, as `TextInstances` or
                `OrientedInstances`, or as the dictionary of their `to_json`; text also in the manner of COCO,
                `{"annotations": [{"bbox": …}, …]}` or the `objects` of a dataset's row, see `transformers_tcm.coco`.
            kwargs: any setting of this processor, for this call only. `return_tensors` is "pt" unless given.

        Returns:
            `pixel_values` (B, 3, H, W) float32, or uint8 where images of uint8 are neither rescaled nor normalised,
            which models then do themselves; `pixel_mask` (B, H, W) int64, 1 = image and 0 = padding; `target_sizes`
            (B, 2) int64, original height and width; with annotations `labels`, a dict for each image of `points`
            (sum of K_i, 2) float32 in resized pixels, `counts` (N,) int64 = the K_i, `ignore` (N,) bool, `orig_size`
            (2,) int64 = original height and width, where the annotations have classes `class_labels` (N,) int64, and
            where they have texts `char_ids` (N, L) int64, the Unicode code points of each word with zeros after its
            end, nothing but zeros where it is ignored or unknown. With a `text_threshold` also that, the
            `score_calibration` if there is one, and `decoding`, a plain dict of the settings by which a spotter decodes
            detections.

        Raises:
            ValueError: for images without pixels, with NaN or infinite ones, or with other channels than `image_mean`
                has, a resize policy other than the three, annotations for another number of images, or several sizes
                with `do_pad=False`.
            TypeError: for annotations of another type.
        """
        given: dict[str, Any] = {name: value for name, value in kwargs.items() if value is not None}
        decoding = _take(given, head_class(self.head_type).decoding_class)
        features = super().preprocess(images, annotations, **given)
        text_threshold = given.get("text_threshold", self.text_threshold)
        _check_probabilities(text_threshold=text_threshold)
        if text_threshold is not None:
            features["decoding"] = asdict(self.decoding_settings(**decoding))
            features["text_threshold"] = text_threshold
            if self.score_calibration is not None:
                features["score_calibration"] = self.score_calibration
        return features

    @property
    def makes_bytes(self) -> bool:
        """Whether photos stay uint8, for the model to normalise."""
        return not (self.do_rescale or self.do_normalize)

    @property
    def normalizes_as_clip(self) -> bool:
        """Whether photos are normalised here as models normalise those of uint8."""
        constants = zip((self.image_mean, self.image_std), (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD), strict=True)
        settings = (self.do_rescale, self.do_normalize, self.rescale_factor)
        return settings == (True, True, 1 / 255) and all(np.array_equal(*pair) for pair in constants)

    def training_item(self, image: np.ndarray, annotations: TextInstances) -> dict[str, Any]:
        """A crop to train on as it is, for `TextDetectionCollator`: bytes, which the model normalises on its device.

        A processor that does not normalise as CLIP does normalises them itself.

        Args:
            image: (H, W, 3) uint8 RGB.
            annotations: its text.

        Returns:
            `pixel_values` (3, H, W) and `labels`, and where the pixels are normalised and padded `pixel_mask` (H, W).
        """
        if not self.normalizes_as_clip:
            batch = self.preprocess(image, annotations, return_tensors="pt", do_resize=False)
            return {name: batch[name][0] for name in ("pixel_values", "pixel_mask", "labels")}
        # (H, W, 3) -> (3, H, W), a view
        pixel_values = torch.from_numpy(image).permute(2, 0, 1)
        return {"pixel_values": pixel_values, "labels": _label(annotations, image.shape[:2], image.shape[:2])}

    def fetch_images(self, images: Any) -> Any:
        """Load paths and URLs, turn PIL images upright and make them RGB; arrays and tensors stay as they are."""
        if isinstance(images, (list, tuple)):
            return [self.fetch_images(image) for image in images]
        if isinstance(images, (str, Path, PIL.Image.Image)):
            return load_image(images)
        _check_pixels(images)
        return images

    # The three overrides below name the arguments they use; the base class passes all of them by keyword.

    def _standardize_kwargs(self, size: Any = None, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        if isinstance(size, int):
            size = {"longest_edge": size}
        return super()._standardize_kwargs(size=size, **kwargs)

    def _validate_preprocess_kwargs(  # type: ignore[override]
        self,
        size: SizeDict,
        size_divisor: int,
        max_scale: float | None,
        coarse_edge: int,
        crop_edge: int,
        **kwargs: Any,
    ) -> None:
        super()._validate_preprocess_kwargs(size=size, **kwargs)
        edges = dict(size)
        if set(edges) not in RESIZE_POLICIES or min(edges.values()) < 1:
            raise ValueError(
                f"`size` is {edges}; expected positive numbers of pixels for shortest_edge and longest_edge, for "
                "longest_edge alone, or for height and width"
            )
        if size_divisor < 1:
            raise ValueError(f"`size_divisor` is {size_divisor}; expected a positive number of pixels")
        if max_scale is not None and max_scale <= 0:
            raise ValueError(f"`max_scale` is {max_scale}; expected a positive number, or None for no limit")
        if coarse_edge < 0:
            raise ValueError(f"`coarse_edge` is {coarse_edge}; expected a number of pixels, or 0 for no second look")
        if crop_edge < 0:
            raise ValueError(f"`crop_edge` is {crop_edge}; expected a number of pixels, or 0 for no crops")
        unsupported = [name for name in ("do_center_crop", "pad_size") if kwargs.get(name)]
        if unsupported:
            raise ValueError(
                f"{unsupported} cannot be used here; `size` and `size_divisor` decide the shape of the batch"
            )

    def _preprocess_image_like_inputs(  # type: ignore[override]
        self, images: ImageInput, annotations: Annotations | None = None, **kwargs: Any
    ) -> BatchFeature:
        prepared = self._prepare_image_like_inputs(images, **kwargs)
        if not prepared:
            raise ValueError("no images were given; expected at least one")
        original = [_image_size(image) for image in prepared]
        policy, limit = kwargs["size"], kwargs["max_scale"]
        resized = [resized_size(*size, policy, limit) if kwargs["do_resize"] else size for size in original]
        features = self._make_batch(prepared, resized, **kwargs)
        features["target_sizes"] = torch.tensor(original)
        features.convert_to_tensors(kwargs["return_tensors"])
        if annotations is not None:
            several = zip(self._as_instances(annotations, len(prepared)), original, resized, strict=True)
            # One by one: the conversion does not look into a list of dictionaries.
            features["labels"] = [
                dict(BatchFeature(_label(*image), tensor_type=kwargs["return_tensors"])) for image in several
            ]
        return features

    def _as_instances(self, annotations: Annotations, count: int) -> list[Instances]:
        """One `Instances` for each image."""
        if isinstance(annotations, str) or not isinstance(annotations, (Instances, dict, Sequence)):
            kind = type(annotations).__name__
            raise TypeError(f"annotations of type {kind}; expected TextInstances or a list of them")
        several = [annotations] if isinstance(annotations, (Instances, dict)) else list(annotations)
        if len(several) != count:
            raise ValueError(f"{len(several)} annotations for {count} images; expected one for each image")
        read = {"text": _read_text, "oriented": OrientedInstances.from_json}[head_class(self.head_type).task]
        return [one if isinstance(one, Instances) else read(one) for one in several]

    def _make_batch(
        self,
        images: Sequence[Any],
        sizes: Sequence[tuple[int, int]],
        resample: PILImageResampling | int,
        do_pad: bool,
        size_divisor: int,
        **kwargs: Any,
    ) -> BatchFeature:
        """Images (C, h, w) of the backend's type, resized to `sizes`, normalised and padded, with their mask."""
        if not do_pad and len(set(sizes)) > 1:
            raise ValueError(f"images of several sizes (h, w) {sorted(set(sizes))} make no batch without `do_pad=True`")
        height, width = padded_size(sizes, size_divisor if do_pad else 1)
        device = images[0].device if isinstance(images[0], torch.Tensor) else None
        scale, shift = (constant.to(device) for constant in _normalization(**kwargs))
        channels = {_channels(image) for image in images}
        if len(channels) > 1 or len(scale) not in (1, *channels):
            raise ValueError(
                f"images have {sorted(channels)} channels; expected {len(scale)}, the length of `image_mean`"
            )
        dtype = _pixel_type(images, **kwargs)
        pixel_values = torch.zeros(len(images), *channels, height, width, dtype=dtype, device=device)
        pixel_mask = torch.zeros(len(images), height, width, dtype=torch.int64, device=device)
        for index, (image, (h, w)) in enumerate(zip(images, sizes, strict=True)):
            if _image_size(image) != (h, w):
                image = self.resize(image, SizeDict(height=h, width=w), resample=resample)
            canvas = pixel_values[index, :, :h, :w]
            self._copy_into(canvas, image)
            if dtype.is_floating_point:
                canvas.mul_(scale).sub_(shift)
            pixel_mask[index, :h, :w] = 1
        return BatchFeature({"pixel_values": pixel_values, "pixel_mask": pixel_mask})

    def _copy_into(self, canvas: torch.Tensor, image: Any) -> None:
        """Write an image (C, h, w) of the backend's type and of any number type into a view (C, h, w) of the batch."""
        raise NotImplementedError

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Save `preprocessor_config.json` and, as `TCMConfig.save_pretrained`, the line that finds this package.

        If that fails, as on a full disk, older files there stay as they were. With `push_to_hub=True` what
        `push_to_hub` does follows, by default to the repository named as the folder.
        """
        self.auto_map = auto_map(AutoImageProcessor="TCMImageProcessor")
        publication = take_publication_options(kwargs)
        with atomic_write(save_directory) as folder:
            saved = super().save_pretrained(folder, **kwargs)
            write_shim(folder)
        if push_to_hub:
            named_as_folder = os.path.basename(os.path.normpath(save_directory))
            self.push_to_hub(publication.pop("repo_id", named_as_folder), **publication)
        return [os.path.join(save_directory, os.path.basename(path)) for path in saved]

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Publish the settings: `preprocessor_config.json`, and the thresholds in the model card where there is one.

        `model.push_to_hub(repo_id, image_processor=…)` publishes everything in one commit; a model that was pushed
        without an image processor keeps the settings that are in the repository, so the order does not matter.

        Args:
            repo_id: owner and name of the repository, created where it does not exist.
            **kwargs: see `transformers_tcm.hub.publishing.push_image_processor`.

        Returns:
            The `CommitInfo` of huggingface_hub.
        """
        from ...hub.publishing import push_image_processor  # the models know nothing of what is on top of them

        return push_image_processor(self, repo_id, **kwargs)

    def decoding_settings(self, **given: Any) -> Any:
        """How outputs are decoded: an object of the `decoding_class` of the head, the stored value for what is `None`.

        Raises:
            TypeError: for a name that the head's decoding does not know.
            ValueError: for a value that is out of range.
        """
        decoding_class = head_class(self.head_type).decoding_class
        stored = {field.name: getattr(self, field.name) for field in fields(decoding_class)}
        return _decoding(decoding_class, {**stored, **{k: value for k, value in given.items() if value is not None}})

    def _setting(self, name: str, given: Any) -> Any:
        return getattr(self, name) if given is None else given

    def post_process_text_detection(
        self, outputs: Any, target_sizes: TargetSizes | None = None, **decoding: Any
    ) -> list[dict[str, Any]]:
        """Text instances of a batch, in pixels of the original images.

        Args:
            outputs: what a detector returned, or the head's maps alone by name, tensors or arrays, as an ONNX session
                returns them; without `valid_sizes` among them the images fill the maps.
            target_sizes: (B, 2) original height and width of each image, as the processor returned them. Without them
                coordinates are pixels of the network input.
            **decoding: fields of the head's `decoding_class`, such as `box_threshold`; `None` means the stored value.
                Sizes are in pixels of the network input.

        Returns:
            For each image a dict of CPU tensors, sorted by falling score: `scores` (N,) float32, `labels` (N,) int64,
            all 0 = text, `boxes` (N, 4) float32 x_min, y_min, x_max, y_max, `polygons`, a list of N outlines (K_i, 2)
            float32 x, y, clockwise from the top-left corner. Points outside the image are moved onto its border.

        Raises:
            ValueError: if `target_sizes` has not one (h, w) for each image, or a setting is out of range.
            TypeError: for a setting that the head does not know.
        """
        settings = self.decoding_settings(**decoding)
        maps, valid_sizes = maps_of(outputs)
        regions = head_class(self.head_type).decode(maps, valid_sizes, settings)
        found = instances_of_images(regions, len(valid_sizes))
        sizes = zip(valid_sizes.tolist(), checked_target_sizes(target_sizes, valid_sizes), strict=True)
        return [as_tensors(by_score(to_original_size(one, *size))) for one, size in zip(found, sizes, strict=True)]

    def post_process_oriented_object_detection(
        self, outputs: Any, target_sizes: TargetSizes | None = None, **decoding: Any
    ) -> list[dict[str, torch.Tensor]]:
        """Oriented objects of a batch, in pixels of the original images.

        Args:
            outputs: what a `TCMForOrientedObjectDetection` returned, or its head's maps with `valid_sizes` by name.
            target_sizes: (B, 2) original height and width of each image, as the processor returned them. Without them
                coordinates are pixels of the network input.
            **decoding: `threshold`, `nms_threshold`, `max_candidates`, `max_detections`, see `OrientedDecoding`; `None`
                means the stored value.

        Returns:
            For each image a dict of CPU tensors, sorted by falling score: `scores` (N,) float32, `labels` (N,) int64,
            `boxes` (N, 4) axis-aligned x_min, y_min, x_max, y_max, `rotated_boxes` (N, 5) centre x, y, width, height,
            angle in radians, in le90 form (see `transformers_tcm.rotated_boxes`), `polygons` (N, 4, 2) their corners,
            clockwise from the one that is top left when the box is turned upright. They may leave the image: cut off,
            they would not be rectangles.

        Raises:
            ValueError: if `target_sizes` has not one (h, w) for each image, or a setting is out of range.
            TypeError: for a setting that the head does not know, or a head that finds text.
        """
        head = head_class(self.head_type)
        if head.task != "oriented":
            raise TypeError(f"the head {self.head_type!r} finds text: use `post_process_text_detection`")
        maps, valid_sizes = maps_of(outputs)
        regions = head.decode(maps, valid_sizes, self.decoding_settings(**decoding))
        return objects_of_images(regions, valid_sizes, target_sizes)

    def post_process_object_detection(
        self, outputs: Any, threshold: float | None = None, target_sizes: TargetSizes | None = None
    ) -> list[dict[str, torch.Tensor]]:
        """`scores` (N,), `labels` (N,) and `boxes` (N, 4) of text or oriented objects, for tools without polygons.

        Here `threshold` is what such tools mean by it, the smallest score of a box; `None` is the stored
        `box_threshold` for text, and whatever `post_process_oriented_object_detection` gives for objects.
        """
        if head_class(self.head_type).task == "oriented":
            lowest = None if threshold is None else min(threshold, self.decoding_settings().threshold)
            objects = self.post_process_oriented_object_detection(outputs, target_sizes, threshold=lowest)
            kept = [image["scores"] >= (threshold or 0.0) for image in objects]
            detections = [
                {name: image[name][where] for name in image} for image, where in zip(objects, kept, strict=True)
            ]
        else:
            detections = self.post_process_text_detection(outputs, target_sizes, box_threshold=threshold)
        return [{name: image[name] for name in ("scores", "labels", "boxes")} for image in detections]

    def post_process_text_spotting(
        self,
        outputs: Any,
        target_sizes: TargetSizes | None = None,
        text_threshold: float | None = None,
        box_threshold: float | None = None,
        lexicon: LexiconArgument = None,
        lexicon_rule: LexiconRule = "within",
        max_distance: float | None = None,
    ) -> list[dict[str, Any]]:
        """Words of a batch, in pixels of the original images and in reading order.

        Args:
            outputs: what a spotter returned, which has decoded its detections by the settings it was called with.
            target_sizes: (B, 2) original height and width of each image, as the processor returned them. Without them
                coordinates are pixels of the network input.
            text_threshold: lowest reported score of a reading; `None` means the stored value. Empty readings are always
                dropped.
            box_threshold: lowest score of a detection; `None` keeps all that the model has read.
            lexicon: `None`, a `Lexicon` or list of words for all images, or a list with one, or `None`, for each image.
                It takes the place of what was read as `transformers_tcm.lexicon` describes, and what its rule drops
                leaves the result. `text_scores` stay those of the readings.
            lexicon_rule: `"within"` takes the nearest word if its distance is below `max_distance`, `"nearest"` takes
                it always, `"weighted"` weighs the edits by the recogniser's probabilities.
            max_distance: limit of the rules `"within"`, 1.5 unless given, and `"weighted"`, none unless given.

        Returns:
            For each image a dict as that of `post_process_text_detection` with two more entries, `texts`, a list of N
            strings, and `text_scores` (N,) float32 in [0, 1]. The words are in the order of `reading_order`.

        Raises:
            TypeError: if `outputs` are those of a detector.
            ValueError: if `target_sizes` or the lexicons are not one for each image, a setting is out of range, or a
                lexicon is empty or holds characters that the model cannot read.
        """
        if outputs.get("sequences") is None:
            raise TypeError(
                "these outputs hold no readings: those of a detector are for `post_process_text_detection`, and in "
                "training mode a spotter reads the words of its labels only"
            )
        text_threshold = self._setting("text_threshold", text_threshold) or 0.0
        _check_probabilities(text_threshold=text_threshold, box_threshold=box_threshold)
        return words_of_images(
            outputs,
            target_sizes,
            text_threshold,
            box_threshold or 0.0,
            lexicon,
            lexicon_rule,
            max_distance,
            self.charset or PRINTABLE_ASCII,
            None if self.score_calibration is None else ScoreCalibration.of(self.score_calibration),
        )


def _take(given: dict[str, Any], decoding_class: type) -> dict[str, Any]:
    """Remove the fields of a `decoding_class` from arguments, and return those that are not `None`."""
    names = [field.name for field in fields(decoding_class) if field.name in given]
    taken = {name: given.pop(name) for name in names}
    return {name: value for name, value in taken.items() if value is not None}


def _decoding(decoding_class: type, given: dict[str, Any]) -> Any:
    """An object of a `decoding_class`; errors name the settings there are."""
    try:
        return decoding_class(**given)
    except StrictDataclassError as error:
        reason = error.__cause__ or error
        raise ValueError(" ".join(str(reason).split())) from error
    except TypeError as error:
        known = ", ".join(field.name for field in fields(decoding_class))
        raise TypeError(f"{error}; the settings of this head's decoding are {known}") from error


def _check_probabilities(**settings: float | None) -> None:
    for name, value in settings.items():
        if value is not None and not (_is_number(value) and 0 <= value <= 1):
            raise ValueError(f"`{name}` is {value!r}; expected a number between 0 and 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _check_pixels(image: Any) -> None:
    """Raise `ValueError` for an array or tensor that holds something else than finite numbers."""
    if isinstance(image, torch.Tensor):
        is_real = not image.is_complex()
        is_finite = is_real and bool(torch.isfinite(image).all())
    elif isinstance(image, np.ndarray):
        is_real = image.dtype.kind in "fiub"
        is_finite = is_real and bool(np.isfinite(image).all())
    else:
        return
    kind = f"an image of shape {tuple(image.shape)} and dtype {image.dtype}"
    if not is_real:
        raise ValueError(f"{kind} holds no real numbers; expected uint8 or floats")
    if not is_finite:
        raise ValueError(f"{kind} has pixels that are NaN or infinite; replace them, as with `numpy.nan_to_num`")


def _image_size(image: Any) -> tuple[int, int]:
    """Height and width of an array or tensor (C, H, W) or of a PIL image."""
    height, width = image.size[::-1] if isinstance(image, PIL.Image.Image) else image.shape[1:]
    if min(height, width) < 1:
        raise ValueError(f"an image has {height} x {width} pixels; expected at least one")
    return height, width


def _channels(image: Any) -> int:
    """Of an array or tensor (C, H, W) or of a PIL image, which is RGB."""
    return 3 if isinstance(image, PIL.Image.Image) else len(image)


def _pixel_type(images: Sequence[Any], do_rescale: bool, do_normalize: bool, **kwargs: Any) -> torch.dtype:
    """Of the batch: uint8 where all images are, as PIL's are, and nothing is done to their values."""
    kinds = {str(getattr(image, "dtype", "uint8")).removeprefix("torch.") for image in images}
    return torch.uint8 if kinds == {"uint8"} and not (do_rescale or do_normalize) else torch.float32


def _normalization(
    do_rescale: bool,
    rescale_factor: float,
    do_normalize: bool,
    image_mean: float | Sequence[float],
    image_std: float | Sequence[float],
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rescaling and normalising as one multiplication and one subtraction, both (C or 1, 1, 1) float32."""
    constants = (image_mean, image_std) if do_normalize else (0.0, 1.0)
    try:
        tensors = [torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1) for values in constants]
        mean, std = torch.broadcast_tensors(*tensors)
        is_usable = bool((std > 0).all() and std.isfinite().all() and mean.isfinite().all())
    except (TypeError, ValueError, RuntimeError):  # strings, or lists that do not fit together
        is_usable = False
    if not is_usable or not (_is_number(rescale_factor) and np.isfinite(rescale_factor)):
        raise ValueError(
            f"`image_mean` is {image_mean}, `image_std` {image_std}, `rescale_factor` {rescale_factor}; expected "
            "numbers, one mean and one positive deviation for each channel"
        )
    return (rescale_factor if do_rescale else 1.0) / std, mean / std


def _read_text(annotation: Any) -> Instances:
    is_coco = isinstance(annotation, dict) and "polygons" not in annotation
    return TextInstances.from_coco(annotation) if is_coco else TextInstances.from_json(annotation)


def _label(instances: Instances, original: tuple[int, int], resized: tuple[int, int]) -> dict[str, torch.Tensor]:
    """The geometry of one image's text as tensors, scaled as the image was."""
    polygons = instances.scale(resized[1] / original[1], resized[0] / original[0]).polygons
    label = {
        "points": torch.from_numpy(np.concatenate([*polygons, np.zeros((0, 2), np.float32)])),  # (sum of K_i, 2)
        "counts": torch.tensor([len(polygon) for polygon in polygons], dtype=torch.int64),
        "ignore": torch.from_numpy(instances.ignored.copy()),
        "orig_size": torch.tensor(original),
    }
    if instances.labels is not None:
        label["class_labels"] = torch.from_numpy(instances.labels.copy())
    if isinstance(instances, TextInstances) and instances.texts is not None:
        label["char_ids"] = _char_ids(instances.texts, instances.ignored)
    return label


def _char_ids(texts: Sequence[str | None], ignored: np.ndarray) -> torch.Tensor:
    """Code points of the words (N, L), zeros after the end of each and where there is nothing to learn."""
    words = ["" if skip else word or "" for word, skip in zip(texts, ignored, strict=True)]
    ids = torch.zeros(len(words), max([1, *map(len, words)]), dtype=torch.int64)
    for row, word in zip(ids, words, strict=True):
        row[: len(word)] = torch.tensor([ord(character) for character in word], dtype=torch.int64)
    return ids
