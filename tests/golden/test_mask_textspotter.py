"""Mask TextSpotter v3 against numbers of the original code: proposals, targets, masking, reading, lexicon."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from transformers_tcm import geometry
from transformers_tcm.instances import TextInstances
from transformers_tcm.lexicon import weighted_distances
from transformers_tcm.models.tcm.heads import spn
from transformers_tcm.models.tcm.heads.spn import SPNConfig, SPNDecoding, SPNHead, SPNOutput
from transformers_tcm.models.tcm.recognition.masked import MaskedConfig, MaskedRecognizer
from transformers_tcm.models.tcm.recognition.sampling import (
    MaskedBoxSampler,
    WordSampler,
    boxes_to_bezier,
    outline_masks,
    quads_to_bezier,
)

Arrays = dict[str, np.ndarray]
CHARSET = "0123456789abcdefghijklmnopqrstuvwxyz"
# The original has the unknown characters, which also stand for the beginning, before all others.
OUR_ORDER = [*range(1, 37), 0, 37]
STRIDE = 4
# No score drops a proposal on record, the lowest of them has 0.26.
DECODING = SPNDecoding()


@pytest.fixture(scope="module")
def arrays(golden_dir: Path) -> Arrays:
    return dict(np.load(golden_dir / "segmentation_heads" / "mask_textspotter.npz"))


@pytest.fixture(scope="module")
def facts(golden_dir: Path) -> dict[str, Any]:
    return json.loads((golden_dir / "segmentation_heads" / "mask_textspotter.json").read_text())


def tensor(arrays: Arrays, name: str) -> torch.Tensor:
    return torch.from_numpy(arrays[name])


def close(mine: Any, theirs: np.ndarray, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(np.asarray(mine), theirs, atol=tolerance, rtol=0)


def ragged(arrays: Arrays, name: str) -> list[np.ndarray]:
    return np.split(arrays[f"{name}/points"], np.cumsum(arrays[f"{name}/counts"])[:-1])


def test_the_network_equals_the_original(arrays: Arrays) -> None:
    """Behind the sums of the top-down pyramid: the original has another one, and the levels in reverse order."""
    prefix = "spn_state/proposal.head."
    state = {name.removeprefix(prefix): tensor(arrays, name) for name in arrays if name.startswith(prefix)}
    channels, hidden = state["fpn_out2.weight"].shape[1], state["seg_out.4.weight"].shape[0]
    head = SPNHead(SPNConfig(neck_channels=channels, hidden_channels=hidden), [8, 8, 8, 8]).eval()
    mine = {f"neck.smooth.{level}.weight": state[f"fpn_out{level + 2}.0.weight"] for level in range(1, 4)}
    mine["neck.smooth.0.weight"] = state["fpn_out2.weight"]
    for place, theirs in enumerate(("0.0", "0.1", None, "1", "2", None, "4")):
        leaves = ("weight", "bias", "running_mean", "running_var")
        mine |= {
            f"probability.{place}.{leaf}": state[f"seg_out.{theirs}.{leaf}"]
            for leaf in leaves
            if f"seg_out.{theirs}.{leaf}" in state
        }
    mine["probability.0.weight"] = torch.cat(mine["probability.0.weight"].chunk(4, dim=1)[::-1], dim=1)
    missing, unexpected = head.load_state_dict(mine, strict=False)
    assert not unexpected
    assert all(name.startswith("neck.lateral.") or name.endswith("num_batches_tracked") for name in missing)
    with torch.no_grad():
        fused = head.neck.concatenated([tensor(arrays, f"spn_net/p{level}") for level in range(2, 6)])
        prob = spn.map_logits(head.probability, fused).sigmoid()
    close(torch.cat(fused.chunk(4, dim=1)[::-1], dim=1), arrays["spn_net/fused"])
    close(prob, arrays["spn_net/prob"])


def test_proposals_equal_the_original(arrays: Arrays) -> None:
    prob = tensor(arrays, "spn_decode/prob")
    regions = SPNHead.decode({"prob_map": prob[None, None]}, torch.tensor([prob.shape]), DECODING)
    close(regions.scores, arrays["spn_decode/scores"])
    for mine, theirs in zip(regions.polygons(), ragged(arrays, "spn_decode"), strict=True):
        assert_same_outline(mine, theirs, 0)


def test_boxes_of_proposals_equal_the_original(arrays: Arrays) -> None:
    prob = tensor(arrays, "spn_decode/prob")
    height, width = prob.shape
    settings = replace(DECODING, polygon=False)
    regions = SPNHead.decode({"prob_map": prob[None, None]}, torch.tensor([[height, width]]), settings)
    for mine, theirs in zip(regions.polygons(), arrays["spn_decode/rotated_quads"], strict=True):
        assert_same_outline(mine, theirs, 1e-3)
    outlines = [outline for outline, _ in spn.find_regions(prob.numpy(), settings, spn._rectangle_in_pixels)]
    grown = [spn._grown_in_pixels(spn._rectangle(outline), 1.5) for outline in outlines]
    boxes = np.array([geometry.bounding_box(geometry.clamp_polygon(outline, width, height)) for outline in grown])
    np.testing.assert_array_equal(boxes.round(), arrays["spn_decode/boxes"])


def assert_same_outline(mine: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """The same vertices in the same order, wherever they start and whichever way they run."""
    assert mine.shape == theirs.shape
    turns = [np.roll(way, shift, axis=0) for way in (theirs, theirs[::-1]) for shift in range(len(theirs))]
    assert min(np.abs(mine - turned).max() for turned in turns) <= tolerance


def test_targets_and_loss_equal_the_original(arrays: Arrays, facts: dict[str, Any]) -> None:
    prob = tensor(arrays, "spn_decode/prob")[None, None]
    words = TextInstances(ragged(arrays, "spn_labels"), ignore=arrays["spn_labels/difficult"])
    size = (prob.shape[2], prob.shape[3])
    targets = SPNHead.targets(words, size, size, SPNConfig())
    np.testing.assert_array_equal(targets["shrink_map"], arrays["spn_labels/target"][0])
    np.testing.assert_array_equal(targets["shrink_mask"], arrays["spn_labels/mask"])
    head = SPNHead(SPNConfig(neck_channels=4, hidden_channels=1), [4, 4, 4, 4])
    labels = {name: torch.from_numpy(array)[None] for name, array in targets.items()}
    [loss] = head.loss(SPNOutput(prob), labels).values()
    assert float(loss) == pytest.approx(facts["loss_seg"], rel=1e-4)


def test_crops_and_masks_equal_the_original(arrays: Arrays) -> None:
    """The original takes a value of the map to sit half a cell further to the left and up, and rasterises as COCO."""
    features, boxes = tensor(arrays, "roi_masking/features"), tensor(arrays, "spn_decode/boxes")
    expected, size = arrays["roi_masking/masks"], (16, 16)
    sampler = WordSampler(size, STRIDE, num_levels=1, samples=(2, 2))
    images = torch.zeros(len(boxes), dtype=torch.int64)
    crops = sampler(features, boxes_to_bezier(boxes + STRIDE / 2), images)
    close(crops, arrays["roi_masking/pooled"])
    outlines = [torch.from_numpy(outline)[None] for outline in ragged(arrays, "spn_decode")]
    masks = torch.cat([outline_masks(one, box[None], size) for one, box in zip(outlines, boxes, strict=True)])
    same = masks.numpy() == expected
    assert same.mean(axis=(1, 2)).min() >= 0.95
    masked = (crops * masks[:, None]).numpy()
    close(masked * same[:, None], arrays["roi_masking/masked"] * same[:, None])


def test_the_sampler_masks_what_it_cuts_out(arrays: Arrays) -> None:
    """The same by way of the recogniser's sampler, for outlines that two curves describe exactly."""
    features, boxes = tensor(arrays, "roi_masking/features"), tensor(arrays, "spn_decode/boxes")
    corners = torch.tensor([[0.0, 0.3], [0.6, 0.0], [1.0, 0.8], [0.3, 1.0]])
    quads = boxes[:, None, :2] + corners * (boxes[:, 2:] - boxes[:, :2])[:, None]  # (N, 4, 2)
    images = torch.zeros(len(boxes), dtype=torch.int64)
    mine = MaskedBoxSampler((16, 16), STRIDE, num_levels=1, margin=0.0)(features, quads_to_bezier(quads), images)
    plain = WordSampler((16, 16), STRIDE, num_levels=1, samples=(2, 2))(features, boxes_to_bezier(boxes), images)
    inside = outline_masks(quads, boxes, (16, 16))
    assert 0.4 < inside.float().mean() < 0.7
    torch.testing.assert_close(mine, plain * inside[:, None], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def reader(arrays: Arrays, facts: dict[str, Any]) -> MaskedRecognizer:
    prefix = "seq_state/roi_heads.mask.predictor.seq."
    state = {name.removeprefix(prefix): tensor(arrays, name) for name in arrays if name.startswith(prefix)}
    settings = MaskedConfig(
        charset=CHARSET,
        crop_size=facts["config"]["resize"],
        channels=[facts["config"]["recogniser_in"]],
        hidden_size=facts["config"]["hidden"],
        beam_width=6,
    )
    recognizer, size = MaskedRecognizer(settings, 4).eval(), settings.hidden_size
    attention = state["seq_decoder.attn.attn.weight"]
    decoder = {
        "column_codes.weight": state["x_onehot.weight"],
        "row_codes.weight": state["y_onehot.weight"],
        "embedding.weight": functional.linear(  # the original has two layers without anything between them
            state["seq_decoder.embedding.weight"],
            state["seq_decoder.word_linear.weight"],
            state["seq_decoder.word_linear.bias"],
        )[OUR_ORDER],
        "query.weight": attention[:, :size],
        "key.weight": attention[:, size:],
        "key.bias": state["seq_decoder.attn.attn.bias"],
        "energy.weight": state["seq_decoder.attn.v"][None],
    }
    for leaf in ("weight", "bias"):
        decoder[f"output.{leaf}"] = state[f"seq_decoder.out.{leaf}"][OUR_ORDER]
        decoder |= {f"cell.{leaf}_{way}": state[f"seq_decoder.rnn.{leaf}_{way}"] for way in ("ih", "hh")}
    recognizer.decoder.load_state_dict(decoder)
    convolution = recognizer.encoder[1][0][0]
    convolution.load_state_dict({leaf: state[f"seq_encoder.0.{leaf}"] for leaf in ("weight", "bias")})
    return recognizer.requires_grad_(False)


def our_classes(targets: np.ndarray) -> torch.Tensor:
    """Classes of the original, ended by 37, to ours, -1 after the end."""
    classes = torch.from_numpy(targets)
    return (classes - 1).masked_fill((classes == 37) | (classes < 0), -1)[:, :31]


def test_what_the_reader_looks_at_equals_the_original(arrays: Arrays, reader: MaskedRecognizer) -> None:
    inputs = functional.interpolate(tensor(arrays, "seq/inputs"), size=(16, 64), mode="bilinear", align_corners=False)
    encoded = reader.encoder[2](reader.encoder[1](inputs))
    close(encoded, arrays["seq/encoded"])
    close(reader.decoder.context(encoded).transpose(0, 1), arrays["seq/context"])


def test_taught_steps_equal_the_original(arrays: Arrays, facts: dict[str, Any], reader: MaskedRecognizer) -> None:
    decoder, targets = reader.decoder, arrays["seq/word_targets"]
    classes = our_classes(targets)
    np.testing.assert_array_equal(
        torch.tensor([*range(1, 37), 0, 37, -1])[decoder.targets(classes)][:, :8], targets[:, :8]
    )
    logits = decoder(tensor(arrays, "seq/encoded"), classes)
    loss = reader.settings.loss_weight * decoder.loss(logits, classes)
    assert float(loss) == pytest.approx(facts["seq_loss"], rel=1e-4)
    context = tensor(arrays, "seq/context").transpose(0, 1)
    keys, hidden = decoder.key(context), context.new_zeros(3, decoder.cell.hidden_size)
    told = [torch.zeros(3, dtype=torch.int64), *torch.from_numpy(arrays["seq/decoder_targets"][:, :5]).unbind(1)]
    for step, previous in enumerate(told):
        mine = torch.tensor([OUR_ORDER.index(index) for index in previous.tolist()])
        hidden, attention = decoder.step(hidden, mine, context, keys)
        probabilities = decoder.output(hidden).softmax(dim=-1)
        close(attention, arrays["seq/teacher_forced_attention"][:, step])
        close(probabilities, arrays["seq/teacher_forced_probabilities"][:, step][:, OUR_ORDER])
        ended = (previous == 37).numpy()  # what is taught after the end makes no difference
        close(logits.softmax(dim=-1)[~ended, step], probabilities[~ended])


def test_words_of_the_beam_search_equal_the_original(
    arrays: Arrays, facts: dict[str, Any], reader: MaskedRecognizer
) -> None:
    readings = reader.decode(reader.decoder(tensor(arrays, "seq/encoded"))[:, None])
    assert [reading.text for reading in readings] == facts["beam_words"]
    found = reader.decoder.search(tensor(arrays, "seq/context").transpose(0, 1))
    for index, scores in enumerate(facts["beam_scores"]):  # of the characters and of the end
        steps, classes = range(len(scores)), found.classes[index, : len(scores)]
        close(found.log_probabilities[index, steps, classes].exp(), np.array(scores))
        assert readings[index].score == pytest.approx(np.mean(scores), abs=1e-4)


def test_weighted_edit_distances_equal_the_original(arrays: Arrays, facts: dict[str, Any]) -> None:
    expected = facts["weighted_edit_distance"]
    words = list(expected["distances"])
    distances = weighted_distances(expected["read"], words, arrays["lexicon/scores"].T, CHARSET)
    close(distances, np.array(list(expected["distances"].values())))
