"""A detector of oriented objects that takes red and blue regions for ships and cars, whatever their angle."""

from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from tiny_settings import SETTINGS

from transformers_tcm import TCMConfig, TCMForOrientedObjectDetection
from transformers_tcm.models.tcm.heads.oriented import OrientedHeadOutput, encode_points, locations
from transformers_tcm.models.tcm.modeling_tcm_oriented import TCMOrientedObjectDetectionOutput
from transformers_tcm.rotated_boxes import quads_to_boxes

LABELS = {0: "ship", 1: "small-vehicle"}
COLORS = ((255, 0, 0), (0, 0, 255))
STRIDES = (8, 16, 32, 64, 128)
CONFIG = TCMConfig(
    **{
        **SETTINGS,
        "head_type": "rotated_fcos",
        "head_config": {"channels": 8, "num_convs": 1, "num_groups": 4},
        "id2label": LABELS,
        "fused": True,
    }
)
# The same as settings of a new model.
OVERRIDES = {
    name: getattr(CONFIG, name).to_dict() if name.endswith("config") else getattr(CONFIG, name)
    for name in ("vision_config", "text_config", "decoder_hidden_size", "decoder_num_heads", "decoder_num_layers")
} | {"head_config": CONFIG.head_config}


class ColouredRegions(TCMForOrientedObjectDetection):
    """Gives the smallest rectangle around each red or blue region, with a higher score the larger it is."""

    def __init__(self, config: TCMConfig):
        super().__init__(config)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor, **kwargs: Any) -> Any:
        self.shapes.append(tuple(pixel_values.shape))
        size = pixel_values.shape[-2:]
        shapes = torch.tensor([[-(-side // stride) for side in size] for stride in STRIDES])
        points, strides = locations(shapes, offset=0.5)
        count = len(points)
        maps = OrientedHeadOutput(
            class_logits=torch.full((len(pixel_values), count, 2), -20.0),
            box_predictions=torch.zeros(len(pixel_values), count, 4),
            level_shapes=shapes,
            centerness_logits=torch.full((len(pixel_values), count), 20.0),
            angles=torch.zeros(len(pixel_values), count),
        )
        for index, image in enumerate(pixel_values):
            for label, channel in enumerate((0, 2)):
                mask = (image[channel] > image[2 - channel] + 1).numpy().astype(np.uint8)
                for outline in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
                    # Contours run through the middle of pixels.
                    box = torch.from_numpy(quads_to_boxes(cv2.boxPoints(cv2.minAreaRect(outline))[None] + 0.5))[0]
                    place = int((points - box[:2]).abs().sum(dim=1).argmin())
                    maps.class_logits[index, place, label] = float(torch.log1p(box[2:4].prod())) / 5
                    maps.box_predictions[index, place] = encode_points(points[place], box) / strides[place]
                    maps.angles[index, place] = box[4]
        sizes = torch.stack([pixel_mask.any(dim=2).sum(dim=1), pixel_mask.any(dim=1).sum(dim=1)], dim=1)
        score_map = torch.zeros(len(pixel_values), 2, size[0] // 32, size[1] // 32)
        return TCMOrientedObjectDetectionOutput(head_output=maps, valid_sizes=sizes, score_map=score_map)


def scene(width: int, height: int, *objects: tuple[np.ndarray, int]) -> Image.Image:
    """A grey image with filled quads (4, 2) of classes."""
    canvas = np.full((height, width, 3), 90, np.uint8)
    for quad, label in objects:
        cv2.fillConvexPoly(canvas, np.round(quad).astype(np.int32), COLORS[label])
    return Image.fromarray(canvas)
