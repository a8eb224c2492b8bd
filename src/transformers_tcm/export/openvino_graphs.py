"""Graphs of OpenVINO from those of ONNX: torch's own way there lacks an operator."""

from pathlib import Path

__all__ = ["to_openvino"]


def to_openvino(path: Path) -> Path:
    """Write a graph of ONNX as `NAME.xml` and `NAME.bin` in its place, with weights in float32; returns the first."""
    import openvino

    converted = path.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(path), converted, compress_to_fp16=False)
    path.unlink()
    return converted
