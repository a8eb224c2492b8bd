"""The page itself: one HTML file without scripts, which takes nothing from elsewhere, and the photos beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from ..failures import DEFINITIONS, ImageOutcomes, Outcome, count_outcomes, size_buckets, worst_images
from ..score_curve import ScoreCurve
from ..scores import EvaluationResult
from .charts import precision_recall_chart, score_histogram
from .crops import enlarged, list_failures
from .photo import annotated_photo
from .templates import render

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
    page.write_text(_page(report, cards), encoding="utf-8", errors="replace")
    return page


def _page(report: Report, cards: list[dict[str, Any]]) -> str:
    detection = report.results["detection"]
    head, sizes = _sizes(report)
    return render(
        "page.html",
        report=report,
        failing=sum(image.failures > 0 for image in report.images),
        definitions=list(DEFINITIONS),
        figures=[_figures(name, result) for name, result in report.results.items()],
        sizes_head=head,
        sizes=sizes,
        kinds=_kinds(report),
        best=report.curve.best(),
        curve=Markup(precision_recall_chart(report.curve, detection.recall, detection.precision)),
        histogram=Markup(score_histogram(report.curve, report.threshold)),
        cards=cards,
    )


def _figures(name: str, result: EvaluationResult) -> list[object]:
    """The row of a protocol."""
    shares = [f"{figure:.4f}" for figure in (result.precision, result.recall, result.hmean)]
    return [name.replace("_", " "), *shares, f"{result.found:g}", result.ground_truths, result.detections]


def _label_kinds(report: Report) -> list[Outcome]:
    """The outcomes that a label which counts can have."""
    kinds = [kind for kind in DEFINITIONS if kind not in (Outcome.IGNORED, Outcome.FALSE)]
    return [kind for kind in kinds if report.with_words or kind is not Outcome.WRONG_WORD]


def _sizes(report: Report) -> tuple[list[str], list[list[object]]]:
    """Head and rows of the table of recall by size."""
    kinds = _label_kinds(report)
    head = [
        "short side",
        "words",
        "recall",
        *(["end to end"] if report.with_words else []),
        *(kind.value for kind in kinds),
    ]
    rows: list[list[object]] = []
    for bucket in size_buckets(report.images):
        shares = [bucket.recall, bucket.end_to_end_recall] if report.with_words else [bucket.recall]
        figures = [f"{share:.3f}" if bucket.words else "–" for share in shares]
        rows.append([f"{bucket.name} px", bucket.words, *figures, *(bucket.outcomes[kind] for kind in kinds)])
    return head, rows


def _kinds(report: Report) -> list[tuple[Outcome, str, int, int]]:
    """Each kind that may occur, its definition, and how many labels and detections are of it."""
    labels, found = count_outcomes(report.images)
    kinds = [kind for kind in DEFINITIONS if report.with_words or kind is not Outcome.WRONG_WORD]
    return [(kind, DEFINITIONS[kind], labels[kind], found[kind]) for kind in kinds]


def _failures(image: ImageOutcomes, photo: Image.Image, folder: Path, number: str) -> list[dict[str, Any]]:
    """Every failure in a photo, enlarged; writes the pictures."""
    figures = []
    for place, failure in enumerate(list_failures(image), start=1):
        crop, outline = enlarged(photo, failure)
        name = f"photos/{number}-{place:03d}.jpg"
        crop.save(folder / name, quality=85)
        figures.append(
            {
                "kind": failure.kind,
                "source": name,
                "width": crop.width,
                "height": crop.height,
                "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in outline.tolist()),
                "side": "label" if failure.is_label else "detection",
                "reading": failure.reading,
                "label": failure.label,
            }
        )
    return figures


def _card(image: ImageOutcomes, photo: Markup, failures: list[dict[str, Any]]) -> dict[str, Any]:
    """A photo with how often each kind occurs, and all its failures one by one."""
    labels, found = count_outcomes([image])
    counts = []
    for kind in DEFINITIONS:
        numbers = [(labels[kind], "label"), (found[kind], "detection")]
        # Pairs are counted once.
        numbers = numbers[:1] if kind in (Outcome.MATCHED, Outcome.WRONG_WORD) else numbers
        text = ", ".join(f"{number} {name}{'s' * (number != 1)}" for number, name in numbers if number)
        if text:
            counts.append((kind, text))
    return {"photo": photo, "name": str(image.image_id), "counts": counts, "failures": failures}
