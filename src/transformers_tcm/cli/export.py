"""`transformers-tcm export`: a model as graphs of ONNX or OpenVINO."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .support import prepare_transformers, task_of, usage_errors

__all__ = ["export"]


def export(
    form: Annotated[Literal["onnx", "openvino"], typer.Argument(metavar="FORMAT", help="onnx or openvino.")],
    model: Annotated[str, typer.Option(help="Folder or Hub name of a model, or the name of a bundled one.")],
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the exported model.")],
) -> None:
    """Export a model to graphs of ONNX or OpenVINO, which run without its weights.

    The folder holds detector.onnx (or .xml and .bin), for a spotter with a recogniser also recognizer.onnx and where it
    has a language model language_model.onnx, config.json, preprocessor_config.json with the thresholds and the charset,
    and the card. Images may have any size. Every graph is compared with the model at five sizes; a difference of more
    than 0.0001 is an error.

    The folder is for --model of the other commands, for pipeline(…, model=FOLDER) and for OnnxTextDetector(FOLDER). The
    format onnx needs the packages of transformers-tcm[onnx], openvino those of transformers-tcm[openvino].

    \b
    Examples:
      transformers-tcm export onnx --model fasttcm-dbnet-tiny --output exported
      transformers-tcm detect photo.jpg --model exported
      transformers-tcm detect photo.jpg --model exported --backend openvino
    """
    with usage_errors():
        from transformers import AutoImageProcessor

        from ..export import export_onnx, export_openvino
        from ..models.auto import (
            AutoModelForOrientedObjectDetection,
            AutoModelForTextDetection,
            AutoModelForTextSpotting,
        )
        from ..models.bundled import folder_of_bundled

        prepare_transformers()
        loaders = {
            "detection": AutoModelForTextDetection,
            "spotting": AutoModelForTextSpotting,
            "oriented": AutoModelForOrientedObjectDetection,
        }
        source = loaders[task_of(model)].from_pretrained(model)
        processor = AutoImageProcessor.from_pretrained(model)
        card = Path(folder_of_bundled(model)) / "README.md"
        write = {"onnx": export_onnx, "openvino": export_openvino}[form]
        exported = write(source, processor, output, card.read_text(encoding="utf-8") if card.is_file() else None)
    typer.echo(exported.summary())
