"""The command `demo`."""

from typing import Annotated

import typer

from .support import prepare_transformers, usage_errors

__all__ = ["demo"]


def demo(
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a detector or spotter. [default: both bundled ones]")
    ] = None,
    objects_model: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a detector of oriented objects, for the second tab.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Longer side in pixels to which photos are resized.")] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:0. [default: the fastest there is]")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in, such as a phone.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="[default: the first free one from 7860]")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = False,
) -> None:
    """Find and read text in a page of the browser.

    Drop a photo, or use the camera: outlines and words are drawn, and can be copied and downloaded. Thresholds, a
    lexicon and the maps behind the result are beside it; they only decode again what the network gave.

    It needs the extra `demo`: pip install "transformers-tcm[demo]". The page is for this machine alone unless --host
    says otherwise, and has no password: do not leave it open to the internet. Ctrl+C ends it.

    \b
    Examples:
      transformers-tcm demo --browser
      transformers-tcm demo --host 0.0.0.0 --port 7860 --size 1024
      transformers-tcm demo --objects-model my_detector
    """
    from ..demo import launch_demo

    with usage_errors():
        prepare_transformers()
        launch_demo(
            model, objects_model, device, size, server_name=host, server_port=port, inbrowser=browser, quiet=False
        )
