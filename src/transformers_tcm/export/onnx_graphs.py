"""Graphs of ONNX by torch's exporter, of any height, width and number of images, and how far their outputs are off."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ..models.tcm.exported_tcm import DETECTOR, Graph
from .graphs import Part, Tensors

__all__ = ["OPSET", "REMEDY", "SIZES", "TOLERANCE", "largest_difference", "need_packages", "silence", "write_onnx"]

OPSET = 18
# Largest difference of an output, or where its values exceed 1 of a share of the largest.
TOLERANCE = 1e-4
# What the tests export, for those whose model is not among it.
REMEDY = (
    "Use the checkpoint with torch, or a model that can be exported: any head, prompting and recogniser of this package"
)
# Images, height and width that graphs are compared at.
SIZES = ((1, 64, 64), (2, 96, 160), (1, 224, 224), (3, 32, 256), (1, 320, 96))
WORDS = (1, 2, 8, 17, 33)


def write_onnx(part: Part, folder: Path) -> Path:
    """Write a part of a model as `NAME.onnx`, of opset `OPSET`, with its weights inside.

    Raises:
        ImportError: without the packages of the extra `onnx`.
        ValueError: if torch cannot export it.
    """
    need_packages("onnx", "onnx", "onnxscript", "onnxruntime")
    with silence(), torch.no_grad():
        try:
            # First, because the exporter of ONNX would make constants of sizes where this refuses to.
            traced = torch.export.export(part.module, (), part.inputs, dynamic_shapes=part.dynamic_shapes)
            program = torch.onnx.export(
                traced,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(part.inputs),
                output_names=part.outputs(),
                verbose=False,
            )
        except (torch._dynamo.exc.UserError, torch.onnx.errors.OnnxExporterError) as error:
            raise ValueError(
                f"torch {torch.__version__} cannot export the {part.name} for any size: {str(error).splitlines()[0]}. "
                f"{REMEDY}"
            ) from error
        assert program is not None  # of the exporter by dynamo
        path = folder / f"{part.name}.onnx"
        program.save(path, external_data=False)
    return path


def need_packages(extra: str, *names: str) -> None:
    """Raise `ImportError` that names the extra, unless all packages are installed."""
    missing = [name for name in names if sys.modules.get(name, sys) is None or find_spec(name) is None]
    if missing:
        raise ImportError(
            f"the export to {extra} needs the package {missing[0]!r}: pip install 'transformers-tcm[{extra}]'"
        )


@contextmanager
def silence() -> Iterator[None]:
    """No remarks of the exporter on operators of packages that are not there, nor on what will change in torch."""
    names = ("torch.onnx", "torch.onnx._internal", "onnxscript", "onnx_ir", "nncf", "")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def largest_difference(part: Part, graph: Graph) -> float:
    """How far outputs of a graph are from those of the module, at five sizes of random images or numbers of words.

    Args:
        part: the module, and what its inputs are.
        graph: what was made of it.

    Returns:
        The largest difference, of outputs beyond 1 as a share of their largest value.
    """
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for inputs in _examples(part, generator):
        with torch.no_grad():
            expected = part.module(**inputs)
        found = graph(**inputs)
        for name, values in expected.items():
            reference = values.double().numpy()
            scale = max(1.0, float(np.abs(reference).max(initial=0)))
            worst = max(worst, float(np.abs(reference - found[name].double().numpy()).max(initial=0)) / scale)
    return worst


def _examples(part: Part, generator: torch.Generator) -> Iterator[Tensors]:
    if part.name == DETECTOR:
        example = part.inputs["pixel_values"]
        for images, height, width in SIZES:
            mask = torch.ones(images, height, width, dtype=torch.int64)
            mask[-1, height - height // 8 :] = 0
            pixels = torch.randn(images, example.shape[1], height, width, generator=generator)
            if not example.is_floating_point():  # bytes that are about the same once they are normalised
                pixels = (64 * pixels + 128).clamp(0, 255).to(example.dtype)
            yield {"pixel_values": pixels, "pixel_mask": mask}
        return
    ((name, example),) = part.inputs.items()
    for words in WORDS:
        shape = (words, *example.shape[1:])
        random = torch.randn(shape, generator=generator)
        yield {name: random if example.is_floating_point() else torch.zeros(shape, dtype=example.dtype)}
