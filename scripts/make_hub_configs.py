"""Write `hub_configs/`: everything of a published model's repository except its weights, its recipes, and
docs/reproduce.md.

    python scripts/make_hub_configs.py            # writes the folder
    python scripts/make_hub_configs.py --check    # says which files are not current; exit code 1 if there are any

The bundled models are copied from the package; the full-size ones have the settings that the papers, or the releases of
their heads, have for their benchmarks.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipe_files import commands_of, reproduction, write_recipes

from transformers_tcm import (
    TCMConfig,
    TCMForOrientedObjectDetection,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessor,
    bundled_model_path,
)
from transformers_tcm.hub.model_card import CardDetails, Publication, model_card
from transformers_tcm.models.tcm.heads import head_class

TARGET = Path(__file__).parents[1] / "hub_configs"
PAGE = TARGET.with_name("docs") / "reproduce.md"
BUNDLED = ["fasttcm-dbnet-tiny", "fasttcm-spotter-tiny"]
TEXT_THRESHOLD = 0.5


@dataclass
class Benchmark:
    """A data set that the papers train and test on.

    Args:
        title: its name.
        what: its photos and labels.
        num_context_tokens: learned tokens of the prompt.
        polygon: whether its text is curved.
    """

    title: str
    what: str
    num_context_tokens: int = 4
    polygon: bool = False


@dataclass
class Recipe:
    """How a head is trained and tested on a data set.

    Args:
        edges: shortest and longest edge of test images.
        optimizer: of the published training.
        crops: of the published training.
        batch: and its length.
        head: settings of the head that differ by data set.
    """

    edges: tuple[int, int]
    optimizer: str
    crops: str = "640 x 640, scaled by 0.5 to 3, turned by up to 10 degrees, mirrored"
    batch: str = "16 crops on each of 8 devices, 1,200 epochs"
    head: dict[str, Any] = field(default_factory=dict)


@dataclass
class Head:
    """A head that the papers put on TCM.

    Args:
        thresholds: this package's own, because the published ones were tuned on the test sets.
        recipes: by data set.
    """

    thresholds: dict[str, float]
    recipes: dict[str, Recipe]


BENCHMARKS = {
    "icdar2015": Benchmark("ICDAR 2015", "1,000 training and 500 test photos; quadrangles, word by word"),
    "totaltext": Benchmark(
        "Total-Text",
        "1,255 training and 300 test photos; polygons around curved words",
        num_context_tokens=32,
        polygon=True,
    ),
    "ctw1500": Benchmark(
        "CTW1500",
        "1,000 training and 500 test photos; polygons of 14 points around curved lines of text",
        num_context_tokens=32,
        polygon=True,
    ),
    "td500": Benchmark(
        "MSRA-TD500",
        "300 training and 200 test photos, and 400 of HUST-TR400 to train on; turned boxes around lines of text",
    ),
}
RANGER = "Ranger (RAdam with LookAhead and centralised gradients), 1e-3, no weight decay"
PAN_CROPS = "{0} x {0}, shorter edge {0} scaled by 0.7 to 1.3, turned by up to 10 degrees, mirrored"
FCENET_CROPS = "800 x 800, longer edge 800 scaled by 0.75 to 2.5, half of them turned by up to 30 degrees, mirrored"
UNKNOWN = "not on record"
FCENET = {"text_exponent": 1.2, "center_exponent": 1.0}
HEADS = {
    "dbnet": Head(
        {"threshold": 0.3, "box_threshold": 0.5, "unclip_ratio": 1.5},
        {
            "icdar2015": Recipe((1024, 4068), "Adam, 1e-4"),
            "totaltext": Recipe((800, 2944), "AdamW, 1e-4"),
            "ctw1500": Recipe((1024, 4068), "AdamW, 1e-4"),
            "td500": Recipe((736, 4068), RANGER),
        },
    ),
    "pan": Head(
        {"threshold": 0.5, "box_threshold": 0.6},
        {
            "icdar2015": Recipe((736, 1333), RANGER, PAN_CROPS.format(736), head={"kernel_ratio": 0.5}),
            "ctw1500": Recipe((640, 3000), RANGER, PAN_CROPS.format(640), head={"kernel_ratio": 0.7}),
        },
    ),
    "fcenet": Head(
        {"threshold": 0.3, "box_threshold": 0.3},
        {
            "icdar2015": Recipe(
                (2260, 2260),
                UNKNOWN,
                FCENET_CROPS,
                "1,800 epochs",
                {**FCENET, "ranges": [[0, 0.4], [0.3, 0.7], [0.6, 1]]},
            ),
            "totaltext": Recipe((960, 1280), UNKNOWN, FCENET_CROPS, "1,800 epochs", FCENET),
            "ctw1500": Recipe((736, 1080), UNKNOWN, FCENET_CROPS, "1,800 epochs", FCENET),
        },
    ),
}
# AP50 on DOTA-v1.0's test server of TCM with this head, single scale, trained on training and validation images.
PUBLISHED_AP50 = {"rotated_fcos": 75.1, "rotated_atss": 76.1, "rotated_retinanet": 70.99}
ORIENTED_DETAILS = """## Data

DOTA-v1.0: 2,806 aerial images with 188,282 objects of 15 classes; half of them to train on, a sixth to validate.

## Recipe

The published settings, as far as they are known:

| | |
| --- | --- |
| start | CLIP RN50; the text tower stays as it is |
| patches | 1024 x 1024, 200 pixels shared, of training and validation images together |
| augmentation | flips in width, height and both, a quarter of the patches each |
| optimiser | AdamW, 1e-4, weight decay 1e-4, gradients clipped at 0.1 |
| image encoder | 0.3 of the learning rate |
| length | 12 epochs, 4 patches on each device, a warm-up of 500 steps |

{commands}

## Results

| model | AP50, DOTA-v1.0 test server | source |
| --- | --- | --- |
| TCM, {display_name} (CR50) | {ap50} | README of `rotated_object_detection`, github.com/wenwenyu/TCM |
| this model | not reproduced here | |

The published model has learned context alone; this one is prompted by a meta query, with bimodal similarity matching
for each class (FastTCM), for which no figure is published.
"""
DETAILS = """## Data

{benchmark.title}: {benchmark.what}.

## Recipe

The published settings, as far as they are known:

| | |
| --- | --- |
| start | CLIP RN50; the text tower stays as it is |
| crops | {recipe.crops} |
| optimiser | {recipe.optimizer} |
| weight decay | 1e-4 unless stated otherwise, none for norms |
| schedule | polynomial decay with power 0.9 to 1e-7 |
| image encoder | a tenth of the learning rate |
| batch, length | {recipe.batch} |
| learned context | {benchmark.num_context_tokens} tokens |
| test images | shortest edge {recipe.edges[0]}, longest edge at most {recipe.edges[1]} |

{commands}

The thresholds above are not the published ones, which were tuned on the test set. Choose them on photos that are kept
out of the training.
"""


@dataclass
class Spotter:
    """A system of the paper's spotting tables.

    Args:
        title: its name.
        head_type: its head.
        recognizer: settings of its recogniser.
        recipe: rows of the table of its published training.
        form: what is other than in its paper.
        edges: shortest and longest edge of test images of each benchmark.
        head_config: settings of its head.
        crop_sizes: of the recogniser, for benchmarks where it differs.
        polygon: outlines whatever the benchmark, because what is outside of them is masked out.
    """

    title: str
    head_type: str
    recognizer: dict[str, Any]
    recipe: dict[str, str]
    form: str
    edges: dict[str, tuple[int, int]]
    head_config: dict[str, Any] = field(default_factory=dict)
    crop_sizes: dict[str, list[int]] = field(default_factory=dict)
    polygon: bool = False


SPOTTERS = {
    "abinetpp": Spotter(
        "ABINet++",
        "abcnet",
        {
            "decoder": "abinet",
            "encoder": "map",
            "train_on_proposals": True,
            "feature_stride": 4,
            "crop_size": [8, 32],
            "channels": [256] * 4,
            "num_blocks": [0] * 4,
            "attention_layers": 4,
            "attention_mlp_size": 2048,
            "language_hidden_size": 512,
            "language_mlp_size": 2048,
            "max_length": 25,
        },
        {
            "pre-training": "SynText150k, MLT17, Total-Text and ICDAR 2015, 540,000 steps of 8 photos",
            "fine-tuning": "120,000 steps at a tenth of the learning rates",
            "optimiser": "SGD, 0.01, for what sees; Adam, 1e-4, for language model and fusion",
            "training images": "shortest edge 640 to 896, longest at most 1,600, cropped, not mirrored",
        },
        "Words are read from C2 of the image encoder, not from the levels of the\n"
        "BiFPN. Proposals are read in training where their boxes overlap a word by half. Language pre-training is a\n"
        "stage of its own (`examples/text-spotting/run_language_model.py`), and no more words are mixed in later.",
        {"icdar2015": (1184, 2000), "totaltext": (1000, 1824), "ctw1500": (800, 1024)},
        {"pyramid": "bifpn"},
        {"ctw1500": [8, 128]},
    ),
    "masktextspotter3": Spotter(
        "Mask TextSpotter v3",
        "spn",
        {"decoder": "masked", "beam_width": 6},
        {
            "pre-training": "SynthText, SGD, 0.02; shortest edge 600 to 800",
            "fine-tuning": "SynthText, ICDAR 2013 and ICDAR 2015, a quarter each, SCUT and Total-Text, an eighth each; "
            "SGD, 0.002, 300,000 steps of 8 photos",
            "weight decay": "1e-4",
            "training images": "shortest edge 800 to 1,400, longest at most 2,333, turned by up to 90 degrees",
        },
        "Words are read from C2 of the image encoder, not from the\n"
        "fused pyramid. Of what the paper does with a proposal only reading by spatial attention is there: its box is\n"
        "neither classified nor moved, and neither the word nor its characters are segmented anew, so outline and\n"
        "score of a word are those of its proposal.",
        {"icdar2015": (1440, 4000), "totaltext": (1000, 4000)},
        polygon=True,
    ),
}
_ABCNET = Spotter(
    "ABCNet",
    "abcnet",
    {"decoder": "attention"},
    {
        "start": "ABCNet's released weights, which have another image encoder; CLIP RN50 here",
        "length": "5,000 steps on Total-Text, 5,500 on ICDAR 2015, 120,000 on CTW1500",
        "optimiser": "SGD, 1e-3",
    },
    "Its recogniser is that with attention; the batch and the sizes of test images are not on record, and are those\n"
    "of ABINet++ here.",
    SPOTTERS["abinetpp"].edges,
)
SPOTTERS["abcnet"] = _ABCNET
SPOTTER_DETAILS = """## Data

{benchmark.title}: {benchmark.what}.

## Recipe

The published settings of {spotter.title}, as far as they are known; how it was joined with FastTCM is not, beyond the
image encoder and the score map:

| | |
| --- | --- |
{rows}
| test images | shortest edge {edges[0]}, longest edge at most {edges[1]} |

{commands}

## Form

This is {spotter.title} in the form of this package. {spotter.form}
"""


@dataclass
class QueryRow:
    """A row of the paper of a head of queries, which reads what it finds.

    Args:
        benchmark: which data set, a name of `BENCHMARKS`.
        figures: what was published, detection and end-to-end hmean.
        edges: shortest and longest edge of test images.
        box_threshold: lowest score of a query.
        training: length and rate of the last stage.
        head_config: settings that differ from the head's defaults.
    """

    benchmark: str
    figures: str
    edges: tuple[int, int]
    box_threshold: float
    training: str
    head_config: dict[str, Any] = field(default_factory=dict)


LETTERS_AND_DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789"
QUERY_HEADS = {
    "testr": [
        QueryRow(
            "totaltext",
            "detection 86.94; end to end 73.25 without and 83.88 with the full lexicon",
            (1600, 1824),
            0.45,
            "20,000 steps at 1e-5",
        ),
        QueryRow(
            "ctw1500",
            "detection 87.08; end to end 55.95 without and 81.51 with the full lexicon",
            (1000, 1824),
            0.7,
            "200,000 steps at 1e-5",
            {"max_length": 100},
        ),
        QueryRow(
            "icdar2015",
            "detection 90.00; end to end 65.27 without lexicon, 85.16, 79.36 and 73.57 with the strong, weak and "
            "generic one",
            (1440, 4000),
            0.3,
            "20,000 steps at 1e-5",
        ),
    ],
    "deepsolo": [
        QueryRow(
            "totaltext",
            "detection 87.3; end to end 79.7 without and 87.0 with the full lexicon (without TextOCR)",
            (1000, 1892),
            0.4,
            "10,000 steps at 1e-5",
            {"charset": LETTERS_AND_DIGITS},
        ),
        QueryRow(
            "ctw1500",
            "detection 88.9; end to end 64.2 without and 81.4 with the full lexicon",
            (1000, 1200),
            0.4,
            "12,000 steps at 5e-5, a tenth of that from step 8,000",
            {
                "num_points": 50,
                "point_weight": 0.5,
                "proposal_curve_weight": 0.5,
                "boundary_weight": 0.25,
                "text_weight": 1.0,
            },
        ),
        QueryRow(
            "icdar2015",
            "detection 90.0; end to end 86.8, 81.9 and 76.9 with the strong, weak, generic lexicon (without TextOCR)",
            (1440, 4000),
            0.3,
            "3,000 steps at 1e-5",
            {"charset": LETTERS_AND_DIGITS},
        ),
    ],
}
QUERY_DETAILS = """## Published figures

Published figures; not reproduced here: {head.display_name} with ResNet-50 on {benchmark.title},
{row.figures} ({head.paper}).
They are those of the spotter without FastTCM, whose own figures are not known by data set.

## Data

{benchmark.title}: {benchmark.what}.

## Recipe

The published settings, as far as they are known; of the pretraining on synthetic text, the paper says more.

| | |
| --- | --- |
| start | CLIP RN50, or the head of a released checkpoint (`transformers-tcm convert`); the text tower stays as it is |
| last stage | {row.training}, batches of 8 |
| optimiser | AdamW, weight decay 1e-4, gradients clipped at 0.1, image encoder at a tenth of the rate |
| test images | shortest edge {row.edges[0]}, longest edge at most {row.edges[1]} |

{commands}
"""


def write(target: Path) -> None:
    """All folders, made anew."""
    for name in BUNDLED:
        weights = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(bundled_model_path(name), target / name, ignore=weights, dirs_exist_ok=True)
    for prompting in ("fasttcm", "tcm"):
        for head in HEADS:
            for dataset in HEADS[head].recipes:
                write_full_size(target / f"{prompting}-{head}-{dataset}", prompting, head, dataset)
    for name, spotter in SPOTTERS.items():
        for dataset in spotter.edges:
            write_spotter(target / f"fasttcm-{name}-{dataset}", spotter, dataset)
    for head_type, rows in QUERY_HEADS.items():
        for row in rows:
            write_query_spotter(target / f"fasttcm-{head_type}-{row.benchmark}", head_type, row)
    for head_type in PUBLISHED_AP50:
        write_oriented(target / f"fasttcm-{head_type.replace('_', '-')}-dota", head_type)
    write_recipes(target)


def write_spotter(folder: Path, spotter: Spotter, dataset: str) -> None:
    """Configuration, image processor settings and card of a spotter without weights."""
    benchmark, edges = BENCHMARKS[dataset], spotter.edges[dataset]
    crop = {"crop_size": spotter.crop_sizes[dataset]} if dataset in spotter.crop_sizes else {}
    head = {"head_config": spotter.head_config} if spotter.head_config else {}
    overrides = {"head_type": spotter.head_type, **head, "recognizer": {**spotter.recognizer, **crop}}
    config = TCMConfig.from_preset(
        "base",
        architectures=[TCMForTextSpotting.__name__],
        num_context_tokens=benchmark.num_context_tokens,
        **overrides,
    )
    processor = TCMImageProcessor(
        head_type=spotter.head_type,
        size={"shortest_edge": edges[0], "longest_edge": edges[1]},
        polygon=spotter.polygon or benchmark.polygon,
        text_threshold=TEXT_THRESHOLD,
    )
    text = SPOTTER_DETAILS.format(
        benchmark=benchmark,
        spotter=spotter,
        rows="\n".join(f"| {name} | {value} |" for name, value in spotter.recipe.items()),
        edges=edges,
        commands=commands_of(folder.name),
    )
    save(folder, config, processor, text)


def write_query_spotter(folder: Path, head_type: str, row: QueryRow) -> None:
    """As `write_spotter`, with a head that reads what it finds."""
    benchmark, head = BENCHMARKS[row.benchmark], head_class(head_type)
    config = TCMConfig.from_preset(
        "base",
        architectures=[TCMForTextSpotting.__name__],
        num_context_tokens=benchmark.num_context_tokens,
        head_type=head_type,
        head_config=row.head_config,
        score_map_loss_weight=2.0 if head_type == "testr" else 1.0,
    )
    shortest, longest = row.edges
    size = {"shortest_edge": shortest, "longest_edge": longest}
    decoding = {"box_threshold": row.box_threshold, "polygon": benchmark.polygon}
    processor = TCMImageProcessor(size=size, text_threshold=0.0, **decoding).for_model(config)
    text = QUERY_DETAILS.format(benchmark=benchmark, row=row, head=head, commands=commands_of(folder.name))
    save(folder, config, processor, text)


def write_full_size(folder: Path, prompting: str, head: str, dataset: str) -> None:
    """Configuration, image processor settings and card of a model without weights."""
    benchmark, recipe = BENCHMARKS[dataset], HEADS[head].recipes[dataset]
    config = TCMConfig.from_preset(
        "base",
        architectures=[TCMForTextDetection.__name__],
        prompting=prompting,
        num_context_tokens=benchmark.num_context_tokens,
        head_type=head,
        head_config=recipe.head,
    )
    shortest, longest = recipe.edges
    processor = TCMImageProcessor(size={"shortest_edge": shortest, "longest_edge": longest}).for_model(config)
    settings = {**processor.to_dict(), "polygon": benchmark.polygon, **HEADS[head].thresholds}
    processor = TCMImageProcessor.from_dict(settings)
    text = DETAILS.format(benchmark=benchmark, recipe=recipe, commands=commands_of(folder.name))
    save(folder, config, processor, text)


def save(folder: Path, config: TCMConfig, processor: Any, text: str) -> None:
    """A folder with all but the weights, and `text` in its card."""
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    publication = Publication(folder.name, config, processor, source=f'"org/{folder.name}"')
    model_card(publication, CardDetails(text, license="apache-2.0")).save(folder / "README.md")


def write_oriented(folder: Path, head_type: str) -> None:
    """As `write_full_size`, of a detector of the objects of DOTA-v1.0."""
    config = TCMConfig.from_preset("base", architectures=[TCMForOrientedObjectDetection.__name__], head_type=head_type)
    processor = TCMImageProcessor(size={"longest_edge": 1024}).for_model(config)
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    text = ORIENTED_DETAILS.format(
        commands=commands_of(folder.name),
        ap50=PUBLISHED_AP50[head_type],
        display_name=head_class(head_type).display_name,
    )
    publication = Publication(folder.name, config, processor, source=f'"org/{folder.name}"')
    model_card(publication, CardDetails(text, license="apache-2.0")).save(folder / "README.md")


def differences(target: Path) -> list[str]:
    """Names of files that are missing, too many, or not what `write` would write."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        fresh = {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    there = {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    stale = sorted(str(name) for name in fresh.keys() | there.keys() if fresh.get(name) != there.get(name))
    is_current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == reproduction()
    return stale if is_current else [*stale, str(PAGE.name)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if not parser.parse_args().check:
        write(TARGET)
        PAGE.write_text(reproduction(), encoding="utf-8")
    elif stale := differences(TARGET):
        sys.exit(f"not current, run scripts/make_hub_configs.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
