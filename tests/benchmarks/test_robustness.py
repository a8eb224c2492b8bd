"""The table of words by height and turn, figures checked by hand, and the set it is about."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFont

from transformers_tcm import TextInstances
from transformers_tcm.data.loaders import load_jsonl, row_to_instances
from transformers_tcm.data.warp import homography, warp
from transformers_tcm.geometry import signed_area, word_height

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # where its dataclasses look up their types
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table() -> ModuleType:
    load("compare_accuracy")  # as if the scripts' folder were searched
    return load("robustness")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load("make_validation_set")


def box(left: float, top: float, width: float, height: float) -> np.ndarray:
    return np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]], np.float32)


def detections(*words: tuple[np.ndarray, str, float]) -> TextInstances:
    polygons, texts, scores = zip(*words, strict=True) if words else ((), (), ())
    return TextInstances(list(polygons), np.array(scores), list(texts), np.array(scores))


@pytest.fixture
def sign(table: ModuleType):
    """Words 10, 20 and 80 px high, and one that nobody can read."""
    boxes = [box(0, 0, 40, 10), box(0, 20, 60, 20), box(0, 50, 200, 80), box(0, 140, 40, 10)]
    truth = TextInstances(boxes, texts=["OPEN", "Daily", "SALE", "###"], ignore=[False, False, False, True])
    return table.Picture(Path("sign.png"), truth, "sign")


@pytest.fixture
def outcome(table: ModuleType, sign):
    return table.judge(
        sign,
        detections(
            (box(0, 0, 40, 10), "open", 0.95),  # right but for its case
            (box(0, 20, 60, 12), "DAILY", 0.9),  # 12 of 20 px high: an IoU of 0.6
            (box(0, 50, 99, 80), "SALE", 0.8),  # less than half of the word
            (box(0, 140, 40, 10), "blur", 0.99),  # on what is ignored
            (box(300, 0, 40, 10), "tree", 0.3),
        ),
    )


def test_words_are_found_from_half_the_overlap_on_and_read_but_for_the_case(outcome) -> None:
    assert [(word.found, word.read, word.exact) for word in outcome.words] == [
        (True, True, False),
        (True, True, False),
        (False, False, False),
    ]
    assert [word.height for word in outcome.words] == pytest.approx([10, 20, 80])


def test_readings_on_ignored_words_do_not_count(outcome) -> None:
    assert [(round(r.score, 2), r.on_word, r.right) for r in outcome.readings] == [
        (0.95, True, True),
        (0.9, True, True),
        (0.8, False, False),
        (0.3, False, False),
    ]


def test_an_overlap_of_exactly_half_finds_a_word(table: ModuleType, sign) -> None:
    half = table.judge(sign, detections((box(0, 50, 100, 80), "SALE", 0.8)))
    assert half.words[2].exact


def test_the_larger_overlap_gets_the_word_and_the_other_is_false(table: ModuleType, sign) -> None:
    found = table.judge(sign, detections((box(0, 0, 30, 10), "OPE", 0.5), (box(0, 0, 38, 10), "OPEN", 0.9)))
    assert found.words[0].exact
    assert [reading.on_word for reading in found.readings] == [False, True]


def test_nothing_found_in_an_image_with_words_and_in_one_without(table: ModuleType, sign) -> None:
    assert not any(word.found for word in table.judge(sign, TextInstances([])).words)
    blank = table.Picture(Path("blank.png"), TextInstances([], texts=[]), "no_text")
    assert table.judge(blank, TextInstances([])) == table.Outcome(blank, [], [])


def test_rows_by_height_share_out_the_words(table: ModuleType, outcome) -> None:
    rows = {row["line"]: row for row in table.word_table([outcome])}
    assert [rows[f"rendered, {bin} px"]["words"] for bin in ("10 to 14", "20 to 32", "64 to 128")] == [1, 1, 1]
    assert rows["rendered, all from 14 px"] == {
        "line": "rendered, all from 14 px",
        "pictures": 1,
        "words": 2,
        "found": 0.5,
        "read": 0.5,
        "exact": 0.0,
        "false": None,
    }
    assert rows["group sign"]["false"] == 2.0
    assert "photos, 10 to 14 px" not in rows


def test_turned_pictures_stand_beside_themselves_upright(table: ModuleType, outcome) -> None:
    truth = outcome.picture.truth
    turned = table.Picture(Path("turned.png"), truth, "turned", 180, Path("sign.png"))
    other = table.Picture(Path("other.png"), truth, "sign")
    missed = [table.judge(picture, TextInstances([])) for picture in (turned, other)]
    rows = {row["line"]: row for row in table.word_table([outcome, *missed])}
    assert rows["turned by 0°, the same pictures"]["found"] == pytest.approx(2 / 3)
    assert rows["turned by 180°"]["found"] == 0
    assert rows["group sign"]["found"] == pytest.approx(2 / 6)


def test_false_words_of_pictures_without_text(table: ModuleType) -> None:
    blanks = [table.Picture(Path(f"{i}.png"), TextInstances([], texts=[]), "no_text") for i in range(2)]
    found = [detections((box(0, 0, 9, 9), "x", 0.5)), TextInstances([])]
    rows = table.word_table([table.judge(*pair) for pair in zip(blanks, found, strict=True)])
    assert [(row["line"], row["false"], row["found"]) for row in rows] == [("group no_text", 0.5, None)]


def test_reliability_of_sure_readings(table: ModuleType) -> None:
    readings = [table.Reading(score, True, right) for score, right in ((1.0, True), (0.9, False), (0.35, True))]
    row = table.reliability_row("all", readings)
    # The bins of 0.9 to 1 and of 0.3 to 0.4: |1.9 - 1| and |0.35 - 1|, of three readings.
    assert (row["sure"], row["sure_right"]) == (2, 0.5)
    assert row["calibration_error"] == pytest.approx((0.9 + 0.65) / 3)


def test_table_in_markdown_has_a_row_for_each_system(table: ModuleType, outcome, sign) -> None:
    nothing = table.judge(sign, TextInstances([]))
    tables = {"ours": table.word_table([outcome]), "theirs": table.word_table([nothing])}
    lines = table.markdown(table.WORD_COLUMNS, tables).splitlines()
    assert lines[2:4] == [
        "| group sign | ours | 1 | 3 | 0.667 | 0.667 | 0.000 | 2.000 |",
        "| group sign | theirs | 1 | 3 | 0.000 | 0.000 | 0.000 | 0.000 |",
    ]
    assert {line.count("|") for line in lines} == {9}


def test_words_of_rapidocr_stand_on_their_head_as_well(table: ModuleType) -> None:
    def part(text: str, left: float, right: float, score: float) -> list:
        return [text, [[right, 10], [left, 10], [left, 0], [right, 0]], score]

    line = {"text": "HAIR SALON", "words": [part("HAIR", 60, 100, 0.9), part("SAL", 20, 50, 0.8), part("ON", 0, 20, 1)]}
    words = table.rapidocr_words([line])
    assert words.texts == ["HAIR", "SALON"]
    assert words.boxes == pytest.approx(np.array([[60, 0, 100, 10], [0, 0, 50, 10]]), abs=1e-4)
    assert words.text_scores.tolist() == pytest.approx([0.9, 0.8])
    assert len(table.rapidocr_words([])) == 0


# Takes the place of RapidOCR: finds the same word in every picture.
FAKE_WORKER = """
import json, sys
print(json.dumps({"versions": {"rapidocr": "3.10.0"}, "model_bytes": 1}), flush=True)
for line in sys.stdin:
    word = ["SIX", [[10, 0], [50, 0], [50, 10], [10, 10]], 0.95]
    print(json.dumps({"seconds": 0.1, "lines": [{"text": "SIX", "words": [word]}]}), flush=True)
"""


def test_command_prints_both_tables_for_all_systems_and_writes_them(
    table: ModuleType, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(FAKE_WORKER, encoding="utf-8")
    monkeypatch.setattr(table, "WORKER", worker)
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(
        table,
        "own_system",
        lambda model, device, settings: given.append(settings) or (model, lambda path: TextInstances([])),
    )
    output = tmp_path / "new" / "report.json"
    arguments = ["--set", built, "--model", "blind", "--rapidocr", sys.executable, "--output", output]
    arguments += ["--settings", '{"crop_edge": 0}']
    monkeypatch.setattr(sys, "argv", ["robustness.py", *map(str, arguments)])
    table.main()
    assert given == [{"crop_edge": 0}]
    printed = capsys.readouterr().out
    assert "| group val | blind | 1 | 1 | 0.000 | 0.000 | 0.000 | 0.000 |" in printed
    assert "| group val | RapidOCR 3.10.0 | 1 | 1 | 1.000 | 1.000 | 1.000 | 0.000 |" in printed
    assert "| no text | RapidOCR 3.10.0 | 5 | 5 | 0.000 | 0.950 |" in printed
    report = json.loads(output.read_text(encoding="utf-8"))
    assert report["detections"]["RapidOCR 3.10.0"]["val_img_2.jpg"]["texts"] == ["SIX"]
    assert report["detections"]["blind"]["val_img_2.jpg"]["polygons"] == []

    def unasked(path: Path) -> TextInstances:
        raise AssertionError(f"{path} is known, but looked at")

    monkeypatch.setattr(table, "own_system", lambda model, device, settings: (model, unasked))
    monkeypatch.setattr(sys, "argv", ["robustness.py", *map(str, [*arguments, "--known", output])])
    table.main()
    assert capsys.readouterr().out == printed


def test_a_known_file_that_is_no_output_is_an_error(table: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"other.json is no output of this script"):
        table.known_detections([tmp_path / "other.json"])


def test_a_folder_without_a_set_is_an_error(table: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make_validation_set"):
        table.load_set(tmp_path)


@pytest.fixture(scope="module")
def sources(maker: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    """Two annotated photos, one of them for validation, crops of their words, backgrounds, and Pillow's own font."""
    root = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    for name in ("photos", "gt", "crops/images", "backgrounds", "fonts"):
        (root / name).mkdir(parents=True)
    words = []
    for number, texts in ((1, ["ONE", "TWO"]), (2, ["SIX", "###"])):
        Image.fromarray(rng.integers(0, 255, (60, 100, 3), np.uint8)).save(root / f"photos/img_{number}.jpg")
        lines = [f"10,{20 * i},50,{20 * i},50,{20 * i + 10},10,{20 * i + 10},{text}" for i, text in enumerate(texts)]
        (root / f"gt/gt_img_{number}.txt").write_text("\n".join(lines), encoding="utf-8")
        words += [text for text in texts if text != "###"]
    for index, word in enumerate(words):
        Image.new("RGB", (40, 12), (index, 0, 0)).save(root / f"crops/images/{index}.png")
        with (root / "crops/labels.tsv").open("a", encoding="utf-8") as file:
            file.write(f"{index}.png\t{word}\n")
    (root / "val.txt").write_text("img_2.jpg\n", encoding="utf-8")
    for name in ("0008", "0009", "0019"):
        smooth = cv2.resize(rng.integers(0, 255, (4, 6, 3), np.uint8), (300, 200), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(smooth).save(root / f"backgrounds/{name}.jpg")
    (root / "fonts/aileron.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    paths = (root / "photos", root / "gt", root / "val.txt", root / "crops/labels.tsv")
    return maker.Sources(*paths, [], root / "backgrounds", root / "fonts", ["0019"])


@pytest.fixture(scope="module")
def build(maker: ModuleType, sources) -> Callable[[Path], dict[str, int]]:
    counts = maker.Counts(signs=4, scenes=2, words=1, turned_every=2, without_text=5)
    return lambda folder: maker.build(sources, folder, counts)


@pytest.fixture(scope="module")
def built(build: Callable[[Path], dict[str, int]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    groups = build(folder)
    assert groups == {
        "val": 1, "val_half": 1, "val_double": 1, "sign": 4, "scene": 2, "turned": 3, "word": 1, "no_text": 5
    }  # fmt: skip
    return folder


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()]


def test_two_builds_are_equal(maker: ModuleType, build: Callable, built: Path, tmp_path: Path) -> None:
    build(tmp_path / "again")
    assert maker.digest(tmp_path / "again") == maker.digest(built)
    (tmp_path / "again" / "fonts.txt").write_text("other.ttf\n", encoding="utf-8")
    assert maker.digest(tmp_path / "again") != maker.digest(built)


def test_a_set_loads_as_json_lines_and_as_pictures(table: ModuleType, built: Path) -> None:
    rows = rows_of(built)
    assert [row["image_id"] for row in load_jsonl(built / "labels.jsonl")] == [Path(row["image"]).name for row in rows]
    assert len(table.load_set(built)) == len(rows) == 18
    assert [picture.group for picture in table.load_set(built, every=3, groups=["sign", "no_text"])] == [
        "sign", "sign", "no_text", "no_text"
    ]  # fmt: skip
    small = table.load_set(built, largest=320)
    assert 0 < len(small) < len(rows)
    assert all(max(Image.open(picture.path).size) <= 320 for picture in small)
    with pytest.raises(ValueError, match="no picture of the groups street"):
        table.load_set(built, groups=["street"])


def test_only_backgrounds_kept_for_validation_are_used(built: Path) -> None:
    assert (built / "backgrounds.txt").read_text(encoding="utf-8") == "0009.jpg\n"
    assert (built / "fonts.txt").read_text(encoding="utf-8") == "aileron.ttf\n"


def test_photos_and_words_are_those_held_out(built: Path, sources) -> None:
    texts = {row["image"]: row["texts"] for row in rows_of(built) if row["group"] in ("val", "word")}
    assert texts == {"images/val_img_2.jpg": ["SIX", "###"], "images/word_000.png": ["SIX"]}
    assert (built / "images/val_img_2.jpg").read_bytes() == (sources.icdar_images / "img_2.jpg").read_bytes()


def test_words_too_low_to_read_at_half_size_are_ignored_there(built: Path) -> None:
    rows = {row["group"]: row for row in rows_of(built)}
    assert rows["val"]["ignore"] == rows["val_double"]["ignore"] == [False, True]
    assert rows["val_half"]["ignore"] == [True, True]
    assert rows["val_half"]["polygons"][0] == [[5, 0], [25, 0], [25, 5], [5, 5]]


def test_words_of_turned_pictures_lie_where_they_lay(built: Path) -> None:
    rows = {row["image"]: row for row in rows_of(built)}
    turned = [row for row in rows.values() if row["group"] == "turned"]
    assert [row["turn"] for row in turned] == [90, 180, 270]
    for row in turned:
        upright = rows[row["source"]]
        patches = []
        for each in (upright, row):
            image = np.asarray(Image.open(built / each["image"]))
            # Straighten the first word: both come out alike if the outline begins where the word does.
            corners = np.array(each["polygons"][0], np.float32)
            if len(corners) != 4:
                corners = corners[[0, 6, 7, 13]]
            square = np.array([[0, 0], [64, 0], [64, 16], [0, 16]], np.float32)
            patches.append(warp(image, homography(corners, square), (16, 64)).astype(int))
        assert np.abs(patches[0] - patches[1]).mean() < 6


def test_signs_hold_words_of_the_heights_asked_for_within_the_picture(built: Path) -> None:
    for row in load_jsonl(built / "labels.jsonl").filter(lambda row: row["image_id"].startswith("sign_")):
        instances = row_to_instances(row)
        assert 1 <= len(instances) <= 40
        for polygon in instances.polygons:
            assert signed_area(polygon) > 0
            assert 5 <= word_height(polygon) <= 1.5 * 400
            assert (polygon >= -1).all()
            assert (polygon <= np.array(row["image"].size) + 1).all()


def test_a_folder_that_holds_something_is_not_written_to(build: Callable, built: Path) -> None:
    with pytest.raises(FileExistsError, match="is not empty"):
        build(built)


def test_a_background_to_exclude_has_to_be_there(maker: ModuleType, sources, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="0029"):
        maker.split_backgrounds(sources.backgrounds, ["0029"])
    assert [[path.stem for path in part] for part in maker.split_backgrounds(sources.backgrounds)] == [
        ["0008"], ["0009", "0019"]
    ]  # fmt: skip
