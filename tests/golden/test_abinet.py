"""ABINet and ABINet++ against numbers of the original code: attention, language model, fusion, losses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from transformers_tcm.conversion.abinet import abinet_plan, abinet_settings, load_abinet
from transformers_tcm.conversion.plan import Source, remap_state_dict
from transformers_tcm.models.tcm.recognition.abinet import (
    ABINetConfig,
    ABINetRecognizer,
    TCMMapTransformer,
    cross_entropy_to_the_end,
    word_lengths,
)

Tensors = dict[str, torch.Tensor]
IN_CHANNELS = 16
# Sizes that no tensor tells, and those of what the numbers leave out.
UNTOLD: dict[str, Any] = {"crop_size": [8, 32], "language_heads": 4, "dropout": 0.0, "language_dropout": 0.0}


@pytest.fixture(scope="module")
def tensors(golden_dir: Path) -> Tensors:
    arrays = np.load(golden_dir / "segmentation_heads" / "abinet.npz")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def facts(golden_dir: Path) -> dict[str, Any]:
    return json.loads((golden_dir / "segmentation_heads" / "abinet.json").read_text())


def state_of(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def converted(state: Tensors, charset: str) -> ABINetRecognizer:
    recognizer = ABINetRecognizer(ABINetConfig(**UNTOLD, **abinet_settings(state, charset)), IN_CHANNELS).eval()
    load_abinet(recognizer, state)
    return recognizer.requires_grad_(False)


@pytest.fixture(scope="module")
def abinet(tensors: Tensors, facts: dict[str, Any]) -> ABINetRecognizer:
    return converted(state_of(tensors, "abinet_state/"), facts["abinet"]["charset"])


@pytest.fixture(scope="module")
def spotter(tensors: Tensors) -> ABINetRecognizer:
    return converted(state_of(tensors, "abinetpp_state/"), "abcdefghijk")


def close(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)


def original_order(values: torch.Tensor) -> torch.Tensor:
    """Logits (…, characters, unknown, end) as ABINet has them: the end first, and no unknown characters."""
    return torch.cat([values[..., -1:], values[..., :-2]], dim=-1)


def our_order(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values[..., 1:], torch.zeros_like(values[..., :1]), values[..., :1]], dim=-1)


def our_classes(labels: torch.Tensor) -> torch.Tensor:
    """Classes of ABINet, 0 after the end of a word, to ours."""
    return (labels - 1).masked_fill(labels == 0, 11)


def test_the_sizes_of_abinet_are_read_from_its_tensors(tensors: Tensors, facts: dict[str, Any]) -> None:
    sizes, settings = (
        facts["abinet"]["config"],
        abinet_settings(state_of(tensors, "abinet_state/"), facts["abinet"]["charset"]),
    )
    expected = {"hidden_size": "E", "max_length": "T", "attention_channels": "ch", "language_layers": "layers"}
    assert {name: settings[name] for name in expected} == {name: sizes[key] for name, key in expected.items()}
    assert (settings["attention_iterations"], settings["attention_layers"]) == (0, 0)
    assert settings["language_mlp_size"] == sizes["inner"]


def test_the_transformer_before_abinets_attention_equals_the_original(tensors: Tensors, facts: dict[str, Any]) -> None:
    """It stands behind a ResNet that this package lacks; its layers are those of the attention's keys."""
    sizes, state = facts["abinet"]["config"], state_of(tensors, "abinet_state/")
    layers = TCMMapTransformer(sizes["E"], sizes["vl"], sizes["heads"], sizes["inner"], 0.0).eval()
    renamed = {name.replace("vision.backbone.", "vision.attention.aggregator."): one for name, one in state.items()}
    ours = [f"decoder.attention.keys.transformer.{name}" for name in layers.state_dict()]
    plan = {name: source for name, source in abinet_plan(ours, renamed, ["vision"]).items() if name in ours}
    shapes = {f"decoder.attention.keys.transformer.{name}": one.shape for name, one in layers.state_dict().items()}
    layers.load_state_dict(
        {
            name.split("transformer.")[1]: one
            for name, one in remap_state_dict(plan, renamed, shapes, renamed.keys()).items()
        }
    )
    with torch.no_grad():
        close(layers(tensors["abinet/features"]), tensors["abinet/encoded"])


def test_what_abinet_sees_equals_the_original(tensors: Tensors, abinet: ABINetRecognizer) -> None:
    [seen], attention = abinet.decoder.attention(tensors["abinet/encoded"])
    close(seen, tensors["abinet/vision_feature"])
    close(attention, tensors["abinet/vision_attention"])
    logits = abinet.decoder.classifier(seen)
    close(original_order(logits), tensors["abinet/vision_logits"])
    lengths = word_lengths(logits.softmax(dim=-1))
    # Where no place is the end, ABINet takes the word for one of length 0, ABINet++ and we for one that fills them all.
    raw = tensors["abinet/vision_lengths_raw"]
    assert torch.equal(lengths, torch.where(raw == 0, 9, raw))


def test_iterative_correction_of_abinet_equals_the_original(tensors: Tensors, abinet: ABINetRecognizer) -> None:
    """With the lengths that ABINet takes a word without an end to have."""
    decoder, vision = abinet.decoder, tensors["abinet/vision_feature"]
    logits, lengths = tensors["abinet/vision_logits"], tensors["abinet/vision_lengths_clamped"]
    for step in range(3):
        spelled, language = decoder.language(our_order(logits.softmax(dim=-1)), lengths)
        close(spelled, tensors[f"abinet/iter{step}_language_feature"])
        close(original_order(language), tensors[f"abinet/iter{step}_language_logits"])
        logits = original_order(decoder.fusion(spelled, vision)[1])
        close(logits, tensors[f"abinet/iter{step}_fused_logits"])
        lengths = tensors[f"abinet/iter{step}_fused_lengths"]


def test_the_cloze_language_model_equals_the_original(tensors: Tensors, abinet: ABINetRecognizer) -> None:
    language, labels = abinet.spelling, our_classes(tensors["abinet/labels"])
    known = nn.functional.one_hot(labels, 12).float()
    features, logits = language(known, tensors["abinet/label_lengths"])
    close(features, tensors["abinet/lm_onehot_feature"])
    close(original_order(logits), tensors["abinet/lm_onehot_logits"])
    tokens = our_order(tensors["abinet/lm_soft_tokens"])
    _, logits = language(tokens, torch.full((len(tokens),), tokens.shape[1]))
    close(original_order(logits), tensors["abinet/lm_soft_logits"])


def test_losses_of_abinet_equal_the_original(tensors: Tensors, facts: dict[str, Any], abinet: ABINetRecognizer) -> None:
    labels, lengths = our_classes(tensors["abinet/labels"]), tensors["abinet/label_lengths"]

    def mean(*names: str) -> float:
        losses = [cross_entropy_to_the_end(our_order_of_logits(tensors[name]), labels, lengths) for name in names]
        return float(torch.stack(losses).mean())

    losses = {
        "alignment_loss": mean(*(f"abinet/iter{step}_fused_logits" for step in range(3))),
        "language_loss": mean(*(f"abinet/iter{step}_language_logits" for step in range(3))),
        "vision_loss": mean("abinet/vision_logits"),
    }
    assert losses == pytest.approx(facts["abinet"]["loss_parts"], rel=1e-4)
    words = labels.masked_fill(tensors["abinet/labels"] == 0, -1)
    assert float(abinet.spelling.loss(words)) == pytest.approx(facts["abinet"]["lm_pretraining_loss"], rel=1e-4)


def our_order_of_logits(logits: torch.Tensor) -> torch.Tensor:
    """An unknown character has no probability."""
    return torch.cat([logits[..., 1:], torch.full_like(logits[..., :1], -torch.inf), logits[..., :1]], dim=-1)


def test_what_abinetpp_sees_equals_the_original(tensors: Tensors, spotter: ABINetRecognizer) -> None:
    encoded = spotter.encoder(tensors["abinetpp/crops"])
    close(encoded, tensors["abinetpp/encoded"])
    seen, attention = spotter.decoder.attention(encoded)
    assert len(seen) == 4
    for step, features in enumerate(seen):
        close(features, tensors[f"abinetpp/query{step}_vectors"])
        close(spotter.decoder.classifier(features), tensors[f"abinetpp/query{step}_logits"])
    close(attention, tensors["abinetpp/attention"])


def test_iterative_correction_of_abinetpp_equals_the_original(tensors: Tensors, spotter: ABINetRecognizer) -> None:
    recorded: dict[str, list[Any]] = {"language": [], "fusion": []}
    hooks = [
        getattr(spotter.decoder, name).register_forward_hook(
            lambda _, inputs, output, name=name: recorded[name].append((inputs, output))
        )
        for name in recorded
    ]
    labels = tensors["abinetpp/labels"]
    encoded = tensors["abinetpp/encoded"]
    readings = spotter.decoder(encoded, labels)
    for hook in hooks:
        hook.remove()
    assert readings.shape == (4, 4 + 6, 8, 13)
    lengths = [
        tensors["abinetpp/vision_lengths"],
        *(tensors[f"abinetpp/iter{step}_fused_lengths"] for step in range(3)),
    ]
    for step in range(3):
        (_, given), (spelled, language) = recorded["language"][step]
        assert torch.equal(given, lengths[step])
        close(spelled, tensors[f"abinetpp/iter{step}_language_feature"])
        close(language, tensors[f"abinetpp/iter{step}_language_logits"])
        fused, logits = recorded["fusion"][step][1]
        close(fused, tensors[f"abinetpp/iter{step}_fused_feature"])
        close(logits, tensors[f"abinetpp/iter{step}_fused_logits"])
        close(readings[:, 4 + 2 * step], language)
        close(readings[:, 5 + 2 * step], logits)
    assert torch.equal(word_lengths(logits), lengths[3])
    close(spotter.decoder(encoded), readings[:, -1])


@pytest.mark.parametrize("term", ["query", "vision", "language", "alignment"])
def test_losses_of_abinetpp_equal_the_original(
    term: str, tensors: Tensors, facts: dict[str, Any], spotter: ABINetRecognizer
) -> None:
    parts = [*(f"query{step}" for step in range(4))]
    parts += [f"iter{step}_{part}" for step in range(3) for part in ("language", "fused")]
    readings = torch.stack([tensors[f"abinetpp/{part}_logits"] for part in parts], dim=1)
    weights = {f"{name}_weight": 0.0 for name in ("query", "vision", "language", "fusion")}
    weights[f"{term.replace('alignment', 'fusion')}_weight"] = 1.0
    settings = {**vars(spotter.settings), **weights}
    decoder = ABINetRecognizer(ABINetConfig(**settings), IN_CHANNELS).decoder
    loss = float(decoder.loss(readings, tensors["abinetpp/labels"]))
    assert loss == pytest.approx(facts["abinetpp"]["losses"][f"loss_{term}"], rel=1e-4)


def test_parts_are_taken_over_alone(tensors: Tensors) -> None:
    state = state_of(tensors, "abinetpp_state/")
    torch.manual_seed(0)
    recognizer = ABINetRecognizer(ABINetConfig(**UNTOLD, **abinet_settings(state, "abcdefghijk")), IN_CHANNELS)
    before = {name: one.clone() for name, one in recognizer.state_dict().items()}
    load_abinet(recognizer, state, ["language"])
    changed = {name for name, one in recognizer.state_dict().items() if not torch.equal(one, before[name])}
    assert changed
    assert all(name.startswith("decoder.language.") for name in changed)
    with pytest.raises(ValueError, match="`parts` are 'head'; choose among vision, language, fusion"):
        load_abinet(recognizer, state, ["head"])


def test_every_weight_of_a_release_has_a_place(tensors: Tensors) -> None:
    for prefix, charset in (("abinet_state/", "abcdefgh12"), ("abinetpp_state/", "abcdefghijk")):
        state = state_of(tensors, prefix)
        ours = converted(state, charset).state_dict().keys()
        used = {source.name for source in abinet_plan(ours, state).values() if isinstance(source, Source)}
        left = {name for name in state.keys() - used if not name.endswith(".pe")}
        assert all(name.startswith("vision.backbone.") for name in left)


def test_classes_that_nothing_names_are_refused(tensors: Tensors) -> None:
    state = state_of(tensors, "abinet_state/")
    with pytest.raises(ValueError, match="classes for 10 characters; name them as the `charset`"):
        abinet_settings(state)
    with pytest.raises(ValueError, match=r"the checkpoint lacks language\.cls\.weight"):
        abinet_settings({})


def test_names_of_mmocr_are_refused_with_a_remedy(tensors: Tensors, abinet: ABINetRecognizer) -> None:
    """What is documented of them is how they begin."""
    state = {f"decoder.{name}": one for name, one in state_of(tensors, "abinet_state/").items()}
    with pytest.raises(ValueError, match=r"decoder\..* in mmocr's names; .* Rename the tensors"):
        abinet_settings(state)
    with pytest.raises(ValueError, match=r"in mmocr's names"):
        load_abinet(abinet, state)
