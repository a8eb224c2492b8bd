"""`transformers-tcm export`: a model as graphs of ONNX or OpenVINO."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .support import find_images, prepare_transformers, task_of, usage_errors

__all__ = ["export"]


def export(
    form: Annotated[Literal["onnx", "openvino"], typer.Argument(metavar="FORMAT", help="onnx or openvino.")],
    model: Annotated[str, typer.Option(help="Folder or Hub name of a model, or the name of a bundled one.")],
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the exported model.")],
    int8: Annotated[
        list[str] | None, typer.Option(metavar="PHOTOS", help="Files, folders or patterns of photos to calibrate with.")
    ] = None,
    pixel_type: Annotated[
        Literal["float32", "uint8"],
        typer.Option(help="Of the detector's input: normalised pixels, or bytes, which the graph normalises."),
    ] = "float32",
) -> None:
    """Export a model to graphs of ONNX or OpenVINO, which run without its weights.

    The folder holds detector.onnx (or .xml and .bin), for a spotter with a recogniser also recognizer.onnx and where it
    has a language model language_model.onnx, config.json, preprocessor_config.json with the thresholds and the charset,
    and the card. Images may have any size. Every graph is compared with the model at five sizes; a difference of more
    than 0.0001 is an error.

    With --int8 the detector is then quantised: static QDQ for onnx, NNCF for openvino, with the ranges of activations
    on these photos, of which 20 like those to come will do. It gets smaller and faster; evaluate what that costs.

    With --pixel-type uint8 pixel_values are the bytes of the resized photo, and preprocessor_config.json says so.

    The folder is for --model of the other commands, for pipeline(…, model=FOLDER) and for OnnxTextDetector(FOLDER). The
    format onnx needs the packages of transformers-tcm[onnx], openvino those of transformers-tcm[openvino].

    \b
    Examples:
      transformers-tcm export onnx --model fasttcm-dbnet-tiny --output exported
      transformers-tcm export openvino --model my_detector --output small --int8 photos/
      transformers-tcm export onnx --model fasttcm-dbnet-tiny --output bytes --pixel-type uint8
      transformers-tcm detect photo.jpg --model exported
      transformers-tcm detect photo.jpg --model exported --backend openvino
    """
    photos, unknown = find_images(int8 or [])
    if unknown:
        raise typer.Exit(2)
    with usage_errors():
        from transformers import AutoImageProcessor

        from ..export import export_model
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
        text = card.read_text(encoding="utf-8") if card.is_file() else None
        exported = export_model(source, processor, output, form, text, photos, pixel_type)
    typer.echo(exported.summary())
