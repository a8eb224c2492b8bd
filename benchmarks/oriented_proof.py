"""Train a tiny detector of oriented objects on rendered scenes, and judge it on scenes with unseen backgrounds.

    python benchmarks/oriented_proof.py --backgrounds photos --output proof --head_type rotated_fcos

Scenes of five classes, two pairs of which differ by size or by texture alone, are rendered once. The recipe `tiny.yaml`
of examples/oriented-object-detection is trained on them. Average precision (Task 1 of DOTA, IoU above 0.5) is that of
200 scenes whose backgrounds are not among those of the training; that of the same detections with all angles set to 0
shows how much the angles matter. `--prompting none` is the baseline, `--label_share 0.1` trains on a tenth of the
scenes, and what this script does not know is for the training, such as `--max_steps`. Figures go to
`OUTPUT/NAME/proof.json`, a picture of nine test scenes to `OUTPUT/NAME/proof.png`.

`--samples FOLDER`, with `images` and `labelTxt` in the form of DOTA, trains and judges on the same real images instead:
a model that can learn has to know them by heart.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import pipeline

from transformers_tcm import OrientedInstances
from transformers_tcm.data.objects import class_names, row_to_objects
from transformers_tcm.data.readers import load_dota
from transformers_tcm.data.rendering.aerial import AERIAL_CLASSES, AerialRenderer, write_scenes
from transformers_tcm.data.rendering.backgrounds import split_backgrounds
from transformers_tcm.dota import DOTA_V1_CLASSES
from transformers_tcm.evaluation import DotaEvaluation
from transformers_tcm.rotated_boxes import boxes_to_quads, quads_to_boxes
from transformers_tcm.visualization import draw_objects

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "oriented-object-detection"
# Scenes that a picture shows, in a square.
SHOWN = 9


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """The options of this script, and what is left for the training."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backgrounds", type=Path, help="folder of photographs for the ground")
    parser.add_argument("--samples", type=Path, help="folder of real images and labels, to be learnt by heart")
    parser.add_argument("--output", type=Path, default=Path("proof"))
    parser.add_argument("--head_type", default="rotated_fcos")
    parser.add_argument("--prompting", default="fasttcm")
    parser.add_argument("--label_share", type=float, default=1.0)
    parser.add_argument("--train_scenes", type=int, default=2000)
    parser.add_argument("--test_scenes", type=int, default=200)
    parser.add_argument("--size", type=int, default=320, help="side of a scene in pixels")
    return parser.parse_known_args()


def render_once(options: argparse.Namespace) -> tuple[Path, Path]:
    """Folders of the training and of the test scenes, rendered unless they are there."""
    photographs = dict(zip(("train", "test"), split_backgrounds(options.backgrounds), strict=True))
    counts = {"train": options.train_scenes, "test": options.test_scenes}
    for seed, (split, count) in enumerate(counts.items()):
        folder = options.output / f"{split}_{options.size}"
        images = folder / "images"
        there = len(list(images.glob("*.png"))) if images.is_dir() else 0
        renderer = AerialRenderer(photographs[split], size=options.size, seed=seed)
        write_scenes(renderer, folder, count - there, start=there)
    return options.output / f"train_{options.size}", options.output / f"test_{options.size}"


def train(options: argparse.Namespace, train_folder: Path, folder: Path, classes: list[str], more: list[str]) -> float:
    """Run the recipe; seconds that it took."""
    command = [sys.executable, str(EXAMPLE / "run_oriented_detection.py"), str(EXAMPLE / "recipes/tiny.yaml")]
    command += ["--train_images", str(train_folder / "images"), "--train_annotations", str(train_folder / "labelTxt")]
    command += ["--head_type", options.head_type, "--prompting", options.prompting]
    command += ["--label_share", str(options.label_share), "--eval_strategy", "no", "--output_dir", str(folder)]
    start = time.perf_counter()
    subprocess.run([*command, "--classes", *classes, *more], check=True)
    return time.perf_counter() - start


def upright(objects: OrientedInstances) -> OrientedInstances:
    """The same boxes with all angles 0."""
    boxes = torch.from_numpy(quads_to_boxes(np.array(objects.polygons, np.float32).reshape(-1, 4, 2)))
    boxes[:, 4] = 0
    return objects.with_polygons(list(boxes_to_quads(boxes).numpy()))


def judge(folder: Path, rows: Any, picture: Path) -> dict[str, Any]:
    """Figures of the trained model on annotated scenes, and a picture of the first ones."""
    detector = pipeline("oriented-object-detection", model=str(folder), dtype=torch.float32)
    names, label2id = class_names(rows), detector.model.config.label2id
    metrics = {"turned": DotaEvaluation(names), "upright": DotaEvaluation(names)}
    shown, seconds = [], 0.0
    for row in rows:
        start = time.perf_counter()
        found = OrientedInstances.from_detections(detector(row["image"]), label2id)
        seconds += time.perf_counter() - start
        metrics["turned"].update(row_to_objects(row), found)
        metrics["upright"].update(row_to_objects(row), upright(found))
        if len(shown) < SHOWN:
            sure = found.select([index for index, score in enumerate(found.scores) if score > 0.3])
            shown.append(draw_objects(row["image"], sure, dict(enumerate(names))).resize((400, 400)))
    sheet = Image.new("RGB", (1200, 1200))
    for index, image in enumerate(shown):
        sheet.paste(image, (400 * (index % 3), 400 * (index // 3)))
    sheet.save(picture)
    results = {name: metric.compute().to_dict() for name, metric in metrics.items()}
    return {**results, "images": len(rows), "seconds_per_image": seconds / len(rows)}


def main() -> None:
    options, more = parse_arguments()
    if (options.samples is None) == (options.backgrounds is None):
        raise SystemExit("give either --backgrounds, to render scenes on, or --samples, to be learnt by heart")
    if options.samples is not None:
        train_folder = test_folder = options.samples
        classes, name = list(DOTA_V1_CLASSES), f"samples-{options.head_type}"
        more = ["--processor_overrides", '{"size": {"longest_edge": 640}}', *more]
    else:
        train_folder, test_folder = render_once(options)
        classes, name = list(AERIAL_CLASSES), f"{options.head_type}-{options.prompting}-{options.label_share:g}"
    folder = options.output / name
    seconds = train(options, train_folder, folder, classes, more)
    rows = load_dota(test_folder / "images", test_folder / "labelTxt", classes)
    result = {"training_seconds": seconds, **judge(folder, rows, folder / "proof.png")}
    (folder / "proof.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    for angles in ("turned", "upright"):
        print(f"{name}, {angles}: AP50 {result[angles]['mean_average_precision']}")


if __name__ == "__main__":
    main()
