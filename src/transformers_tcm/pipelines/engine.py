"""Which engine computes the model of a pipeline: torch, or a backend of exported models."""

from typing import Any

from ..models.tcm.exported_tcm import BACKENDS, ExportedModel, is_exported, load_exported

__all__ = ["TORCH", "with_backend"]

TORCH = "torch"


def with_backend(model: Any, backend: str | None, kind: type) -> Any:
    """The model for a pipeline of models of a kind, computed by a backend; as it is where none is asked for.

    Raises:
        ValueError: for an unknown backend, or one that cannot compute the model.
    """
    if backend is None:
        return model
    if backend not in (TORCH, *BACKENDS):
        raise ValueError(f"unknown `backend` {backend!r}; choose one of {', '.join((TORCH, *BACKENDS))}")
    if isinstance(model, ExportedModel):
        if backend == TORCH:
            raise ValueError(f"{model.folder} is an exported model without weights; leave `backend` out")
        return model if model.backend == backend else model.use(backend)
    if backend == TORCH:
        return model
    folder = getattr(model, "name_or_path", None)
    if folder and is_exported(folder):
        return load_exported(folder, kind, backend)
    name = "onnx" if backend == "onnxruntime" else backend
    raise ValueError(
        f"the backend {backend!r} computes exported models, and {folder or 'this model'} is none: first run "
        f"`transformers-tcm export {name} --model {folder or 'MODEL'} --output FOLDER`, then take that folder"
    )
