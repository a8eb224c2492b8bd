"""Heads and recognisers that the export is checked for as graphs of ONNX; detectors compiled without graph breaks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_heads import HEAD_CONFIGS, RECOGNIZER_CONFIGS
from tiny_settings import SETTINGS
from transformers import pipeline

from transformers_tcm import (
    OnnxOrientedObjectDetector,
    TCMConfig,
    TCMForOrientedObjectDetection,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessorPil,
)
from transformers_tcm.export import export_model
from transformers_tcm.export.graphs import Part, parts_of, prepared
from transformers_tcm.export.onnx_graphs import SIZES, TOLERANCE, largest_difference, write_onnx
from transformers_tcm.export.openvino_graphs import to_openvino
from transformers_tcm.models.tcm.exported_tcm import OnnxRuntimeGraph, OpenVINOGraph, load_exported
from transformers_tcm.models.tcm.heads import HEADS, head_class
from transformers_tcm.models.tcm.modeling_tcm import TCMDetector
from transformers_tcm.models.tcm.recognition.sampling import quads_to_bezier


def made(head: str, **settings: Any) -> TCMDetector:
    """A tiny model in evaluation mode."""
    torch.manual_seed(0)
    config = TCMConfig(**{**SETTINGS, "head_type": head, "head_config": HEAD_CONFIGS[head], **settings})
    oriented = head_class(head).task == "oriented"
    text_class = TCMForTextSpotting if config.is_spotter else TCMForTextDetection
    return (TCMForOrientedObjectDetection if oriented else text_class)(config).eval()


def difference_of(part: Part, folder: Path) -> float:
    pytest.importorskip("onnxruntime")
    return largest_difference(part, OnnxRuntimeGraph(write_onnx(part, folder)))


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_heads_agree_with_torch_at_five_sizes(head, tmp_path):
    assert len(SIZES) == 5
    (detector,) = parts_of(prepared(made(head)))
    assert difference_of(detector, tmp_path) <= TOLERANCE


@pytest.mark.slow
def test_oriented_objects_are_found_as_with_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    model = made("rotated_fcos", id2label={0: "ship", 1: "plane"})
    processor = TCMImageProcessorPil(size={"longest_edge": 192}).for_model(model.config)
    export_model(model, processor, tmp_path / "exported")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 192, 3), np.uint8))
    pipe = pipeline("oriented-object-detection", model=model, image_processor=processor)
    expected, found = (
        detector(image, threshold=0.0) for detector in (pipe, OnnxOrientedObjectDetector(tmp_path / "exported"))
    )
    assert len(found) == len(expected) > 100
    # Those of nearly equal scores come in any order.
    values = [
        np.array([[item["label"] == "ship", item["score"], *np.ravel(item["polygon"])] for item in items[:100]])
        for items in (found, expected)
    ]
    distances = np.abs(values[0][:, None] - values[1]).max(axis=-1)  # (100, 100)
    assert distances.min(axis=1).max() < 0.05
    assert distances.min(axis=0).max() < 0.05


@pytest.mark.slow
def test_oriented_objects_are_those_of_normalised_pixels_where_the_graph_takes_bytes(tmp_path):
    pytest.importorskip("onnxruntime")
    model = made("rotated_fcos", id2label={0: "ship", 1: "plane"})
    settings = {"size": {"longest_edge": 192}, "max_detections": 20, "threshold": 0.0}
    processor = TCMImageProcessorPil(head_type="rotated_fcos", **settings)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 192, 3), np.uint8))  # padded below
    found = {}
    for pixel_type in ("float32", "uint8"):
        export_model(model, processor, tmp_path / pixel_type, pixel_type=pixel_type)
        found[pixel_type] = OnnxOrientedObjectDetector(tmp_path / pixel_type)(image)
    assert len(found["uint8"]) == len(found["float32"]) > 0
    for one, other in zip(found["uint8"], found["float32"], strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


@pytest.mark.slow
def test_a_head_that_reads_is_one_graph_beside_its_language_model(tmp_path):
    pytest.importorskip("onnxruntime")
    language_model = {"context": 3, "embedding_size": 4, "hidden_size": 8}
    model = made("deepsolo", head_config={**HEAD_CONFIGS["deepsolo"], "language_model": language_model})
    settings = {"size": {"longest_edge": 160}, "box_threshold": 0.0, "text_threshold": 0.0}
    processor = TCMImageProcessorPil(**settings).for_model(model.config)
    export_model(model, processor, tmp_path / "exported")
    graphs = sorted(path.name for path in (tmp_path / "exported").glob("*.onnx"))
    assert graphs == ["detector.onnx", "language_model.onnx"]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8))
    exported = pipeline("text-spotting", model=str(tmp_path / "exported"), backend="onnxruntime")
    assert exported(image) == []  # nothing is a word to random weights, with torch neither
    inputs = processor(image, return_tensors="pt")
    with torch.no_grad():
        expected, found = model(**inputs).head_output, exported.model(**inputs).head_output
        for name in ("class_logits", "text_logits", "boundary"):
            torch.testing.assert_close(found[name][-1], expected[name][-1], rtol=1e-4, atol=1e-4)
        contexts = torch.tensor([[1, 2, 3], [4, 5, 6]])
        likely, of_graph = (one.head.language_model(contexts) for one in (model, exported.model))
        torch.testing.assert_close(of_graph, likely, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("prompting", ["tcm", "none"])
def test_prompting_agrees_with_torch_at_five_sizes(prompting, tmp_path):
    (detector,) = parts_of(prepared(made("dbnet", prompting=prompting)))
    assert difference_of(detector, tmp_path) <= TOLERANCE


@pytest.mark.slow
def test_averaged_keys_agree_in_openvino(tmp_path):
    """Also where a map is narrower than the window of the average."""
    pytest.importorskip("openvino")
    vision = {**SETTINGS["vision_config"], "sr_ratio": 2}
    (detector,) = parts_of(prepared(made("dbnet", vision_config=vision)))
    graph = OpenVINOGraph(to_openvino(write_onnx(detector, tmp_path)), INFERENCE_PRECISION_HINT="f32")
    assert largest_difference(detector, graph) <= TOLERANCE


@pytest.mark.slow
def test_bytes_agree_in_openvino(tmp_path):
    pytest.importorskip("openvino")
    (detector,) = parts_of(prepared(made("dbnet")), "uint8")
    graph = OpenVINOGraph(to_openvino(write_onnx(detector, tmp_path)), INFERENCE_PRECISION_HINT="f32")
    assert graph.byte_inputs == {"pixel_values"}
    assert largest_difference(detector, graph) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("decoder", RECOGNIZER_CONFIGS)
def test_recognizers_agree_with_torch_for_five_numbers_of_words(decoder, tmp_path):
    model = made("dbnet", recognizer={"decoder": decoder, **RECOGNIZER_CONFIGS[decoder]})
    _, recognizer = parts_of(prepared(model))
    assert difference_of(recognizer, tmp_path) <= TOLERANCE


@pytest.mark.slow
def test_exported_spotters_find_the_same_word_boundaries(tmp_path):
    pytest.importorskip("onnxruntime")
    model = made("dbnet", recognizer={"word_boundaries": True, **RECOGNIZER_CONFIGS["ctc"]})
    processor = TCMImageProcessorPil(text_threshold=0.0).for_model(model.config)
    export_model(model, processor, tmp_path)
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    curves = quads_to_bezier(torch.tensor([[[10.0, 10], [80, 12], [80, 30], [10, 28]]]).repeat(3, 1, 1))
    places = curves, torch.zeros(3, dtype=torch.int64)
    with torch.no_grad():
        here, there = (
            one.recognizer._look(one._reading_features(pixels), *places, one.recognizer._boundary_logits)[0]
            for one in (model, load_exported(tmp_path, TCMForTextSpotting))
        )
    assert here.shape == (3, model.recognizer.num_steps)
    torch.testing.assert_close(here, there, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("head", [name for name in HEADS if not head_class(name).reads])
def test_detectors_compile_without_graph_breaks(head):
    model = made(head)
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 64, 96, dtype=torch.int64)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        found, expected = compiled(pixels, mask), model(pixels, mask)
    assert type(found) is type(expected)
    for name, values in expected.head_output.items():
        torch.testing.assert_close(found.head_output[name], values)
