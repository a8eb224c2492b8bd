"""Outlines over a photo."""

import re

from transformers_tcm.evaluation.failures import classify
from transformers_tcm.evaluation.report.photo import annotated_photo
from transformers_tcm.instances import TextInstances


def row(*words: tuple[float, str]) -> TextInstances:
    boxes = [[[left, 50], [left + 40, 50], [left + 40, 70], [left, 70]] for left, _ in words]
    return TextInstances(boxes, texts=[text for _, text in words])


def draw(ground_truth: TextInstances, detections: TextInstances) -> str:
    return annotated_photo(classify(ground_truth, detections, "a.jpg", with_words=True), "photos/01.jpg", (600, 300))


def test_labels_are_dashed_detections_solid_and_pairs_drawn_once() -> None:
    drawn = draw(row((0, "SALE"), (100, "STOP"), (200, "EXIT")), row((0, "SALE"), (100, "SHOP"), (300, "x")))
    groups = re.findall(r'<g class="([\w-]+)">.*?<polygon class="line (\w+)" points="(\d+)', drawn)
    assert set(groups) == {
        ("matched", "detection", "0"),
        ("wrong-word", "detection", "100"),
        ("missed", "label", "200"),
        ("false", "detection", "300"),
    }
    assert groups[0][0] == "matched", "failures lie on top"


def test_wrong_readings_are_written_inside_the_picture() -> None:
    drawn = draw(row((0, "STOP"), (100, "SALE")), row((0, "SHOP"), (100, "SALE")))
    assert re.findall(r"<text .*?>(.*?)</text>", drawn) == ["SHOP"]
    assert 'x="1.0" y="47.5" font-size="10.0"' in drawn


def test_what_an_outline_tells() -> None:
    ground_truth, detections = row((0, "STOP"), (200, "EXIT")), row((0, "SHOP"))
    detections.scores = [0.875]
    titles = re.findall(r"<title>(.*?)</title>", draw(ground_truth, detections))
    assert set(titles) == {"missed: label EXIT", "wrong word: detection, read as SHOP, label STOP, score 0.88"}
    unread = TextInstances(ground_truth.polygons)
    found = classify(unread, TextInstances([]), "a.jpg")
    assert re.findall(r"<title>(.*?)</title>", annotated_photo(found, "x.jpg", (600, 300))) == ["missed: label"] * 2
