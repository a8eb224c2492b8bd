"""The benchmark of reading: every word is where its box says, readers take turns, the first round does not count."""

import numpy as np


def test_boxes_hold_their_words_alone(script) -> None:
    paper, boxes, texts = script.page(20)
    ink = np.asarray(paper.convert("L")) < 128
    assert len(boxes) == len(texts) == 20
    for left, top, right, bottom in boxes:
        assert ink[top:bottom, left:right].any()
        ink[top:bottom, left:right] = False
    assert not ink.any()


def test_words_are_cut_out(script, tmp_path) -> None:
    paper, boxes, _ = script.page(3)
    files = script.save_words(paper, boxes, tmp_path)
    sizes = [script.Image.open(file).size for file in files]
    assert sizes == [(right - left, bottom - top) for left, top, right, bottom in boxes]


def test_readers_take_turns_after_a_round_to_warm_up(script) -> None:
    turns: list[str] = []

    def reader(name: str, times: list[float], texts: list[str]):
        clock = iter(times)
        return lambda: (turns.append(name) or next(clock), texts)

    readers = {"a": reader("a", [9, 0.1, 0.3, 0.2], ["in", "on"]), "b": reader("b", [9, 1, 1, 1], ["in", "out"])}
    assert script.told(readers, ["in", "out"], 3) == ["a 200 ms (1 exactly)", "b 1000 ms (2 exactly)"]
    assert turns == ["a", "b"] * 4
