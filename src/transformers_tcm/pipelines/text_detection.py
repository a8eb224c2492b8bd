"""`pipeline("text-detection")`: photos in, outlines of words out."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from types import GeneratorType
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import BatchFeature
from transformers.pipelines import Pipeline
from transformers.pipelines.pt_utils import KeyDataset

from ..images import ReducedImage, load_image, load_reduced
from ..instances import TextInstances
from ..models.tcm.exported_tcm import ExportedModel
from ..models.tcm.heads import head_class
from ..models.tcm.image_processing_common_tcm import resized_size
from ..models.tcm.modeling_tcm import TCMForTextDetection
from ..models.tcm.post_processing_tcm import as_tensors, by_score, to_original_size
from ..tiling import TileGrid, holds_large, may_hold_larger, merge_levels
from .engine import with_backend
from .looks import CROP_MARGIN, CROP_SCALE, Known, Look, coarser, framed, unframed
from .tiles import Tile, cut, each, merged_instances, merged_score_map, size_policy

__all__ = ["TextDetectionPipeline", "as_instances", "as_pipeline_inputs"]

# Whether what was found in a picture, and by how much it would be enlarged for a look, ask for that look.
Asks = Callable[[TextInstances, float], bool]


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

    `pipeline(…, model=folder, backend="onnxruntime")` or `"openvino"` takes a folder that `transformers-tcm export`
    wrote; it works without torch weights, on the processor.

    Raises:
        TypeError: for a model that is no text detector, and for an argument that neither the pipeline nor a call knows.
        ValueError: without an image processor.
    """

    # What a pipeline for more than detection has otherwise.
    _task: ClassVar[str] = "text-detection"
    _model_kind: ClassVar[str] = "text detector"
    _model_class: ClassVar[type] = TCMForTextDetection
    _forward_arguments: ClassVar[tuple[str, ...]] = ("coarse_edge",)
    _preprocess_arguments: ClassVar[tuple[str, ...]] = ("timeout", "size", "crop_edge", "tile", "tile_overlap")
    _with_overview: ClassVar[bool] = True

    # Typed, because the base class leaves them open.
    model: Any
    image_processor: Any
    _load_processor: Any = False
    _load_image_processor: Any = True
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False
    # transformers would guess one from the image processor, and ask whether to run its code.
    _load_video_processor: Any = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # `pipeline` hands this on although only the loading of the files needs it.
        kwargs.pop("local_files_only", None)
        backend = kwargs.pop("backend", None)
        if args:
            kwargs["model"], args = args[0], args[1:]
        kwargs["model"] = with_backend(kwargs.get("model"), backend, self._model_class)
        if isinstance(kwargs["model"], ExportedModel):
            kwargs["device"] = "cpu"
        # `pipeline` says "auto" where its user did not say anything.
        dtype_is_free = kwargs.get("dtype") == "auto"
        super().__init__(*args, **kwargs)
        model, expected = self.model, self._model_class
        if not isinstance(model, expected):
            raise TypeError(f"{type(model).__name__} is no {self._model_kind}; expected a {expected.__name__}")
        if self.image_processor is None:
            raise ValueError("the pipeline needs the model's image processor: pass `image_processor=`")
        self.image_processor = self.image_processor.for_model(self.model.config)
        self._prepare_model(dtype_is_free)

    @property
    def _decoding_names(self) -> tuple[str, ...]:
        """The settings by which the model's head decodes, all of them arguments of the pipeline."""
        head = head_class(getattr(self.model.config, "head_type", "dbnet"))  # what is no model of ours is refused later
        return tuple(field.name for field in fields(head.decoding_class))

    def _prepare_model(self, dtype_is_free: bool) -> None:
        is_free_half = dtype_is_free and self.device.type == "cpu" and self.dtype in (torch.float16, torch.bfloat16)
        self.model.optimize_for_inference(dtype="fastest" if is_free_half else None)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Find the text in one image or in many.

        Args:
            inputs: an image, which is all that `transformers_tcm.load_image` takes: a path (`str` or `pathlib.Path`), a
                URL, the bytes of a file, an open binary file, a PIL image, or a numpy array; of large JPEG files no
                more pixels are decoded than the network takes (`load_reduced`). Or many of them, of any sizes: a list
                or tuple, a generator or other iterator, a torch dataset, or a dataset of `datasets` with a column
                "image".
            batch_size (`int`, *optional*, defaults to 1): images handed to the model at a time. Those of one size are
                computed together; images are never padded to each other's size, so the results are those of one by one.
            num_workers (`int`, *optional*, defaults to 0): processes that load and resize the images; with tiles there
                is one at most.
            timeout (`float`, *optional*): seconds to wait for a URL.
            size (`dict` or `int`, *optional*): as the image processor's; a number is the length of the longest edge.
            box_threshold (`float`, *optional*): lowest score of a detection.
            threshold, unclip_ratio, max_candidates, min_size, polygon, …: the other settings by which the model's head
                decodes, the fields of its `decoding_class`; `polygon=True` gives outlines that follow curved text.
            tile (`int`, *optional*, defaults to 0): read photos in overlapping square tiles of this side instead of
                making them smaller to the `size` of the image processor; 1024 is a good start, 0 means none. A `size`
                in the call is the one that photos are resized to before they are cut, otherwise they keep theirs, and
                the tile is in pixels of the photo so resized. Each photo is also read once as a whole, for words too
                long for the overlap. `transformers_tcm.tiling` says how the tiles' results become one. Photos that fit
                into a tile, or need not be made smaller, are read as without tiles. `batch_size` counts tiles here.
            tile_overlap (`int`, *optional*, defaults to a quarter of `tile`): what neighbouring tiles share at least,
                up to half of `tile`; shorter words are seen whole by one of them. In the same pixels.
            coarse_edge (`int`, *optional*): longest edge in pixels of a second, coarser look, for large letters, which
                a third one of half this edge may follow, for larger ones; 0 means neither. `transformers_tcm.tiling`
                says which pictures get them, and how the looks become one result. There are none with tiles, whose
                overview takes their place, nor where they would hardly be smaller.
            crop_edge (`int`, *optional*): pictures whose longest edge has at most so many pixels are taken for crops of
                words or signs, which letters may fill: they are read in a margin and, without a `size` in the call,
                enlarged by no more than 3, and where something large was found also looked at in their own size; 0
                means none.
            output_score_maps (`bool`, *optional*, defaults to `False`): also return what the model matched with its
                prompt, see below.

        All but the first can also be given to `pipeline(…)`; what is given nowhere comes from the image processor.

        Returns:
            For an image a list with a dict for each text instance, by falling score: `score` in [0, 1], `label`, `box`
            with `xmin`, `ymin`, `xmax`, `ymax`, and `polygon`, a list of [x, y] clockwise from the top-left corner of
            the reading direction, all in pixels of the upright image. For a list or tuple a list of such lists,
            otherwise an iterator over them.

            With `output_score_maps` each image gives a dict instead, with that list as `instances`, and `score_map`,
            a float32 array (height, width) of the upright image with values in [0, 1]: TCM's instance-language score
            map as a probability, sigmoid(cosine / temperature), of the prompt that fits best, interpolated from
            one value for 32 x 32 pixels of the network's input. It is `None` for a model without such a map.
        """
        inputs = as_pipeline_inputs(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        tile = kwargs.get("tile")
        if isinstance(inputs, (list, GeneratorType, Dataset)) or not (
            self._preprocess_params.get("tile") if tile is None else tile
        ):
            return super().__call__(inputs, **kwargs)
        return super().__call__([inputs], **kwargs)[0]  # its tiles are many images

    def load_photo(self, image: Any, pixel_limit: int | None = None) -> Image.Image | ReducedImage:
        """An image with as many pixels as a call reads, to be given to one in the place of what it was loaded from.

        Calls load whatever else they are given like that. It is for programs that want to know `width` and `height` of
        the image, or whether it can be read at all, before. `size`, `timeout` and `tile` are those of the pipeline, and
        not to be changed in the call.

        Args:
            image, pixel_limit: see `transformers_tcm.load_image`.

        Returns:
            With tiles and for all but large JPEG files what `load_image` returns, see `load_reduced`.

        Raises:
            FileNotFoundError, TooManyPixelsError, ValueError, TypeError: as `load_image`. ValueError or TypeError also
                in a call with another `size` or with tiles.
        """
        settings = self._preprocess_params
        if settings.get("tile"):
            return load_image(image, settings.get("timeout"), pixel_limit)
        return self._load_reduced(image, settings.get("timeout"), settings.get("size"), pixel_limit)

    def _load_reduced(
        self, image: Any, timeout: float | None, size: dict[str, int] | int | None, pixel_limit: int | None = None
    ) -> Image.Image | ReducedImage:
        processor = self.image_processor
        if not processor.do_resize:
            return load_image(image, timeout, pixel_limit)
        policy = size_policy(processor.size if size is None else size)
        input_size = partial(resized_size, size=policy, max_scale=processor.max_scale)
        if isinstance(image, ReducedImage):
            height, width = input_size(image.height, image.width)
            if image.image.size != (width, height):
                loaded = "{} x {}".format(*image.image.size)
                raise ValueError(
                    f"the photo was loaded for an input of {loaded} pixels, this call reads {width} x {height}"
                )
            return image
        return load_reduced(image, input_size, processor.resample, timeout, pixel_limit)

    def _sanitize_parameters(self, **given: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        given = {name: value for name, value in given.items() if value is not None}
        preprocess: dict[str, Any] = {name: given.pop(name) for name in self._preprocess_arguments if name in given}
        names = (*self._decoding_names, *self._forward_arguments, "output_score_maps")
        forward = {name: given.pop(name) for name in names if name in given}
        if given:
            known = ", ".join((*self._preprocess_arguments, *names))
            raise TypeError(f"unknown arguments of the {self._task} pipeline: {', '.join(given)}; it takes {known}")
        return preprocess, forward, {}

    def run_single(
        self, inputs: Any, preprocess_params: dict[str, Any], forward_params: dict[str, Any], postprocess_params: Any
    ) -> Any:
        """One image that is not cut."""
        preprocess_params, _ = _without_tiles(preprocess_params)
        return super().run_single(inputs, preprocess_params, forward_params, postprocess_params)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterable[Any]:
        """Results of many images; where they are cut, batches are of tiles, whichever photos these are from."""
        preprocess_params, tiles = _without_tiles(preprocess_params)
        more = (batch_size, preprocess_params, forward_params, postprocess_params)
        if tiles is None:
            results: Iterable[Any] = super().get_iterator(inputs, num_workers, *more)
            return results
        parts = (part for image in each(inputs) for part in self._cut(image, tiles, **preprocess_params))
        # Several processes would each cut all photos.
        return self._put_together(super().get_iterator(parts, min(num_workers, 1), *more))

    def _cut(
        self,
        image: Any,
        tiles: dict[str, Any],
        timeout: float | None = None,
        size: dict[str, int] | int | None = None,
        crop_edge: int | None = None,
    ) -> Iterator[Any]:
        """The tiles of an image, or the image itself if it is read as a whole."""
        photo = load_image(image, timeout=timeout)
        parts = cut(photo, self.image_processor, size, **tiles, with_overview=self._with_overview)
        first = next(parts, None)
        yield photo if first is None else first
        yield from parts

    def _put_together(self, results: Iterable[Any]) -> Iterator[Any]:
        """Results of images from those of their tiles, which follow each other."""
        tiles: list[dict[str, Any]] = []
        for result in results:
            if not (isinstance(result, dict) and "place" in result):
                yield result
                continue
            tiles.append(result)
            if result["place"].is_last:
                yield self.postprocess({"detections": self._merged(tiles)})
                tiles = []

    def _merged(self, tiles: list[dict[str, Any]]) -> dict[str, Any]:
        """Detections in a photo from those in its tiles."""
        size = tiles[0]["place"].photo
        merged = self._merge_instances(tiles)
        if "score_map" in tiles[0]:
            score_map = merged_score_map([(tile["place"], tile["score_map"]) for tile in tiles])
            merged["score_map"] = None if score_map is None else _resized(torch.from_numpy(score_map), size).numpy()
        return merged

    def _merge_instances(self, tiles: list[dict[str, Any]]) -> dict[str, Any]:
        """What was found in a photo, as it is found in an image, from what was found in its tiles."""
        grid, size = tiles[0]["place"].grid, tiles[0]["place"].photo
        instances = merged_instances([(tile["place"], as_instances(tile)) for tile in tiles])
        return as_tensors(self._in_order(to_original_size(instances, (grid.height, grid.width), size)))

    def _in_order(self, instances: TextInstances) -> TextInstances:
        return by_score(instances)

    def preprocess(  # type: ignore[override]
        self,
        image: Any,
        timeout: float | None = None,
        size: dict[str, int] | int | None = None,
        crop_edge: int | None = None,
    ) -> dict[str, dict[str, Any]]:
        if isinstance(image, Tile):
            features: BatchFeature = self.image_processor(image.image, **image.settings)
            return {"images": {**features.to(self.dtype), "place": image.place}}
        photo = self._load_reduced(image, timeout, size)
        if isinstance(photo, ReducedImage):
            features = self.image_processor(photo.image, do_resize=False)
            features["target_sizes"] = torch.tensor([[photo.height, photo.width]])
        elif self._is_crop(photo, crop_edge):
            photo = framed(photo)
            features = self.image_processor(photo, size=size or self._crop_size(photo))
            features["is_framed"] = True
        else:
            features = self.image_processor(photo, size=size)
        # In a dict the collation of transformers leaves the tensors alone; it would pad them to one size.
        return {"images": dict(features.to(self.dtype))}

    def _is_crop(self, photo: Image.Image, crop_edge: int | None) -> bool:
        crop_edge = self.image_processor.crop_edge if crop_edge is None else crop_edge
        if not isinstance(crop_edge, int) or crop_edge < 0:
            raise ValueError(f"`crop_edge` is {crop_edge!r}; expected a number of pixels, or 0 for no crops")
        return "crop_edge" in self._preprocess_arguments and max(photo.size) <= crop_edge

    def _crop_size(self, framed_crop: Image.Image) -> dict[str, int]:
        """What a crop is resized to: no larger than the image processor makes any picture."""
        policy = size_policy(self.image_processor.size)
        if policy.longest_edge is None:
            return dict(policy)
        return {"longest_edge": min(round(CROP_SCALE * max(framed_crop.size)), policy.longest_edge)}

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, Any], output_score_maps: bool = False, **post_processing: Any
    ) -> dict[str, Any]:
        # Detections are read here and not in `postprocess`, because outputs lose their class on the way there.
        images = model_inputs["images"]
        if isinstance(images, dict):
            return {"detections": self._detect([images], output_score_maps, post_processing)[0]}
        detections: list[Any] = [None] * len(images)
        for indices in _by_shape([image["pixel_values"] for image in images]):
            found = self._detect([images[index] for index in indices], output_score_maps, post_processing)
            for index, detection in zip(indices, found, strict=True):
                detections[index] = detection
        return {"detections": detections}

    def _detect(
        self, images: list[dict[str, Any]], output_score_maps: bool, post_processing: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Detections of images of one shape, with their places if they are tiles."""
        names = self.image_processor.model_input_names
        batch = {name: torch.cat([image[name] for image in images]) for name in names}
        target_sizes = torch.cat([image["target_sizes"] for image in images]).cpu()
        looks, detections = self._look(images, batch, target_sizes, post_processing)
        if output_score_maps:
            maps = self._score_maps(looks[0].outputs, batch["pixel_values"].shape[-2:], target_sizes.tolist())
            for found, score_map in zip(detections, maps, strict=True):
                found["score_map"] = score_map
        for index, (image, size) in enumerate(zip(images, target_sizes.tolist(), strict=True)):
            if "is_framed" in image:
                detections[index] = _without_margin(detections[index], size)
            if "place" in image:
                detections[index]["place"] = image["place"]
        return detections

    def _look(
        self,
        images: list[dict[str, Any]],
        batch: dict[str, torch.Tensor],
        target_sizes: torch.Tensor,
        post_processing: dict[str, Any],
    ) -> tuple[list[Look], list[dict[str, Any]]]:
        """`_read` at full size, at `coarse_edge` where letters may be too large for that, and at half of it where there
        are large ones: the looks, and one result for each picture."""
        coarse_edge = post_processing.get("coarse_edge", self.image_processor.coarse_edge)
        further = self._further_looks(images[0], target_sizes, coarse_edge)
        settings = {name: value for name, value in post_processing.items() if name != "coarse_edge"}
        outputs, found = self._read(images, batch, target_sizes, settings)
        looks = [Look(list(range(len(images))), outputs)]
        # Tiles get no further looks.
        seen = self._seen(outputs, target_sizes, found) if further else []
        for edge, asks in further:
            scales = (edge / target_sizes.amax(dim=1)).tolist()
            known = [Known(as_instances(one), scale) for one, scale in zip(found, scales, strict=True)]
            chosen = [index for index, scale in enumerate(scales) if asks(seen[index], scale)]
            smaller = coarser({name: values[chosen] for name, values in batch.items()}, edge, self._divisor)
            if smaller is None:
                continue
            again = [{**images[index], "known": known[index]} for index in chosen]
            outputs, coarse = self._read(again, smaller, target_sizes[chosen], settings)
            looks.append(Look(chosen, outputs))
            also_seen = self._seen(outputs, target_sizes[chosen], coarse)
            for index, other, more in zip(chosen, coarse, also_seen, strict=True):
                merged = merge_levels(known[index].instances, as_instances(other), known[index].scale)
                found[index] = as_tensors(self._in_order(merged))
                seen[index] = TextInstances([*seen[index].polygons, *more.polygons])
        return looks, found

    @staticmethod
    def _further_looks(image: dict[str, Any], target_sizes: torch.Tensor, coarse_edge: Any) -> list[tuple[int, Asks]]:
        """Longest edges of coarser looks at pictures like this one, and which pictures get each, by what was found so
        far."""
        if not isinstance(coarse_edge, int) or coarse_edge < 0:
            raise ValueError(f"`coarse_edge` is {coarse_edge!r}; expected a number of pixels, or 0 for no second look")
        # Tiles have an overview instead.
        if "place" in image or not coarse_edge:
            return []
        # Crops at their own size; they hold few words in any case.
        if "is_framed" in image:
            return [(min(coarse_edge, int(target_sizes.max())), holds_large)]
        return [(coarse_edge, may_hold_larger), (coarse_edge // 2, holds_large)]

    def _seen(self, outputs: Any, target_sizes: torch.Tensor, found: Sequence[dict[str, Any]]) -> list[TextInstances]:
        """What further looks are chosen by: all regions of each picture, in pixels of it."""
        return [as_instances(one) for one in found]

    @property
    def _divisor(self) -> int:
        return int(self.image_processor.size_divisor)

    def _read(
        self,
        images: list[dict[str, Any]],
        batch: dict[str, torch.Tensor],
        target_sizes: torch.Tensor,
        post_processing: dict[str, Any],
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Outputs of the model for a batch, and what they mean in pixels of the images."""
        outputs = self.model(**batch, return_dict=True)
        return outputs, self.image_processor.post_process_text_detection(outputs, target_sizes, **post_processing)

    def _score_maps(
        self, outputs: Any, input_size: torch.Size, target_sizes: list[list[int]]
    ) -> list[np.ndarray | None]:
        """Score maps (height, width) of the images of a batch, as probabilities."""
        if outputs.score_map is None:
            return [None] * len(target_sizes)
        config = self.model.config
        logits = outputs.score_map.float().amax(dim=1) / (1 if config.learnable_logit_scale else config.temperature)
        maps: list[np.ndarray | None] = []
        for values, (height, width), size in zip(logits, outputs.valid_sizes.tolist(), target_sizes, strict=True):
            in_input = _resized(values, input_size)[:height, :width]
            maps.append(_resized(in_input, size).sigmoid().cpu().numpy())
        return maps

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any]
    ) -> Any:
        found = model_outputs["detections"]
        if "place" in found:
            return found  # of a tile, for `_put_together`
        instances = self._instances(found)
        return {"instances": instances, "score_map": found["score_map"]} if "score_map" in found else instances

    def _instances(self, found: dict[str, Any]) -> list[dict[str, Any]]:
        """Plain Python, a dict for each instance."""
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
    """One image as it is, many in a container that the base class of pipelines knows as such.

    Raises:
        ValueError: for a dataset without a column "image".
    """
    if getattr(inputs, "ndim", 0) == 4 or (isinstance(inputs, np.ndarray) and inputs.ndim == 1):
        return list(inputs)  # a batch, or names of files
    if isinstance(inputs, Mapping) and isinstance(inputs.get("image"), list):
        return inputs["image"]  # rows of a dataset, as `dataset[:8]` gives them
    if hasattr(inputs, "__len__") and not isinstance(inputs, np.ndarray | torch.Tensor | Mapping) and _is_empty(inputs):
        return []
    names = getattr(inputs, "column_names", None)
    if isinstance(names, Mapping):
        raise ValueError(f"a dataset of several splits: choose one of {', '.join(map(repr, names))}")
    if names:
        if "image" not in names:
            raise ValueError(f'no column "image" among {names}: pass the column of the images, as in dataset["photo"]')
        return KeyDataset(inputs, "image") if hasattr(inputs, "__len__") else (row["image"] for row in inputs)
    if isinstance(inputs, (list, tuple)):
        return list(inputs)
    if isinstance(inputs, Dataset) or not _holds_many(inputs):
        return inputs
    if isinstance(inputs, Sequence):
        return _Items(inputs)  # such as a column of a dataset, which decodes an image when it is asked for it
    # The base class knows generators only.
    return (image for image in inputs)


def _is_empty(inputs: Any) -> bool:
    """Whether it holds no images; an empty text or file is one that cannot be read."""
    return not isinstance(inputs, str | bytes | bytearray | memoryview) and len(inputs) == 0


class _Items(Dataset[Any]):
    """A sequence as the dataset that the base class of pipelines takes."""

    def __init__(self, items: Sequence[Any]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def _holds_many(inputs: Any) -> bool:
    """Whether it is no image but iterates over some; files, texts, bytes and rows iterate over something else."""
    one = (str, bytes, bytearray, memoryview, np.ndarray, torch.Tensor, Mapping)
    return isinstance(inputs, Iterable) and not isinstance(inputs, one) and not hasattr(inputs, "read")


def _without_margin(found: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """What was found in a crop, from what was found in the picture (height, width) with the margin."""
    cropped = as_tensors(unframed(as_instances(found), size))
    if "score_map" in found:
        framed_map, inside = found["score_map"], slice(CROP_MARGIN, -CROP_MARGIN)
        cropped["score_map"] = None if framed_map is None else framed_map[inside, inside]
    return cropped


def _without_tiles(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int] | None]:
    """The arguments that say nothing about tiles, and those of `TileGrid` if there are to be any.

    Raises:
        TypeError, ValueError: if tiles cannot be like that.
    """
    others = {name: value for name, value in params.items() if name not in ("tile", "tile_overlap")}
    tile, overlap = params.get("tile", 0), params.get("tile_overlap")
    if tile == 0:
        return others, None
    tiles = {"tile": tile, "overlap": tile // 4 if overlap is None else overlap}
    TileGrid(width=1, height=1, **tiles)
    return others, tiles


def as_instances(found: dict[str, Any]) -> TextInstances:
    """The inverse of `as_tensors`."""
    text_scores = found.get("text_scores")
    return TextInstances(
        [polygon.numpy() for polygon in found["polygons"]],
        scores=found["scores"].numpy(),
        labels=found["labels"].numpy(),
        texts=found.get("texts"),
        text_scores=None if text_scores is None else text_scores.numpy(),
    )


def _resized(values: torch.Tensor, size: Any) -> torch.Tensor:
    """A map (h, w) interpolated to `size`."""
    if tuple(values.shape) == tuple(size):
        return values
    return functional.interpolate(values[None, None], size=tuple(size), mode="bilinear", align_corners=False)[0, 0]


def _by_shape(tensors: list[torch.Tensor]) -> list[list[int]]:
    """Indices of tensors, those of one shape together."""
    groups: dict[torch.Size, list[int]] = defaultdict(list)
    for index, tensor in enumerate(tensors):
        groups[tensor.shape].append(index)
    return list(groups.values())
