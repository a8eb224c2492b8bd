"""Write `hub_configs/`: everything of a published model's repository except its weights.

    python scripts/make_hub_configs.py            # writes the folder
    python scripts/make_hub_configs.py --check    # says which files are not current; exit code 1 if there are any

The bundled models are copied from the package; the full-size ones have the papers' settings for ICDAR 2015.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMImageProcessor, bundled_model_path

TARGET = Path(__file__).parents[1] / "hub_configs"
BUNDLED = ["fasttcm-dbnet-tiny", "fasttcm-spotter-tiny"]
# Test size of the papers for ICDAR 2015: shorter side 1024, longer side at most 4068. The thresholds are this package's
# own, because those of the released code were tuned on the test set.
ICDAR2015 = {"size": {"shortest_edge": 1024, "longest_edge": 4068}, "threshold": 0.3, "box_threshold": 0.5}
FULL_SIZE: dict[str, dict[str, Any]] = {
    "fasttcm-dbnet-icdar2015": {"variant": "fasttcm"},
    "tcm-dbnet-icdar2015": {"variant": "tcm"},
}
CARD = """---
library_name: transformers
license: apache-2.0
pipeline_tag: object-detection
tags: [text-detection, scene-text, tcm, clip]
---

# {name}

Settings of {variant} with CLIP RN50 and a DBNet head for ICDAR 2015. No weights have been trained with this package
yet; start from CLIP with `transformers-tcm convert RN50.pt FOLDER --variant {variant}` and train with
`examples/text-detection/run_text_detection.py`.
"""


def write(target: Path) -> None:
    """All folders, made anew."""
    for name in BUNDLED:
        weights = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(bundled_model_path(name), target / name, ignore=weights, dirs_exist_ok=True)
    for name, settings in FULL_SIZE.items():
        config = TCMConfig.from_preset("base", architectures=[TCMForTextDetection.__name__], **settings)
        config.save_pretrained(target / name)
        TCMImageProcessor(**ICDAR2015).save_pretrained(target / name)
        (target / name / "README.md").write_text(CARD.format(name=name, **settings), encoding="utf-8")


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
