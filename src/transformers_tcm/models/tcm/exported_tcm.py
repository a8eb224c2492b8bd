"""Models whose network is a graph of ONNX or OpenVINO: they find and read as the models of torch do, without weights.

A folder that `transformers_tcm.export` wrote holds `detector.onnx` (or `detector.xml` with `detector.bin`), for a
spotter with a recogniser `recognizer.onnx`, where it has one `language_model.onnx`, and the configurations. What
surrounds the network, cutting out words and decoding, is that of the models.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import torch
from torch import nn

from .configuration_tcm import TCMConfig
from .heads import head_class
from .modeling_tcm import TCMDetector, TCMForTextDetection, TCMModelOutput, TCMPreTrainedModel
from .modeling_tcm_oriented import TCMForOrientedObjectDetection
from .modeling_tcm_spotting import TCMForTextSpotting
from .recognition.language_model import CharacterLanguageModel, LanguageModelConfig

__all__ = [
    "BACKENDS",
    "DETECTOR",
    "LANGUAGE_MODEL",
    "RECOGNIZER",
    "ExportedModel",
    "ExportedOrientedObjectDetection",
    "ExportedTextDetection",
    "ExportedTextSpotting",
    "Graph",
    "OnnxRuntimeGraph",
    "OpenVINOGraph",
    "is_exported",
    "load_exported",
]

DETECTOR, RECOGNIZER, LANGUAGE_MODEL = "detector", "recognizer", "language_model"

Tensors = dict[str, torch.Tensor]


class Graph(ABC):
    """A graph that is ready to be computed, on the processor and by as many threads as torch would take.

    Args:
        path: file of the graph.

    Raises:
        ImportError: without the package that computes it.
    """

    package: ClassVar[str]
    extra: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    # Names of the inputs that are uint8.
    byte_inputs: set[str]

    @abstractmethod
    def __init__(self, path: Path):
        super().__init__()

    @abstractmethod
    def __call__(self, **inputs: torch.Tensor) -> Tensors:
        """Outputs by name; inputs that the graph does not have are left out."""


class OnnxRuntimeGraph(Graph):
    """A graph of ONNX in onnxruntime."""

    package, extra, suffixes = "onnxruntime", "onnx", (".onnx",)

    def __init__(self, path: Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {entry.name for entry in self.session.get_inputs()}
        self.byte_inputs = {entry.name for entry in self.session.get_inputs() if entry.type == "tensor(uint8)"}
        self.outputs = [entry.name for entry in self.session.get_outputs()]

    def __call__(self, **inputs: torch.Tensor) -> Tensors:
        arrays = {name: tensor.cpu().numpy() for name, tensor in inputs.items() if name in self.inputs}
        found = self.session.run(self.outputs, arrays)
        return {name: torch.from_numpy(array) for name, array in zip(self.outputs, found, strict=True)}


@cache
def _openvino_core() -> Any:
    """The one core of OpenVINO for the graphs of this process.

    A core gives the thread a stack for signals and takes it away with itself: after two that end in the order they
    were made in, the thread is left with a stack that is no longer there, and the next signal with a handler, such as
    Ctrl+C or the end of a process while a `DataLoader` has workers, ends the process by a segmentation fault.
    """
    import openvino

    return openvino.Core()


class OpenVINOGraph(Graph):
    """A graph of OpenVINO, or of ONNX, in OpenVINO: in bfloat16 where the processor has instructions for it.

    Args:
        path: file of the graph.
        **settings: properties of the device, such as `INFERENCE_PRECISION_HINT="f32"`.
    """

    package, extra, suffixes = "openvino", "openvino", (".xml", ".onnx")

    def __init__(self, path: Path, **settings: Any):
        import openvino

        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY", **settings}
        self.compiled = _openvino_core().compile_model(path, "CPU", settings)
        self.inputs = {entry.any_name for entry in self.compiled.inputs}
        self.byte_inputs = {entry.any_name for entry in self.compiled.inputs if entry.element_type == openvino.Type.u8}

    def __call__(self, **inputs: torch.Tensor) -> Tensors:
        arrays = {name: tensor.cpu().numpy() for name, tensor in inputs.items() if name in self.inputs}
        found = self.compiled(arrays)
        # The arrays are those of the next call too.
        return {entry.any_name: torch.from_numpy(found[entry].copy()) for entry in self.compiled.outputs}


BACKENDS: dict[str, type[Graph]] = {"onnxruntime": OnnxRuntimeGraph, "openvino": OpenVINOGraph}


def graph_file(folder: Path, part: str, suffixes: tuple[str, ...]) -> Path | None:
    """The file of a part of an exported model, of the first of the suffixes that there is one of."""
    files = [folder / f"{part}{suffix}" for suffix in suffixes]
    return next((file for file in files if file.is_file()), None)


def is_exported(folder: str | os.PathLike[str]) -> bool:
    """Whether there is an exported model in a folder."""
    return any(graph_file(Path(folder), DETECTOR, graph.suffixes) for graph in BACKENDS.values())


def chosen_backend(folder: Path, backend: str | None) -> type[Graph]:
    """The class of graphs of a backend, by default of the first one that takes the files in a folder.

    Raises:
        ValueError: for an unknown backend, or one that does not take the files.
        ImportError: where it is not installed.
    """
    if backend is None:
        backend = next(name for name, graph in BACKENDS.items() if graph_file(folder, DETECTOR, graph.suffixes))
    if backend not in BACKENDS:
        raise ValueError(f"unknown `backend` {backend!r} for an exported model; choose one of {', '.join(BACKENDS)}")
    graph = BACKENDS[backend]
    if graph_file(folder, DETECTOR, graph.suffixes) is None:
        raise ValueError(
            f"{folder} holds no {DETECTOR}{' or '.join(graph.suffixes)}, which the backend {backend!r} takes; export "
            f"the model again with `transformers-tcm export {'onnx' if backend == 'onnxruntime' else backend}`"
        )
    try:
        __import__(graph.package)
    except ImportError as error:
        raise ImportError(
            f"the backend {backend!r} needs the package {graph.package!r}: "
            f"pip install 'transformers-tcm[{graph.extra}]'"
        ) from error
    return graph


@dataclass
class GraphOutput(TCMModelOutput):
    """What a graph gives in place of a `TCMModel`.

    Args:
        maps: those of the head by name, levels as `name.0`, `name.1`, ….
    """

    maps: Tensors | None = None


class GraphModel(nn.Module):
    """A graph of the whole detector in the place of the `TCMModel`."""

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph = graph

    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool = True,
    ) -> GraphOutput:
        """Images (B, 3, H, W), H and W multiples of 32, and masks (B, H, W) to the head's maps.

        Raises:
            ValueError: if states or attention weights are asked for, or for normalised images where the graph takes
                bytes, and the reverse.
        """
        if output_hidden_states or output_attentions:
            raise ValueError("an exported model gives neither hidden states nor attention weights; use its checkpoint")
        if pixel_mask is None:
            pixel_mask = torch.ones(pixel_values[:, 0].shape, dtype=torch.int64)
        maps = self.graph(pixel_values=self._taken(pixel_values), pixel_mask=pixel_mask.long())
        return GraphOutput(score_map=maps.pop("score_map", None), stem_features=maps.pop("features", None), maps=maps)

    def _taken(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Images in the type that the graph takes them in."""
        wants_bytes = "pixel_values" in self.graph.byte_inputs
        if wants_bytes != (pixel_values.dtype == torch.uint8):
            wanted, off = ("uint8, 0 … 255", "false") if wants_bytes else ("normalised floats", "true")
            raise ValueError(
                f"`pixel_values` are {pixel_values.dtype}, this graph takes {wanted}; make them of photos in uint8 "
                f"with the image processor of its folder, where do_rescale and do_normalize are {off}"
            )
        return pixel_values if wants_bytes else pixel_values.float()


class GraphLayer(nn.Module):
    """A graph of one input in the place of a layer."""

    def __init__(self, graph: Graph, input_name: str):
        super().__init__()
        self.graph, self.input_name = graph, input_name

    def forward(self, values: torch.Tensor, *others: Any) -> torch.Tensor:
        """(N, …) to (N, …), the graph's outputs side by side."""
        return torch.cat(list(self.graph(**{self.input_name: values}).values()), dim=-1)


class Columns(nn.Module):
    """Some of what the layer before has given, where that has done everything.

    Args:
        first, last: the columns from one up to another, `None` for all that follow.
    """

    def __init__(self, first: int, last: int | None):
        super().__init__()
        self.chosen = slice(first, last)

    def forward(self, values: torch.Tensor, *others: Any) -> torch.Tensor:
        """(N, …, columns) to fewer columns; what the classes are, for decoders that could be taught, makes no
        difference."""
        return values[..., self.chosen]


class GraphLanguageModel(CharacterLanguageModel):
    """The language model of a recogniser, or of a head that reads, whose network is a graph.

    Args:
        settings: of the recogniser or the head.
        graph: from contexts to logits.
    """

    def __init__(self, settings: Any, graph: Graph):
        with torch.device("meta"):
            super().__init__(LanguageModelConfig(**settings.language_model), settings.charset)
        self.network = GraphLayer(graph, "contexts")

    def forward(self, contexts: torch.Tensor) -> torch.Tensor:
        """See `CharacterLanguageModel.forward`: (M, W) to (M, S)."""
        logits: torch.Tensor = self.network(contexts)
        return logits


class GraphHead(nn.Module):
    """What is left of a head whose network is in a graph."""

    def __init__(self, config: TCMConfig):
        super().__init__()
        head = head_class(config.head_type)
        self.settings = config.head_settings
        self.decode, self.split, self.decoding_class = head.decode, head.split, head.decoding_class
        self.read = getattr(head, "read", None)
        self.language_model: GraphLanguageModel | None = None


class ExportedModel(TCMDetector):
    """A model in an exported folder, for inference on a processor.

    Args:
        config: its settings.
        folder: where the graphs are.
        backend: `"onnxruntime"` or `"openvino"`, by default what the files are for; see also `use`.

    Raises:
        ValueError: for a backend that does not take the files.
        ImportError: where it is not installed.
    """

    def __init__(self, config: TCMConfig, folder: str | os.PathLike[str], backend: str | None = None):
        # That of the network would build it.
        TCMPreTrainedModel.__init__(self, config)
        self._check_head(head_class(config.head_type))
        self.folder, self.name_or_path = Path(folder), str(folder)
        self.head = GraphHead(config)  # type: ignore[assignment]  # decodes, but has no network
        self.use(backend)

    def use(self, backend: str | None) -> Self:
        """Let a backend compute the graphs, in place; see `ExportedModel`."""
        graph = chosen_backend(self.folder, backend)
        self.backend = next(name for name, known in BACKENDS.items() if known is graph)
        self.model = GraphModel(self._open(graph, DETECTOR))
        super(TCMDetector, self).train(False)
        return self

    def _open(self, graph: type[Graph], part: str) -> Graph:
        file = graph_file(self.folder, part, graph.suffixes)
        if file is None:
            raise FileNotFoundError(f"{self.folder} lacks {part}{graph.suffixes[0]}; export the model again")
        return graph(file)

    @property
    def device(self) -> torch.device:
        """Where inputs are taken from and outputs are: the processor."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of inputs and outputs."""
        return torch.float32

    def to(self, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """The same: graphs stay where they are."""
        return self

    def optimize_for_inference(self, dtype: Any = None) -> Self:
        """The same: backends do that themselves."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode.

        Raises:
            ValueError: for training mode.
        """
        if mode:
            self._refuse("be trained")
        return self

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: there are no weights.

        Raises:
            ValueError: always.
        """
        self._refuse("be saved")

    def _refuse(self, purpose: str) -> NoReturn:
        raise ValueError(f"an exported model cannot {purpose}; use the checkpoint that {self.folder} was exported from")

    def _check_labels(self, labels: Any, pixel_values: torch.Tensor) -> None:
        if labels is not None:
            self._refuse("learn from labels")

    def _detect(self, outputs: Any, *args: Any) -> Any:
        return outputs.maps


class ExportedTextDetection(ExportedModel, TCMForTextDetection):
    """A `TCMForTextDetection` whose network is a graph."""


class ExportedOrientedObjectDetection(ExportedModel, TCMForOrientedObjectDetection):
    """A `TCMForOrientedObjectDetection` whose network is a graph."""


class ExportedTextSpotting(ExportedModel, TCMForTextSpotting):
    """A `TCMForTextSpotting` whose detector and recogniser are graphs; words are cut out between them."""

    def use(self, backend: str | None) -> Self:
        super().use(backend)
        self.recognizer, graph = None, BACKENDS[self.backend]
        settings = self.config.reading_settings
        language_model = None
        if getattr(settings, "language_model", None) is not None:
            language_model = GraphLanguageModel(settings, self._open(graph, LANGUAGE_MODEL))
        if self.config.recognizer_settings is None:
            self.head.language_model = language_model
            return self
        # Without memory: what is in there is replaced.
        with torch.device("meta"):
            recognizer = self._make_recognizer()
        assert recognizer is not None  # its settings are there
        recognizer.encoder = GraphLayer(self._open(graph, RECOGNIZER), "crops")
        classes = recognizer.settings.num_classes
        recognizer.decoder = Columns(0, classes)
        if recognizer.boundaries is not None:
            recognizer.boundaries = Columns(classes, None)
        recognizer.language_model = language_model
        self.recognizer = recognizer.eval()
        return self

    def _features(self, outputs: TCMModelOutput) -> torch.Tensor:
        assert outputs.stem_features is not None  # of the graph of a spotter
        return outputs.stem_features

    def _reading_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self._features(self.model(pixel_values))


_KINDS: Mapping[type, type[ExportedModel]] = {
    TCMForTextDetection: ExportedTextDetection,
    TCMForTextSpotting: ExportedTextSpotting,
    TCMForOrientedObjectDetection: ExportedOrientedObjectDetection,
}


def load_exported(
    folder: str | os.PathLike[str], kind: type[TCMDetector] = TCMForTextDetection, backend: str | None = None
) -> ExportedModel:
    """The exported model in a folder, as a kind of model that it can be: the detector of a spotter is one as well.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for another kind, or a backend that does not take the files.
        ImportError: where the backend is not installed.
    """
    if not is_exported(folder):
        raise FileNotFoundError(
            f"{folder} holds no exported model; "
            f"`transformers-tcm export onnx --model {folder} --output FOLDER` makes one"
        )
    config = TCMConfig.from_pretrained(folder)
    if kind is TCMForTextSpotting and not config.is_spotter:
        raise ValueError(f"{folder} is a text detector, which cannot read; expected an exported spotter")
    return _KINDS[kind](config, folder, backend)
