"""An exported folder: graphs, configuration, settings of the image processor with the charset, and a card."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..models.tcm.configuration_tcm import TCMConfig
from ..models.tcm.exported_tcm import DETECTOR, Graph, OnnxRuntimeGraph, OpenVINOGraph
from ..models.tcm.modeling_tcm import TCMDetector
from ..saving import atomic_write
from .graphs import PIXEL_TYPES, Part, parts_of, prepared
from .onnx_graphs import OPSET, REMEDY, TOLERANCE, largest_difference, need_packages, write_onnx
from .openvino_graphs import to_openvino
from .quantization import calibration_inputs, quantize_onnx, quantize_openvino

__all__ = ["FORMS", "Exported", "Form", "export_model"]

CARD = "README.md"
EXPORTED = "## Exported graphs"
PIXELS = {"float32": "in float32, normalised", "uint8": "in uint8, which it normalises itself"}
GRAPH_FILES = ("*.onnx", "*.xml", "*.bin")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        folder: where.
        differences: of each graph the largest difference from torch, see `largest_difference`.
        num_bytes: of all graphs.
    """

    folder: Path
    differences: Mapping[str, float]
    num_bytes: int

    def summary(self) -> str:
        """A line of figures for each graph, and one on the size."""
        lines = [f"{name}: differs from torch by at most {value:.1e}" for name, value in self.differences.items()]
        return "\n".join([*lines, f"{self.num_bytes / 1e6:.1f} MB in {self.folder}"])


@dataclass(frozen=True)
class Form:
    """A kind of graph.

    Args:
        title: what the card calls it.
        packages: that write it.
        convert: from the file of a graph of ONNX to that of this kind, in the place of the former.
        open: the file, to be compared with torch in float32.
        quantize: the file of a detector to int8, with photos and what makes inputs of one.
    """

    title: str
    packages: tuple[str, ...]
    convert: Callable[[Path], Path]
    open: Callable[[Path], Graph]
    quantize: Callable[[Path, Sequence[Any], Callable[[Any], Any]], None]


FORMS = {
    "onnx": Form(f"ONNX, opset {OPSET}", ("onnx", "onnxscript", "onnxruntime"), Path, OnnxRuntimeGraph, quantize_onnx),
    "openvino": Form(
        "OpenVINO",
        ("onnx", "onnxscript", "openvino", "nncf"),
        to_openvino,
        lambda path: OpenVINOGraph(path, INFERENCE_PRECISION_HINT="f32"),
        quantize_openvino,
    ),
}


def export_model(
    model: TCMDetector,
    image_processor: Any,
    folder: str | os.PathLike[str],
    form: str = "onnx",
    card: str | None = None,
    calibration: Sequence[Any] = (),
    pixel_type: str = "float32",
) -> Exported:
    """Write a model as graphs into a folder, which `pipeline(…, model=folder)` and `OnnxTextDetector` load.

    Detectors of all heads and heads that read become one graph, spotters with a recogniser two, the detector with the
    features that words are cut out of and the recogniser for crops; a language model is a third, small one. Images may
    have any number and any height and width that are multiples of 32.

    Args:
        model: detector or spotter; it stays as it is.
        image_processor: its image processor.
        folder: made where it does not exist; graphs that are there are replaced.
        form: `"onnx"` or `"openvino"`, which goes through ONNX.
        card: Markdown of the model's card, whose front matter and sections are kept.
        calibration: photos, as `load_image` takes them, that the detector is quantised to int8 with; 20 will do. The
            recogniser stays in float32.
        pixel_type: of the detector's `pixel_values`: `"float32"`, normalised by the image processor, or `"uint8"`, as
            they are, which the graph normalises. The image processor in the folder makes what the graph takes.

    Returns:
        What was written, and how far the outputs of the graphs in float32 are off.

    Raises:
        ImportError: without the packages of the extra.
        ValueError: for another form or pixel type, an image processor whose inputs the graph would not take or would
            normalise otherwise, if a part cannot be exported, or its outputs differ by more than the tolerance.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; expected one of {', '.join(FORMS)}")
    chosen, source = FORMS[form], prepared(model)
    image_processor = processor_for(image_processor, pixel_type)
    need_packages(form, *chosen.packages)
    with atomic_write(folder, GRAPH_FILES) as written:
        differences = {part.name: _write(part, written, chosen) for part in parts_of(source, pixel_type)}
        title = chosen.title
        if calibration:
            detector = next(path for path in written.iterdir() if path.stem == DETECTOR and path.suffix != ".bin")
            chosen.quantize(detector, calibration, calibration_inputs(image_processor))
            title += f", the detector in int8, calibrated on {len(calibration)} photos"
        num_bytes = sum(file.stat().st_size for file in written.iterdir())
        write_settings(written, type(model).__name__, source.config, image_processor)
        (written / CARD).write_text(exported_card(card, title, differences, num_bytes, pixel_type), encoding="utf-8")
    return Exported(Path(folder), differences, num_bytes)


def _write(part: Part, folder: Path, form: Form) -> float:
    """Write a part; how far it is off."""
    path = form.convert(write_onnx(part, folder))
    try:
        difference = largest_difference(part, form.open(path))
    except Exception as error:  # engines have their own, for graphs that only fit the size they were traced at
        raise ValueError(
            f"the {part.name} in {form.title} does not compute all sizes: {str(error).splitlines()[0]}. {REMEDY}"
        ) from error
    if difference > TOLERANCE:
        raise ValueError(
            f"the {part.name} in {form.title} differs from torch by {difference:.1e}, more than {TOLERANCE}; report it "
            "with the config.json of the model"
        )
    return difference


def processor_for(image_processor: Any, pixel_type: str) -> Any:
    """An image processor that makes what a graph takes: the given one, or for bytes a copy that keeps them.

    Raises:
        ValueError: for an unknown type, or where the graph would not compute what the model does with this processor.
    """
    if pixel_type not in PIXEL_TYPES:
        raise ValueError(f"unknown pixel type {pixel_type!r}; expected one of {', '.join(PIXEL_TYPES)}")
    if pixel_type == "float32":
        if image_processor.makes_bytes:
            raise ValueError(
                "the image processor neither rescales nor normalises, so the model takes uint8: export it with the "
                "pixel type 'uint8'"
            )
        return image_processor
    if not (image_processor.makes_bytes or image_processor.normalizes_as_clip):
        raise ValueError(
            "a graph of uint8 normalises as CLIP does, and this image processor otherwise (do_rescale, rescale_factor, "
            "do_normalize, image_mean, image_std); export the model with the pixel type 'float32'"
        )
    bytes_only = copy.copy(image_processor)
    bytes_only.do_rescale = bytes_only.do_normalize = False
    return bytes_only


def write_settings(folder: Path, architecture: str, config: TCMConfig, image_processor: Any) -> None:
    """The configuration and the settings of the image processor, which name the charset even where it is ASCII."""
    config = copy.deepcopy(config)
    config.architectures, config.dtype = [architecture], torch.float32
    config.save_pretrained(folder)
    processor = copy.copy(image_processor.for_model(config))
    if config.is_spotter:
        processor.charset = (config.recognizer_settings or config.head_settings).charset
    processor.save_pretrained(folder)


def exported_card(
    card: str | None, title: str, differences: Mapping[str, float], num_bytes: int, pixel_type: str
) -> str:
    """The card of a model with a section on its graphs before all others."""
    section = [
        EXPORTED,
        "",
        f"{title}, {num_bytes / 1e6:.1f} MB. The detector takes `pixel_values` {PIXELS[pixel_type]}: any number of "
        "images of any height and width that are multiples of 32.",
        "",
        "```python",
        "from transformers_tcm import OnnxTextDetector, OnnxTextSpotter",
        "```",
        "",
        "| Graph | largest difference from torch in float32 |",
        "| --- | --- |",
        *(f"| {name} | {difference:.1e} |" for name, difference in differences.items()),
        "",
        "",
    ]
    text = card or "# Exported model\n\n"
    start = text.find("\n## ")
    place = len(text) if start < 0 else start + 1
    return text[:place] + "\n".join(section) + text[place:]
