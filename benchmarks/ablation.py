"""What the score map is good for: plain DBNet, TCM and FastTCM, with all and a tenth of the labels, two seeds each.

    python benchmarks/ablation.py --images I/images --annotations I/gt --eval_list I/val.txt \
        --rendered rendered/annotations.jsonl --output_dir runs/ablation [--jobs 2] [arguments for every training]

A plain DBNet is trained on rendered scenes. All rows start with its weights, the parts that prompting adds from
scratch, and are trained on the photos that are not listed, by `examples/text-detection/recipes/ablation.yaml`. Prints
the command of each training, which can be run by itself, and the table at the end; trainings that are complete are not
repeated.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from running import training_parser

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "text-detection"
VARIANTS = {"none": "none (plain DBNet)", "tcm": "TCM", "fasttcm": "FastTCM"}
SHARES = (1.0, 0.1)
SEEDS = (1, 2)
PRETRAINING = ("--max_steps", "1200", "--learning_rate", "0.002", "--min_scale", "0.5", "--max_scale", "2.0")


@dataclass(frozen=True)
class Run:
    """A training: its folder, and what it adds to the recipe."""

    folder: Path
    arguments: Sequence[str]

    @property
    def complete(self) -> bool:
        """Whether it has been run: figures and model are there, the last files that are written."""
        return all((self.folder / name).exists() for name in ("eval_results.json", "model.safetensors"))

    @property
    def command(self) -> list[str]:
        """The command line."""
        script, recipe = EXAMPLE / "run_text_detection.py", EXAMPLE / "recipes" / "ablation.yaml"
        return [sys.executable, str(script), str(recipe), *self.arguments, "--output_dir", str(self.folder)]

    def train(self, threads: int) -> None:
        """Run it, unless it has been; what it prints goes to `log.txt` in its folder.

        Raises:
            RuntimeError: if it fails.
        """
        if self.complete:
            return
        print(shlex.join(self.command), flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with (self.folder / "log.txt").open("w") as log:
            done = subprocess.run(self.command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        if done.returncode:
            raise RuntimeError(f"a training failed with exit code {done.returncode}, see {self.folder / 'log.txt'}")

    def hmean(self) -> float | None:
        """Of its evaluation, `None` before it has been run."""
        return json.loads((self.folder / "eval_results.json").read_text())["eval_hmean"] if self.complete else None


def variant_arguments(variant: str) -> list[str]:
    """The choice of the score map."""
    return ["--config_overrides", json.dumps({"prompting": variant})]


def start(arguments: argparse.Namespace, further: Sequence[str]) -> Run:
    """The training on rendered scenes."""
    data = ["--train_jsonl", str(arguments.rendered), *evaluation(arguments)]
    return Run(arguments.output_dir / "start", [*variant_arguments("none"), *data, *PRETRAINING, *further])


def evaluation(arguments: argparse.Namespace) -> list[str]:
    """The photos to evaluate on."""
    images, annotations = str(arguments.images), str(arguments.annotations)
    return ["--eval_images", images, "--eval_annotations", annotations, "--eval_list", str(arguments.eval_list)]


def rows(arguments: argparse.Namespace, further: Sequence[str], first: Run) -> dict[tuple[str, float], list[Run]]:
    """The trainings of each row, one for each seed."""
    photos = ["--train_images", str(arguments.images), "--train_annotations", str(arguments.annotations)]
    common = ["--initial_weights", str(first.folder), *photos, *evaluation(arguments)]

    def run(variant: str, share: float, seed: int) -> Run:
        chosen = [*variant_arguments(variant), "--few_shot", str(share), "--seed", str(seed)]
        folder = arguments.output_dir / f"{variant}_{round(100 * share)}_seed{seed}"
        return Run(folder, [*chosen, *common, *further])

    return {(variant, share): [run(variant, share, seed) for seed in SEEDS] for share in SHARES for variant in VARIANTS}


def table(trainings: dict[tuple[str, float], list[Run]], first: Run) -> str:
    """The hmean of every training in Markdown; what has not been run is left empty."""
    lines = ["| score map | labels | hmean, mean | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " |"]
    lines.append("| --- " * (3 + len(SEEDS)) + "|")
    for (variant, share), runs in trainings.items():
        values = [run.hmean() for run in runs]
        known = [value for value in values if value is not None]
        average = f"{mean(known):.3f}" if len(known) == len(values) else ""
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        lines.append(f"| {VARIANTS[variant]} | {share:.0%} | {average} | {' | '.join(cells)} |")
    before = first.hmean()
    if before is not None:
        lines.append(f"\nBefore, after rendered scenes alone: {before:.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--rendered", type=Path, required=True, help="JSON-lines file of rendered scenes")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="of each training (default: 1)")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and the table as it is")
    arguments, further = parser.parse_known_args()
    first = start(arguments, further)
    trainings = rows(arguments, further, first)
    if arguments.dry_run:
        every = [first, *(run for runs in trainings.values() for run in runs)]
        print("\n".join(shlex.join(run.command) for run in every))
    else:
        train_all(first, trainings, arguments.jobs, arguments.threads)
    print(table(trainings, first))


def train_all(first: Run, trainings: dict[tuple[str, float], list[Run]], jobs: int, threads: int) -> None:
    """The start, then all others, the first seed of every row before the second."""
    by_seed = [run for runs in zip(*trainings.values(), strict=True) for run in runs]
    try:
        first.train(threads)
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda run: run.train(threads), by_seed))
    except RuntimeError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
