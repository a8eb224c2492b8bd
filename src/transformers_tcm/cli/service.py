"""What `transformers-tcm serve` does, apart from its options."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import typer

from .support import load_pipeline, task_of

__all__ = ["load_service"]

# Modules of the extra `serve`.
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_TASKS = {"detection": "text-detection", "spotting": "text-spotting"}


def load_service(
    model: str | None,
    device: str | None,
    dtype: str | None,
    settings: dict[str, Any],
    limits: dict[str, int],
    batch_size: int,
) -> Callable[[str, int, bool], None]:
    """Load a model; returns what serves it at a host and a port, with warnings only or all messages, until a signal.

    Raises:
        ImportError: without the packages of the extra `serve`.
        ValueError: for a model of another task, or settings or limits that cannot be.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"`serve` needs packages that are not installed ({', '.join(missing)}): "
            "pip install 'transformers-tcm[serve]'"
        )
    from ..models.bundled import DEFAULT_SPOTTER
    from ..serving.app import ROUTES, create_app
    from ..serving.limits import ServiceLimits
    from ..serving.server import run_server

    checked = ServiceLimits(**limits)
    kind = "spotting" if model is None else task_of(model)
    if kind not in _TASKS:
        raise ValueError(f"{model} finds oriented objects; `serve` takes detectors and spotters of text")
    task = _TASKS[kind]
    pipeline = load_pipeline(task, model, device, settings | ({"dtype": dtype} if dtype else {}))
    name = model or DEFAULT_SPOTTER
    app = create_app(pipeline, task, name, checked, batch_size)

    def run(host: str, port: int, quiet: bool) -> None:
        def announce(address: str) -> None:
            if not quiet:
                typer.echo(f"serving {name} at {address}{ROUTES[task]}; Ctrl-C or SIGTERM ends it")

        run_server(app, host, port, announce, "warning" if quiet else "info")

    return run
