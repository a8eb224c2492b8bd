"""An exported folder: what is in it, and that it finds and reads as the weights do."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline
from typer.testing import CliRunner

from transformers_tcm import (
    AutoModelForTextSpotting,
    OnnxTextDetector,
    OnnxTextSpotter,
    TCMForTextDetection,
    TCMImageProcessorPil,
)
from transformers_tcm.cli import app
from transformers_tcm.export import export_model
from transformers_tcm.export import folder as exported_folder_module
from transformers_tcm.export.folder import FORMS
from transformers_tcm.export.graphs import DetectorGraph, parts_of, prepared
from transformers_tcm.export.onnx_graphs import SIZES, TOLERANCE, largest_difference, need_packages
from transformers_tcm.export.openvino_graphs import to_openvino
from transformers_tcm.export.quantization import calibration_inputs, quantize_onnx, quantize_openvino
from transformers_tcm.models.tcm import exported_tcm
from transformers_tcm.models.tcm.exported_tcm import ExportedTextSpotting, OnnxRuntimeGraph, load_exported
from transformers_tcm.models.tcm.recognition.reading import PRINTABLE_ASCII


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8))


@pytest.fixture(scope="module")
def spotter(spotter_folder: Path) -> Any:
    return AutoModelForTextSpotting.from_pretrained(spotter_folder).eval()


def assert_same_words(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.get("text") == other.get("text")
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert np.allclose(one["polygon"], other["polygon"], atol=0.01)


def test_folder_is_complete_and_has_no_weights(exported_folder):
    assert {path.name for path in exported_folder.iterdir()} == {
        "README.md",
        "config.json",
        "detector.onnx",
        "language_model.onnx",
        "modeling_tcm_hub.py",
        "preprocessor_config.json",
        "recognizer.onnx",
    }
    settings = json.loads((exported_folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert settings["head_type"] == "dbnet"
    assert (settings["box_threshold"], settings["text_threshold"]) == (0.55, 0.0)
    assert settings["charset"] == PRINTABLE_ASCII
    card = (exported_folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: mit\n---\n\n# Tiny\n\n## Exported graphs\n\nONNX, opset 18")
    assert card.endswith("## Use\n\nAs it is.\n")


def test_graphs_state_their_opset_and_free_axes(exported_folder):
    import onnx

    graph = onnx.load(exported_folder / "detector.onnx")
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [18]
    axes = {
        entry.name: [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim]
        for entry in graph.graph.input
    }
    assert axes["pixel_values"][1] == 3
    assert all(isinstance(axes["pixel_values"][axis], str) for axis in (0, 2, 3))
    assert all(isinstance(size, str) for size in axes["pixel_mask"])


def test_graphs_agree_with_torch_at_five_sizes(spotter, exported_folder):
    assert len(SIZES) == 5
    for part in parts_of(prepared(spotter)):
        assert largest_difference(part, OnnxRuntimeGraph(exported_folder / f"{part.name}.onnx")) <= TOLERANCE


def test_graphs_of_other_weights_are_told_apart(spotter, exported_folder):
    other = prepared(spotter)
    with torch.no_grad():
        other.head.probability[-1].bias.add_(0.01)
    detector = parts_of(other)[0]
    assert largest_difference(detector, OnnxRuntimeGraph(exported_folder / "detector.onnx")) > TOLERANCE


def test_export_leaves_the_model_as_it_is(spotter, spotter_folder):
    before = {name: tensor.clone() for name, tensor in spotter.state_dict().items()}
    assert prepared(spotter).config.fused
    assert not spotter.config.fused
    assert all(torch.equal(tensor, before[name]) for name, tensor in spotter.state_dict().items())


def test_exported_spotter_gives_the_outputs_of_the_model(spotter, exported_folder, photo):
    batch = TCMImageProcessorPil.from_pretrained(exported_folder)([photo, photo.rotate(180)])
    inputs = {name: batch[name] for name in ("pixel_values", "pixel_mask", "decoding", "text_threshold")}
    with torch.no_grad():
        expected = spotter(**inputs, output_turn_votes=True)
    found = load_exported(exported_folder, type(spotter))(**inputs, output_turn_votes=True)
    assert len(found.counts) >= 2
    for name in ("points", "counts", "char_logits", "sequences", "text_scores", "turn_votes", "score_map"):
        assert torch.allclose(found[name].double(), expected[name].double(), atol=1e-3), name


def test_graphs_of_openvino_share_one_core(monkeypatch):
    core = Mock()
    monkeypatch.setitem(sys.modules, "openvino", Mock(Core=Mock(side_effect=[core])))  # a second one is an error
    # A cache of its own: the core of the process is to stay.
    monkeypatch.setattr(exported_tcm, "_openvino_core", cache(exported_tcm._openvino_core.__wrapped__))
    core.compile_model.return_value = Mock(inputs=[])
    for name in ("detector", "recognizer"):
        exported_tcm.OpenVINOGraph(Path(f"{name}.xml"))
    assert [call.args[0].stem for call in core.compile_model.call_args_list] == ["detector", "recognizer"]


SIGNAL_AFTER_GRAPHS = """
import os, signal, sys
from pathlib import Path

from transformers_tcm.models.tcm.exported_tcm import OpenVINOGraph

graphs = [OpenVINOGraph(Path(file)) for file in sys.argv[1:]]
while graphs:
    graphs.pop(0)
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals as those of POSIX systems only")
def test_signals_are_handled_after_graphs_of_openvino_are_gone(exported_folder):
    pytest.importorskip("openvino")
    files = [str(exported_folder / f"{part}.onnx") for part in ("detector", "recognizer")]
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_AFTER_GRAPHS, *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_pipeline_with_a_backend_reads_as_the_one_of_torch(backend, spotter_folder, exported_folder, photo):
    pytest.importorskip(backend)
    exported = pipeline("text-spotting", model=str(exported_folder), backend=backend)
    assert isinstance(exported.model, ExportedTextSpotting)
    assert exported.model.backend == backend
    found, expected = exported(photo), pipeline("text-spotting", model=str(spotter_folder))(photo)
    if backend == "onnxruntime":
        assert_same_words(found, expected)
    else:  # in the precision of the processor
        assert np.allclose(found[0]["polygon"], expected[0]["polygon"], atol=1)


def test_detector_class_needs_nothing_but_the_folder(spotter_folder, exported_folder, photo):
    expected = pipeline("text-detection", model=str(spotter_folder))(photo)
    assert_same_words(OnnxTextDetector(exported_folder)(photo), expected)
    assert [len(found) for found in OnnxTextDetector(exported_folder, box_threshold=1.0)([photo, photo])] == [0, 0]


def test_spotter_class_reads_with_and_without_language_model(spotter_folder, exported_folder, photo):
    for settings in ({}, {"use_language_model": False}):
        expected = pipeline("text-spotting", model=str(spotter_folder))(photo, **settings)
        assert_same_words(OnnxTextSpotter(exported_folder)(photo, **settings), expected)


def test_command_detects_with_an_exported_model(exported_folder, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    arguments = ["detect", str(tmp_path / "photo.png"), "--model", str(exported_folder), "--backend", "onnxruntime"]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "photo.json").read_text(encoding="utf-8"))["instances"]


def test_backends_that_cannot_compute_a_model_name_the_remedy(spotter_folder, exported_folder):
    with pytest.raises(ValueError, match="transformers-tcm export onnx --model"):
        pipeline("text-spotting", model=str(spotter_folder), backend="onnxruntime")
    with pytest.raises(ValueError, match="unknown `backend` 'tensorrt'; choose one of torch, onnxruntime, openvino"):
        pipeline("text-spotting", model=str(exported_folder), backend="tensorrt")
    with pytest.raises(ValueError, match="without weights; leave `backend` out"):
        pipeline("text-spotting", model=str(exported_folder), backend="torch")
    with pytest.raises(FileNotFoundError, match="holds no exported model"):
        OnnxTextDetector(spotter_folder)


def test_exported_model_neither_trains_nor_saves(exported_folder, tmp_path):
    model = load_exported(exported_folder, TCMForTextDetection)
    with pytest.raises(ValueError, match="cannot be trained"):
        model.train()
    with pytest.raises(ValueError, match="cannot be saved"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="neither hidden states"):
        model(torch.zeros(1, 3, 32, 32), output_hidden_states=True)


def test_missing_package_of_the_export_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"needs the package 'onnxscript': pip install 'transformers-tcm\[onnx\]'"):
        need_packages("onnx", "onnxscript")


def quantised(
    folder: Path, copy: Path, quantize: Callable[..., None], file: str, photo: Image.Image
) -> OnnxTextDetector:
    """The detector in a copy of a folder, in int8."""
    shutil.copytree(folder, copy)
    quantize(copy / file, [photo, photo.rotate(180)], calibration_inputs(TCMImageProcessorPil.from_pretrained(folder)))
    return OnnxTextDetector(copy)


def test_detector_in_int8_is_smaller_and_finds_the_same(exported_folder, photo, tmp_path):
    import onnx

    detector = quantised(exported_folder, tmp_path / "int8", quantize_onnx, "detector.onnx", photo)
    operators = {node.op_type for node in onnx.load(tmp_path / "int8" / "detector.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operators
    found, expected = detector(photo), OnnxTextDetector(exported_folder)(photo)
    assert len(found) == len(expected) > 0
    assert np.allclose(found[0]["polygon"], expected[0]["polygon"], atol=2)
    assert found[0]["score"] == pytest.approx(expected[0]["score"], abs=0.05)


def test_what_the_recogniser_reads_is_not_rounded(exported_folder, photo, tmp_path):
    quantised(exported_folder, tmp_path / "int8", quantize_onnx, "detector.onnx", photo)
    inputs = dict(TCMImageProcessorPil.from_pretrained(exported_folder)(photo))
    rounded, exact = (
        OnnxRuntimeGraph(folder / "detector.onnx")(pixel_values=inputs["pixel_values"], pixel_mask=inputs["pixel_mask"])
        for folder in (tmp_path / "int8", exported_folder)
    )
    assert torch.equal(rounded["features"], exact["features"])
    assert not torch.equal(rounded["prob_map"], exact["prob_map"])


@pytest.fixture(scope="module")
def bytes_folder(spotter_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector as a graph that takes bytes."""
    folder = tmp_path_factory.mktemp("bytes") / "onnx"
    processor = TCMImageProcessorPil.from_pretrained(spotter_folder)
    export_model(TCMForTextDetection.from_pretrained(spotter_folder), processor, folder, pixel_type="uint8")
    return folder


def test_bytes_are_normalised_and_padded_as_by_the_image_processor(spotter, photo):
    photos = [photo, photo.resize((160, 160))]  # the first is padded below
    detector = DetectorGraph(prepared(spotter))
    floats = TCMImageProcessorPil.from_pretrained(spotter.name_or_path)(photos)
    pixels = TCMImageProcessorPil.from_pretrained(spotter.name_or_path, do_rescale=False, do_normalize=False)(photos)
    assert pixels["pixel_values"].dtype == torch.uint8
    pixels["pixel_values"][0, :, 96:] = 200  # whatever stands there
    with torch.no_grad():
        expected = detector(floats["pixel_values"], floats["pixel_mask"])
        found = detector(pixels["pixel_values"], pixels["pixel_mask"])
    for name in ("prob_map", "score_map", "features"):
        assert torch.allclose(found[name], expected[name], atol=1e-4), name


@pytest.mark.slow  # another export
def test_folder_of_bytes_says_so_and_finds_the_same(bytes_folder, exported_folder, photo):
    settings = json.loads((bytes_folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert (settings["do_rescale"], settings["do_normalize"]) == (False, False)
    assert "in uint8, which it normalises itself" in (bytes_folder / "README.md").read_text(encoding="utf-8")
    assert_same_words(OnnxTextDetector(bytes_folder)(photo), OnnxTextDetector(exported_folder)(photo))


@pytest.mark.slow  # another export
@pytest.mark.parametrize("floats", [True, False])
def test_pixels_of_the_other_type_name_the_image_processor(bytes_folder, exported_folder, photo, floats):
    taker, other = (bytes_folder, exported_folder) if floats else (exported_folder, bytes_folder)
    pixels = TCMImageProcessorPil.from_pretrained(other)(photo)["pixel_values"]
    with pytest.raises(ValueError, match="with the image processor of its folder, where do_rescale and do_normalize"):
        load_exported(taker, TCMForTextDetection)(pixel_values=pixels)


def test_image_processors_that_do_not_fit_the_pixel_type_are_errors(spotter, tmp_path):
    with pytest.raises(ValueError, match="unknown pixel type 'int4'; expected one of float32, uint8"):
        export_model(spotter, TCMImageProcessorPil(), tmp_path / "new", pixel_type="int4")
    with pytest.raises(ValueError, match="normalises as CLIP does"):
        export_model(spotter, TCMImageProcessorPil(image_mean=0.5), tmp_path / "new", pixel_type="uint8")
    raw = TCMImageProcessorPil(do_rescale=False, do_normalize=False)
    with pytest.raises(ValueError, match="export it with the pixel type 'uint8'"):
        export_model(spotter, raw, tmp_path / "new")


@pytest.mark.slow
def test_openvino_in_int8_finds_the_same(exported_folder, photo, tmp_path):
    pytest.importorskip("nncf")
    shutil.copytree(exported_folder, tmp_path / "openvino")
    for file in list((tmp_path / "openvino").glob("*.onnx")):
        to_openvino(file)
    detector = quantised(tmp_path / "openvino", tmp_path / "int8", quantize_openvino, "detector.xml", photo)
    assert "FakeQuantize" in (tmp_path / "int8" / "detector.xml").read_text(encoding="utf-8")
    assert len(detector(photo)) == len(OnnxTextDetector(exported_folder)(photo)) > 0


def test_graphs_that_do_not_compute_all_sizes_are_errors_that_name_what_can_be_exported(spotter, tmp_path, monkeypatch):
    def refuse(path: Path) -> OnnxRuntimeGraph:
        raise RuntimeError("Non-zero status code\nand more")

    monkeypatch.setattr(exported_folder_module, "write_onnx", lambda part, folder: folder / f"{part.name}.onnx")
    form = dataclasses.replace(FORMS["onnx"], open=refuse)
    with pytest.raises(
        ValueError,
        match=r"detector in ONNX, .* all sizes: Non-zero status code. .* any head, prompting and recogniser",
    ):
        exported_folder_module._write(parts_of(prepared(spotter))[0], tmp_path, form)


def test_unknown_forms_are_refused(spotter, tmp_path):
    with pytest.raises(ValueError, match="unknown form 'tensorrt'; expected one of onnx, openvino"):
        export_model(spotter, TCMImageProcessorPil(), tmp_path, "tensorrt")
