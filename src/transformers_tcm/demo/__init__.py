"""The demo: a page in the browser that finds and reads text in photos. `transformers-tcm demo` starts it.

A photo's road: `photos` opens what was uploaded, `finder` runs a pipeline whose `memory` keeps what the network gave,
so that other thresholds only decode again, `pictures` draws, and `page` is what the browser shows. Only `page` needs
Gradio, of the extra `demo`.
"""

from typing import Any

__all__ = ["launch_demo"]

_REMEDY = 'the demo needs Gradio, which is not installed: pip install "transformers-tcm[demo]"'


def launch_demo(
    model: str | None = None,
    objects_model: str | None = None,
    device: str | None = None,
    size: int | None = None,
    **options: Any,
) -> Any:
    """Serve the demo; returns when it is interrupted, unless Gradio is told otherwise.

    Args:
        model: folder or Hub name of a detector or spotter; `None` takes both bundled models.
        objects_model: of a detector of oriented objects, for the second tab; none is bundled.
        device: such as `"cuda:0"`; `None` takes the fastest there is.
        size: longest edge in pixels at which photos are read; `None` takes that of each model.
        **options: arguments of `gradio.Blocks.launch`, such as `server_name`, `server_port` and `inbrowser`.

    Returns:
        What `launch` returns.

    Raises:
        ImportError: without Gradio, with the command that installs it.
        OSError: if there is no such model, or the port is taken.
        ValueError, TypeError: for a model of another kind.
    """
    try:
        from .page import build_page, launch_options
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ImportError(_REMEDY) from error
    from .finder import Finder, text_finders

    finders = text_finders(model, device, size)
    objects = objects_model and Finder("oriented-object-detection", objects_model, device, size)
    return build_page(finders, objects or None).launch(**{**launch_options(), **options})
