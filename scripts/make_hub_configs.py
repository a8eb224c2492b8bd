"""Write `hub_configs/`: everything of a published model's repository except its weights.

    python scripts/make_hub_configs.py            # writes the folder
    python scripts/make_hub_configs.py --check    # says which files are not current; exit code 1 if there are any

The bundled models are copied from the package; the full-size ones have the papers' settings for four benchmarks.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from transformers_tcm import (
    TCMConfig,
    TCMForOrientedObjectDetection,
    TCMForTextDetection,
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

```bash
python examples/oriented-object-detection/run_oriented_detection.py \\
    examples/oriented-object-detection/recipes/{head_type}.yaml --model_name_or_path start \\
    --train_images patches/images --train_annotations patches/labelTxt --output_dir {name}
python scripts/push_to_hub.py hub_configs/{name} --weights {name} --repo-id org/{name}
```

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
    for head_type in PUBLISHED_AP50:
        write_oriented(target / f"fasttcm-{head_type.replace('_', '-')}-dota", head_type)


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


def write_oriented(folder: Path, head_type: str) -> None:
    """As `write_full_size`, of a detector of the objects of DOTA-v1.0."""
    config = TCMConfig.from_preset("base", architectures=[TCMForOrientedObjectDetection.__name__], head_type=head_type)
    processor = TCMImageProcessor(size={"longest_edge": 1024}).for_model(config)
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    text = ORIENTED_DETAILS.format(
        head_type=head_type,
        name=folder.name,
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
