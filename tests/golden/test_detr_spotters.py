"""TESTR and DeepSolo equal their reference implementations: every intermediate, assignment, loss, outline and word."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from transformers_tcm.models.tcm.heads import deepsolo, testr
from transformers_tcm.models.tcm.heads.base import HeadInputs
from transformers_tcm.models.tcm.heads.deepsolo import DeepSoloConfig, DeepSoloDecoding, DeepSoloHead
from transformers_tcm.models.tcm.heads.deformable import (
    DeformableHead,
    cell_centers,
    kept_queries,
    last_layer,
    padding_masks,
    position_encoding,
    prior_logits,
    topk_proposals,
    valid_ratios,
)
from transformers_tcm.models.tcm.heads.matching import Matching, Words, hungarian_matching, text_classes, words_of
from transformers_tcm.models.tcm.heads.testr import TESTRConfig, TESTRDecoding, TESTRHead

FOLDER = Path(os.environ.get("TCM_GOLDEN_DIR") or Path(__file__).parents[1] / "fixtures" / "golden") / "detr_spotters"
MODELS = sorted(path.name.removesuffix("_io.safetensors") for path in FOLDER.glob("*_io.safetensors"))
CASES = [
    (model, case) for model in MODELS for case in json.loads((FOLDER / f"{model}.json").read_text("utf-8"))["cases"]
]
STRIDES = [8, 16, 32]

# Released name, and ours.
RENAMED = [
    (r"^(testr|detection_transformer)\.", ""),
    (r"^transformer\.", ""),
    (r"^input_proj\.(\d)\.0", r"levels.\1.conv"),
    (r"^input_proj\.(\d)\.1", r"levels.\1.norm"),
    (r"^level_embed$", "level_embedding"),
    (r"^enc_output_norm", "proposals.norm"),
    (r"^enc_output", "proposals.projection"),
    (r"^(bbox|bezier)_class_embed", "proposals.classifier"),
    (r"^(bbox|bezier_coord)_embed", "proposals.coordinates"),
    (r"^pos_trans_norm", "query_position.norm"),
    (r"^pos_trans", "query_position.projection"),
    (r"^decoder\.ref_point_head", "query_position"),
    (r"^(ctrl_point_embed|point_embed)\.weight", "point_embedding"),
    (r"^text_embed\.weight", "slot_embedding"),
    (r"^ctrl_point_class\.0", "class_head"),
    (r"^(decoder\.)?ctrl_point_coord\.0", "point_head"),
    (r"^boundary_offset\.0", "boundary_head"),
    (r"^(ctrl_point_text\.0|text_class)", "text_head"),
    (r"^encoder\.layers", "encoder"),
    (r"\.self_attn\.", ".attention."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".mlp_norm."),
    (r"^decoder\.layers\.(\d+)\.(.+)_text\.", r"decoder.\1.text.\2."),
    (r"^decoder\.layers\.(\d+)\.", r"decoder.\1.points."),
    (r"\.attn_intra\.", ".within."),
    (r"\.attn_inter\.", ".between."),
    (r"\.attn_cross\.", ".across."),
    (r"\.norm_intra\.", ".within_norm."),
    (r"\.norm_inter\.", ".between_norm."),
    (r"\.norm_cross\.", ".across_norm."),
    (r"\.linear1\.", ".up."),
    (r"\.linear2\.", ".down."),
    (r"\.norm3\.", ".mlp_norm."),
]
# Copies of shared heads, and what is computed.
DROPPED = re.compile(
    r"(ctrl_point_(class|coord|text)|boundary_offset)\.[1-9]|decoder\.ctrl_point_coord|"
    r"\.bbox_(class|coord)\.|\.bezier_proposal_(class|coord)\.|inv_freq"
)
LOSS_NAMES = {
    "loss_ce_enc": "loss_proposal_class",
    "loss_bbox_enc": "loss_proposal_box",
    "loss_giou_enc": "loss_proposal_giou",
    "loss_bezier_enc": "loss_proposal_curve",
    "loss_ce": "loss_class",
    "loss_ctrl_points": "loss_points",
    "loss_texts": "loss_text",
    "loss_bd_points": "loss_boundary",
}
TARGET_NAMES = {
    "ctrl_points": "word_points",
    "boxes": "word_boxes",
    "beziers": "word_curves",
    "bd_points": "word_boundary",
    "texts": "word_classes",
}


def our_name(released: str) -> str:
    for pattern, replacement in RENAMED:
        released = re.sub(pattern, replacement, released)
    return released


def our_loss(released: str) -> str:
    name, number = re.fullmatch(r"(.+?)(_\d+)?", released).groups()  # type: ignore[union-attr]
    return LOSS_NAMES[name] + (number or "")


@dataclass
class Reference:
    """A reference model: its description, its numbers, and our head with its weights."""

    description: dict[str, Any]
    numbers: dict[str, torch.Tensor]
    head: DeformableHead
    inputs: HeadInputs

    @property
    def sizes(self) -> torch.Tensor:
        return self.numbers["image_sizes"]

    def labels(self, case: str) -> dict[str, torch.Tensor]:
        """A case's targets, as the collator joins them."""
        labels: dict[str, torch.Tensor] = {}
        for theirs, ours in TARGET_NAMES.items():
            parts = [self.numbers.get(f"case.{case}.target.{image}.{theirs}") for image in range(len(self.sizes))]
            if parts[0] is not None:
                labels[ours] = torch.cat(parts)  # type: ignore[arg-type]
                labels[f"{ours}_counts"] = torch.tensor([len(part) for part in parts])  # type: ignore[arg-type]
        # The reference teaches empty texts too.
        for name in ("word_usable", "word_legible"):
            labels[name] = torch.ones(len(labels["word_points"]), dtype=torch.bool)
            labels[f"{name}_counts"] = labels["word_points_counts"]
        return labels

    def words(self, case: str) -> Words:
        return words_of(self.labels(case), self.head.word_targets)


def head_of(description: Mapping[str, Any]) -> DeformableHead:
    """A head of the sizes and loss weights of a reference."""
    config, weights = description["config"], description["config"]["loss_weights"]
    shared: dict[str, Any] = {
        "hidden_size": config["hidden"],
        "num_heads": config["heads"],
        "mlp_size": config["ffn"],
        "num_encoder_layers": config["enc"],
        "num_decoder_layers": config["dec"],
        "num_queries": config["queries"],
        "encoder_points": config["enc_points"],
        "decoder_points": config["dec_points"],
        "charset": config["charset"],
        "class_weight": weights["loss_ce"],
        "point_weight": weights["loss_ctrl_points"],
        "text_weight": weights["loss_texts"],
        "proposal_class_weight": weights["loss_ce_enc"],
    }
    channels = [1, *config["channels"]]
    if config["model"] == "testr":
        return TESTRHead(
            TESTRConfig(
                **shared,
                curve="polygon" if config["polygon"] else "bezier",
                max_length=config["chars"],
                proposal_box_weight=weights["loss_bbox_enc"],
                proposal_giou_weight=weights["loss_giou_enc"],
            ),
            channels,
        )
    boundary = "loss_bd_points" in weights
    return DeepSoloHead(
        DeepSoloConfig(
            **shared,
            num_points=config["points"],
            boundary=boundary,
            boundary_weight=weights.get("loss_bd_points", 0.0),
            proposal_curve_weight=weights["loss_bezier_enc"],
        ),
        channels,
    )


@pytest.fixture(scope="module", params=MODELS)
def reference(request: pytest.FixtureRequest) -> Reference:
    return load_reference(request.param)


_LOADED: dict[str, Reference] = {}


def load_reference(name: str) -> Reference:
    if name not in _LOADED:
        description = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
        numbers, head = load_file(FOLDER / f"{name}_io.safetensors"), head_of(description)
        weights = load_file(FOLDER / f"{name}_weights.safetensors")
        ours = {our_name(key): value for key, value in weights.items() if not DROPPED.search(key)}
        shapes = {key: value.shape for key, value in head.state_dict().items()}
        head.load_state_dict({key: value.view(shapes[key]) for key, value in ours.items()})
        features = [numbers[f"features.{level}"] for level in range(3)]
        nothing = torch.zeros(len(features[0]), 1, 1, 1)
        inputs = HeadInputs((nothing, *features), nothing, numbers["image_sizes"])
        _LOADED[name] = Reference(description, numbers, head.eval(), inputs)
    return _LOADED[name]


def recorded(reference: Reference) -> dict[str, torch.Tensor]:
    """What the head computes, by the names of the reference."""
    head, seen, ratios = reference.head, {}, reference.numbers["valid_ratios"]
    hooks = [
        level.register_forward_hook(lambda _, __, output, index=index: seen.update({f"projected.{index}": output}))
        for index, level in enumerate(head.levels)
    ]
    for index, layer in enumerate(head.encoder):
        hooks.append(
            layer.register_forward_hook(
                lambda _, given, output, index=index: seen.update(
                    {
                        f"encoder_layer.{index}": output,
                        "encoder_reference_points": given[2],
                        "valid_ratios": given[0].valid_ratios,
                        "spatial_shapes": torch.tensor(given[0].shapes),
                    }
                )
            )
        )
    hooks.append(head.proposals.register_forward_hook(lambda _, given, __: seen.update(proposal_logits=given[1])))
    hooks.append(head.proposals.norm.register_forward_hook(lambda _, __, output: seen.update(proposal_memory=output)))
    for index, layer in enumerate(head.decoder):
        for name, stream in layer.items():
            hooks.append(
                stream.register_forward_hook(
                    lambda _, given, output, key=f"{index}.{name}": seen.update(
                        {f"state.{key}": output, f"position.{key}": given[1], f"reference.{key}": given[2]}
                    )
                )
            )
    with torch.no_grad():
        output = head(reference.inputs)
    for hook in hooks:
        hook.remove()
    masks = padding_masks(reference.sizes, seen["spatial_shapes"].tolist(), STRIDES)
    for level, mask in enumerate(masks):
        seen[f"padding_mask.{level}"] = mask
        seen[f"position.{level}"] = position_encoding(mask, head.settings.hidden_size).permute(0, 3, 1, 2)
    seen["encoder_class_logits"] = output.proposal_logits[..., None]
    seen["topk_indices"] = topk_proposals(output.proposal_logits, head.settings.num_queries)
    specific = recorded_testr if isinstance(head, TESTRHead) else recorded_deepsolo
    seen |= specific(seen, output, ratios)
    for layer in range(len(output.class_logits)):
        seen[f"output.{layer}.logits"] = output.class_logits[layer][..., None]
        for name in ("points", "text_logits", "boundary"):
            if output.get(name) is not None:
                seen[f"output.{layer}.{name}"] = output[name][layer]
    return seen


def recorded_testr(seen: Mapping[str, torch.Tensor], output: Any, ratios: torch.Tensor) -> dict[str, torch.Tensor]:
    layers = range(len(output.class_logits))
    named = {f"decoder_layer.{layer}.location": seen[f"state.{layer}.points"] for layer in layers}
    named |= {f"decoder_layer.{layer}.text": seen[f"state.{layer}.text"] for layer in layers}
    last = layers[-1]
    return named | {
        "encoder_boxes": output.proposal_boxes,
        # Every layer has the same, the last one too.
        "reference_boxes": seen[f"reference.{last}.points"][:, :, 0, 1] / ratios[:, None, 1].repeat(1, 1, 2),
        "query_pos": seen["position.0.points"][:, :, 0],
        "text_pos": seen["position.0.text"],
    }


def recorded_deepsolo(seen: Mapping[str, torch.Tensor], output: Any, ratios: torch.Tensor) -> dict[str, torch.Tensor]:
    layers = range(len(output.class_logits))
    given = [seen[f"reference.{layer}.points"][..., 1, :] / ratios[:, None, None, 1] for layer in layers]
    named = {f"reference_points.{layer}": points for layer, points in enumerate([*given[1:], output.points[-1]])}
    named |= {f"decoder_layer.{layer}": seen[f"state.{layer}.points"] for layer in layers}
    named |= {f"query_pos.{layer}": seen[f"position.{layer}.points"] for layer in layers}
    return named | {"encoder_beziers": output.proposal_curves.flatten(2), "reference_points.init": given[0]}


def test_there_are_references() -> None:
    assert MODELS


def test_every_intermediate_equals_the_reference(reference: Reference) -> None:
    seen = recorded(reference)
    inputs = ("features.", "image_sizes", "original_sizes", "padded_size", "case.", "post.", "bernstein_matrix")
    expected = {name: value for name, value in reference.numbers.items() if not name.startswith(inputs)}
    assert not expected.keys() - seen.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            seen[name].to(value.dtype), value, rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_curves_are_sampled_as_in_the_reference(reference: Reference) -> None:
    if isinstance(reference.head, DeepSoloHead):
        weights = reference.head.sampled(torch.eye(4))
        torch.testing.assert_close(weights, reference.numbers["bernstein_matrix"], rtol=0, atol=1e-6)


def test_without_training_maps_only_the_last_layer_is_given(reference: Reference) -> None:
    with torch.no_grad():
        whole, last = reference.head(reference.inputs), reference.head(reference.inputs, with_training_maps=False)
    assert last.proposal_logits is None
    for name in ("class_logits", "points", "text_logits"):
        torch.testing.assert_close(last[name], whole[name][-1:])


@pytest.mark.parametrize(("model", "case"), CASES)
def test_targets_equal_the_reference(model: str, case: str) -> None:
    reference = load_reference(model)
    settings, texts = reference.head.settings, reference.description["cases"][case]["texts"]
    for image, size in enumerate(reference.sizes.tolist()):
        curves = reference.numbers[f"case.{case}.bezier_pixels.{image}"].numpy()
        if isinstance(settings, TESTRConfig):
            targets, length = testr.word_geometry(curves, tuple(size), settings.curve), settings.max_length
        else:
            targets, length = deepsolo.word_geometry(curves, tuple(size), settings.num_points), settings.num_points
        targets["word_classes"] = text_classes(texts[image], settings.charset, length, settings.folds_case)
        for theirs, ours in TARGET_NAMES.items():
            expected = reference.numbers.get(f"case.{case}.target.{image}.{theirs}")
            if expected is not None:
                # Boxes of Bézier words: of more points of the curves than the reference takes.
                coarse = ours == "word_boxes" and settings.curve == "bezier"
                np.testing.assert_allclose(targets[ours], expected.numpy(), rtol=0, atol=2e-3 if coarse else 1e-5)


@pytest.mark.parametrize(("model", "case"), CASES)
def test_costs_and_assignments_equal_the_reference(model: str, case: str) -> None:
    reference = load_reference(model)
    expected, words, head = reference.description["cases"][case]["indices"], reference.words(case), reference.head
    with torch.no_grad():
        output = head(reference.inputs)
        costs = {"encoder": head.proposal_costs(output, words)}
        costs |= {f"decoder.{layer}": head.layer_costs(output, layer, words) for layer in range(len(output.points))}
    assert costs.keys() == expected.keys()
    for where, per_image in costs.items():
        for image, cost in enumerate(per_image):
            torch.testing.assert_close(
                cost, reference.numbers[f"case.{case}.cost.{where}.{image}"], rtol=1e-4, atol=1e-4
            )
        assert pairs(hungarian_matching(per_image), words.counts) == expected[where]


def pairs(matching: Matching, counts: list[int]) -> list[list[list[int]]]:
    """Queries and words of each image, the words counted within it."""
    found = []
    for image in range(len(counts)):
        here = matching.images == image
        words = matching.words[here] - sum(counts[:image])
        found.append([matching.queries[here].tolist(), words.tolist()])
    return found


@pytest.mark.parametrize(("model", "case"), CASES)
def test_losses_and_gradients_equal_the_reference(model: str, case: str) -> None:
    reference = load_reference(model)
    expected, head = reference.description["cases"][case], reference.head
    pyramid = [stage.clone().requires_grad_() for stage in reference.inputs.pyramid]
    head.zero_grad()
    inputs = HeadInputs(tuple(pyramid), reference.inputs.stem, reference.sizes)
    losses = head.loss(head(inputs), reference.labels(case))
    assert {name: value.item() for name, value in losses.items()} == {
        our_loss(name): pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in expected["weighted"].items()
    }
    total = sum(losses.values())
    assert total.item() == pytest.approx(expected["total"], rel=1e-4)  # type: ignore[union-attr]
    total.backward()  # type: ignore[union-attr]
    norms = {name: float(value.grad.norm()) for name, value in head.named_parameters() if value.grad is not None}
    assert norms.keys() == dict(head.named_parameters()).keys()
    assert all(math.isfinite(norm) for norm in norms.values())
    if "gradient_norms" in expected:
        theirs = {our_name(name): norm for name, norm in expected["gradient_norms"].items()}
        assert {name: norms[name] for name in theirs} == {
            name: pytest.approx(norm, rel=2e-3, abs=1e-3) for name, norm in theirs.items()
        }
        ours = [float(stage.grad.norm()) for stage in pyramid[1:]]  # type: ignore[union-attr]
        assert ours == pytest.approx(expected["feature_gradient_norms"], rel=2e-3)


def test_outlines_scores_and_words_equal_the_reference(reference: Reference) -> None:
    head, numbers, post = reference.head, reference.numbers, reference.description["post_processing"]
    decoding = head.default_decoding(head.settings)
    decoding = type(decoding)(**vars(decoding) | {"box_threshold": post["threshold"]})
    with torch.no_grad():
        output = head(reference.inputs, with_training_maps=False)
    kept = kept_queries(output, decoding)
    sizes = reference.sizes.numpy()[kept.images, ::-1].astype(np.float32)
    if isinstance(decoding, TESTRDecoding):
        points = last_layer(output, "points", kept) * sizes[:, None]
        sides = testr.word_sides(points, sizes, decoding.curve)
    elif output.boundary is None:
        with pytest.raises(ValueError, match="centre lines, which are no outlines"):
            head.decode(output, reference.sizes, decoding)
        return
    else:
        sides = deepsolo.word_sides(last_layer(output, "boundary", kept), sizes)
    readings = head.read(torch.from_numpy(last_layer(output, "text_logits", kept)), head.settings)
    for image in range(len(reference.sizes)):
        here = kept.images == image
        assert kept.queries[here].tolist() == numbers[f"post.{image}.queries"].tolist()
        np.testing.assert_allclose(kept.scores[here], numbers[f"post.{image}.scores"].numpy(), atol=1e-5)
        scale = (numbers["original_sizes"][image] / reference.sizes[image]).numpy()[::-1]
        outlines = sides[here].reshape(int(here.sum()), -1, 2) * scale
        np.testing.assert_allclose(outlines, numbers[f"post.{image}.polygons"].numpy(), atol=1e-2)
        words = [as_released(readings[index].text, head) for index in np.flatnonzero(here)]
        assert words == post["images"][image]["strings"]


def as_released(text: str, head: DeformableHead) -> str:
    """TESTR shows unknown characters, DeepSolo drops them."""
    return text.replace("\ufffd", "口" if isinstance(head, TESTRHead) else "")


def test_decoded_regions_are_those_queries_as_sound_outlines(reference: Reference) -> None:
    head, post = reference.head, reference.description["post_processing"]
    settings: dict[str, Any] = {"box_threshold": post["threshold"], "min_size": 0, "polygon": True}
    if isinstance(head, TESTRHead):
        decoding: Any = TESTRDecoding(**settings, curve=head.settings.curve)
    else:
        decoding = DeepSoloDecoding(**settings)
    with torch.no_grad():
        output = head(reference.inputs, with_training_maps=False)
    if isinstance(head, DeepSoloHead) and output.boundary is None:
        with pytest.raises(ValueError, match="centre lines"):
            head.decode(output, reference.sizes, decoding)
        return
    regions = head.decode(output, reference.sizes, decoding)
    expected = [len(reference.numbers[f"post.{image}.queries"]) for image in range(len(reference.sizes))]
    assert regions.batch_indices.bincount(minlength=len(expected)).tolist() == expected
    assert regions.control_points is not None
    assert regions.control_points.shape == (len(regions), 8, 2)
    assert regions.char_logits is not None
    words = [as_released(reading.text, head) for reading in head.read(regions.char_logits, head.settings)]
    assert words == [word for image in post["images"] for word in image["strings"]]


def test_sequences_of_classes_are_read_as_in_the_reference(reference: Reference) -> None:
    head = reference.head
    for sequence in reference.description["post_processing"]["text_decoding"]:
        logits = torch.nn.functional.one_hot(torch.tensor(sequence["classes"]), head.settings.num_classes) * 20.0
        (reading,) = head.read(logits[None], head.settings)
        assert as_released(reading.text, head) == sequence["string"]
        assert reading.probabilities.shape == (len(reading.text), len(head.settings.charset))


@pytest.mark.skipif(not (FOLDER / "masks.safetensors").exists(), reason="no masks among the references")
def test_masks_and_proposals_of_a_wide_batch_equal_the_reference() -> None:
    expected = load_file(FOLDER / "masks.safetensors")
    shapes = [(height, width) for height, width in expected["spatial_shapes"].tolist()]
    masks = padding_masks(expected["image_sizes"], shapes, STRIDES)
    for level, mask in enumerate(masks):
        assert torch.equal(mask, expected[f"padding_mask.{level}"])
    padding = torch.cat([mask.flatten(1) for mask in masks], dim=1)
    centers = cell_centers(shapes, valid_ratios(masks))
    for name, kind in (("testr", TESTRHead(TESTRConfig(), [1, 8, 12, 16])), ("deepsolo", None)):
        head = kind or DeepSoloHead(DeepSoloConfig(), [1, 8, 12, 16])
        logits = prior_logits(head.priors(centers, shapes), padding)
        assert torch.equal(logits.isfinite().all(dim=-1), expected[f"proposal_valid.{name}"])
