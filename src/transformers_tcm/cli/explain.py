"""Commands that look into a model or an installation: `explain`, `context` and `env`."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from tqdm import tqdm

from ..images import load_image
from .result_files import refuse_to_replace, result_names
from .support import (
    complain,
    counted,
    find_images,
    load_pipeline,
    named_files,
    prepare_transformers,
    task_of,
    usage_errors,
)

__all__ = ["context", "env", "explain"]


def explain(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Files, folders of images, or patterns.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a detector or spotter. [default: the bundled detector]")
    ] = None,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the pictures.")] = Path("score_maps"),
    alpha: Annotated[float, typer.Option(min=0, max=1, help="0 shows the photo alone, 1 the score map alone.")] = 0.5,
    size: Annotated[int | None, typer.Option(min=1, help="Longer side in pixels to which images are resized.")] = None,
    tile: Annotated[
        int | None, typer.Option(min=64, help="Read large photos in tiles of this side, such as 1024.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:0. [default: the fastest there is]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace pictures that are in the folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")] = False,
) -> None:
    """Draw where a model sees text, as a heat map.

    The score map is what TCM makes of CLIP: how well each place of the photo, one for 32 x 32 pixels of the model's
    input, matches the learned prompt. The head that outlines the words starts from it, but can find more and less.
    The bar below the photo says which colour is which probability. The pictures are called NAME_score_map.png; those
    that are there already are replaced with --force only.

    An image that cannot be read is reported and left out; the exit code is then 1.

    \b
    Examples:
      transformers-tcm explain photo.jpg
      transformers-tcm explain photos/ --model my_detector --output score_maps --alpha 0.8
    """
    from ..visualization.drawing import overlay_score_map

    paths, failures = find_images(images)
    pictures = _pictures(paths, output)
    if paths:
        with usage_errors():
            if not force:
                refuse_to_replace(pictures.values())
            settings = {"size": size, "tile": tile, "output_score_maps": True}
            prepare_transformers()
            task = "text-spotting" if task_of(model) == "spotting" else "text-detection"
            detector = load_pipeline(task, model, device, settings)
            output.mkdir(parents=True, exist_ok=True)
    done = list[str]()
    # `None` shows the bar on a terminal only.
    for path, picture in tqdm(pictures.items(), unit="image", disable=True if quiet or len(paths) == 1 else None):
        try:
            image = load_image(path)
            overlay_score_map(image, detector(image)["score_map"], alpha, colorbar=True).save(picture)
            done.append(picture.name)
        # Whatever is wrong with one image must not cost the pictures of the others.
        except Exception as error:
            complain(error if str(path) in str(error) else f"{path}: {str(error) or type(error).__name__}")
            failures += 1
    if paths and not quiet:
        typer.echo(f"score maps of {len(done)} of {counted(len(paths), 'image')}{named_files(output, done)}")
    if failures:
        raise typer.Exit(1)


def _pictures(paths: list[Path], folder: Path) -> dict[Path, Path]:
    """The picture of each photo."""

    def picture(name: str) -> Path:
        return folder / f"{name}_score_map.png"

    return {path: picture(name) for path, name in result_names(paths, picture).items()}


def context(
    model: Annotated[str, typer.Argument(help="Folder or Hub name of a model with its text tower.")],
    count: Annotated[int, typer.Option(min=1, help="Tokens for each vector.")] = 5,
    distance: Annotated[
        Literal["euclidean", "cosine"], typer.Option(help="As in CoOp, or without regard to length.")
    ] = "euclidean",
) -> None:
    """Print the words nearest to the learned context.

    Before its prompt a model has learned vectors that no text stands for. The tokens of CLIP's vocabulary next to each
    of them, in the input of the text tower, hint at what it means. Compare their distances with that of the median
    token: where they hardly differ, a vector means no word. A token that ends no word ends in "-". In a model trained
    from scratch only the tokens of the prompt were trained, and the others are where chance put them.

    A fused model, as the bundled ones are, has no text tower any more: take the checkpoint from before the fusion.

    \b
    Examples:
      transformers-tcm context my_detector
      transformers-tcm context my_detector --count 10 --distance cosine
    """
    from ..explain import nearest_tokens

    with usage_errors():
        prepare_transformers()
        vectors = nearest_tokens(model, count, distance)
    for number, vector in enumerate(vectors, start=1):
        near = "  ".join(f"{token} {value:.3f}" for token, value in zip(vector.tokens, vector.distances, strict=True))
        typer.echo(f"{number}  {near}  (median {vector.median:.3f})")


def env() -> None:
    """Print what a bug report should say.

    Versions, platform, threads, precision and folders. It holds no secrets.

    \b
    Example:
      transformers-tcm env > environment.txt
    """
    from .environment import describe_environment

    facts = describe_environment()
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {value}")
