"""What users of transformers take for granted of any model, tried one by one."""

import builtins
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_settings import SETTINGS
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForObjectDetection,
    AutoProcessor,
    QuantoConfig,
    pipeline,
)

from transformers_tcm import (
    AutoModelForTextDetection,
    AutoModelForTextSpotting,
    TCMConfig,
    TCMForOrientedObjectDetection,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessor,
    TCMModel,
    TextInstances,
    bundled_model_path,
    load_image,
)
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.models.bundled import DEFAULT_MODEL, DEFAULT_SPOTTER
from transformers_tcm.models.tcm.loading_tcm import quantisation_without
from transformers_tcm.models.tcm.modeling_clip_resnet import TCMBottleneck

Make = Callable[..., TCMForTextDetection]
WORD = np.array([[10, 12], [70, 10], [72, 34], [12, 36]], dtype=np.float32)


def pixels(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(1))


def labelled_batch(config: TCMConfig) -> dict[str, Any]:
    """Two images with a word each, as the data loader gives them."""
    rng = np.random.default_rng(0)
    words, processor = TextInstances([WORD], texts=["ab"]), TCMImageProcessor(do_resize=False)
    images = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(2)]
    return TextDetectionCollator(config)([process_for_model(processor, image, words) for image in images])


@pytest.fixture(scope="module")
def street() -> dict[str, torch.Tensor]:
    """A photo as the bundled models take it, small."""
    processor = AutoImageProcessor.from_pretrained(DEFAULT_SPOTTER, size={"longest_edge": 320})
    return processor(load_image(bundled_model_path(DEFAULT_SPOTTER) / "example.jpg"), return_tensors="pt")


def test_attention_weights_are_given_where_asked_for(small_detector: Make) -> None:
    model = small_detector(decoder_num_layers=2)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        outputs = model(pixels(2, 3, 64, 96), output_attentions=True)
        without = model(pixels(2, 3, 64, 96))
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(2, 4, 7, 7)]
    # Six places of the map ask the text, and then the text asks them and the mean.
    assert [tuple(weights.shape) for weights in outputs.decoder_attentions] == [(2, 2, 6, 6)] * 2 + [(2, 2, 1, 1)] * 2
    assert [tuple(weights.shape) for weights in outputs.cross_attentions] == [(2, 2, 6, 1)] * 2 + [(2, 2, 1, 7)] * 2
    for weights in (*outputs.attentions, *outputs.decoder_attentions, *outputs.cross_attentions):
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    assert without.attentions is without.decoder_attentions is without.cross_attentions is None


def test_attention_weights_that_nobody_computes_are_refused(small_detector: Make) -> None:
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        small_detector()(pixels(1, 3, 64, 64), output_attentions=True)
    unprompted = small_detector(prompting="none")
    unprompted.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="prompting 'none' leaves no attention"):
        unprompted(pixels(1, 3, 64, 64), output_attentions=True)


def test_a_configuration_can_ask_for_attention_weights(small_config: Callable[..., TCMConfig]) -> None:
    config = small_config(attn_implementation="eager", output_attentions=True)
    outputs = TCMModel(config).eval()(pixels(1, 3, 64, 64))
    assert len(outputs.attentions) == 1


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(
    small_detector: Make, use_reentrant: bool
) -> None:
    results = []
    for checkpointed in (False, True):
        model = small_detector(decoder_dropout=0.0).train()
        for block in model.modules():
            if isinstance(block, TCMBottleneck):  # starts as the identity, without a gradient inside
                torch.nn.init.ones_(block.expand[1].weight)
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
            assert model.is_activation_checkpointing
        model(**labelled_batch(model.config)).loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        statistics = {name: b for name, b in model.named_buffers() if name.endswith(("mean", "var"))}
        results.append((gradients, statistics))
    assert results[0][0].keys() == results[1][0].keys()
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    if not use_reentrant:  # which has no place to say what is run again
        torch.testing.assert_close(results[1][1], results[0][1], rtol=0, atol=0)


def test_pixels_go_into_the_input_embeddings(small_detector: Make) -> None:
    model = small_detector()
    assert model.get_input_embeddings() is model.model.backbone.stem[0][0]
    model.requires_grad_(False).enable_input_require_grads()
    assert model(pixels(1, 3, 64, 64)).head_output.prob_map.requires_grad


@pytest.mark.parametrize("device_map", ["auto", {"model": "disk", "head": "cpu", "recognizer": "disk"}], ids=str)
def test_a_device_map_that_splits_the_model_changes_nothing(
    device_map: str | dict[str, str], street: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    whole = AutoModel.from_pretrained(DEFAULT_SPOTTER, dtype="float32").eval()
    size = sum(tensor.nbytes for tensor in whole.state_dict().values())
    split = AutoModel.from_pretrained(
        DEFAULT_SPOTTER,
        dtype="float32",
        device_map=device_map,
        max_memory={"cpu": size - 400_000} if device_map == "auto" else None,
        offload_folder=tmp_path,
    )
    assert set(split.hf_device_map.values()) == {"cpu", "disk"}
    with torch.no_grad():
        expected, outputs = whole(**street), split(**street)
    assert len(expected.sequences) > 3
    assert torch.equal(outputs.sequences, expected.sequences)
    torch.testing.assert_close(outputs.head_output.prob_map, expected.head_output.prob_map)


def test_a_cast_to_float16_finds_what_float32_finds(street: dict[str, torch.Tensor]) -> None:
    model = AutoModelForTextDetection.from_pretrained(DEFAULT_MODEL, dtype="float32").eval()
    processor = AutoImageProcessor.from_pretrained(DEFAULT_MODEL)

    def boxes(cast: TCMForTextDetection) -> torch.Tensor:
        with torch.no_grad():
            return processor.post_process_text_detection(cast(**street))[0]["boxes"]

    expected = boxes(model)
    assert len(expected) > 3
    loaded = AutoModelForTextDetection.from_pretrained(DEFAULT_MODEL, dtype="float16").eval()
    assert loaded.head.probability[0].weight.dtype == torch.float32
    torch.testing.assert_close(boxes(loaded), expected, rtol=0, atol=2)
    variances = model.head.probability[1].running_var.clone()
    for cast in (model.half, lambda: model.to(torch.float16), lambda: model.to(dtype=torch.float16)):
        assert cast() is model
        assert model.dtype == torch.float16
        torch.testing.assert_close(model.head.probability[1].running_var, variances, rtol=0, atol=0)
    torch.testing.assert_close(boxes(model), expected, rtol=0, atol=2)
    assert {p.dtype for p in model.float().parameters()} == {torch.float32}


def test_torchao_quantises_what_it_loads(street: dict[str, torch.Tensor]) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    from transformers import TorchAoConfig

    config = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    _reads_as_before(AutoModel.from_pretrained(DEFAULT_SPOTTER, quantization_config=config, dtype="float32"), street)


def test_quanto_quantises_what_it_loads(street: dict[str, torch.Tensor]) -> None:
    pytest.importorskip("optimum.quanto")
    from transformers import QuantoConfig

    config = QuantoConfig(weights="int8")
    _reads_as_before(AutoModel.from_pretrained(DEFAULT_SPOTTER, quantization_config=config, dtype="float32"), street)


def _reads_as_before(quantised: TCMForTextSpotting, street: dict[str, torch.Tensor]) -> None:
    """Most of the words, to the letter."""
    whole = AutoModel.from_pretrained(DEFAULT_SPOTTER, dtype="float32").eval()
    assert any(type(p.data) is not torch.Tensor for p in quantised.parameters())
    with torch.no_grad():
        expected, found = (
            {bytes(word[word > 0].to(torch.uint8).tolist()) for word in model(**street).sequences}
            for model in (whole, quantised)
        )
    assert len(expected & found) > 0.7 * len(expected)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_trains_few_weights_and_keeps_them(small_detector: Make, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(small_detector(), peft.LoraConfig(r=2, target_modules="all-linear"))
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    # In evaluation mode, or batch norms would learn what an adapter does not hold.
    adapted.eval()(**labelled_batch(adapted.config)).loss.backward()
    torch.optim.SGD([p for p in adapted.parameters() if p.grad is not None], lr=0.5).step()
    adapted.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(small_detector(), tmp_path).eval()
    image = pixels(1, 3, 64, 64)
    with torch.no_grad():
        learnt, loaded, fresh = (model(image).score_map for model in (adapted, again, small_detector()))
    torch.testing.assert_close(loaded, learnt)
    assert not torch.allclose(fresh, learnt)


@pytest.mark.parametrize("task", ["image-to-text", "image-classification"])
@pytest.mark.parametrize(
    ("name", "right"),
    [(DEFAULT_SPOTTER, "text-spotting"), (DEFAULT_MODEL, "text-detection")],
    ids=["spotter", "detector"],
)
def test_a_pipeline_of_another_task_names_the_right_one(name: str, right: str, task: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is a text .* pipeline\('{right}', model=…\)"):
        pipeline(task, model=name)


@pytest.fixture
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where transformers asks whether to run the code of a repository."""

    def asked(question: str = "") -> str:
        pytest.fail(f"asked: {question}")

    monkeypatch.setattr(builtins, "input", asked)


@pytest.mark.usefixtures("nobody_is_asked")
def test_no_question_whether_to_run_code_that_is_imported(tmp_path: Path) -> None:
    """The folders hold an `auto_map` for those who have not imported the package."""
    spotter = tmp_path / "spotter"
    shutil.copytree(bundled_model_path(DEFAULT_SPOTTER), spotter)
    assert "auto_map" in (spotter / "config.json").read_text()
    for loader in (AutoConfig, AutoProcessor, AutoImageProcessor, AutoModel, AutoModelForObjectDetection):
        loader.from_pretrained(spotter)
    for task in ("text-spotting", "text-detection", "object-detection"):
        pipeline(task, model=str(spotter))
    base = TCMModel(TCMConfig(**SETTINGS, fused=True))
    base.save_pretrained(tmp_path / "base")
    assert type(AutoModel.from_pretrained(tmp_path / "base")) is TCMModel


def test_auto_processor_gives_the_image_processor() -> None:
    processor = AutoProcessor.from_pretrained(DEFAULT_SPOTTER)
    assert type(processor) is type(AutoImageProcessor.from_pretrained(DEFAULT_SPOTTER))
    assert "pixel_values" in processor(Image.new("RGB", (64, 64)), return_tensors="pt")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", None])
@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForTextSpotting])
def test_the_first_call_works_in_every_precision(auto_class: type, dtype: str | None) -> None:
    chosen = {} if dtype is None else {"dtype": dtype}
    model = auto_class.from_pretrained(DEFAULT_SPOTTER, **chosen).eval()
    processor = AutoImageProcessor.from_pretrained(DEFAULT_SPOTTER, size={"longest_edge": 64})
    inputs = processor(Image.new("RGB", (64, 64)), return_tensors="pt")
    with torch.no_grad():
        assert model(**inputs).head_output.prob_map.isfinite().all()


def test_weights_that_are_packed_in_files_are_not_quantised() -> None:
    """Quantising one of queries, keys and values as they are taken apart, transformers loses the others."""
    quanto = quantisation_without(QuantoConfig(weights="int8", modules_to_not_convert=["head"]), "word_attention")
    assert quanto.modules_to_not_convert == ["head", "word_attention"]
    settings = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    assert quantisation_without(settings, "word_attention")["llm_int8_skip_modules"] == ["word_attention"]
    assert settings == {"quant_method": "bitsandbytes", "load_in_8bit": True}


def test_object_detection_says_nothing_false(caplog: pytest.LogCaptureFixture) -> None:
    model = AutoModelForObjectDetection.from_pretrained(DEFAULT_SPOTTER)
    oriented = TCMForOrientedObjectDetection(TCMConfig(**{**SETTINGS, "head_type": "rotated_fcos", "head_config": {}}))
    pipelines = logging.getLogger("transformers")
    pipelines.addHandler(caplog.handler)
    try:
        pipeline("object-detection", model=model, image_processor=AutoImageProcessor.from_pretrained(DEFAULT_SPOTTER))
        processor = TCMImageProcessor(size={"longest_edge": 64}).for_model(oriented.config)
        pipeline("object-detection", model=oriented, image_processor=processor)(Image.new("RGB", (64, 64)))
    finally:
        pipelines.removeHandler(caplog.handler)
    assert "not supported" not in caplog.text
