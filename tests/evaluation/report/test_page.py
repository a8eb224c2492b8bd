"""The page of failures: what it says, that it is sound HTML without scripts, and that words cannot break it."""

import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from transformers_tcm.evaluation import DetectionIoU, EndToEnd
from transformers_tcm.evaluation.failures import classify
from transformers_tcm.evaluation.report import Report, write_report
from transformers_tcm.evaluation.score_curve import score_curve
from transformers_tcm.instances import TextInstances

NASTY = "<b>&\"'</b>"
VOID = {"meta", "input", "link", "img", "br"}


def word(left: float, text: str = "SALE", score: float = 0.75) -> dict:
    return {"polygon": [[left, 0], [left + 40, 0], [left + 40, 20], [left, 20]], "text": text, "score": score}


def instances(words: Sequence[dict]) -> TextInstances:
    return TextInstances(
        [one["polygon"] for one in words],
        texts=[one["text"] for one in words],
        scores=np.array([one["score"] for one in words]),
    )


def make_report(
    images: dict[str, tuple[Sequence[dict], Sequence[dict]]], with_words: bool = True, **fields: object
) -> Report:
    """Of labels and detections by the name of the image."""
    pairs = {name: (instances(labels), instances(found)) for name, (labels, found) in images.items()}
    metrics = {"detection": DetectionIoU()} | ({"end_to_end": EndToEnd()} if with_words else {})
    for name, pair in pairs.items():
        for metric in metrics.values():
            metric.update(*pair, name)
    outcomes = [classify(*pair, name, with_words) for name, pair in pairs.items()]
    results = {name: metric.compute() for name, metric in metrics.items()}
    given = {"title": "A test", "settings": {}, "threshold": 0.5, **fields}
    return Report(results=results, images=outcomes, curve=score_curve(pairs.values()), **given)


class Page(HTMLParser):
    """Texts and tags; fails at a tag that is not closed in its turn."""

    def __init__(self, source: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Page]:
    def write_and_parse(report: Report, worst: int = 30) -> Page:
        page = write_report(tmp_path / "report", report, lambda index: PIL.Image.new("RGB", (640, 480), "grey"), worst)
        assert page == tmp_path / "report" / "index.html"
        return Page(page.read_text(encoding="utf-8"))

    return write_and_parse


def cells(page: str, header: str) -> list[str]:
    """The cells of the first row of a table with this header."""
    found = re.search(rf'<th scope="row">{header}</th>(.*?)</tr>', page)
    return re.findall(r"<td>(.*?)</td>", found.group(1))


def test_figures_sizes_kinds_and_words(write: Callable, tmp_path: Path) -> None:
    labels = [word(0, "SALE"), word(100, "STOP"), word(200, "EXIT")]
    write(make_report({"a.jpg": (labels, [word(0, "sale"), word(100, "SHOP"), word(400, "x")])}))
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    # Two of three labels found, one of them read; three detections.
    assert cells(page, "detection") == ["0.6667", "0.6667", "0.6667", "2", "3", "3"]
    assert cells(page, "end to end") == ["0.3333", "0.3333", "0.3333", "1", "3", "3"]
    # Words, recall, end to end, then matched, wrong word, split, merged, inexact, missed.
    assert cells(page, "16 to 32 px") == ["3", "0.667", "0.333", "1", "1", "0", "0", "0", "1"]
    assert cells(page, "8 to 16 px") == ["0", "–", "–", "0", "0", "0", "0", "0", "0"]
    for kind, counts in {"matched": (1, 1), "wrong word": (1, 1), "missed": (1, 0), "false": (0, 1)}.items():
        assert re.search(rf">{kind}</label></th><td>{counts[0]}</td><td>{counts[1]}</td>", page), kind
    assert "wrong word: read <bdi>SHOP</bdi> / label <bdi>STOP</bdi>" in page
    assert "missed: read – / label <bdi>EXIT</bdi>" in page
    assert "false: read <bdi>x</bdi> / label –" in page
    card = page[page.index("<article") :]
    assert re.findall(r"</span>([^<]+)</li>", card) == [
        "matched: 1 label",
        "wrong word: 1 label",
        "missed: 1 label",
        "false: 1 detection",
    ]


def test_a_detector_has_no_words(write: Callable, tmp_path: Path) -> None:
    page = write(make_report({"a.jpg": ([word(0, "STOP")], [word(0, "SHOP")])}, with_words=False))
    assert not page.named("article"), "there is no failure"
    source = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert not {"end to end", "wrong word"} & set(page.texts)
    assert cells(source, "16 to 32 px") == ["1", "1.000", "1", "0", "0", "0", "0"]


def test_worst_photos_first_and_no_more_than_wanted(write: Callable, tmp_path: Path) -> None:
    images = {"fine.jpg": ([word(0)], [word(0)]), "one.jpg": ([word(0)], []), "two.jpg": ([word(0), word(50)], [])}
    page = write(make_report(images), worst=5)
    assert [text for text in page.texts if text.endswith(".jpg")] == ["two.jpg", "one.jpg"]
    assert "2 of 2 images with failures" in "".join(page.texts)
    page = write(make_report(images), worst=1)
    assert [text for text in page.texts if text.endswith(".jpg")] == ["two.jpg"]
    assert not write(make_report(images), worst=0).named("article")


def test_every_picture_is_there_and_nothing_else_is_asked_for(write: Callable, tmp_path: Path) -> None:
    page = write(make_report({name: ([word(0)], []) for name in ("a/1.jpg", "b/1.jpg")}))
    sources = [attributes["href"] for attributes in page.named("image")]
    assert sources == ["photos/01.jpg", "photos/01-001.jpg", "photos/02.jpg", "photos/02-001.jpg"]
    for source in sources[::2]:
        assert PIL.Image.open(tmp_path / "report" / source).size == (640, 480)
    assert PIL.Image.open(tmp_path / "report" / sources[1]).size == (187, 112)  # 50 x 30 pixels of the corner
    assert not page.named("script")
    assert not page.named("link")
    assert not page.named("img")
    assert "http" not in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_large_photos_are_reduced_but_outlines_keep_their_coordinates(tmp_path: Path) -> None:
    report = make_report({"a.jpg": ([word(2000)], [])})
    photo = PIL.Image.new("RGB", (2560, 1280), "grey")
    page = Page(write_report(tmp_path, report, lambda index: photo).read_text(encoding="utf-8"))
    assert PIL.Image.open(tmp_path / "photos" / "01.jpg").size == (1280, 640)
    assert photo.size == (2560, 1280)
    (drawing,) = (one for one in page.named("svg") if one["class"] == "photo")
    assert drawing["viewbox"] == "0 0 2560 1280"
    assert "2000.0,0.0 2040.0,0.0 2040.0,20.0 2000.0,20.0" in {one["points"] for one in page.named("polygon")}


def test_failures_are_cut_out_of_the_whole_photo(tmp_path: Path) -> None:
    """A word of 40 x 20 pixels, in the photo before it is reduced, with half its height around it."""
    photo = PIL.Image.new("RGB", (2560, 1280), "grey")
    photo.paste("red", (2000, 600, 2040, 620))
    label = {**word(2000, "STOP"), "polygon": [[2000, 600], [2040, 600], [2040, 620], [2000, 620]]}
    page = Page(write_report(tmp_path, make_report({"a.jpg": ([label], [])}), lambda index: photo).read_text("utf-8"))
    crop = PIL.Image.open(tmp_path / "photos" / "01-001.jpg")
    assert crop.size == (168, 112)
    (drawing,) = (one for one in page.named("svg") if one["class"] == "photo enlarged")
    assert drawing["viewbox"] == "0 0 168 112"
    outline = next(one["points"] for one in page.named("polygon") if one["points"].startswith("28.0,28.0"))
    assert outline == "28.0,28.0 140.0,28.0 140.0,84.0 28.0,84.0"
    red = np.asarray(crop).astype(int)
    assert (red[40:75, 40:130, 0] > 200).all()
    assert (abs(red[:20] - 128) < 20).all()


def test_outlines_outside_of_their_photo_are_shown_as_what_is_nearest(write: Callable) -> None:
    page = write(
        make_report({"a.jpg": ([word(5000), {**word(0), "polygon": [[-90, -90], [-50, -90], [-50, -70]]}], [])})
    )
    assert len([one for one in page.named("svg") if one["class"] == "photo enlarged"]) == 2


def test_words_and_names_are_escaped(write: Callable, tmp_path: Path) -> None:
    images = {NASTY: ([word(0, NASTY), word(100, NASTY), word(200, "x")], [word(0, "y"), word(200, NASTY)])}
    page = write(make_report(images, title=NASTY, settings={NASTY: NASTY}))
    source = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "<b>" not in source
    assert "$" not in source, "every field of the template is filled"
    # Title and heading, name and value of the setting, name of the image, label of the first and reading of the last.
    assert page.texts.count(NASTY) >= 7
    assert f"missed: label {NASTY}" in page.texts
    assert f"wrong word: detection, read as {NASTY}, label x, score 0.75" in page.texts
    assert NASTY in {one.get("aria-label") for one in page.named("svg")}


def test_halves_of_surrogate_pairs_and_dollars_are_written(write: Callable) -> None:
    page = write(make_report({"$a.jpg": ([word(0, "\ud83d"), word(100, "$x ${y}")], [word(0, "x"), word(100, "z")])}))
    assert {"?", "$x ${y}", "$a.jpg"} <= set(page.texts)


def test_every_kind_has_a_colour_and_a_switch(write: Callable, tmp_path: Path) -> None:
    page = write(make_report({"a.jpg": ([word(0)], [])}))
    source = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    boxes = [one["id"] for one in page.named("input")]
    assert len(boxes) == 8
    for box in boxes:
        kind = box.removeprefix("show-")
        assert f"--{kind}: #" in source
        assert f".{kind} {{ --kind: var(--{kind}); }}" in source
        assert f"#{box}:not(:checked)" in source
        assert {"for": box} in page.named("label")


def test_no_images_and_no_detections(write: Callable) -> None:
    assert "0 images" in "".join(write(make_report({})).texts)
    assert write(make_report({"a.jpg": ([word(0)], [])})).named("article")
