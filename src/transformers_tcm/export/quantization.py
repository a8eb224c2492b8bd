"""Graphs in int8, with the ranges of activations measured on photos (post-training static quantisation).

References: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018; onnxruntime's quantisation in QDQ format, and NNCF for OpenVINO.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..images import load_image
from .onnx_graphs import silence

__all__ = ["calibration_inputs", "quantize_onnx", "quantize_openvino"]

Arrays = dict[str, np.ndarray]
# Features that words are cut out of, of a spotter. A recogniser reads less well what was rounded.
READ = "features"
# Convolutions before each map of the head that stay in float32 in OpenVINO.
LAST = 3


def calibration_inputs(image_processor: Any) -> Callable[[Any], Arrays]:
    """From a photo to the inputs of a detector, (1, 3, H, W) and (1, H, W), as the processor makes them."""

    def inputs(photo: Any) -> Arrays:
        batch = image_processor(load_image(photo))
        return {name: batch[name].numpy() for name in ("pixel_values", "pixel_mask")}

    return inputs


def quantize_onnx(path: Path, photos: Sequence[Any], inputs: Callable[[Any], Arrays]) -> None:
    """Quantise the convolutions of a detector in ONNX, in place: weights for each channel, activations of the photos.

    What is not a convolution, such as attention, whose outputs differ more from photo to photo, stays in float32, and
    so does what a recogniser reads, see `READ`. `inputs` makes the arrays of a photo, (1, 3, H, W) and (1, H, W).
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

    with silence():
        quantize_static(
            str(path),
            str(path),
            Photos(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_reading_nodes(onnx.load(path)),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _reading_nodes(model: Any) -> list[str]:
    """Names of the nodes of a detector in ONNX that make the features `READ`; none where there are no such features."""
    import onnx

    inputs, outputs = ([entry.name for entry in entries] for entries in (model.graph.input, model.graph.output))
    if READ not in outputs:
        return []
    return [node.name for node in onnx.utils.Extractor(model).extract_model(inputs, [READ]).graph.node]


def quantize_openvino(path: Path, photos: Sequence[Any], inputs: Callable[[Any], Arrays]) -> None:
    """Quantise a detector of OpenVINO by NNCF, in place, with weights symmetric and activations not.

    What a recogniser reads, see `READ`, and the last convolutions before the head's maps stay in float32; biases are
    corrected layer after layer where there is a recogniser. `inputs` makes the arrays of a photo, (1, 3, H, W) and
    (1, H, W).
    """
    import nncf
    import openvino

    model = openvino.Core().read_model(path)
    results = {result.input_value(0).get_any_name(): result for result in model.get_results()}
    # Not by `nncf.Subgraph`, which follows every single path: there are too many in a residual network.
    reading = {node.get_friendly_name() for node in _nodes_before(results[READ])} if READ in results else set()
    last = {name for output in results.keys() - {READ, "score_map"} for name in _last_convolutions(results[output])}
    with silence():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(photos, inputs),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(photos),
            # Layer after layer, on what those before it give: minutes longer, and what is read is closer to float32.
            fast_bias_correction=not reading,
            ignored_scope=nncf.IgnoredScope(names=sorted(reading | last)),
        )
    # The files are mapped into memory while they are read.
    written = path.with_name(f"{path.stem}_int8.xml")
    openvino.save_model(quantized, written, compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        written.with_suffix(suffix).replace(path.with_suffix(suffix))


def _nodes_before(result: Any) -> Iterator[Any]:
    """The nodes of a graph of OpenVINO that an output depends on, itself first, then the nearest ones."""
    todo, seen = [result], set()
    while todo:
        node = todo.pop(0)
        if node.get_friendly_name() not in seen:
            seen.add(node.get_friendly_name())
            yield node
            todo += [value.get_node() for value in node.input_values()]


def _last_convolutions(result: Any) -> list[str]:
    """Names of the `LAST` convolutions that are nearest to an output of a graph of OpenVINO."""
    convolutions = (node for node in _nodes_before(result) if "Convolution" in node.get_type_name())
    return [node.get_friendly_name() for node in islice(convolutions, LAST)]
