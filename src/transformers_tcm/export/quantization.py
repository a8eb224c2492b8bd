"""Graphs in int8, with the ranges of activations measured on photos (post-training static quantisation).

References: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018; onnxruntime's quantisation in QDQ format, and NNCF for OpenVINO.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..images import load_image
from .onnx_graphs import silence

__all__ = ["calibration_inputs", "quantize_onnx", "quantize_openvino"]

Arrays = dict[str, np.ndarray]
Node = TypeVar("Node")
# Features that words are cut out of, of a spotter. A recogniser reads less well what was rounded.
READ = "features"
# Convolutions before each map of the head that stay in float32, and what the formats call them.
LAST = 3
CONVOLUTIONS = {"Conv", "ConvTranspose", "Convolution", "ConvolutionBackpropData", "GroupConvolution"}


def calibration_inputs(image_processor: Any) -> Callable[[Any], Arrays]:
    """From a photo to the inputs of a detector, (1, 3, H, W) and (1, H, W), as the processor makes them."""

    def inputs(photo: Any) -> Arrays:
        batch = image_processor(load_image(photo))
        return {name: batch[name].numpy() for name in ("pixel_values", "pixel_mask")}

    return inputs


def quantize_onnx(path: Path, photos: Sequence[Any], inputs: Callable[[Any], Arrays]) -> None:
    """Quantise the convolutions of a detector in ONNX, in place: weights for each channel, activations of the photos.

    What is not a convolution, such as attention, whose outputs differ more from photo to photo, stays in float32, and
    so do those of `_exact_nodes`. `inputs` makes the arrays of a photo, (1, 3, H, W) and (1, H, W).
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    # Without types, and not installed everywhere.
    class Photos(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.remaining: Iterator[Any] = iter(photos)

        def get_next(self) -> Arrays | None:
            photo = next(self.remaining, None)
            return None if photo is None else inputs(photo)

    graph = onnx.load(path).graph
    makers = {name: node for node in graph.node for name in node.output}
    exact = _exact_nodes(
        {output.name: makers[output.name] for output in graph.output if output.name in makers},
        name=lambda node: node.name,
        kind=lambda node: node.op_type,
        before=lambda node: [makers[name] for name in node.input if name in makers],
    )
    with silence():
        quantize_static(
            str(path),
            str(path),
            Photos(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=sorted(exact),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def quantize_openvino(path: Path, photos: Sequence[Any], inputs: Callable[[Any], Arrays]) -> None:
    """Quantise a detector of OpenVINO by NNCF, in place, with weights symmetric and activations not.

    The nodes of `_exact_nodes` stay in float32; biases are corrected layer after layer where there is a recogniser.
    `inputs` makes the arrays of a photo, (1, 3, H, W) and (1, H, W).
    """
    import nncf
    import openvino

    model = openvino.Core().read_model(path)
    results = {result.input_value(0).get_any_name(): result for result in model.get_results()}
    exact = _exact_nodes(
        results,
        name=lambda node: str(node.get_friendly_name()),
        kind=lambda node: str(node.get_type_name()),
        before=lambda node: [value.get_node() for value in node.input_values()],
    )
    with silence():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(photos, inputs),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(photos),
            # Layer after layer, on what those before it give: minutes longer, and what is read is closer to float32.
            fast_bias_correction=READ not in results,
            # Not by `nncf.Subgraph`, which follows every single path: a residual network has too many.
            ignored_scope=nncf.IgnoredScope(names=sorted(exact)),
        )
    # The files are mapped into memory while they are read.
    written = path.with_name(f"{path.stem}_int8.xml")
    openvino.save_model(quantized, written, compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        written.with_suffix(suffix).replace(path.with_suffix(suffix))


def _exact_nodes(
    outputs: Mapping[str, Node],
    name: Callable[[Node], str],
    kind: Callable[[Node], str],
    before: Callable[[Node], list[Node]],
) -> set[str]:
    """Names of the nodes that stay in float32: all that `READ` depends on, the `LAST` convolutions of the head's maps.

    Args:
        outputs: the node that makes each output of the detector.
        name: of a node, unlike all others.
        kind: what a node computes.
        before: the nodes whose outputs a node takes.
    """
    exact: set[str] = set()
    for output, node in outputs.items():
        nodes = _nodes_before(node, name, before)
        if output != READ:
            nodes = islice((each for each in nodes if kind(each) in CONVOLUTIONS), LAST)
        if output != "score_map":
            exact |= {name(each) for each in nodes}
    return exact


def _nodes_before(node: Node, name: Callable[[Node], str], before: Callable[[Node], list[Node]]) -> Iterator[Node]:
    """A node and all that it depends on, the nearest first."""
    todo, seen = [node], set()
    while todo:
        nearest = todo.pop(0)
        if name(nearest) not in seen:
            seen.add(name(nearest))
            yield nearest
            todo += before(nearest)
