"""`TCMForOrientedObjectDetection`: classes and prompts from the labels, one score map for each, fusing, loading."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForObjectDetection

from transformers_tcm import (
    AutoModelForOrientedObjectDetection,
    OrientedInstances,
    TCMConfig,
    TCMForOrientedObjectDetection,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessor,
)
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.dota import DOTA_V1_CLASSES
from transformers_tcm.models.tcm.losses_tcm import masked_binary_cross_entropy, score_map_loss
from transformers_tcm.rotated_boxes import quads_to_boxes

LABELS = {0: "ship", 1: "small-vehicle", 2: "field"}
HEAD = {"channels": 8, "num_convs": 1, "num_groups": 4}
SHIP = np.float32([[10, 12], [50, 20], [46, 40], [6, 32]])


@pytest.fixture
def oriented_config(small_config: Callable[..., TCMConfig]) -> Callable[..., TCMConfig]:
    """As `small_config`, with a head of oriented objects."""

    def make(**overrides: Any) -> TCMConfig:
        return small_config(**{"head_type": "rotated_fcos", "head_config": HEAD, "id2label": dict(LABELS), **overrides})

    return make


@pytest.fixture
def oriented_model(oriented_config: Callable[..., TCMConfig]) -> Callable[..., TCMForOrientedObjectDetection]:
    def make(**overrides: Any) -> TCMForOrientedObjectDetection:
        torch.manual_seed(0)
        return TCMForOrientedObjectDetection(oriented_config(**overrides)).eval()

    return make


def batch(config: TCMConfig, *objects: OrientedInstances) -> dict[str, Any]:
    processor = TCMImageProcessor(do_resize=False).for_model(config)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return TextDetectionCollator(config)([process_for_model(processor, image, one) for one in objects])


def test_classes_and_prompts_are_those_of_the_labels(oriented_config: Callable[..., TCMConfig]) -> None:
    config = oriented_config()
    assert config.prompts == ["ship", "small vehicle", "field"]
    assert config.label2id == {"ship": 0, "small-vehicle": 1, "field": 2}
    assert config.num_context_tokens == 8
    assert config.head_settings.num_classes == 3
    assert "num_classes" not in config.head_config
    assert len({len(ids) for ids in config.prompt_token_ids}) == 1


def test_without_labels_the_classes_are_those_of_dota() -> None:
    config = TCMConfig.from_preset("tiny", head_type="rotated_atss")
    assert tuple(config.id2label.values()) == DOTA_V1_CLASSES
    assert config.prompts[1] == "baseball diamond"


def test_configuration_round_trip_and_other_labels_at_loading(
    oriented_config: Callable[..., TCMConfig], tmp_path: Path
) -> None:
    config = oriented_config()
    config.save_pretrained(tmp_path)
    assert TCMConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    other = TCMConfig.from_pretrained(tmp_path, id2label={0: "car", 1: "storage-tank"})
    assert other.prompts == ["car", "storage tank"]
    assert other.head_settings.num_classes == other.num_labels == 2
    assert other.label2id == {"car": 0, "storage-tank": 1}


def test_a_text_detector_can_become_one_for_objects(
    small_detector: Callable[..., TCMForTextDetection], tmp_path: Path
) -> None:
    small_detector().save_pretrained(tmp_path)
    model = TCMForOrientedObjectDetection.from_pretrained(
        tmp_path, head_type="rotated_retinanet", id2label=dict(LABELS), ignore_mismatched_sizes=True
    )
    assert model.config.prompts == ["ship", "small vehicle", "field"]
    assert model.config.num_context_tokens == 4
    text = TCMForTextDetection.from_pretrained(tmp_path)
    for name, values in text.model.backbone.state_dict().items():
        torch.testing.assert_close(model.model.backbone.state_dict()[name], values)


def test_every_class_has_a_score_map_that_is_concatenated_as_logits(
    oriented_model: Callable[..., TCMForOrientedObjectDetection],
) -> None:
    model = oriented_model()
    pixels = torch.rand(2, 3, 64, 96)
    seen = {}
    model.head.register_forward_pre_hook(lambda module, arguments: seen.update(inputs=arguments[0]))
    outputs = model(pixels)
    assert outputs.score_map.shape == (2, 3, 2, 3)
    assert outputs.head_output.class_logits.shape[2] == 3
    torch.testing.assert_close(seen["inputs"].pyramid[-1][:, -3:], outputs.score_map / model.config.temperature)


def test_each_class_is_matched_with_the_image_on_its_own(
    oriented_model: Callable[..., TCMForOrientedObjectDetection],
) -> None:
    model = oriented_model(text_refiner=False)
    outputs = model.model(torch.rand(2, 3, 64, 96))
    image, prompted = outputs.global_embedding, outputs.prompted_text_embedding
    assert prompted.shape == (1, 3, 16)
    for label in LABELS:
        cosine = torch.nn.functional.cosine_similarity(prompted[:, label], image, dim=-1)[:, None]
        torch.testing.assert_close(outputs.text_embedding[:, label], prompted[:, label] + cosine * image)


def test_fused_models_keep_their_results_and_store_one_embedding_a_class(
    oriented_model: Callable[..., TCMForOrientedObjectDetection], tmp_path: Path
) -> None:
    model = oriented_model()
    pixels = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        before = model(pixels)
        model.fuse_text_embeddings().save_pretrained(tmp_path)
        after = AutoModelForOrientedObjectDetection.from_pretrained(tmp_path)(pixels)
    assert model.model.fused_text_embedding.shape == (1, 3, 16)
    torch.testing.assert_close(after.head_output.class_logits, before.head_output.class_logits)


def test_auto_classes_go_by_the_architecture(
    oriented_model: Callable[..., TCMForOrientedObjectDetection], tmp_path: Path
) -> None:
    oriented_model().save_pretrained(tmp_path)
    for auto in (AutoModel, AutoModelForObjectDetection, AutoModelForOrientedObjectDetection):
        assert type(auto.from_pretrained(tmp_path)) is TCMForOrientedObjectDetection
    remote = TCMConfig.from_pretrained(tmp_path).auto_map["AutoModelForObjectDetection"]
    assert remote.endswith(".TCMForOrientedObjectDetection")


def test_heads_and_models_of_different_tasks_do_not_go_together(oriented_config: Callable[..., TCMConfig]) -> None:
    with pytest.raises(ValueError, match="use TCMForOrientedObjectDetection"):
        TCMForTextDetection(oriented_config())
    with pytest.raises(ValueError, match="hold no text"):
        TCMForTextSpotting(oriented_config(recognizer={}))
    with pytest.raises(ValueError, match="'dbnet' finds text"):
        TCMForOrientedObjectDetection(TCMConfig.from_preset("tiny"))


def test_there_is_one_prompt_for_each_label(oriented_config: Callable[..., TCMConfig]) -> None:
    with pytest.raises(ValueError, match="2 `prompts` for 3 labels"):
        TCMForOrientedObjectDetection(oriented_config(prompts=["ship", "car"]))
    unprompted = TCMForOrientedObjectDetection(oriented_config(prompts=["ship", "car"], prompting="none"))
    assert unprompted.head.num_classes == 3


def test_the_auxiliary_loss_counts_objects_only(oriented_model: Callable[..., TCMForOrientedObjectDetection]) -> None:
    model = oriented_model()
    empty = OrientedInstances([], labels=[])
    losses = model(**batch(model.config, OrientedInstances([SHIP], labels=[1]), empty)).loss_dict
    assert set(losses) == {"loss_classification", "loss_box", "loss_centerness", "loss_score_map"}
    assert losses["loss_score_map"] > 0
    assert model(**batch(model.config, empty, empty)).loss_dict["loss_score_map"] == 0


def test_the_auxiliary_loss_is_a_mean_over_the_pixels_of_objects_in_the_batch() -> None:
    logits = torch.zeros(2, 3, 4, 4, requires_grad=True)
    classes, objects = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    objects[0, :, :2] = 1
    classes[0, 1, :2] = 1
    loss = masked_binary_cross_entropy(logits, classes, objects)
    assert loss.item() == pytest.approx(np.log(2))
    loss.backward()
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[0, 1, :2] < 0).all()
    assert (logits.grad[0, :, 2:] == 0).all()
    assert score_map_loss(logits[..., ::2, ::2], classes, objects, "masked_bce").isfinite()


def perfect_outputs(
    model: TCMForOrientedObjectDetection, inputs: dict[str, Any], quad: np.ndarray, label: int
) -> dict[str, Any]:
    """What the model would return if it found one object and nothing else in the first image."""
    from transformers_tcm.models.tcm.heads.oriented import encode_points, locations

    outputs = model(inputs["pixel_values"], inputs.get("pixel_mask"))
    maps = outputs.head_output
    points, strides = locations(maps.level_shapes, offset=0.5)
    box = torch.from_numpy(quads_to_boxes(quad[None]))
    place = int((points - box[0, :2]).abs().sum(dim=1).argmin())
    maps.class_logits[:] = -20.0
    maps.class_logits[0, place, label] = 3.0
    maps.centerness_logits[:] = 20.0
    maps.box_predictions[0, place] = encode_points(points[place], box[0]) / strides[place]
    maps.angles[0, place] = box[0, 4]
    return {"head_output": maps, "valid_sizes": outputs.valid_sizes}


@torch.no_grad()
def test_post_processing_gives_turned_boxes_in_original_pixels(
    oriented_model: Callable[..., TCMForOrientedObjectDetection],
) -> None:
    model = oriented_model()
    processor = TCMImageProcessor(do_resize=False).for_model(model.config)
    assert (processor.head_type, processor.threshold, processor.nms_threshold) == ("rotated_fcos", 0.05, 0.1)
    inputs = processor(np.zeros((64, 96, 3), np.uint8))
    outputs = perfect_outputs(model, inputs, SHIP, label=1)
    (found,) = processor.post_process_oriented_object_detection(outputs, [(128, 192)])
    assert found["labels"].tolist() == [1]
    assert found["scores"][0] == pytest.approx(1 / (1 + np.exp(-3)))
    assert found["rotated_boxes"].shape == (1, 5)
    corners = torch.cdist(found["polygons"][0], torch.from_numpy(2 * SHIP)).amin(dim=1)
    assert corners.max() < 1e-3
    torch.testing.assert_close(found["boxes"][0], torch.tensor([12.0, 24.0, 100.0, 80.0]), rtol=0, atol=1e-3)
    # Stretched in one direction alone it is no rectangle any more; the smallest one around it is given.
    (stretched,) = processor.post_process_oriented_object_detection(outputs, [(64, 192)])
    sides = stretched["polygons"][0].roll(-1, 0) - stretched["polygons"][0]
    assert (sides[0] @ sides[1]).abs() < 1e-2
    (plain,) = processor.post_process_object_detection(outputs, threshold=0.9, target_sizes=[(128, 192)])
    assert set(plain) == {"scores", "labels", "boxes"}
    assert len(plain["scores"]) == 1
    (none,) = processor.post_process_object_detection(outputs, threshold=0.99, target_sizes=[(128, 192)])
    assert none["boxes"].shape == (0, 4)


def test_post_processing_names_what_does_not_fit(oriented_config: Callable[..., TCMConfig]) -> None:
    processor = TCMImageProcessor().for_model(oriented_config())
    with pytest.raises(ValueError, match="nms_threshold"):
        processor.decoding_settings(nms_threshold=2)
    with pytest.raises(TypeError, match="unclip_ratio"):
        processor.decoding_settings(unclip_ratio=2)
    with pytest.raises(TypeError, match="post_process_text_detection"):
        TCMImageProcessor().post_process_oriented_object_detection({})
