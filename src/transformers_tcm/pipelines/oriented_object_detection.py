"""`pipeline("oriented-object-detection")`: aerial images in, turned boxes of objects out."""

from typing import Any, ClassVar

import torch

from ..instances import OrientedInstances
from ..models.tcm.modeling_tcm_oriented import TCMForOrientedObjectDetection
from ..models.tcm.post_processing_tcm import objects_as_tensors
from .looks import Look
from .text_detection import TextDetectionPipeline
from .tiles import merged_objects

__all__ = ["OrientedObjectDetectionPipeline"]


class OrientedObjectDetectionPipeline(TextDetectionPipeline):
    """Finds objects and their direction in images, such as those of satellites.

    ```python
    >>> import transformers_tcm
    >>> from transformers import pipeline
    >>> detector = pipeline("oriented-object-detection", model="my_detector")
    >>> detector("harbor.png", tile=1024, tile_overlap=200)
    [{'score': 0.93, 'label': 'ship', 'box': {'xmin': 31.5, 'ymin': 12.0, 'xmax': 118.2, 'ymax': 40.7}, 'polygon': …}]
    ```

    No model is bundled. Device, dtype and the model that is given as an object are treated as in
    `TextDetectionPipeline`.

    Raises:
        TypeError: for a model that finds no oriented objects, and for an argument that neither the pipeline nor a call
            knows.
        ValueError: without an image processor.
    """

    _task: ClassVar[str] = "oriented-object-detection"
    _model_kind: ClassVar[str] = "detector of oriented objects"
    _model_class: ClassVar[type] = TCMForOrientedObjectDetection
    _forward_arguments: ClassVar[tuple[str, ...]] = ()
    # Without crops: nothing says that objects fill a small image.
    _preprocess_arguments: ClassVar[tuple[str, ...]] = ("timeout", "size", "tile", "tile_overlap")
    _with_overview: ClassVar[bool] = False  # a class may be told by its size alone

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Find the objects in one image or in many.

        Args:
            inputs: an image or many, see `TextDetectionPipeline.__call__`.
            threshold (`float`, *optional*): lowest score of a class at a location.
            nms_threshold (`float`, *optional*): largest IoU of two objects of a class that are both kept, in an image
                and in the overlaps of its tiles.
            max_candidates, max_detections (`int`, *optional*): see `OrientedDecoding`.
            tile (`int`, *optional*, defaults to 0): cut images into overlapping squares of this side and read these at
                the size they have, as those that the model was trained on; 0 means none. Images that fit into a tile
                are read as without. A `size` in the call is the one that images are resized to before.
            tile_overlap (`int`, *optional*, defaults to a quarter of `tile`): what neighbours share at least; longer
                objects at a seam may be cut off. DOTA's patches of 1024 pixels share 200.
            kwargs: the other arguments of `TextDetectionPipeline.__call__`: `batch_size`, `num_workers`, `timeout`,
                `size`, `output_score_maps`.

        All but the first can also be given to `pipeline(…)`; what is given nowhere comes from the image processor.

        Returns:
            For an image a list with a dict for each object, by falling score: `score`, `label`, `box` with `xmin`,
            `ymin`, `xmax`, `ymax`, the axis-aligned one, and `polygon`, the four corners [x, y] of the turned box,
            clockwise from the one that is top left when it is turned upright, in pixels of the upright image. Corners
            may lie outside of the image. For a list or tuple a list of such lists, otherwise an iterator over them.
        """
        return super().__call__(inputs, **kwargs)

    def _look(
        self,
        images: list[dict[str, Any]],
        batch: dict[str, torch.Tensor],
        target_sizes: torch.Tensor,
        post_processing: dict[str, Any],
    ) -> tuple[list[Look], list[dict[str, Any]]]:
        # One look: a class may be told by its size alone, which a coarser one would change.
        outputs, found = self._read(images, batch, target_sizes, post_processing)
        return [Look(list(range(len(images))), outputs)], found

    def _read(
        self,
        images: list[dict[str, Any]],
        batch: dict[str, torch.Tensor],
        target_sizes: torch.Tensor,
        post_processing: dict[str, Any],
    ) -> tuple[Any, list[dict[str, Any]]]:
        outputs = self.model(**batch, return_dict=True)
        settings = self.image_processor.decoding_settings(**post_processing)
        found: list[dict[str, Any]] = self.image_processor.post_process_oriented_object_detection(
            outputs, target_sizes, **vars(settings)
        )
        # Tiles are put together later, by the same threshold.
        return outputs, [{**objects, "nms_threshold": settings.nms_threshold} for objects in found]

    def _merge_instances(self, tiles: list[dict[str, Any]]) -> dict[str, Any]:
        grid, size = tiles[0]["place"].grid, tiles[0]["place"].photo
        parts = [(tile["place"], _as_instances(tile)) for tile in tiles]
        merged = merged_objects(parts, tiles[0]["nms_threshold"])
        return objects_as_tensors(merged.scale(size[1] / grid.width, size[0] / grid.height))


def _as_instances(found: dict[str, Any]) -> OrientedInstances:
    """The inverse of `objects_as_tensors`."""
    return OrientedInstances(
        list(found["polygons"].numpy()), scores=found["scores"].numpy(), labels=found["labels"].numpy()
    )
