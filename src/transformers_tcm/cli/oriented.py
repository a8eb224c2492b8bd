"""Commands for oriented objects: `split-dota`, `detect-objects` and `merge-dota`; `evaluate --task oriented`."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from tqdm import tqdm

from ..images import load_image
from ..instances import OrientedInstances
from ..text_files import read_text
from .decoding import parse_decoding
from .support import complain, find_images, load_pipeline, usage_errors

if TYPE_CHECKING:
    from ..evaluation.oriented import DotaEvaluationResult

__all__ = ["detect_objects", "evaluate_objects", "merge_dota", "split_dota"]

RESULTS = "results.jsonl"


def split_dota(
    images: Annotated[Path, typer.Argument(help="Folder of the large images.")],
    annotations: Annotated[Path | None, typer.Option(help="Folder labelTxt; none for images without labels.")] = None,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the patches.")] = Path("patches"),
    size: Annotated[list[int] | None, typer.Option(min=64, help="Side of a patch. [default: 1024]")] = None,
    gap: Annotated[list[int] | None, typer.Option(min=0, help="What neighbours share. [default: 200]")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Cut large aerial images, and their labels in the form of DOTA, into overlapping patches.

    Patches are called IMAGE__SIZE__X___Y.png, as by the released tools, and go to OUTPUT/images, their labels to
    OUTPUT/labelTxt. An object belongs to every patch that holds 70 % of it, whole, and is marked as difficult (2)
    where the patch cuts it off. Several --size, each with its --gap, give patches of several scales.

    What is there already is left alone: a run that was interrupted goes on.

    \b
    Examples:
      transformers-tcm split-dota DOTA/train/images --annotations DOTA/train/labelTxt --output patches/train
      transformers-tcm split-dota DOTA/test/images --output patches/test --workers 8
    """
    with usage_errors():
        from ..data.patches import PatchSettings, split_images

        settings = PatchSettings(sizes=tuple(size or (1024,)), gaps=tuple(gap or (200,)))
        done = 0
        patches = 0
        # `None` shows the bar on a terminal only.
        for _, written in tqdm(
            split_images(images, annotations, output, settings, workers), unit="image", disable=None
        ):
            done, patches = done + 1, patches + written
    typer.echo(f"{patches} new patches of {done} images in {output}")


def detect_objects(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Files, folders of images, or patterns.")],
    model: Annotated[str, typer.Option(help="Folder or Hub name of a detector of oriented objects.")],
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the results.")] = Path("objects"),
    form: Annotated[Literal["jsonl", "dota"], typer.Option("--format", help="See above.")] = "jsonl",
    draw: Annotated[bool, typer.Option(help="Also write NAME_objects.png, the picture with its objects.")] = False,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score at a location.")] = None,
    decoding: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Any setting of the head's decoding.")
    ] = None,
    tile: Annotated[int | None, typer.Option(min=64, help="Cut images into tiles of this side, such as 1024.")] = None,
    tile_overlap: Annotated[int | None, typer.Option(min=0, help="What neighbours share, such as 200.")] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:0. [default: the fastest there is]")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")] = False,
) -> None:
    """Find oriented objects in images, such as those of satellites, and write where they are.

    \b
      jsonl  results.jsonl: a line for each image, with polygons, scores and labels
      dota   Task1_CLASS.txt for each class, and Task1.zip, as DOTA's server takes them

    Results of patches are for merge-dota, which makes them results of the full images; with --tile full images are cut
    and put together in memory.

    An image that cannot be read is reported and left out; the exit code is then 1.

    \b
    Examples:
      transformers-tcm detect-objects harbor.png --model my_detector --tile 1024 --tile-overlap 200 --draw
      transformers-tcm detect-objects patches/val/images --model my_detector --output found
    """
    paths, failures = find_images(images)
    if paths:
        with usage_errors():
            settings = {"threshold": threshold, "tile": tile, "tile_overlap": tile_overlap}
            settings |= parse_decoding(decoding or [])
            detector: Any = load_pipeline("oriented-object-detection", model, device, settings)
            output.mkdir(parents=True, exist_ok=True)
        found, failed = _find(detector, paths, output, draw, quiet)
        failures += failed
        if form == "dota":
            from ..data.patches import write_task1

            write_task1(output, found, detector.model.config.id2label)
        if not quiet:
            total = sum(len(objects) for _, objects in found)
            typer.echo(f"{total} objects in {len(found)} of {len(paths)} images; results in {output}")
    if failures:
        raise typer.Exit(1)


def _find(
    detector: Any, paths: list[Path], output: Path, draw: bool, quiet: bool
) -> tuple[list[tuple[str, OrientedInstances]], int]:
    """Name and objects of each image, also as JSON lines in the folder, and how many images failed."""
    config, found, failures = detector.model.config, [], 0
    with (output / RESULTS).open("w", encoding="utf-8") as results:
        for path in tqdm(paths, unit="image", disable=True if quiet else None):
            try:
                objects = detector(path)
                results.write(json.dumps({"image": path.name, **_columns(objects)}) + "\n")
                found.append((path.stem, OrientedInstances.from_detections(objects, config.label2id)))
                if draw:
                    _draw(path, objects, config.id2label, output)
            # Whatever is wrong with one image must not cost the results of the others.
            except Exception as error:
                complain(error if str(path) in str(error) else f"{path}: {str(error) or type(error).__name__}")
                failures += 1
    return found, failures


def _columns(objects: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    names = {"polygons": "polygon", "scores": "score", "labels": "label"}
    return {column: [one[name] for one in objects] for column, name in names.items()}


def _draw(path: Path, objects: Sequence[dict[str, Any]], id2label: dict[int, str], output: Path) -> None:
    from ..visualization.objects import draw_objects

    draw_objects(load_image(path), objects, id2label).save(output / f"{path.stem}_objects.png")


def merge_dota(
    results: Annotated[Path, typer.Argument(help="Folder that detect-objects wrote for patches, or its JSON lines.")],
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the results of the full images.")] = Path(
        "merged"
    ),
    nms_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Largest IoU of two objects of a class that are both kept.")
    ] = 0.1,
) -> None:
    """Make results of DOTA's full images from those of their patches: Task1_CLASS.txt for each class, and Task1.zip.

    Detections move back by the place of their patch, which its name tells; of those that overlap, class by class, the
    best one stays. The zip is what DOTA's evaluation server takes; `evaluate --task oriented --detections` takes the
    folder.

    \b
    Examples:
      transformers-tcm merge-dota found --output merged
    """
    with usage_errors():
        from ..data.patches import write_task1
        from ..data.splitting import merge_patches

        rows = list(_rows(results / RESULTS if results.is_dir() else results))
        names = sorted({name for row in rows for name in row["labels"]})
        if not rows or not names:
            raise ValueError(f"{results} holds no objects to merge")
        patches = [
            (
                Path(row["image"]).stem,
                np.array(row["polygons"], np.float32).reshape(-1, 4, 2),
                np.array(row["scores"], np.float64),
                np.array([names.index(name) for name in row["labels"]], np.int64),
            )
            for row in rows
        ]
        merged = merge_patches(patches, nms_threshold)
        found = [
            (image, OrientedInstances(list(one.quads), scores=one.scores, labels=one.labels))
            for image, one in merged.items()
        ]
        archive = write_task1(output, found, dict(enumerate(names)))
    typer.echo(f"{sum(len(one) for _, one in found)} objects in {len(found)} images; {archive}")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                _ = row["image"], row["polygons"], row["scores"], row["labels"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: no result of detect-objects ({error!r})") from error
            yield row


def evaluate_objects(
    images: Path, annotations: Path, model: str | None, detections: Path | None, settings: dict[str, Any], device: Any
) -> "DotaEvaluationResult":
    """Average precision of a model, or of what was found before, in images with labels in the form of DOTA.

    Args:
        images: folder.
        annotations: folder `labelTxt`.
        model: folder or name; `None` with `detections`.
        detections: folder of `Task1_CLASS.txt`; `None` with `model`.
        settings: arguments of the pipeline.
        device: of the model.

    Raises:
        ValueError: unless exactly one of `model` and `detections` is given.
    """
    from ..data.objects import row_to_objects
    from ..data.readers import load_dota
    from ..evaluation.oriented import DotaEvaluation

    if (model is None) == (detections is None):
        raise ValueError("give either --model, or --detections with the folder of Task1_CLASS.txt")
    if detections is not None:
        names, detect = _found_before(detections, annotations)
    else:
        detector: Any = load_pipeline("oriented-object-detection", model, device, settings)
        config = detector.model.config
        names = list(config.id2label.values())

        def detect(path: Path) -> OrientedInstances:
            return OrientedInstances.from_detections(detector(path), config.label2id)

    metric = DotaEvaluation(names)
    paths = {path.name: path for path in images.iterdir()}
    rows = load_dota(images, annotations, names).remove_columns("image")
    for row in tqdm(rows, unit="image", disable=None):
        metric.update(row_to_objects(row), detect(paths[row["image_id"]]))
    return metric.compute()


def _found_before(detections: Path, annotations: Path) -> tuple[list[str], Callable[[Path], OrientedInstances]]:
    """Names of the classes in result files and labels, and what gives the objects found in an image."""
    from ..data.patches import read_task1

    found, names = read_task1(detections)
    others = [name for name in _label_names(annotations) if name not in names]
    nothing = OrientedInstances([], scores=np.zeros(0), labels=np.zeros(0, np.int64))
    return [*names, *others], lambda path: found.get(path.stem, nothing)


def _label_names(annotations: Path) -> list[str]:
    from ..dota import parse_dota

    files = sorted(annotations.glob("*.txt"))
    return sorted({one.name for file in files for one in parse_dota(read_text(file))})
