"""`optimize_for_inference`: outputs stay, and so does everything that training and saving need."""

import os
from pathlib import Path

import pytest
import torch
from tiny_settings import READER, SETTINGS

from transformers_tcm import (
    TCMConfig,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessorPil,
    bundled_model_path,
    load_image,
)
from transformers_tcm.models.tcm import layers_tcm, modeling_tcm
from transformers_tcm.models.tcm.layers_tcm import TCMConvNorm

# `TCM_PHOTOS=folder` takes the first 20 photos there.
EXAMPLES = Path(__file__).parents[3] / "examples/images"
PHOTOS = sorted(Path(os.environ.get("TCM_PHOTOS", EXAMPLES)).glob("*.jpg"))[:20]


def made(**settings) -> TCMForTextDetection:
    torch.manual_seed(0)
    config = TCMConfig(**SETTINGS, **settings)
    model = (TCMForTextSpotting if config.is_spotter else TCMForTextDetection)(config).eval()
    for module in model.modules():  # norms that do something
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
    return model


@torch.no_grad()
def probabilities(model: TCMForTextDetection) -> torch.Tensor:
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    return model(pixels).head_output.prob_map


@pytest.mark.parametrize("prompting", ["fasttcm", "tcm", "none"])
def test_outputs_in_float32_stay(prompting):
    model = made(prompting=prompting)
    before = probabilities(model)
    assert model.optimize_for_inference(dtype=None) is model
    assert before.std() > 1e-3
    torch.testing.assert_close(probabilities(model), before, atol=1e-5, rtol=0)


def test_outputs_in_bfloat16_stay_close():
    model = made()
    difference = (probabilities(model.optimize_for_inference(dtype=torch.bfloat16)) - probabilities(made())).abs()
    assert model.dtype == torch.bfloat16
    assert difference.max() < 0.05
    assert difference.mean() < 0.005


def test_fastest_type_is_that_of_the_processor(monkeypatch):
    for fastest in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(modeling_tcm, "fastest_cpu_dtype", lambda fastest=fastest: fastest)
        assert made().optimize_for_inference().dtype == fastest


@pytest.mark.parametrize(("dtype", "warned"), [(torch.bfloat16, True), (torch.float16, True), (torch.float32, False)])
def test_half_precision_that_the_processor_only_emulates_is_pointed_out(dtype, warned, monkeypatch):
    messages: list[str] = []
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False)
    monkeypatch.setattr(modeling_tcm.logger, "warning_once", messages.append)
    probabilities(made().to(dtype))
    assert [("dtype='float32'" in message) for message in messages] == [True] * warned


def test_text_tower_and_norms_are_computed_once(monkeypatch):
    model = made().optimize_for_inference(dtype=None)
    probabilities(model)
    monkeypatch.setattr(model.model.text_encoder, "forward", None)
    folded: list[torch.nn.Module] = []
    fold = layers_tcm._fold
    monkeypatch.setattr(layers_tcm, "_fold", lambda conv, norm: folded.append(conv) or fold(conv, norm))
    assert probabilities(model).isfinite().all()
    # Of the two branches of the head, whose layers are plain ones, in each call.
    assert set(folded) <= {layer for layer in model.head.modules() if "Conv" in type(layer).__name__}
    assert not any(conv in module for module in model.modules() if isinstance(module, TCMConvNorm) for conv in folded)


def test_weights_stay_as_they_are_and_are_saved(tmp_path):
    model = made()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.optimize_for_inference(dtype=None).save_pretrained(tmp_path)
    loaded = TCMForTextDetection.from_pretrained(tmp_path).state_dict()
    assert before.keys() == loaded.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.items())


def test_norms_after_any_convolution_are_folded_where_nothing_is_learned():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(4, 5, 2, 2, bias=False),
        torch.nn.BatchNorm2d(5),
    )
    features = torch.randn(2, 3, 8, 10)
    for _ in range(3):
        layers(features)  # statistics that do something
    calls: list[torch.nn.Module] = []
    layers[4].register_forward_hook(lambda *_: calls.append(layers[4]))
    expected = layers.eval()(features)
    with torch.no_grad():
        torch.testing.assert_close(layers_tcm.without_norms(layers, features), expected, atol=1e-5, rtol=1e-5)
    assert len(calls) == 1
    torch.testing.assert_close(layers_tcm.without_norms(layers, features), expected)
    assert len(calls) == 2


def test_what_changes_weights_undoes_the_folding():
    model = made().optimize_for_inference(dtype=None)
    other = made(prompting="fasttcm")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    for change in (lambda: model.load_state_dict(other.state_dict()), lambda: model.train().eval(), model.double):
        model.optimize_for_inference(dtype=None)
        change()
        folded = [module._folded for module in model.modules() if isinstance(module, TCMConvNorm)]
        assert folded == [None] * len(folded)
    torch.testing.assert_close(probabilities(model.float()), probabilities(other))


def test_spotters_read_the_same():
    model = made(recognizer=READER)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[[0, 8], [20, 8], [40, 8], [60, 8], [60, 40], [40, 40], [20, 40], [0, 40]]]).float()
    with torch.no_grad():
        before = model.recognize(images, points, torch.zeros(1, dtype=torch.int64))
        after = model.optimize_for_inference(dtype=None).recognize(images, points, torch.zeros(1, dtype=torch.int64))
    assert [word.text for word in before] == [word.text for word in after]
    assert before[0].score == pytest.approx(after[0].score, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.stem)
def test_bundled_detector_sees_the_same_in_photos(photo):
    folder = bundled_model_path("fasttcm-dbnet-tiny")
    processor = TCMImageProcessorPil.from_pretrained(folder)
    batch = processor(load_image(photo), size={"longest_edge": 640})
    inputs = {name: batch[name] for name in ("pixel_values", "pixel_mask")}
    model = TCMForTextDetection.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        before = model(**inputs).head_output.prob_map
        found = model.optimize_for_inference(dtype=None)(**inputs).head_output.prob_map
    # There is something to see, be it as unclear as in some photos of others.
    assert before.max() > (0.9 if photo.parent == EXAMPLES else 5 * before.median())
    torch.testing.assert_close(found, before, atol=1e-4, rtol=0)
