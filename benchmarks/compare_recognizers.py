"""Which recogniser reads best: all of them on one frozen detector, the same data and the same number of steps.

    python benchmarks/compare_recognizers.py --held_out lists/held_out.tsv --spelling english.txt \
        --output_dir runs/recognizers [--rows ctc masked] [arguments for every training, such as the training data]

Each recogniser is trained by `examples/text-spotting/recipes/fasttcm_spotter_tiny_recognizer.yaml`, which wants the
data named in `examples/text-spotting/README.md`; the language model beside CTC afterwards on words alone, `--spelling`,
without which it is the one that the start has. With `--model_name_or_path` all start with what fits them of the
recogniser of a spotter, and with its detector. Prints the command of each training, which can be run by itself, and the
table at the end; trainings that are complete are not repeated. Words are read at known corners on the CPU, one thread
unless `--threads` says otherwise.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "text-spotting"
# Rows below this share of exact words say nothing about a recogniser.
CONVERGED = 0.3
ROWS = {
    "ctc": "CTC",
    "ctc_language": "CTC, character language model",
    "attention": "attention",
    "abinet": "ABINet++",
    "masked": "masked reading, spatial attention",
}
# What makes a step of them take about as long as one of the others.
SIZES = {
    "abinet": {"language_hidden_size": 128, "language_mlp_size": 512, "language_layers": 2},
    "masked": {"feature_stride": 2, "channels": [64, 64, 64]},
}
HEADER = "| recogniser | parameters | exact | exact but for the case | character error rate | codes exact | ms a word |"


@dataclass(frozen=True)
class Run:
    """A training: its folder, its command, and the row whose model it starts with."""

    folder: Path
    command: Sequence[str]
    start: str | None = None

    @property
    def complete(self) -> bool:
        """Whether it has been run: the model is there, which is written last."""
        return (self.folder / "model.safetensors").exists()

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


def runs(arguments: argparse.Namespace, further: Sequence[str]) -> dict[str, Run]:
    """The training of each row that is asked for, and of those that these start with."""
    recipes = EXAMPLE / "recipes"
    recognizer = [str(EXAMPLE / "run_text_spotting.py"), str(recipes / "fasttcm_spotter_tiny_recognizer.yaml")]
    spelling = [str(EXAMPLE / "run_language_model.py"), str(recipes / "language_model.yaml")]
    made = {}
    for row in ROWS:
        folder = arguments.output_dir / row
        output = ["--output_dir", str(folder)]
        if row == "ctc_language" and not arguments.spelling:
            made[row] = made["ctc"]
        elif row == "ctc_language":
            lists = ["--words", *map(str, arguments.spelling), "--words_weights", *["1.0"] * len(arguments.spelling)]
            start = ["--model_name_or_path", str(arguments.output_dir / "ctc")]
            made[row] = Run(folder, [sys.executable, *spelling, *start, *lists, *output], start="ctc")
        else:
            settings = {"decoder": row, **SIZES.get(row, {})}
            chosen = ["--config_overrides", json.dumps({"recognizer": settings})]
            words = ["--eval_words", str(arguments.held_out)]
            made[row] = Run(folder, [sys.executable, *recognizer, *chosen, *words, *further, *output])
    needed = {row for name in arguments.rows for row in (name, made[name].start)}
    return {row: run for row, run in made.items() if row in needed}


def measure(folder: Path, held_out: Path, with_spelling: bool) -> dict[str, float]:
    """Figures of a trained spotter on words at known corners, with its language model beside CTC or without."""
    sys.path.insert(0, str(EXAMPLE))
    from evaluate_words import read_words  # type: ignore[import-not-found]

    from transformers_tcm import TCMForTextSpotting, TCMImageProcessor
    from transformers_tcm.data.word_crops import load_word_crops
    from transformers_tcm.evaluation import WordRecognition

    model = TCMForTextSpotting.from_pretrained(folder, dtype="float32").eval()
    if not with_spelling:
        model.recognizer.language_model = None
    elif model.recognizer.language_model is None:
        raise SystemExit(f"error: {folder} has no language model; --spelling teaches it one")
    processor, words = TCMImageProcessor.from_pretrained(folder), load_word_crops(held_out)
    read_words(model, processor, words[:20])  # the first ones take longer
    started = perf_counter()
    readings = read_words(model, processor, words)
    seconds = perf_counter() - started
    every, codes = WordRecognition(), WordRecognition()
    for word, reading in zip(words, readings, strict=True):
        every.update([word.text], [reading])
        if any(character.isdigit() for character in word.text):
            codes.update([word.text], [reading])
    result = every.compute()
    return {
        "parameters": sum(parameter.numel() for parameter in model.recognizer.parameters()),
        "exact": result.accuracy,
        "ignore_case": result.accuracy_ignore_case,
        "character_error_rate": result.character_error_rate,
        "codes": codes.compute().accuracy,
        "milliseconds": 1000 * seconds / len(words),
    }


def table(figures: dict[str, dict[str, float]]) -> str:
    """The figures of each row in Markdown; rows that learned too little are named, not compared."""
    lines = [HEADER, "| --- " * (HEADER.count("|") - 1) + "|"]
    for row, values in figures.items():
        cells = [f"{values['exact']:.3f}", f"{values['ignore_case']:.3f}", f"{values['character_error_rate']:.3f}"]
        cells.append(f"{values['codes']:.3f}")
        if values["exact"] < CONVERGED:
            cells = [f"not converged ({values['exact']:.3f})", "", "", ""]
        size, speed = f"{values['parameters'] / 1e6:.2f} M", f"{values['milliseconds']:.1f}"
        lines.append(f"| {' | '.join([ROWS[row], size, *cells, speed])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--held_out", type=Path, required=True, help="list of word crops, see hold_out_words.py")
    parser.add_argument("--spelling", type=Path, nargs="+", help="lists of words for the language model beside CTC")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for a folder of each training")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="which to train (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="of a training and of the reading (default: 1)")
    parser.add_argument("--dry_run", action="store_true", help="print the commands alone")
    arguments, further = parser.parse_known_args()
    trainings = runs(arguments, further)
    if arguments.dry_run:
        print("\n".join(shlex.join(run.command) for run in trainings.values()))
        return
    import torch

    torch.set_num_threads(arguments.threads)
    figures = {}
    for row, run in trainings.items():
        try:
            run.train(arguments.threads)
        except RuntimeError as error:
            raise SystemExit(f"error: {error}") from error
        figures[row] = measure(run.folder, arguments.held_out, row == "ctc_language")
        # Not in the folder of the run, which two rows may share.
        report = arguments.output_dir / f"{row}.json"
        report.write_text(json.dumps(figures[row], indent=1), encoding="utf-8")
    print(table(figures))


if __name__ == "__main__":
    main()
