"""Write `hub_configs/`: everything of a published model's repository except its weights.

    python scripts/make_hub_configs.py            # writes the folder
    python scripts/make_hub_configs.py --check    # says which files are not current; exit code 1 if there are any

The bundled models are copied from the package; the full-size ones have the papers' settings for four benchmarks.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers_tcm import (
    TCMConfig,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessor,
    bundled_model_path,
)
from transformers_tcm.hub.model_card import CardDetails, Publication, model_card
from transformers_tcm.models.tcm.heads import head_class

TARGET = Path(__file__).parents[1] / "hub_configs"
BUNDLED = ["fasttcm-dbnet-tiny", "fasttcm-spotter-tiny"]
# This package's own, because the published ones were tuned on the test sets.
THRESHOLDS = {"threshold": 0.3, "box_threshold": 0.5, "unclip_ratio": 1.5}


@dataclass
class Benchmark:
    """A data set, and with what settings the papers train and test on it.

    Args:
        title: its name.
        what: its photos and labels.
        edges: shortest and longest edge of test images.
        optimizer: of the published training.
        num_context_tokens: learned tokens of the prompt.
        polygon: whether its text is curved.
    """

    title: str
    what: str
    edges: tuple[int, int]
    optimizer: str
    num_context_tokens: int = 4
    polygon: bool = False


BENCHMARKS = {
    "icdar2015": Benchmark(
        "ICDAR 2015", "1,000 training and 500 test photos; quadrangles, word by word", (1024, 4068), "Adam, 1e-4"
    ),
    "totaltext": Benchmark(
        "Total-Text",
        "1,255 training and 300 test photos; polygons around curved words",
        (800, 2944),
        "AdamW, 1e-4",
        num_context_tokens=32,
        polygon=True,
    ),
    "ctw1500": Benchmark(
        "CTW1500",
        "1,000 training and 500 test photos; polygons of 14 points around curved lines of text",
        (1024, 4068),
        "AdamW, 1e-4",
        num_context_tokens=32,
        polygon=True,
    ),
    "td500": Benchmark(
        "MSRA-TD500",
        "300 training and 200 test photos, and 400 of HUST-TR400 to train on; turned boxes around lines of text",
        (736, 4068),
        "Ranger (RAdam with LookAhead and centralised gradients), 1e-3, no weight decay",
    ),
}


@dataclass
class SpottingRow:
    """A row of a spotter's paper.

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
SPOTTERS = {
    "testr": [
        SpottingRow(
            "totaltext",
            "detection 86.94; end to end 73.25 without and 83.88 with the full lexicon",
            (1600, 1824),
            0.45,
            "20,000 steps at 1e-5",
        ),
        SpottingRow(
            "ctw1500",
            "detection 87.08; end to end 55.95 without and 81.51 with the full lexicon",
            (1000, 1824),
            0.7,
            "200,000 steps at 1e-5",
            {"max_length": 100},
        ),
        SpottingRow(
            "icdar2015",
            "detection 90.00; end to end 65.27 without lexicon, 85.16, 79.36 and 73.57 with the strong, weak and "
            "generic one",
            (1440, 4000),
            0.3,
            "20,000 steps at 1e-5",
        ),
    ],
    "deepsolo": [
        SpottingRow(
            "totaltext",
            "detection 87.3; end to end 79.7 without and 87.0 with the full lexicon (without TextOCR)",
            (1000, 1892),
            0.4,
            "10,000 steps at 1e-5",
            {"charset": LETTERS_AND_DIGITS},
        ),
        SpottingRow(
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
        SpottingRow(
            "icdar2015",
            "detection 90.0; end to end 86.8, 81.9 and 76.9 with the strong, weak, generic lexicon (without TextOCR)",
            (1440, 4000),
            0.3,
            "3,000 steps at 1e-5",
            {"charset": LETTERS_AND_DIGITS},
        ),
    ],
}
SPOTTER_DETAILS = """## Published figures

Published figures; not reproduced here: {head.display_name} with ResNet-50 on {benchmark.title}, {row.figures}
({head.paper}). They are those of the spotter without FastTCM, whose own figures are not known by data set.

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

```bash
cp hub_configs/{name}/preprocessor_config.json start/
python examples/text-spotting/run_text_spotting.py examples/text-spotting/recipes/fasttcm_{head_type}_base.yaml \\
    --model_name_or_path start --processor_overrides '{{}}' --train_images images --train_annotations labels \\
    --output_dir {name}
python scripts/push_to_hub.py hub_configs/{name} --weights {name} --repo-id org/{name}
```
"""
DETAILS = """## Data

{benchmark.title}: {benchmark.what}.

## Recipe

The published settings, as far as they are known:

| | |
| --- | --- |
| start | CLIP RN50; the text tower stays as it is |
| crops | 640 x 640, scaled by 0.5 to 3, turned by up to 10 degrees, mirrored |
| optimiser | {benchmark.optimizer} |
| weight decay | 1e-4 unless stated otherwise, none for norms |
| schedule | polynomial decay with power 0.9 to 1e-7 |
| image encoder | a tenth of the learning rate |
| batch, length | 16 crops on each of 8 devices, 1,200 epochs |
| learned context | {benchmark.num_context_tokens} tokens |
| test images | shortest edge {benchmark.edges[0]}, longest edge at most {benchmark.edges[1]} |

```bash
cp hub_configs/{name}/preprocessor_config.json start/
python examples/text-detection/run_text_detection.py examples/text-detection/recipes/fasttcm_dbnet_base.yaml \\
    --model_name_or_path start --processor_overrides '{{}}' --train_images images --train_annotations labels \\
    --output_dir {name}
python scripts/push_to_hub.py hub_configs/{name} --weights {name} --repo-id org/{name}
```

The thresholds above are not the published ones, which were tuned on the test set. Choose them on photos that are kept
out of the training.
"""


def write(target: Path) -> None:
    """All folders, made anew."""
    for name in BUNDLED:
        weights = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(bundled_model_path(name), target / name, ignore=weights, dirs_exist_ok=True)
    for variant in ("fasttcm", "tcm"):
        for dataset, benchmark in BENCHMARKS.items():
            write_full_size(target / f"{variant}-dbnet-{dataset}", variant, benchmark)
    for head_type, rows in SPOTTERS.items():
        for row in rows:
            write_spotter(target / f"fasttcm-{head_type}-{row.benchmark}", head_type, row)


def write_full_size(folder: Path, variant: str, benchmark: Benchmark) -> None:
    """Configuration, image processor settings and card of a model without weights."""
    config = TCMConfig.from_preset(
        "base",
        architectures=[TCMForTextDetection.__name__],
        prompting=variant,
        num_context_tokens=benchmark.num_context_tokens,
    )
    shortest, longest = benchmark.edges
    size = {"shortest_edge": shortest, "longest_edge": longest}
    processor = TCMImageProcessor(size=size, polygon=benchmark.polygon, **THRESHOLDS).for_model(config)
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    details = CardDetails(DETAILS.format(benchmark=benchmark, name=folder.name), license="apache-2.0")
    publication = Publication(folder.name, config, processor, source=f'"org/{folder.name}"')
    model_card(publication, details).save(folder / "README.md")


def write_spotter(folder: Path, head_type: str, row: SpottingRow) -> None:
    """The same of a spotter whose head reads what it finds."""
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
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    text = SPOTTER_DETAILS.format(benchmark=benchmark, row=row, head=head, head_type=head_type, name=folder.name)
    publication = Publication(folder.name, config, processor, source=f'"org/{folder.name}"')
    model_card(publication, CardDetails(text, license="apache-2.0")).save(folder / "README.md")


def differences(target: Path) -> list[str]:
    """Names of files that are missing, too many, or not what `write` would write."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        fresh = {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    there = {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    return sorted(str(name) for name in fresh.keys() | there.keys() if fresh.get(name) != there.get(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if not parser.parse_args().check:
        write(TARGET)
    elif stale := differences(TARGET):
        sys.exit(f"not current, run scripts/make_hub_configs.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
