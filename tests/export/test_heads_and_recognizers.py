"""Detectors with the heads that the export is checked for, as graphs of ONNX."""

from pathlib import Path

import pytest
import torch
from tiny_heads import HEAD_CONFIGS
from tiny_settings import SETTINGS

from transformers_tcm import TCMConfig, TCMForTextDetection
from transformers_tcm.export.graphs import Part, parts_of, prepared
from transformers_tcm.export.onnx_graphs import TOLERANCE, largest_difference, write_onnx
from transformers_tcm.models.tcm.exported_tcm import OnnxRuntimeGraph
from transformers_tcm.models.tcm.modeling_tcm import TCMDetector


def made(head: str) -> TCMDetector:
    """A tiny detector in evaluation mode."""
    torch.manual_seed(0)
    return TCMForTextDetection(TCMConfig(**{**SETTINGS, "head_type": head, "head_config": HEAD_CONFIGS[head]})).eval()


def difference_of(part: Part, folder: Path) -> float:
    return largest_difference(part, OnnxRuntimeGraph(write_onnx(part, folder)))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["dbnet", "pan", "fcenet", "spn"])
def test_heads_agree_with_torch_at_five_sizes(head, tmp_path):
    pytest.importorskip("onnxruntime")
    (detector,) = parts_of(prepared(made(head)))
    assert difference_of(detector, tmp_path) <= TOLERANCE
