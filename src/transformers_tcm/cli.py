"""The command `transformers-tcm`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["app", "main"]

app = typer.Typer(help="Find text in photos with TCM and FastTCM.", no_args_is_help=True, add_completion=False)


@app.callback()
def _commands() -> None:
    """Find text in photos with TCM and FastTCM."""


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="CLIP ResNet (OpenAI or open_clip) or a released TCM-DBNet detector.")],
    output: Annotated[Path, typer.Argument(help="Folder for the converted model.")],
    config: Annotated[Path | None, typer.Option(help="JSON file with the settings that no tensor tells.")] = None,
    variant: Annotated[
        Literal["fasttcm", "tcm"] | None,
        typer.Option(help="Source of the language prompt; fasttcm for CLIP unless given."),
    ] = None,
    kind: Annotated[Literal["auto", "clip", "tcm"], typer.Option(help="What SOURCE is.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the parts that SOURCE lacks.")] = 0,
) -> None:
    """Convert a checkpoint into a folder that from_pretrained loads. Nothing in it is executed."""
    from .conversion import convert_checkpoint

    try:
        model = convert_checkpoint(source, output, config=config, variant=variant, kind=kind, seed=seed)
    except (OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    typer.echo(f"{output}: a {model.config.variant} detector with {millions:.1f} million parameters")


def main() -> None:
    """Entry point of the console script."""
    app()
