"""Every head and every recogniser as a graph of ONNX, and detectors without graph breaks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_heads import HEAD_CONFIGS, RECOGNIZER_CONFIGS
from tiny_settings import SETTINGS

from transformers_tcm import TCMConfig, TCMForOrientedObjectDetection, TCMForTextDetection, TCMForTextSpotting
from transformers_tcm.export.graphs import DetectorGraph, Part, parts_of, prepared
from transformers_tcm.export.onnx_graphs import TOLERANCE, largest_difference, write_onnx
from transformers_tcm.models.tcm.exported_tcm import OnnxRuntimeGraph
from transformers_tcm.models.tcm.heads import HEADS, head_class
from transformers_tcm.models.tcm.modeling_tcm import TCMDetector
from transformers_tcm.models.tcm.recognition import RECOGNIZERS


def made(head: str = "dbnet", prompting: str = "fasttcm", decoder: str | None = None) -> TCMDetector:
    """A tiny model in evaluation mode."""
    torch.manual_seed(0)
    recognizer = None if decoder is None else {**RECOGNIZER_CONFIGS[decoder], "decoder": decoder}
    settings: dict[str, Any] = {**SETTINGS, "head_type": head, "head_config": HEAD_CONFIGS[head]}
    config = TCMConfig(**settings, prompting=prompting, recognizer=recognizer)
    if head_class(head).task == "oriented":
        return TCMForOrientedObjectDetection(config).eval()
    return (TCMForTextSpotting if config.is_spotter else TCMForTextDetection)(config).eval()


def difference_of(part: Part, folder: Path) -> float:
    return largest_difference(part, OnnxRuntimeGraph(write_onnx(part, folder)))


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_every_head_agrees_with_torch_at_five_sizes(head, tmp_path):
    pytest.importorskip("onnxruntime")
    (detector,) = parts_of(prepared(made(head)))
    assert difference_of(detector, tmp_path) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("prompting", ["tcm", "none"])
def test_every_prompting_agrees_with_torch_at_five_sizes(prompting, tmp_path):
    pytest.importorskip("onnxruntime")
    (detector,) = parts_of(prepared(made(prompting=prompting)))
    assert difference_of(detector, tmp_path) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("decoder", RECOGNIZERS)
def test_every_recognizer_reads_the_same_from_its_graph(decoder, tmp_path):
    pytest.importorskip("onnxruntime")
    model = prepared(made(decoder=decoder))
    part = parts_of(model)[1]
    graph = OnnxRuntimeGraph(write_onnx(part, tmp_path))
    crops = torch.randn(5, *part.inputs["crops"].shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = part.module(crops)["char_logits"]
    found = graph(crops=crops)["char_logits"]
    recognizer: Any = model.recognizer
    words, others = (recognizer.decode(logits[:, None]) for logits in (found, expected))
    assert [word.text for word in words] == [word.text for word in others]
    assert [word.score for word in words] == pytest.approx([word.score for word in others], abs=1e-4)


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


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_detectors_are_exported_for_any_size_by_torch_export(head):
    (part,) = parts_of(prepared(made(head)))
    assert isinstance(part.module, DetectorGraph)
    with torch.no_grad():
        program = torch.export.export(part.module, (), part.inputs, dynamic_shapes=part.dynamic_shapes)
        inputs = {"pixel_values": torch.randn(1, 3, 64, 224), "pixel_mask": torch.ones(1, 64, 224, dtype=torch.int64)}
        found, expected = program.module()(**inputs), part.module(**inputs)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
def test_openvino_reads_the_converted_graph(tmp_path):
    pytest.importorskip("openvino")
    from transformers_tcm.export.openvino_graphs import to_openvino
    from transformers_tcm.models.tcm.exported_tcm import OpenVINOGraph

    (detector,) = parts_of(prepared(made()))
    graph = OpenVINOGraph(to_openvino(write_onnx(detector, tmp_path)), INFERENCE_PRECISION_HINT="f32")
    assert largest_difference(detector, graph) <= TOLERANCE
