"""An exported folder: graphs, configuration, settings of the image processor with the charset, and a card."""

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..models.tcm.configuration_tcm import TCMConfig
from ..models.tcm.exported_tcm import Graph, OnnxRuntimeGraph, OpenVINOGraph
from ..models.tcm.modeling_tcm import TCMDetector
from ..saving import atomic_write
from .graphs import parts_of, prepared
from .onnx_graphs import OPSET, TOLERANCE, largest_difference, need_packages, write_onnx
from .openvino_graphs import to_openvino

__all__ = ["Exported", "export_onnx", "export_openvino"]

CARD = "README.md"
EXPORTED = "## Exported graphs"
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


def export_onnx(
    model: TCMDetector, image_processor: Any, folder: str | os.PathLike[str], card: str | None = None
) -> Exported:
    """Write a model as graphs of ONNX into a folder, which `pipeline(…, model=folder)` and `OnnxTextDetector` load.

    Detectors of all heads and heads that read become one graph, spotters with a recogniser two, the detector with the
    features that words are cut out of and the recogniser for crops; a language model is a third, small one. Images may
    have any number and any height and width that are multiples of 32.

    Args:
        model: detector or spotter; it stays as it is.
        image_processor: its image processor.
        folder: made where it does not exist; graphs that are there are replaced.
        card: Markdown of the model's card, whose front matter and sections are kept.

    Returns:
        What was written, and how far the outputs are off.

    Raises:
        ImportError: without the packages of the extra `onnx`.
        ValueError: if a part cannot be exported, or its outputs differ by more than the tolerance.
    """
    return _export(model, image_processor, folder, card, f"ONNX, opset {OPSET}", lambda path: OnnxRuntimeGraph(path))


def export_openvino(
    model: TCMDetector, image_processor: Any, folder: str | os.PathLike[str], card: str | None = None
) -> Exported:
    """Write a model as OpenVINO's intermediate representation; otherwise as `export_onnx`, through which it goes.

    Raises:
        ImportError: without the packages of the extra `openvino`.
        ValueError: if a part cannot be exported, or its outputs differ by more than the tolerance.
    """

    def convert(path: Path) -> OpenVINOGraph:
        converted = to_openvino(path)
        path.unlink()
        return OpenVINOGraph(converted, INFERENCE_PRECISION_HINT="f32")

    need_packages("openvino", "openvino")
    return _export(model, image_processor, folder, card, "OpenVINO", convert)


def _export(
    model: TCMDetector,
    image_processor: Any,
    folder: str | os.PathLike[str],
    card: str | None,
    form: str,
    finish: Callable[[Path], Graph],
) -> Exported:
    """Graphs of ONNX, finished in a form, compared, and what a folder needs besides."""
    source = prepared(model)
    with atomic_write(folder, GRAPH_FILES) as written:
        differences = {}
        for part in parts_of(source):
            difference = largest_difference(part, finish(write_onnx(part, written)))
            if difference > TOLERANCE:
                raise ValueError(
                    f"the {part.name} in {form} differs from torch by {difference:.1e}, more than {TOLERANCE}; "
                    "report it with the config.json of the model"
                )
            differences[part.name] = difference
        num_bytes = sum(file.stat().st_size for file in written.iterdir())
        write_settings(written, type(model).__name__, source.config, image_processor)
        (written / CARD).write_text(exported_card(card, form, differences, num_bytes), encoding="utf-8")
    return Exported(Path(folder), differences, num_bytes)


def write_settings(folder: Path, architecture: str, config: TCMConfig, image_processor: Any) -> None:
    """The configuration and the settings of the image processor, which name the charset even where it is ASCII."""
    config = copy.deepcopy(config)
    config.architectures, config.dtype = [architecture], torch.float32
    config.save_pretrained(folder)
    processor = copy.copy(image_processor.for_model(config))
    if config.is_spotter:
        processor.charset = (config.recognizer_settings or config.head_settings).charset
    processor.save_pretrained(folder)


def exported_card(card: str | None, form: str, differences: Mapping[str, float], num_bytes: int) -> str:
    """The card of a model with a section on its graphs before all others."""
    section = [
        EXPORTED,
        "",
        f"{form}, {num_bytes / 1e6:.1f} MB, for any number of images of any height and width that are multiples of 32:",
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
