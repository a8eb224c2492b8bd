"""The page itself: one HTML file without scripts, which takes nothing from elsewhere, and the photos beside it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from PIL import Image

from ..failures import DEFINITIONS, ImageOutcomes, Outcome, count_outcomes, size_buckets, worst_images
from ..score_curve import ScoreCurve
from ..scores import EvaluationResult
from .charts import precision_recall_chart, score_histogram
from .crops import enlarged, failure_figure, list_failures
from .photo import annotated_photo

__all__ = ["Report", "write_report"]

# Long enough to read the words in, short enough for thirty photos on a page.
_LONGEST_EDGE = 1280


@dataclass(frozen=True)
class Report:
    """What the page tells.

    Args:
        title: heading of the page.
        results: figures by the name of their protocol: `detection`, and for spotters `end_to_end` and others.
        settings: what the model was run with, by name.
        images: what became of the words of each image.
        curve: precision and recall over the scores of the detections.
        threshold: lowest score of the detections that the figures come from.
    """

    title: str
    results: Mapping[str, EvaluationResult]
    settings: Mapping[str, object]
    images: Sequence[ImageOutcomes]
    curve: ScoreCurve
    threshold: float

    @property
    def with_words(self) -> bool:
        """Whether words were read."""
        return "end_to_end" in self.results


def write_report(folder: Path, report: Report, load_photo: Callable[[int], Image.Image], worst: int = 30) -> Path:
    """Write `index.html`, and the photos it shows into `photos/`.

    Args:
        folder: is created where missing; what an earlier report left there under the same names is replaced.
        report: what the page tells.
        load_photo: gives the upright photo of an image by its position in `report.images`.
        worst: show at most so many photos, those with most failures first.

    Returns:
        The path of the page.

    Raises:
        OSError: if a file cannot be written.
    """
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    shown = worst_images(report.images, worst)
    cards = []
    for number, index in enumerate(shown, start=1):
        photo = load_photo(index)
        # Numbered, because names of images need be neither unique nor good names of files.
        name = f"photos/{number:02d}.jpg"
        reduced = photo.copy()
        reduced.thumbnail((_LONGEST_EDGE, _LONGEST_EDGE))
        reduced.save(folder / name, quality=85)
        shot = annotated_photo(report.images[index], name, photo.size)
        cards.append(_card(report.images[index], shot, _failures(report.images[index], photo, folder, f"{number:02d}")))
    page = folder / "index.html"
    # Halves of surrogate pairs, which labels may hold, cannot be encoded.
    page.write_text(_render(report, len(shown), "\n".join(cards)), encoding="utf-8", errors="replace")
    return page


def _render(report: Report, shown: int, cards: str) -> str:
    template = Template(resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    failing = sum(image.failures > 0 for image in report.images)
    return template.substitute(
        title=escape(report.title),
        subtitle=f"{len(report.images)} images, {failing} of them with failures.",
        figures=_figures(report.results),
        settings=_settings(report.settings),
        sizes=_sizes(report),
        kinds=_kinds(report),
        charts=_charts(report),
        shown=f"{shown} of {failing} images with failures, most failures first. Point at an outline for its word; "
        "below each photo its failures are enlarged.",
        switches="\n".join(map(_switch_rule, DEFINITIONS)),
        cards=cards,
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Cells are escaped; the first of each row is its header."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(str(row[0]))}</th>{"".join(f"<td>{escape(str(cell))}</td>" for cell in row[1:])}'
        "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"


def _figures(results: Mapping[str, EvaluationResult]) -> str:
    rows = [
        (
            name.replace("_", " "),
            *(f"{figure:.4f}" for figure in (result.precision, result.recall, result.hmean)),
            f"{result.found:g}",
            result.ground_truths,
            result.detections,
        )
        for name, result in results.items()
    ]
    return _table(["protocol", "precision", "recall", "hmean", "right", "labels", "detections"], rows)


def _settings(settings: Mapping[str, object]) -> str:
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in settings.items())
    return f"<dl>{''.join(rows)}</dl>"


def _label_kinds(report: Report) -> list[Outcome]:
    """The outcomes that a label which counts can have."""
    kinds = [kind for kind in DEFINITIONS if kind not in (Outcome.IGNORED, Outcome.FALSE)]
    return [kind for kind in kinds if report.with_words or kind is not Outcome.WRONG_WORD]


def _sizes(report: Report) -> str:
    kinds = _label_kinds(report)
    head = ["short side", "words", "recall", *(["end to end"] if report.with_words else []), *kinds]
    rows: list[list[object]] = []
    for bucket in size_buckets(report.images):
        shares = [bucket.recall, bucket.end_to_end_recall] if report.with_words else [bucket.recall]
        figures = [f"{share:.3f}" if bucket.words else "–" for share in shares]
        rows.append([f"{bucket.name} px", bucket.words, *figures, *(bucket.outcomes[kind] for kind in kinds)])
    return _table(head, rows)


def _slug(kind: Outcome) -> str:
    """The name of a kind as a class of the style sheet."""
    return kind.value.replace(" ", "-")


def _switch_rule(kind: Outcome) -> str:
    """Hides the outlines of a kind, and its enlarged failures, while its box is not ticked."""
    hidden, kind_class = f":root:has(#show-{_slug(kind)}:not(:checked))", _slug(kind)
    return f"{hidden} .photo .{kind_class}, {hidden} .failure.{kind_class} {{ display: none; }}"


def _kinds(report: Report) -> str:
    labels, found = count_outcomes(report.images)
    rows = []
    for kind, definition in DEFINITIONS.items():
        if kind is Outcome.WRONG_WORD and not report.with_words:
            continue
        # Photos may hold hundreds of illegible words, whose outlines would bury the others.
        state = "" if kind is Outcome.IGNORED else " checked"
        box = f'<input type="checkbox" id="show-{_slug(kind)}"{state}>'
        name = f'<label for="show-{_slug(kind)}"><span class="swatch {_slug(kind)}"></span>{kind.value}</label>'
        counts = f"<td>{labels[kind]}</td><td>{found[kind]}</td>"
        rows.append(f'<tr><th scope="row">{box} {name}</th>{counts}<td class="words">{escape(definition)}</td></tr>')
    head = "<th>kind</th><th>labels</th><th>detections</th><th class='words'>meaning</th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _charts(report: Report) -> str:
    detection, best = report.results["detection"], report.curve.best()
    remark = "The dot is this run. Detections below its threshold come from a second run of the model with a lower one."
    if best is not None:
        remark += f" The highest hmean on the curve is {best[1]:.4f}, at the threshold {best[0]:.3f}: chosen on "
        remark += "the images it is measured on, so a new image will not give as much."
    curve = precision_recall_chart(report.curve, detection.recall, detection.precision)
    histogram = score_histogram(report.curve, report.threshold)
    return (
        f"<figure>{curve}<figcaption>Precision and recall of the detection as its threshold falls. {remark}"
        f"</figcaption></figure><figure>{histogram}<figcaption>Scores of detections that "
        f'<span class="swatch matched"></span>match a label and of those that <span class="swatch false"></span>do '
        f"not. The line is the threshold of this run, {report.threshold:g}.</figcaption></figure>"
    )


def _failures(image: ImageOutcomes, photo: Image.Image, folder: Path, number: str) -> str:
    """Every failure in a photo, enlarged; writes the pictures."""
    figures = []
    for place, failure in enumerate(list_failures(image), start=1):
        crop, outline = enlarged(photo, failure)
        name = f"photos/{number}-{place:03d}.jpg"
        crop.save(folder / name, quality=85)
        figures.append(failure_figure(failure, name, crop.size, outline))
    return f'<div class="failures">{"".join(figures)}</div>'


def _card(image: ImageOutcomes, photo: str, failures: str) -> str:
    """A photo with how often each kind occurs, and all its failures one by one."""
    labels, found = count_outcomes([image])
    counts = []
    for kind in DEFINITIONS:
        numbers = [(labels[kind], "label"), (found[kind], "detection")]
        # Pairs are counted once.
        numbers = numbers[:1] if kind in (Outcome.MATCHED, Outcome.WRONG_WORD) else numbers
        text = ", ".join(f"{number} {name}{'s' * (number != 1)}" for number, name in numbers if number)
        if text:
            counts.append(f'<li><span class="swatch {_slug(kind)}"></span>{kind.value}: {text}</li>')
    name = escape(str(image.image_id))
    return f'<article class="card">{photo}<div><h3>{name}</h3><ul>{"".join(counts)}</ul></div>{failures}</article>'
