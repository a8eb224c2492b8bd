"""Numbers of the reference implementation: forward pass, DBNet targets and losses, of any folder of the same shape."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from transformers_tcm.conversion import convert_checkpoint
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.heads.dbnet import DBNetConfig, DBNetHead, DBNetOutput
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection


@pytest.fixture(scope="module")
def reference(golden_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(golden_dir / "tcm_dbnet_tiny_io.safetensors")


@pytest.fixture(scope="module")
def detector(golden_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> TCMForTextDetection:
    output_dir = tmp_path_factory.mktemp("converted")
    source, config = golden_dir / "tcm_dbnet_tiny_official_keys.pth", golden_dir / "tcm_dbnet_tiny_config.json"
    convert_checkpoint(source, output_dir, config)
    return TCMForTextDetection.from_pretrained(output_dir).eval()


@pytest.fixture(scope="module")
def intermediates(detector: TCMForTextDetection, reference: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the converted detector computes, by the names of the reference."""
    recorded: dict[str, torch.Tensor] = {}
    hook = detector.head.neck.register_forward_hook(lambda _, __, output: recorded.update(neck=output))
    with torch.no_grad():
        features = detector.model(reference["pixel_values"])
        maps = detector(reference["pixel_values"], output_training_maps=True).head_output
    hook.remove()
    recorded |= {f"stage{number}": stage for number, stage in enumerate(features.feature_maps, start=2)}
    recorded |= {
        name: features[name]
        for name in ("global_embedding", "local_embedding", "language_prompt", "prompted_text_embedding", "score_map")
    }
    recorded["refined_text_embedding"] = features.text_embedding
    recorded["maps"] = torch.cat([maps.prob_map, maps.threshold_map, maps.binary_map], dim=1)
    return recorded


@pytest.mark.parametrize(
    "name",
    [
        "stage2",
        "stage3",
        "stage4",
        "stage5",
        "global_embedding",
        "local_embedding",
        "language_prompt",
        "prompted_text_embedding",
        "refined_text_embedding",
        "score_map",
        "neck",
        "maps",
    ],
)
def test_forward_equals_the_reference(
    name: str, intermediates: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]
) -> None:
    torch.testing.assert_close(intermediates[name], reference[name], rtol=0, atol=1e-4)


def test_prompt_token_ids_equal_the_reference(
    detector: TCMForTextDetection, reference: dict[str, torch.Tensor]
) -> None:
    assert detector.config.prompt_token_ids == reference["token_ids"].tolist()


@pytest.fixture(scope="module")
def case(golden_dir: Path) -> dict:
    return json.loads((golden_dir / "detection_targets_and_losses.json").read_text())


@pytest.fixture(scope="module")
def arrays(golden_dir: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden_dir / "detection_targets_and_losses.npz"))


@pytest.fixture(scope="module")
def targets(case: dict) -> list[dict[str, np.ndarray]]:
    height, width = case["image_size"]
    annotations = (TextInstances(image["polygons"], ignore=image["ignore"]) for image in case["annotations"])
    size = height, width
    return [DBNetHead.targets(instances, size, size, DBNetConfig()) for instances in annotations]


@pytest.mark.parametrize(
    ("name", "theirs"), [("shrink_map", "shrink"), ("shrink_mask", "shrink_mask"), ("threshold_mask", "thr_mask")]
)
def test_binary_dbnet_targets_equal_the_reference(
    name: str, theirs: str, targets: list[dict[str, np.ndarray]], arrays: dict[str, np.ndarray]
) -> None:
    for mine, expected in zip(targets, arrays[f"dbnet_gt_{theirs}"] > 0, strict=True):
        assert ((mine[name] > 0) == expected).mean() >= 0.995


def test_dbnet_threshold_targets_are_close_to_the_reference(
    targets: list[dict[str, np.ndarray]], arrays: dict[str, np.ndarray]
) -> None:
    for mine, expected in zip(targets, arrays["dbnet_gt_thr"], strict=True):
        assert np.abs(mine["threshold_map"] - expected).mean() < 0.01


@pytest.mark.parametrize(
    ("name", "theirs"), [("loss_prob", "loss_prob"), ("loss_binary", "loss_db"), ("loss_threshold", "loss_thr")]
)
def test_weighted_dbnet_losses_equal_the_reference(
    name: str, theirs: str, case: dict, arrays: dict[str, np.ndarray]
) -> None:
    # "alpha 5 beta 10" of the reference's settings are the default weights of the head.
    maps = torch.from_numpy(arrays["dbnet_predictions"]).split(1, dim=1)
    names = {"shrink_map": "shrink", "shrink_mask": "shrink_mask", "threshold_map": "thr", "threshold_mask": "thr_mask"}
    labels = {mine: torch.from_numpy(arrays[f"dbnet_gt_{other}"]) for mine, other in names.items()}
    labels["shrink_map"] = (labels["shrink_map"] > 0).float()
    head = DBNetHead(DBNetConfig(), [4, 4, 4, 4])
    losses = head.loss(DBNetOutput(*maps), labels)
    assert losses[name].item() == pytest.approx(case["losses"]["dbnet"][theirs], rel=1e-3)
