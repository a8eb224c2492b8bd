"""Heads of oriented objects learn eight scenes by heart, angles included: the whole road of a label and back."""

from typing import Any

import numpy as np
import pytest
import torch
from oriented_fakes import LABELS, OVERRIDES, scene

from transformers_tcm import OrientedInstances, TCMConfig, TCMForOrientedObjectDetection, TCMImageProcessor
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.rotated_boxes import boxes_to_quads, quads_to_boxes
from transformers_tcm.training import BatchScores, score_batch, summarize

STEPS = 100


def eight_scenes(config: TCMConfig) -> tuple[TCMImageProcessor, dict[str, Any]]:
    rng = np.random.default_rng(0)
    processor = TCMImageProcessor(do_resize=False).for_model(config)
    items = []
    for _ in range(8):
        centers = [[rng.uniform(25, 71), rng.uniform(20, 45)], [rng.uniform(25, 71), rng.uniform(60, 100)]]
        boxes = np.hstack([centers, [[34, 14], [26, 13]], rng.uniform(-1.5, 1.5, (2, 1))])
        quads = boxes_to_quads(torch.tensor(boxes, dtype=torch.float32)).numpy()
        objects = OrientedInstances(list(quads), labels=[0, 1])
        items.append(process_for_model(processor, scene(96, 128, *zip(quads, (0, 1), strict=True)), objects))
    return processor, TextDetectionCollator(config)(items)


def upright(scores: BatchScores) -> BatchScores:
    """The same with all angles of what was found set to 0."""
    turned_back = []
    for wanted, found in scores.objects:
        boxes = torch.from_numpy(quads_to_boxes(np.array(found.polygons, np.float32).reshape(-1, 4, 2)))
        boxes[:, 4] = 0
        turned_back.append((wanted, found.with_polygons(list(boxes_to_quads(boxes).numpy()))))
    return BatchScores(scores.losses, objects=turned_back)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["rotated_fcos", "rotated_retinanet"])
def test_eight_scenes_are_known_by_heart(head: str) -> None:
    torch.manual_seed(0)
    groups = {} if head == "rotated_retinanet" else {"num_groups": 8}
    settings = {**OVERRIDES, "head_config": {"channels": 32, "num_convs": 1, **groups}}
    settings["vision_config"] = {**settings["vision_config"], "width": 16}
    model = TCMForOrientedObjectDetection(TCMConfig(**settings, head_type=head, id2label=dict(LABELS))).train()
    processor, batch = eight_scenes(model.config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3 * STEPS // 4], gamma=0.15)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        scores = score_batch(model.eval(), processor, batch)
    assert summarize(scores)["mean_average_precision"] > 0.9
    assert summarize(upright(scores))["mean_average_precision"] < 0.7
