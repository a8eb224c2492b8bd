"""The command `transformers-tcm`."""

import json
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..lexicon import LexiconRule
from .data_sets import convert_dataset, list_datasets
from .decoding import parse_decoding
from .demo import demo
from .evaluation import (
    annotated_rows,
    evaluate_rows,
    judges_of,
    needs_words,
    reading_of,
    write_failure_report,
)
from .explain import context, env, explain
from .export import export
from .labels import import_labels, validate_dataset
from .oriented import detect_objects, evaluate_objects, merge_dota, split_dota
from .result_files import DetectionFormat, ResultWriter, SpottingFormat
from .service import load_service
from .support import (
    find_images,
    load_pipeline,
    prepare_transformers,
    reading_settings,
    run_on_images,
    task_of,
    usage_errors,
)

__all__ = ["app", "main"]

# Plain help and plain errors: they can be piped, and the examples keep their line breaks.
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# What several commands take.
Images = Annotated[list[str], typer.Argument(metavar="IMAGE", help="Files, folders of images, or patterns.")]
Output = Annotated[Path, typer.Option(file_okay=False, help="Folder for the results.")]
Size = Annotated[int | None, typer.Option(min=1, help="Longer side in pixels to which images are resized.")]
Threshold = Annotated[float | None, typer.Option(min=0, max=1, help="A pixel with a higher probability is text.")]
BoxThreshold = Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score of a detection.")]
UnclipRatio = Annotated[float | None, typer.Option(min=0, help="How far outlines grow beyond the cores.")]
MinSize = Annotated[float | None, typer.Option(min=0, help="Shortest side of a core in resized pixels.")]
Polygon = Annotated[bool | None, typer.Option(help="Outlines that follow curved text, or four corners.")]
Decoding = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Any setting of the head's decoding; can be given several times."),
]
TextThreshold = Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score of a reading.")]
LanguageModel = Annotated[bool, typer.Option(help="Prefer readings that are spelled like words.")]
LexiconFile = Annotated[Path | None, typer.Option(help="Text file with the words there can be, one a line.")]
Rule = Annotated[
    LexiconRule | None, typer.Option(help="How its words replace readings, see `spot --help`. [default: within]")
]
MaxDistance = Annotated[
    float | None, typer.Option(help="Edits must stay below this. [default: 1.5 for within, none for weighted]")
]
Tile = Annotated[int | None, typer.Option(min=64, help="Read large photos in tiles of this side, such as 1024.")]
Device = Annotated[str | None, typer.Option(help="Such as cpu or cuda:0. [default: the fastest there is]")]
Backend = Annotated[
    Literal["torch", "onnxruntime", "openvino"] | None,
    typer.Option(help="What computes the model; the last two take an exported one, see `export --help`."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no words and no summary.")]
Force = Annotated[bool, typer.Option("--force", help="Replace results that an earlier run left in the folder.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"transformers-tcm {__version__}")
        raise typer.Exit


@app.callback()
def _commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find and read text in photos with TCM and FastTCM.

    `transformers-tcm COMMAND --help` explains a command.

    \b
    Exit codes:
      0  all was done
      1  done but for what is reported, such as an image that cannot be read; or the labels have mistakes
      2  the command could not start: a wrong option, no such model, labels that cannot be read
    """


@app.command()
def detect(
    images: Images,
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a detector. [default: the bundled one]")
    ] = None,
    output: Output = Path("detections"),
    form: Annotated[DetectionFormat, typer.Option("--format", help="See above.")] = "json",
    draw: Annotated[bool, typer.Option(help="Also write NAME_text.png, the picture with its text outlined.")] = False,
    size: Size = None,
    threshold: Threshold = None,
    box_threshold: BoxThreshold = None,
    unclip_ratio: UnclipRatio = None,
    min_size: MinSize = None,
    polygon: Polygon = None,
    decoding: Decoding = None,
    tile: Tile = None,
    device: Device = None,
    backend: Backend = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Find the text in images and write where it is.

    What is not set comes from the model. How many regions of text there are is printed, and the files that were
    written: they are in the output folder, named after the images. Those of an earlier run are replaced with --force
    only.

    \b
      json   NAME.json: image, width, height, and the instances with score, box and polygon
      icdar  res_NAME.txt: a line x1,y1,x2,y2,... of whole pixels for each instance
      jsonl  results.jsonl: a line for each image, as the data loaders of this package read it

    Photos are made smaller to the size at which the model reads. With --tile they keep theirs (or have that of --size)
    and are read in overlapping squares, which takes longer the larger they are. Words at the seams appear once.

    An image that cannot be read is reported and left out; the exit code is then 1.

    \b
    Examples:
      transformers-tcm detect photo.jpg --draw
      transformers-tcm detect photos/ --output results --format icdar
      transformers-tcm detect panorama.jpg --tile 1024
      transformers-tcm detect "scans/**/*.png" --size 1600 --box-threshold 0.7 --polygon
    """
    settings: dict[str, Any] = {"size": size, "threshold": threshold}
    settings |= {"box_threshold": box_threshold, "unclip_ratio": unclip_ratio}
    paths, failures = find_images(images)
    if paths:
        with usage_errors():
            settings |= {"min_size": min_size, "polygon": polygon, "tile": tile, "backend": backend}
            settings |= parse_decoding(decoding or [])
            writer = ResultWriter(output, form, paths, draw, force)
            detector = load_pipeline("text-detection", model, device, settings)
            writer.prepare()
        failures += run_on_images(detector, writer, quiet)
    if failures:
        raise typer.Exit(1)


@app.command()
def spot(
    images: Images,
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a spotter. [default: the bundled one]")
    ] = None,
    output: Output = Path("words"),
    form: Annotated[SpottingFormat, typer.Option("--format", help="See above.")] = "json",
    draw: Annotated[bool, typer.Option(help="Also write NAME_text.png, the picture with its words.")] = False,
    lexicon: LexiconFile = None,
    lexicon_rule: Rule = None,
    max_distance: MaxDistance = None,
    text_threshold: TextThreshold = None,
    language_model: LanguageModel = True,
    size: Size = None,
    threshold: Threshold = None,
    box_threshold: BoxThreshold = None,
    unclip_ratio: UnclipRatio = None,
    min_size: MinSize = None,
    polygon: Polygon = None,
    decoding: Decoding = None,
    tile: Tile = None,
    device: Device = None,
    backend: Backend = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Find the text in images, read it, and write where it is and what it says.

    What is not set comes from the model. The words are printed in reading order: columns from left to right, lines from
    top to bottom. They are also in the output folder, in files named after the images, which are printed last. Those of
    an earlier run are replaced with --force only.

    \b
      json   NAME.json: image, width, height, and the instances with text, text_score, line, score, box and polygon
      icdar  res_NAME.txt: a line x1,y1,x2,y2,x3,y3,x4,y4,word for each instance, in whole pixels
      jsonl  results.jsonl: a line for each image, as the data loaders of this package read it
      text   NAME.txt: the lines of words, as they are printed

    A model with a language model prefers readings that are spelled like words; --no-language-model reads character by
    character, as suits codes and number plates.

    With a lexicon one of its words takes the place of each reading, and readings without one are left out:

    \b
      within    the nearest word, if its edit distance is below --max-distance
      nearest   the nearest word, however far
      weighted  the nearest word where edits cost less the less sure the reading is

    Photos are made smaller to the size at which the model reads. With --tile they keep theirs (or have that of --size)
    and are read in overlapping squares, which takes longer the larger they are. Words at the seams appear once.

    An image that cannot be read is reported and left out; the exit code is then 1.

    \b
    Examples:
      transformers-tcm spot photo.jpg --draw
      transformers-tcm spot photos/ --format text --output texts
      transformers-tcm spot photos/ --output results --format icdar --lexicon words.txt
      transformers-tcm spot panorama.jpg --tile 1024
      transformers-tcm spot photo.jpg --lexicon streets.txt --lexicon-rule nearest --text-threshold 0.5
    """
    settings: dict[str, Any] = {"size": size, "threshold": threshold}
    settings |= {"box_threshold": box_threshold, "unclip_ratio": unclip_ratio}
    paths, failures = find_images(images)
    if paths:
        with usage_errors():
            settings |= {"min_size": min_size, "polygon": polygon, "tile": tile, "backend": backend}
            settings |= parse_decoding(decoding or [])
            settings |= reading_settings(text_threshold, lexicon, lexicon_rule, max_distance, language_model)
            writer = ResultWriter(output, form, paths, draw, force)
            spotter = load_pipeline("text-spotting", model, device, settings)
            writer.prepare()
        failures += run_on_images(spotter, writer, quiet)
    if failures:
        raise typer.Exit(1)


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a detector or spotter. [default: the bundled spotter]")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 8000,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that are computed together at most.")] = 8,
    queue: Annotated[int, typer.Option(min=1, help="Requests at a time; further ones are refused with 429.")] = 32,
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest request; beyond that 413.")] = 20_000_000,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image, width x height; 413.")] = 40_000_000,
    lexicon: LexiconFile = None,
    lexicon_rule: Rule = None,
    max_distance: MaxDistance = None,
    text_threshold: TextThreshold = None,
    language_model: LanguageModel = True,
    size: Size = None,
    threshold: Threshold = None,
    box_threshold: BoxThreshold = None,
    unclip_ratio: UnclipRatio = None,
    min_size: MinSize = None,
    polygon: Polygon = None,
    decoding: Decoding = None,
    tile: Tile = None,
    device: Device = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="What the model computes with. [default: the fastest there is]"),
    ] = None,
    backend: Backend = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only.")] = False,
) -> None:
    """Serve a model over HTTP: images are posted, JSON comes back.

    \b
      POST /spot     (of a spotter) the words in an image: image, width, height and instances as `spot` writes them
      POST /detect   (of a detector) the same without words, as `detect` writes them
      GET  /healthz  200 while images are read
      GET  /metrics  for Prometheus
      GET  /docs     these, to try them

    An image is the body of the request or the file of a form, never an address. Requests that arrive while others are
    computed are computed together. What is refused says why: 413 too many bytes or pixels, 415 and 422 no image, 429
    too many requests at the moment.

    SIGTERM and Ctrl-C end the service after the requests it has accepted are answered. It has no passwords and no
    encryption: a proxy in front of it has. Needs the packages of transformers-tcm[serve].

    \b
    Examples:
      transformers-tcm serve
      transformers-tcm serve --model my_detector --box-threshold 0.6 --port 9000
      curl --data-binary @photo.jpg http://127.0.0.1:8000/spot
      curl -F image=@photo.jpg http://127.0.0.1:8000/spot
    """
    settings: dict[str, Any] = {"size": size, "threshold": threshold, "box_threshold": box_threshold}
    settings |= {"unclip_ratio": unclip_ratio, "min_size": min_size, "polygon": polygon, "tile": tile}
    with usage_errors():
        settings |= parse_decoding(decoding or []) | {"backend": backend}
        settings |= reading_settings(text_threshold, lexicon, lexicon_rule, max_distance, language_model)
        limits = {"queue": queue, "max_bytes": max_bytes, "max_pixels": max_pixels}
        run = load_service(model, device, dtype, settings, limits, batch_size)
        run(host, port, quiet)


@app.command()
def evaluate(
    images: Annotated[Path | None, typer.Option(help="Folder of photos, with --annotations.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Folder of gt_NAME.txt, ICDAR-2015 format.")] = None,
    include: Annotated[Path | None, typer.Option(help="Text file with the names of the photos to take.")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="Or a JSON-lines file of photos.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Or a public data set of `transformers-tcm datasets`.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where --dataset lies: its folder, or the one above it.")] = None,
    split: Annotated[str, typer.Option(help="Part of --dataset.")] = "test",
    protocol: Annotated[
        Literal["iou", "best-iou", "deteval", "pascal", "cleval", "e2e", "word-spotting"] | None,
        typer.Option(help="As figures on --dataset are published. [default: all by IoU that fit the task]"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Folder or Hub name of a model. [default: bundled]")] = None,
    task: Annotated[
        Literal["auto", "detection", "spotting", "oriented"],
        typer.Option(help="What to measure; auto takes it from the model."),
    ] = "auto",
    lexicon: Annotated[
        str | None, typer.Option(help="Text file with a word a line, or a lexicon of --dataset, see below.")
    ] = None,
    lexicon_rule: Rule = None,
    max_distance: MaxDistance = None,
    text_threshold: TextThreshold = None,
    language_model: LanguageModel = True,
    size: Size = None,
    threshold: Threshold = None,
    box_threshold: BoxThreshold = None,
    unclip_ratio: UnclipRatio = None,
    decoding: Decoding = None,
    tile: Tile = None,
    device: Device = None,
    backend: Backend = None,
    output: Annotated[Path | None, typer.Option(dir_okay=False, help="JSON file for totals and every image.")] = None,
    detections: Annotated[
        Path | None, typer.Option(help="Folder of Task1_CLASS.txt, of oriented objects, in place of a model.")
    ] = None,
    tile_overlap: Annotated[int | None, typer.Option(min=0, help="What tiles share, of oriented objects.")] = None,
    report: Annotated[Path | None, typer.Option(file_okay=False, help="Folder for a page of the failures.")] = None,
    report_images: Annotated[int, typer.Option(min=0, help="Photos on that page, the worst ones.")] = 30,
) -> None:
    """Compare a model with annotations: precision, recall and hmean.

    Detections count by the ICDAR-2015 protocol (IoU above 0.5). For a spotter there are also the figures end to end,
    where a word has to be read as well, and for word spotting, where only words of a dictionary count; neither looks at
    upper and lower case. With a lexicon all figures are those of the words that are left. The protocol and the rule of
    the lexicon stand beside every figure.

    \b
    --protocol names one of them, in the form in which figures on --dataset are published:
      iou            IoU above 0.5; on ctw1500 every line counts
      best-iou       the same at the best of seven thresholds, as in the papers; wants --box-threshold 0.3
      deteval        DetEval: icdar2013 and total-text, each by its own script
      pascal         total-text
      cleval         by characters, four corners each
      e2e            detection, and every word read: ICDAR's rule; on total-text that of word-spotting
      word-spotting  without short words and those with digits

    
    --lexicon names one of those published with --dataset, read from its own files; --lexicon-rule changes their rules:
      strong, weak  icdar2013 and icdar2015: within 2.5
      generic       of the same: nearest
      full          total-text and ctw1500: nearest
      none          none

    With --task oriented the labels are those of DOTA, NAME.txt for each image, and the figure is its average precision
    (Task 1, 11 points, IoU above 0.5) of each class and over all classes, of a model or of files found before.

    What is not set comes from the model: one fixed setting for all images.

    With --report there is also a page, index.html in that folder, that shows where the model fails: recall by the size
    of the words, kinds of failure, precision and recall over the scores, and the worst photos with what was missed,
    split, merged, made up or read wrongly. Every photo then goes through the model twice.

    \b
    Examples:
      transformers-tcm evaluate --images photos --annotations labels --include val.txt
      transformers-tcm evaluate --images photos --annotations labels --report failures
      transformers-tcm evaluate --jsonl photos.jsonl --model my_detector --output evaluation.json
      transformers-tcm evaluate --task oriented --images val/images --annotations val/labelTxt --detections merged
      transformers-tcm evaluate --jsonl photos.jsonl --task spotting --lexicon words.txt --lexicon-rule nearest
      transformers-tcm evaluate --dataset total-text --root /data/text --protocol deteval
      transformers-tcm evaluate --dataset icdar2015 --root /data/text --model my_spotter --protocol e2e --lexicon strong
    """
    settings: dict[str, Any] = {"size": size, "threshold": threshold}
    settings |= {"box_threshold": box_threshold, "unclip_ratio": unclip_ratio}
    with usage_errors():
        task = task_of(model) if task == "auto" else task
        if task == "oriented":
            settings = {"size": size, "threshold": threshold, "tile": tile, "tile_overlap": tile_overlap}
            settings |= {"backend": backend, **parse_decoding(decoding or [])}
            _evaluate_oriented(images, annotations, model, detections, settings, device, output)
            return
        judges = judges_of(task, protocol, dataset)
        public = None if dataset is None else (dataset, root, split)
        rows = annotated_rows(images, annotations, include, jsonl, needs_words(judges), public)
        reading = reading_of(
            lexicon,
            public,
            rows["image_id"],
            text_threshold=text_threshold,
            rule=lexicon_rule,
            max_distance=max_distance,
            language_model=language_model,
        )
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
        if report is not None:
            report.mkdir(parents=True, exist_ok=True)
        settings |= {**reading.settings, "tile": tile, "backend": backend, **parse_decoding(decoding or [])}
        pipeline = load_pipeline(f"text-{task}", model, device, settings)
        evaluation = evaluate_rows(pipeline, rows, judges, reading)
    typer.echo(evaluation.summary())
    if output is not None:
        output.write_text(json.dumps(evaluation.to_dict(), indent=1), encoding="utf-8")
    if report is not None:
        with usage_errors():
            page = write_failure_report(report, pipeline, rows, evaluation, settings, reading, report_images)
        typer.echo(f"failures shown in {page}")


def _evaluate_oriented(
    images: Path | None,
    annotations: Path | None,
    model: str | None,
    detections: Path | None,
    settings: dict[str, Any],
    device: str | None,
    output: Path | None,
) -> None:
    """`evaluate --task oriented`."""
    if images is None or annotations is None:
        raise ValueError("nothing to evaluate on: give --images and --annotations")
    result = evaluate_objects(images, annotations, model, detections, settings, device)
    for name, one in result.classes.items():
        if one.ground_truths:
            typer.echo(f"{name:<25}{one.average_precision:.4f}  {one.ground_truths} objects")
    typer.echo(f"{'mean over classes':<25}{result.mean_average_precision:.4f}")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result.to_dict(), indent=1), encoding="utf-8")


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="CLIP ResNet (OpenAI or open_clip), or a released TCM detector, TESTR or DeepSolo.")
    ],
    output: Annotated[Path, typer.Argument(help="Folder for the converted model.")],
    config: Annotated[Path | None, typer.Option(help="JSON file with the settings that no tensor tells.")] = None,
    prompting: Annotated[
        Literal["fasttcm", "tcm"] | None,
        typer.Option(help="Source of the language prompt; fasttcm for CLIP unless given."),
    ] = None,
    kind: Annotated[
        Literal["auto", "clip", "tcm", "oriented", "testr", "deepsolo"],
        typer.Option(help="What SOURCE is; auto looks at its tensors."),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of the parts that SOURCE lacks.")] = 0,
) -> None:
    """Convert a checkpoint of CLIP, TCM, TCM for DOTA, TESTR or DeepSolo to a model of transformers.

    \b
    clip      the CLIP ResNet of OpenAI or open_clip: a detector to be trained, whose prompts, decoders and head are new
    tcm       a released TCM detector with a DBNet, PAN or FCENet head: ready to find text
    oriented  a released TCM detector for DOTA: ready to find objects
    testr     a released TESTR: a spotter to be trained, with its head; the image encoder and all else are new
    deepsolo  a released DeepSolo: likewise

    Sizes come from the tensors. What they do not tell is in --config, such as {"text_heads": 8}: numbers of attention
    heads (attention_pool_heads, text_heads, decoder_heads), prompt, temperature, hidden_act, any other setting of
    TCMConfig, and image_processor with its own. A tensor that has no place, or is missing, is an error that names it.
    Nothing in SOURCE is executed. The folder is for from_pretrained, --model and the training scripts.

    \b
    Examples:
      transformers-tcm convert RN50.pt my_start
      transformers-tcm convert released.pth my_detector --config sizes.json
    """
    from ..conversion import convert_checkpoint

    with usage_errors():
        prepare_transformers()
        model = convert_checkpoint(source, output, config=config, prompting=prompting, kind=kind, seed=seed)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    kind_of_model = "spotter" if model.config.is_spotter else "detector"
    typer.echo(f"{output}: a {model.config.prompting} {kind_of_model} with {millions:.1f} million parameters")


app.command()(import_labels)
app.command()(validate_dataset)
app.command("datasets")(list_datasets)
app.command()(convert_dataset)
app.command()(split_dota)
app.command()(detect_objects)
app.command()(merge_dota)
app.command()(export)
app.command()(demo)
app.command()(explain)
app.command()(context)
app.command()(env)


def main() -> None:
    """Entry point of the console script."""
    # Words may hold letters that the terminal has not.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    app()
