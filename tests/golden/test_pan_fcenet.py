"""PAN and FCENet against numbers of the original code: networks, targets, losses and decoding."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from transformers_tcm.conversion.plan import remap_state_dict
from transformers_tcm.conversion.segmentation_heads import (
    fcenet_constants,
    fcenet_plan,
    fcenet_settings,
    pan_constants,
    pan_plan,
    pan_settings,
)
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.heads import fcenet, pan
from transformers_tcm.models.tcm.heads.base import DetectionHead, HeadInputs
from transformers_tcm.models.tcm.heads.fcenet import FCENetConfig, FCENetDecoding, FCENetHead, FCENetOutput
from transformers_tcm.models.tcm.heads.pan import PANConfig, PANDecoding, PANHead, PANOutput

Arrays = dict[str, np.ndarray]
# One threshold for distance and mean probability in mmocr 0.x and TCM, two in mmocr 1.x.
PAN_RELEASES = {
    "v0": PANDecoding(box_threshold=0.85, max_distance=0.85, min_size=0),
    "v1": PANDecoding(box_threshold=0.3, max_distance=3.0, min_size=0),
}
# Exponents and threshold of the two decodings on record.
FCENET_DECODINGS = {
    "a": FCENetDecoding(threshold=0.3, text_exponent=1.2, center_exponent=1.0, box_threshold=0, min_size=0),
    "b": FCENetDecoding(threshold=0.2, text_exponent=1.0, center_exponent=2.0, box_threshold=0, min_size=0),
}


@pytest.fixture(scope="module")
def arrays(golden_dir: Path) -> Arrays:
    return dict(np.load(golden_dir / "segmentation_heads" / "pan_fcenet.npz"))


@pytest.fixture(scope="module")
def facts(golden_dir: Path) -> dict[str, Any]:
    return json.loads((golden_dir / "segmentation_heads" / "pan_fcenet.json").read_text())


@pytest.fixture(scope="module")
def older_arrays(golden_dir: Path) -> Arrays:
    return dict(np.load(golden_dir / "detection_targets_and_losses.npz"))


@pytest.fixture(scope="module")
def older_facts(golden_dir: Path) -> dict[str, Any]:
    return json.loads((golden_dir / "detection_targets_and_losses.json").read_text())


def state_of(arrays: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(array) for name, array in arrays.items() if name.startswith(prefix)
    }


def loaded(head: DetectionHead, plan: dict, state: dict[str, torch.Tensor]) -> DetectionHead:
    shapes = {name: tensor.shape for name, tensor in head.state_dict().items()}
    head.load_state_dict(remap_state_dict(plan, state, shapes))
    return head.eval()


def inputs_of(pyramid: list[torch.Tensor]) -> HeadInputs:
    images, _, height, width = pyramid[0].shape
    return HeadInputs(
        tuple(pyramid), torch.zeros(images, 1, 2 * height, 2 * width), torch.tensor([[4 * height, 4 * width]] * images)
    )


def split_rows(arrays: Arrays, name: str) -> list[np.ndarray]:
    return np.split(arrays[f"{name}_points"], np.cumsum(arrays[f"{name}_counts"])[:-1])


def labelled(arrays: Arrays, name: str) -> TextInstances:
    polygons = np.split(arrays[f"{name}/points"], np.cumsum(arrays[f"{name}/counts"])[:-1])
    return TextInstances(polygons, ignore=arrays[f"{name}/ignore"])


def annotated(facts: dict[str, Any]) -> list[TextInstances]:
    return [TextInstances(image["polygons"], ignore=image["ignore"]) for image in facts["annotations"]]


def batch_of(targets: list[Arrays]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.stack([one[name] for one in targets])) for name in targets[0]}


@pytest.fixture(scope="module")
def pan_head(arrays: Arrays) -> PANHead:
    state = state_of(arrays, "pan_state/")
    head = PANHead(PANConfig(**pan_settings(state), **pan_constants(state)), [8, 16, 24, 33])
    return loaded(head, pan_plan(head.state_dict().keys(), state, prefix=""), state)


def test_the_sizes_of_pan_are_read_from_its_tensors(arrays: Arrays, facts: dict[str, Any]) -> None:
    state = state_of(arrays, "pan_state/")
    settings = pan_settings(state) | pan_constants(state)
    assert (settings["channels"], settings["num_repeats"]) == (facts["config"]["co"], facts["config"]["rep"])
    assert (settings["embedding_size"], settings["max_distance"]) == (4, 0.85)


def test_pan_of_mmocr_1_converts_as_that_of_0_does(arrays: Arrays, pan_head: PANHead) -> None:
    state = state_of(arrays, "pan_state/")
    renamed = {name.replace("bbox_head", "det_head"): tensor for name, tensor in state.items()}
    settings = pan_settings(renamed)
    assert settings == pan_settings(state)
    assert pan_constants(renamed) == {"max_distance": 3.0}
    other = PANHead(PANConfig(**settings), [8, 16, 24, 33])
    loaded(other, pan_plan(other.state_dict().keys(), renamed, prefix=""), renamed)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), pan_head.parameters(), strict=True))


def test_the_network_of_pan_equals_the_original(arrays: Arrays, pan_head: PANHead) -> None:
    recorded: dict[str, Any] = {}
    hooks = [
        pan_head.neck.enhance[0].register_forward_hook(lambda _, inputs, output: recorded.update(fpem=output)),
        pan_head.neck.register_forward_hook(lambda _, inputs, output: recorded.update(neck=output)),
    ]
    with torch.no_grad():
        maps = pan_head(inputs_of([torch.from_numpy(arrays[f"pan_net/c{level}"]) for level in range(2, 6)]))
    for hook in hooks:
        hook.remove()
    for level, mine in enumerate(recorded["fpem"], start=2):
        np.testing.assert_allclose(mine, arrays[f"pan_net/fpem0_c{level}"], atol=1e-5)
    levels = np.concatenate([arrays[f"pan_net/ffm_{level}"] for level in range(4)], axis=1)
    np.testing.assert_allclose(recorded["neck"], levels, atol=1e-5)
    mine = torch.cat([maps.text_logits, maps.kernel_logits, maps.embedding], dim=1)
    np.testing.assert_allclose(mine, arrays["pan_net/out"], atol=1e-5)


@pytest.mark.parametrize("name", ["fce_decode_labels", "labels2"])
def test_targets_of_pan_equal_the_original(name: str, arrays: Arrays, facts: dict[str, Any]) -> None:
    size = facts["config"]["FH"], facts["config"]["FW"]
    targets = PANHead.targets(labelled(arrays, name), size, size, PANConfig())
    np.testing.assert_array_equal(targets["text_ids"], arrays[f"{name}/pan_gt_kernels"][0])
    np.testing.assert_array_equal(targets["kernel_ids"], arrays[f"{name}/pan_gt_kernels"][1])
    np.testing.assert_array_equal(targets["text_mask"], arrays[f"{name}/pan_gt_mask"])


def test_older_targets_of_pan_equal_the_original(older_arrays: Arrays, older_facts: dict[str, Any]) -> None:
    size = tuple(older_facts["image_size"])
    for index, instances in enumerate(annotated(older_facts)):
        targets = PANHead.targets(instances, size, size, PANConfig(kernel_ratio=0.7))
        text, kernels = older_arrays["pan_gt_kernels"][index]
        assert (targets["text_ids"] == text).mean() >= 0.995
        assert (targets["kernel_ids"] == kernels).mean() >= 0.995
        assert (targets["text_mask"] == older_arrays["pan_gt_mask"][index, 0]).mean() >= 0.995


def pan_losses(predictions: np.ndarray, labels: dict[str, torch.Tensor], settings: PANConfig) -> dict[str, float]:
    head = PANHead(settings, [4, 4, 4, 4]).eval()
    maps = PANOutput(*torch.from_numpy(predictions).split([1, 1, 4], dim=1))
    return {name: float(value) for name, value in head.loss(maps, labels).items()}


def test_losses_of_pan_equal_the_original(arrays: Arrays, facts: dict[str, Any]) -> None:
    size = facts["config"]["FH"], facts["config"]["FW"]
    images = [labelled(arrays, name) for name in ("fce_decode_labels", "labels2")]
    labels = batch_of([PANHead.targets(image, size, size, PANConfig()) for image in images])
    losses = pan_losses(arrays["pan_loss/predictions"], labels, PANConfig())
    assert losses == pytest.approx(facts["losses"]["pan"], rel=1e-4)


def test_older_losses_of_pan_equal_the_original(older_arrays: Arrays, older_facts: dict[str, Any]) -> None:
    text_ids, kernel_ids = np.moveaxis(older_arrays["pan_gt_kernels"], 1, 0).astype(np.int32)
    arrays = {"text_ids": text_ids, "kernel_ids": kernel_ids, "text_mask": older_arrays["pan_gt_mask"][:, 0]}
    labels = {name: torch.from_numpy(array) for name, array in arrays.items()}
    losses = pan_losses(older_arrays["pan_predictions"], labels, PANConfig())
    assert losses == pytest.approx(older_facts["losses"]["pan"], rel=1e-3)


@pytest.mark.parametrize("release", PAN_RELEASES)
def test_pixel_aggregation_equals_the_original(release: str, arrays: Arrays) -> None:
    logits = arrays["pan_decode/logits"]
    text_map, kernel_map = 1 / (1 + np.exp(-logits[:2]))
    text = text_map > 0.5
    np.testing.assert_array_equal(text, arrays["pan_decode/text"])
    kernels, count = pan._kernels(text & (kernel_map > 0.5))
    np.testing.assert_array_equal(kernels, arrays["pan_decode/labels"])
    distance = float(PAN_RELEASES[release].max_distance)
    labels = pan._pixel_aggregation(kernels, count, text, logits[2:], distance)
    np.testing.assert_array_equal(labels, arrays[f"pan_decode/{release}_label_map"])
    scores, _ = pan._scores_and_areas(labels, count, text_map)
    np.testing.assert_allclose(scores[1:], arrays[f"pan_decode/{release}_confidence"][1:], atol=1e-5)


@pytest.mark.parametrize("release", PAN_RELEASES)
def test_words_decoded_by_pan_equal_the_original(release: str, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.from_numpy(arrays["pan_decode/logits"])[None]
    maps = dict(zip(("text_logits", "kernel_logits", "embedding"), logits.split([1, 1, 4], dim=1), strict=True))
    valid_sizes = torch.tensor([[4 * logits.shape[2], 4 * logits.shape[3]]])
    monkeypatch.setattr(pan, "_simple_outline", lambda contour: contour)  # the original keeps every vertex
    for polygon, name in ((True, "poly"), (False, "quad")):
        regions = PANHead.decode(maps, valid_sizes, replace(PAN_RELEASES[release], polygon=polygon))
        expected = split_rows(arrays, f"pan_decode/{release}_{name}")
        np.testing.assert_allclose(regions.scores, arrays[f"pan_decode/{release}_{name}_scores"], atol=1e-5)
        for mine, theirs in zip(regions.polygons(), expected, strict=True):
            assert_same_outline(mine, 4 * theirs, tolerance=4e-3)


def assert_same_outline(mine: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """The same vertices in the same order, wherever they start and whichever way they run."""
    assert mine.shape == theirs.shape
    turns = [np.roll(way, shift, axis=0) for way in (theirs, theirs[::-1]) for shift in range(len(theirs))]
    assert min(np.abs(mine - turned).max() for turned in turns) <= tolerance


def fcenet_settings_of(facts: dict[str, Any]) -> FCENetConfig:
    return FCENetConfig(ranges=facts["config"]["ranges"], degree=facts["config"]["degree"])


def test_the_network_of_fcenet_equals_the_original(arrays: Arrays, facts: dict[str, Any]) -> None:
    state = state_of(arrays, "fce_state/")
    settings = fcenet_settings(state) | fcenet_constants(state)
    assert (settings["channels"], settings["degree"]) == (facts["config"]["co"], facts["config"]["degree"])
    head = FCENetHead(FCENetConfig(**settings), facts["config"]["cin"])
    loaded(head, fcenet_plan(head.state_dict().keys(), state, prefix=""), state)
    levels = [torch.from_numpy(arrays[f"fce_net/c{level}"]) for level in (3, 4, 5)]
    unused = levels[0].new_full((2, facts["config"]["cin"][0], 48, 64), torch.nan)
    with torch.no_grad():
        maps = head(inputs_of([unused, *levels]))
    for level, logits, coefficients in zip((3, 4, 5), maps.class_logits, maps.coefficients, strict=True):
        np.testing.assert_allclose(logits, arrays[f"fce_net/cls{level}"], atol=1e-5)
        np.testing.assert_allclose(coefficients.flatten(1, 2), arrays[f"fce_net/reg{level}"], atol=1e-5)


def test_fcenet_of_mmocr_1_converts_as_that_of_0_does(arrays: Arrays, facts: dict[str, Any]) -> None:
    state = state_of(arrays, "fce_state/")
    renamed = {name.replace("bbox_head", "det_head"): tensor for name, tensor in state.items()}
    heads = [
        FCENetHead(FCENetConfig(**fcenet_settings(one), **fcenet_constants(one)), facts["config"]["cin"])
        for one in (state, renamed)
    ]
    for head, one in zip(heads, (state, renamed), strict=True):
        loaded(head, fcenet_plan(head.state_dict().keys(), one, prefix=""), one)
    assert all(torch.equal(a, b) for a, b in zip(*(head.parameters() for head in heads), strict=True))


@pytest.mark.parametrize("settings_of", [pan_settings, fcenet_settings])
def test_a_checkpoint_without_the_head_is_refused(settings_of: Any) -> None:
    with pytest.raises(ValueError, match="the checkpoint lacks"):
        settings_of({"neck.lateral_convs.0.conv.weight": torch.zeros(1, 1, 1, 1)})


@pytest.mark.parametrize("name", ["fce_decode_labels", "labels2"])
def test_every_step_to_the_fourier_series_equals_the_original(name: str, arrays: Arrays) -> None:
    instances = labelled(arrays, name)
    for index, polygon in enumerate(instances.select(~instances.ignored).polygons):
        recorded = {key: arrays[f"{name}/poly{index}_{key}"] for key in ("resampled", "start", "signature")}
        points = fcenet._resampled(polygon)
        np.testing.assert_allclose(points, recorded["resampled"], atol=1e-4)
        np.testing.assert_allclose(fcenet._starting_at_the_top(points)[0], recorded["start"], atol=1e-4)
        np.testing.assert_allclose(fcenet._fourier_coefficients(polygon, 5).T, recorded["signature"], atol=1e-4)


@pytest.mark.parametrize("name", ["fce_decode_labels", "labels2"])
def test_sides_of_words_equal_the_original(name: str, arrays: Arrays) -> None:
    instances = labelled(arrays, name)
    for index, polygon in enumerate(instances.select(~instances.ignored).polygons):
        sides = sorted(fcenet._sidelines(polygon), key=lambda side: side[:, 1].mean())
        for mine, key in zip(sides, ("top", "bottom"), strict=True):
            np.testing.assert_allclose(mine, arrays[f"{name}/poly{index}_{key}"], atol=1e-4)


def original_maps(targets: Arrays, level: int) -> np.ndarray:
    """The channels (3 + 2 (2K + 1), h, w) that the original stores, from our targets."""
    words, stride = targets[f"level{level}_words"], 2**level
    series = np.concatenate([np.zeros_like(targets["word_coefficients"][:1]), targets["word_coefficients"]]) / stride
    maps = np.moveaxis(series[words], (0, 1), (-2, -1))  # (h, w, 2, 2K + 1) -> (2, 2K + 1, h, w)
    rows, columns = np.indices(words.shape)
    center = maps.shape[1] // 2
    maps[0, center] -= columns * (words > 0)
    maps[1, center] -= rows * (words > 0)
    flags = np.stack([words > 0, targets[f"level{level}_center"], targets[f"level{level}_used"]])
    return np.concatenate([flags, maps.reshape(-1, *words.shape)]).astype(np.float32)


@pytest.mark.parametrize("name", ["fce_decode_labels", "labels2"])
@pytest.mark.parametrize("level", [3, 4, 5])
def test_targets_of_fcenet_equal_the_original(name: str, level: int, arrays: Arrays, facts: dict[str, Any]) -> None:
    size = facts["config"]["FH"], facts["config"]["FW"]
    targets = FCENetHead.targets(labelled(arrays, name), size, size, fcenet_settings_of(facts))
    np.testing.assert_allclose(original_maps(targets, level), arrays[f"{name}/fce_p{level}_maps"], atol=1e-4)


OLDER_RANGES = [[0.0, 0.4], [0.3, 0.7], [0.6, 1.0]]


def older_targets(older_facts: dict[str, Any]) -> list[Arrays]:
    size = tuple(older_facts["image_size"])
    settings = FCENetConfig(ranges=OLDER_RANGES)
    return [FCENetHead.targets(instances, size, size, settings) for instances in annotated(older_facts)]


@pytest.mark.parametrize("level", [3, 4, 5])
def test_older_targets_of_fcenet_equal_the_original(
    level: int, older_arrays: Arrays, older_facts: dict[str, Any]
) -> None:
    for targets, expected in zip(older_targets(older_facts), older_arrays[f"fcenet_p{level}_maps"], strict=True):
        assert (np.abs(original_maps(targets, level) - expected) < 1e-3).mean() >= 0.995


def fcenet_losses(outputs: list[np.ndarray], targets: list[Arrays], settings: FCENetConfig) -> dict[str, float]:
    tensors = [torch.from_numpy(output) for output in outputs]
    maps = FCENetOutput(tuple(tensors[::2]), tuple(maps.unflatten(1, (2, -1)) for maps in tensors[1::2]))
    losses = FCENetHead(settings, [4, 4, 4, 4]).loss(maps, batch_of(targets))
    losses["loss_text"] = losses["loss_text"] - surplus_of_empty_levels(maps, batch_of(targets))
    return {name.replace("contour", "reg"): float(value) for name, value in losses.items()}


def surplus_of_empty_levels(maps: FCENetOutput, labels: dict[str, torch.Tensor]) -> torch.Tensor:
    """What our text loss is larger by: a level without text divides by its hardest cells, the original by 100."""
    surplus = torch.zeros(())
    for level, logits in zip((3, 4, 5), maps.class_logits, strict=True):
        text, used = labels[f"level{level}_words"] > 0, labels[f"level{level}_used"] > 0
        if not (text & used).any():
            taken = min(int((~text & used).sum()), 100)
            surplus += (1 - taken / 100) * fcenet._text_loss(logits[:, :2], text, used, 3)
    return surplus


def test_losses_of_fcenet_equal_the_original(arrays: Arrays, facts: dict[str, Any]) -> None:
    size, settings = (facts["config"]["FH"], facts["config"]["FW"]), fcenet_settings_of(facts)
    images = [labelled(arrays, name) for name in ("fce_decode_labels", "labels2")]
    targets = [FCENetHead.targets(image, size, size, settings) for image in images]
    outputs = [arrays[f"fce_loss/{kind}{level}"] for level in (3, 4, 5) for kind in ("cls", "reg")]
    assert fcenet_losses(outputs, targets, settings) == pytest.approx(facts["losses"]["fce"], rel=1e-4)


def test_older_losses_of_fcenet_equal_the_original(older_arrays: Arrays, older_facts: dict[str, Any]) -> None:
    outputs = [older_arrays[f"fcenet_{kind}_stride{stride}"] for stride in (8, 16, 32) for kind in ("cls", "reg")]
    losses = fcenet_losses(outputs, older_targets(older_facts), FCENetConfig(ranges=OLDER_RANGES))
    assert losses == pytest.approx(older_facts["losses"]["fcenet"], rel=1e-3)


@pytest.mark.parametrize("setting", FCENET_DECODINGS)
def test_words_decoded_by_fcenet_equal_the_original(
    setting: str, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    contour_points, levels = fcenet._outlines_at, []
    for level in (3, 4, 5):
        levels.append((arrays[f"fce_decode/cls{level}"], arrays[f"fce_decode/reg{level}"]))
    # The original goes on with whole pixels.
    strides = iter((8, 16, 32))
    monkeypatch.setattr(
        fcenet, "_outlines_at", lambda *args: np.trunc((stride := next(strides)) * contour_points(*args)) / stride
    )
    found = fcenet._find_outlines(levels, FCENET_DECODINGS[setting])
    np.testing.assert_allclose(found.scores, arrays[f"fce_decode/{setting}_scores"], atol=1e-5)
    np.testing.assert_array_equal(found.points.reshape(-1, 2), arrays[f"fce_decode/{setting}_points"])
