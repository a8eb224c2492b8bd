"""The papers' studies, each as one command: few labels, other data sets, photos at night, components, speed.

    python benchmarks/study.py few-shot      --root /data/text --output_dir runs/study [training arguments]
    python benchmarks/study.py cross-dataset --root /data/text --output_dir runs/study --sets icdar2015 total-text
    python benchmarks/study.py few-shot      --sets mine=/data/photos --max_seconds 600 --heads dbnet pan fcenet

A set is a public one by name (see `transformers-tcm datasets`), or NAME=FOLDER with `images`, `gt` and `val.txt` in the
ICDAR-2015 format, or with `train.jsonl` and `test.jsonl`. Models are new ones of the tiny preset, trained by
`examples/text-detection/recipes/study.yaml`; with --clip RN50.pt they are those of the papers, by their own recipes,
with --encoder MODEL new heads on its encoder, which has seen what that model was trained on.
Prints every command. What has been trained or judged is not repeated, and studies share their trainings. Sets that are
not there are skipped by name. Writes OUTPUT_DIR/STUDY.md, a table of our figures with the published ones and their
sources, and OUTPUT_DIR/STUDY.svg.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from statistics import mean

from compare_heads import write_start
from running import run_logged

from transformers_tcm.data.known_datasets import KNOWN_DATASETS, folder_of, missing_parts

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "text-detection"
STUDIES = ("few-shot", "cross-dataset", "night", "ablation", "speed")
SETS = ("icdar2015", "total-text", "ctw1500", "td500")
# The training pool of the study on photos at night (13,784 photos in the paper), and its test set.
NIGHT_POOL = ("icdar2013", "icdar2015", "td500", "ctw1500", "total-text", "mlt2017")
NIGHT = "nighttime-art"
# Sets whose words are outlined by more than four corners.
CURVED = ("total-text", "ctw1500", "art", NIGHT)
COMPONENTS = {
    "all (FastTCM)": {},
    "no matching": {"matching": False},
    "no meta query, no matching (TCM)": {"prompting": "tcm"},
    "no visual prompt": {"visual_prompt": False},
    "no refiner": {"text_refiner": False},
    "no auxiliary loss": {"score_map_loss_weight": 0.0},
    "no prompting": {"prompting": "none"},
}
_TCM, _SECOND_HAND = "README of github.com/wenwenyu/TCM", "TCM, second-hand"
_RUN_SH = "`tools/run.sh` of the TCM release, without TCM"


@dataclass(frozen=True)
class Published:
    """A published figure: what of (hmean, if it is a number), by which model, and its source."""

    study: str
    figure: str
    model: str
    train: str
    test: str
    source: str
    variant: str = ""


PUBLISHED = [
    *(
        Published("few-shot", figure, "dbnet, tcm", name, name, _TCM, "100 %")
        for name, figure in {"icdar2015": "88.8", "total-text": "85.9", "ctw1500": "85.1", "td500": "88.8"}.items()
    ),
    Published("few-shot", "+22 on average", "tcm over R50", "each", "itself", "abstract of TCM", "10 %"),
    Published("few-shot", "+26.5 on average", "fasttcm over R50", "each", "itself", "abstract of FastTCM", "10 %"),
    Published(
        "few-shot", "43.5 to 52.3", "abcnet, fasttcm", "total-text", "total-text", "FastTCM, second-hand", "10 %"
    ),
    *(
        Published("cross-dataset", figure, model, train, test, _RUN_SH)
        for model, figures in {
            "testr, none": ("81.6", "46.9", "42.2", "32.4", "79.6", "46.6"),
            "abcnet, none": ("82.8", "45.0", "41.1", "48.0", "76.1", "42.7"),
        }.items()
        for figure, (train, test) in zip(
            figures,
            [
                ("total-text", "icdar2015"),
                ("total-text", "ctw1500"),
                ("icdar2015", "ctw1500"),
                ("ctw1500", "icdar2015"),
                ("icdar2015", "total-text"),
                ("ctw1500", "total-text"),
            ],
            strict=True,
        )
    ),
    Published("cross-dataset", "+12.4 on average", "fasttcm over R50", "others", "each", "FastTCM, second-hand"),
    Published("night", "not on record", "dbnet, tcm", "pool", NIGHT, "TCM: 326 photos of ArT"),
    Published("ablation", "+1.7", "dbnet", "icdar2015", "icdar2015", _SECOND_HAND, "no visual prompt: its gain"),
    Published("ablation", "+2.0", "dbnet", "td500", "td500", _SECOND_HAND, "no visual prompt: its gain"),
    Published("ablation", "+1.9", "dbnet", "icdar2015", "icdar2015", _SECOND_HAND, "no prompting: the gain of TCM"),
    *(
        Published("speed", figure, f"{head}, tcm", "", "", _SECOND_HAND)
        for head, figure in {"pan": "18", "fcenet": "8.4", "dbnet": "10"}.items()
    ),
    Published("speed", "+47.1 %", "fasttcm over tcm", "", "", "abstract of FastTCM, TPAMI"),
]


@dataclass(frozen=True)
class Source:
    """A data set: its name, and the arguments that train and judge on it; empty where it has no such part."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A training with what it is judged on.

    Args:
        head, prompting: of the model.
        variant: share of the labels, or what is left out.
        trained_on: names of the data sets.
        folder: where it is kept.
        train: arguments of the training.
        tests: the sets to judge on.
    """

    head: str
    prompting: str
    variant: str
    trained_on: str
    folder: Path
    train: Sequence[str]
    tests: Sequence[Source]

    @property
    def model(self) -> str:
        """As in the table."""
        return f"{self.head}, {self.prompting}"


@dataclass
class Row:
    """A line of the table: figures of all seeds."""

    model: str
    variant: str
    train: str
    test: str
    hmeans: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def ours(self, study: str) -> float:
        """What the study is about: frames per second, or the mean hmean in percent."""
        return 1 / mean(self.seconds) if study == "speed" else 100 * mean(self.hmeans)


def source_of(given: str, root: Path | None) -> Source:
    """A data set by name, or NAME=FOLDER.

    Raises:
        FileNotFoundError: naming what of it is not there.
        ValueError: for an unknown name.
    """
    name, _, place = given.partition("=")
    if not place:
        return _public_source(name, root)
    folder = Path(place)
    if (folder / "train.jsonl").is_file():
        train = ("--train_jsonl", f"{folder}/train.jsonl", "--jsonl_photos", "true")
        return Source(name, train, ("--jsonl", f"{folder}/test.jsonl"))
    parts = [str(folder / part) for part in ("images", "gt", "val.txt")]
    if missing := [part for part in parts if not Path(part).exists()]:
        raise FileNotFoundError(f"{name}: there is no {' and no '.join(missing)}, and no train.jsonl")
    images, labels, held_out = parts
    photos = ("--train_images", images, "--train_annotations", labels)
    train = (*photos, "--eval_images", images, "--eval_list", held_out)
    return Source(name, train, ("--images", images, "--annotations", labels, "--include", held_out))


def _public_source(name: str, root: Path | None) -> Source:
    if root is None:
        raise FileNotFoundError(f"{name}: say with --root where public data sets lie")
    splits = KNOWN_DATASETS[name].splits if name in KNOWN_DATASETS else {}
    if not splits:
        raise ValueError(f"no data set {name!r} is known; there are {', '.join(KNOWN_DATASETS)}, or NAME=FOLDER")
    folder = folder_of(name, root)
    if folder is None:
        raise FileNotFoundError(f"{name}: there is no folder of that name in {root}")
    missing = dict.fromkeys(part for one in splits for part in missing_parts(name, folder, one))
    if missing:
        raise FileNotFoundError(f"{name}: there is no {' and no '.join(missing)} in {folder}")
    train = ("--train_sets", name, "--data_root", str(root)) if "train" in splits else ()
    test = ("--dataset", name, "--root", str(root)) if "test" in splits else ()
    return Source(name, train, test)


def sources(names: Sequence[str], root: Path | None) -> tuple[list[Source], list[str]]:
    """The sets that are there, and why the others are not."""
    found, skipped = [], []
    for name in names:
        try:
            found.append(source_of(name, root))
        except FileNotFoundError as error:
            skipped.append(str(error))
    return found, skipped


def joined(several: Sequence[Source]) -> tuple[str, ...]:
    """Arguments that train on several public sets at once."""
    names = [source.train[1] for source in several]
    return ("--train_sets", *names, *several[0].train[2:])


def new_run(
    options: argparse.Namespace,
    head: str,
    prompting: str,
    trained_on: str,
    data: Sequence[str],
    tests: Sequence[Source],
    seed: int,
    share: float = 1.0,
    variant: str = "",
    settings: dict[str, object] | None = None,
) -> Run:
    """A training; those that differ in nothing but their tests share a folder."""
    settings = dict(settings or {})
    prompting = str(settings.pop("prompting", prompting))
    marks = "".join(f"-{name}={value}" for name, value in settings.items())
    size = "clip" if options.clip else "encoder" if options.encoder else options.preset
    folder = options.output_dir / f"{head}-{prompting}{marks}-{trained_on}-{share:g}-{seed}-{size}"
    overrides = {"prompting": prompting, **settings}
    start = [str(EXAMPLE / "recipes" / "study.yaml")]
    if options.clip:
        start = [*_row_of(head, trained_on), "--clip", str(options.clip)]
    elif options.encoder:
        start += ["--model_name_or_path", str(start_of(head, prompting, options))]
    else:
        start += ["--preset", options.preset]
        overrides = {"head_type": head, **overrides}
    few = ["--few_shot", f"{share:g}", "--few_shot_seed", str(seed)] if share < 1 else []
    limit = [] if options.max_seconds is None else ["--max_seconds", f"{options.max_seconds:g}"]
    resume = [] if limit else ["--resume_from_checkpoint", "last"]
    arguments = [*start, "--config_overrides", json.dumps(overrides), *data, *few, "--seed", str(seed), *limit, *resume]
    return Run(head, prompting, variant, trained_on, folder, arguments, tests)


def start_of(head: str, prompting: str, options: argparse.Namespace) -> Path:
    """Where the new head on the encoder of another model lies, from which `--encoder` starts."""
    folder: Path = options.output_dir / "starts" / f"{head}-{prompting}"
    return folder


def _row_of(head: str, trained_on: str) -> list[str]:
    """The paper's recipe of a head on a data set; that for ICDAR 2015 where there is none."""
    names = [f"fasttcm-{head}-{name.replace('-', '')}" for name in (trained_on, "icdar2015")]
    rows = [ROOT / "hub_configs" / name for name in names if (ROOT / "hub_configs" / name).is_dir()]
    if not rows:
        raise SystemExit(f"error: the papers have no row for {head}, which --clip takes recipes from")
    return [str(rows[0] / "finetuning.yaml"), "--config_name", str(rows[0])]


def plan(options: argparse.Namespace) -> tuple[list[Run], list[str]]:
    """The runs of a study, and the sets that are skipped."""
    found, skipped = sources(NIGHT_POOL if options.study == "night" else options.sets, options.root)
    if options.study == "night":
        found = [source for source in found if source.train]
        night, missing = sources([NIGHT], options.root)
        pairs = [(head, prompting) for head in options.heads for prompting in options.prompting]
        pool = "+".join(source.name for source in found)
        runs = [
            new_run(options, *pair, pool, joined(found), night, seed)
            for pair in pairs
            for seed in options.seeds
            if night and found
        ]
        return runs, skipped + missing
    return list(_runs(options, found)), skipped


def _runs(options: argparse.Namespace, found: list[Source]) -> Iterator[Run]:
    """The runs of all studies but that of the night."""
    tests = [source for source in found if source.test]
    for source in (source for source in found if source.train):
        itself = [source] if source.test else []
        for head in options.heads:
            for seed in options.seeds:
                common = (source.name, source.train)
                if options.study == "ablation":
                    for title, settings in COMPONENTS.items():
                        yield new_run(options, head, "fasttcm", *common, itself, seed, 1.0, title, dict(settings))
                    continue
                for prompting in options.prompting:
                    if options.study == "few-shot":
                        for share in options.shares:
                            title = f"{100 * share:g} %"
                            yield new_run(options, head, prompting, *common, itself, seed, share, title)
                    else:
                        judged = tests if options.study == "cross-dataset" else itself
                        yield new_run(options, head, prompting, *common, judged, seed)


def training_command(run: Run, further: Sequence[str]) -> list[str]:
    """The command that trains a run."""
    script, model = str(EXAMPLE / "run_text_detection.py"), str(run.folder / "model")
    return [sys.executable, script, *run.train, "--output_dir", model, *further]


def judging_command(run: Run, test: Source, protocol: str) -> list[str]:
    """The command that judges a run on a set."""
    program = str(Path(sys.executable).with_name("transformers-tcm"))
    thresholds = ["--box-threshold", "0.3"] if protocol == "best-iou" else []
    polygon = ["--decoding", f"polygon={str(test.name in CURVED).lower()}"]
    model = ["--model", str(run.folder / "model"), "--task", "detection", "--protocol", protocol]
    return [program, "evaluate", *test.test, *model, *thresholds, *polygon, "--output", str(_figures(run, test))]


def _figures(run: Run, test: Source) -> Path:
    return run.folder / f"{test.name}.json"


def carry_out(run: Run, options: argparse.Namespace, further: Sequence[str]) -> None:
    """Train and judge, as far as that has not been done."""
    if not (run.folder / "model" / "model.safetensors").is_file():
        command = training_command(run, further)
        run_logged(command, run.folder / "log.txt", options.threads, f"the training in {run.folder}")
    for test in run.tests:
        if not _figures(run, test).is_file():
            command = judging_command(run, test, options.protocol)
            run_logged(command, run.folder / f"{test.name}.log", options.threads, f"judging {run.folder}")


def measured(runs: Sequence[Run]) -> list[Row]:
    """The lines of the table, seeds together, of what has been judged."""
    rows: dict[tuple[str, str, str, str], Row] = {}
    for run in runs:
        for test in run.tests:
            if _figures(run, test).is_file():
                figures = json.loads(_figures(run, test).read_text(encoding="utf-8"))
                key = (run.model, run.variant, run.trained_on, test.name)
                row = rows.setdefault(key, Row(*key))
                row.hmeans.append(figures["hmean"])
                row.seconds.append(figures["seconds_per_image"])
    return list(rows.values())


def published_for(study: str, row: Row) -> Published | None:
    """The published figure of the same model, sets and variant."""
    for one in PUBLISHED:
        sets = (one.train, one.test) in (("", ""), (row.train, row.test))
        if (one.study, one.model, one.variant) == (study, row.model, row.variant) and sets:
            return one
    return None


def table(study: str, rows: Sequence[Row], skipped: Sequence[str], protocol: str, start: str) -> str:
    """The figures in Markdown, the published ones beside ours, and those that have no row of ours."""
    unit = "frames per second" if study == "speed" else f"hmean, {protocol}"
    lines = [
        f"| model | | trained on | judged on | {unit} | seeds, lowest to highest | published | source |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    beside = set()
    for row in rows:
        published = published_for(study, row)
        beside.add(published)
        spread = f"{len(row.hmeans)}, {100 * min(row.hmeans):.1f} to {100 * max(row.hmeans):.1f}"
        cells = [row.model, row.variant, row.train, row.test, f"{row.ours(study):.1f}", spread]
        cells += ["", ""] if published is None else [published.figure, published.source]
        lines.append(f"| {' | '.join(cells)} |")
    for one in PUBLISHED:
        if one.study == study and one not in beside:
            lines.append(
                f"| {one.model} | {one.variant} | {one.train} | {one.test} | | | {one.figure} | {one.source} |"
            )
    lines += ["", f"Ours: {start}.", *(f"Skipped: {reason}." for reason in skipped)]
    return "\n".join(lines).rstrip() + "\n"


def chart(study: str, rows: Sequence[Row]) -> str:
    """Bars of our figures as SVG, with a stroke where a figure is published."""
    published = [published_for(study, row) for row in rows]
    marks = [float(one.figure) if one is not None and one.figure[0].isdecimal() else None for one in published]
    highest = max([1.0, *(row.ours(study) for row in rows), *(mark for mark in marks if mark is not None)])
    left, width, step = 430, 330, 24
    parts = []
    for index, (row, mark) in enumerate(zip(rows, marks, strict=True)):
        y, length = index * step + 10, width * row.ours(study) / highest
        names = [row.model, row.variant, f"{row.train} to {row.test}" if row.train != row.test else row.train]
        label = escape(", ".join(name for name in names if name))
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{label}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="16" fill="#4477aa"/>')
        parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 12}">{row.ours(study):.1f}</text>')
        if mark is not None:
            x = left + width * mark / highest
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2}" y2="{y + 18}" stroke="#cc3311"/>')
    legend = f'<text x="8" y="{len(rows) * step + 28}">{study}: bars are ours, red strokes are published</text>'
    size = f'viewBox="0 0 820 {len(rows) * step + 40}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}{legend}</svg>\n'


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The options of this script, and what is left for every training."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--root", type=Path, help="folder with a subfolder for each public data set")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="names, or NAME=FOLDER")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/study"))
    parser.add_argument("--heads", nargs="+", default=["dbnet"], help="such as dbnet pan fcenet")
    parser.add_argument("--prompting", nargs="+", default=["fasttcm"], choices=["fasttcm", "tcm", "none"])
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.2, 0.1], help="of the labels, few-shot")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--preset", default="tiny", choices=["tiny", "small", "base"])
    parser.add_argument("--clip", type=Path, help="RN50.pt: the papers' own models and recipes")
    parser.add_argument("--encoder", help="detector whose encoder and prompting all start with, under new heads")
    parser.add_argument("--max_seconds", type=float, help="of a training")
    parser.add_argument("--protocol", default="best-iou", choices=["best-iou", "iou"], help="as the papers: best-iou")
    parser.add_argument("--threads", type=int, default=1, help="of trainings and measurements")
    parser.add_argument("--dry_run", action="store_true", help="print all commands, run none")
    return parser.parse_known_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options, further = parse_arguments(arguments)
    runs, skipped = plan(options)
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if not runs:
        raise SystemExit("error: nothing to run: none of the data sets is there")
    if options.dry_run:
        for run in runs:
            commands = [judging_command(run, test, options.protocol) for test in run.tests]
            print("\n".join(shlex.join(command) for command in [training_command(run, further), *commands]))
        return
    if options.encoder:
        for head, prompting in sorted({(run.head, run.prompting) for run in runs}):
            write_start(head, options.encoder, start_of(head, prompting, options), prompting)
    for run in runs:
        carry_out(run, options, further)
    rows = measured(runs)
    limit = "" if options.max_seconds is None else f", {options.max_seconds:g} seconds of training"
    start = f"new models of the {options.preset} preset"
    if options.clip:
        start = "the papers' recipes from CLIP RN50"
    elif options.encoder:
        start = f"new heads on the encoder of {options.encoder}"
    text = table(options.study, rows, skipped, options.protocol, f"{start}{limit}")
    (options.output_dir / f"{options.study}.md").write_text(text, encoding="utf-8")
    (options.output_dir / f"{options.study}.svg").write_text(chart(options.study, rows), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
