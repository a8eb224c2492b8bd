"""`transformers-tcm validate-dataset` and `transformers-tcm import-labels`."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import Result
from typer.testing import CliRunner

from transformers_tcm import TextInstances
from transformers_tcm.cli import app
from transformers_tcm.data.loaders import load_jsonl, save_jsonl

EXPORTS = Path(__file__).parents[1] / "fixtures" / "label_exports"
WORD = np.array([[20, 20], [80, 20], [80, 50], [20, 50]], np.float32)
CROSSED = WORD[[0, 2, 1, 3]]


def run(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, [command, *map(str, arguments)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos; both have a sound word, the second one also an outline that crosses itself."""
    (tmp_path / "images").mkdir()
    (tmp_path / "gt").mkdir()
    paths = [tmp_path / "images" / name for name in ("a.png", "b.png")]
    labels = [TextInstances([WORD], texts=["SALE"]), TextInstances([WORD, CROSSED + 2], texts=["SALE", "NOW"])]
    for shade, (path, instances) in enumerate(zip(paths, labels, strict=True)):
        PIL.Image.new("RGB", (120, 80), (shade, 0, 0)).save(path)
        (tmp_path / "gt" / f"gt_{path.stem}.txt").write_text(instances.to_icdar(), encoding="utf-8")
    save_jsonl(tmp_path / "photos.jsonl", paths, labels)
    return tmp_path


def folders(photos: Path) -> tuple[object, ...]:
    return ("--images", photos / "images", "--annotations", photos / "gt")


def test_sound_labels_give_exit_code_0(photos: Path) -> None:
    (photos / "val.txt").write_text("a.png\n", encoding="utf-8")
    done = run("validate-dataset", *folders(photos), "--include", photos / "val.txt")
    assert (done.exit_code, done.stdout) == (0, "1 photos with 1 words: no problem found\n")


def test_problems_of_folders_give_file_line_and_exit_code_1(photos: Path) -> None:
    done = run("validate-dataset", *folders(photos))
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "self-intersection (1): outlines that cross or touch themselves",
        f"  {photos / 'gt' / 'gt_b.txt'}, line 2: crosses or touches itself at (52, 37)",
        "",
        "2 photos with 3 words: 1 problems",
    ]


def test_problems_of_json_lines_give_line_and_word(photos: Path) -> None:
    done = run("validate-dataset", "--jsonl", photos / "photos.jsonl")
    assert done.exit_code == 1
    assert f"{photos / 'photos.jsonl'}, line 2, word 2: crosses" in done.stdout


def test_the_report_as_json(photos: Path) -> None:
    report = photos / "new" / "report.json"
    done = run("validate-dataset", "--jsonl", photos / "photos.jsonl", "--output", report)
    assert done.exit_code == 1
    plain = json.loads(report.read_text(encoding="utf-8"))
    assert plain["counts"] == {"self-intersection": 1}
    (finding,) = plain["findings"]
    assert (finding["line"], finding["word"], finding["photo"]) == (2, 2, str(photos / "images" / "b.png"))


def test_kinds_can_be_allowed(photos: Path) -> None:
    allowed = ("--allow", "self-intersection", "--allow", "outside-photo")
    done = run("validate-dataset", "--jsonl", photos / "photos.jsonl", *allowed)
    assert (done.exit_code, done.stdout) == (0, "2 photos with 3 words: no problem found\n")


def test_photos_of_a_folder_have_to_be_in_the_file(photos: Path) -> None:
    PIL.Image.new("RGB", (20, 20)).save(photos / "images" / "c.png")
    done = run("validate-dataset", "--jsonl", photos / "photos.jsonl", "--images", photos / "images")
    assert f"{photos / 'images' / 'c.png'}: not in" in done.stdout


def test_names_that_are_not_utf_8(photos: Path) -> None:
    name = b"caf\xe9.png".decode(errors="surrogateescape")
    PIL.Image.new("RGB", (20, 20)).save(photos / "images" / name)
    done = run("validate-dataset", *folders(photos), "--output", photos / "report.json")
    assert done.exit_code == 1
    assert r"caf\udce9.png: expected" in done.stdout
    assert "missing-labels" in json.loads((photos / "report.json").read_text())["counts"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --images and --annotations"),
        (["--images", "."], "give either --images and --annotations"),
        (["--jsonl", "photos.jsonl", "--annotations", "gt"], "give either --images and --annotations"),
        (["--jsonl", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--images", "nowhere", "--annotations", "nowhere"], "no such folder"),
        (
            ["--jsonl", "photos.jsonl", "--allow", "typos"],
            "--allow typos: there is no such kind; the kinds are missing-",
        ),
    ],
)
def test_nothing_to_look_at_is_exit_code_2(
    photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(photos)
    done = run("validate-dataset", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_help_names_all_kinds() -> None:
    from transformers_tcm.data.validation import KINDS

    text = run("validate-dataset", "--help").stdout
    assert [kind for kind in KINDS if kind not in text] == []


def test_wrong_words_are_drawn(photos: Path) -> None:
    PIL.Image.new("RGB", (600, 400), "grey").save(photos / "b.png")
    sound = (3 * WORD + 200).tolist()
    row = {"image": "b.png", "polygons": [sound, [[1, 1], [float("nan"), 4]], [], [[-50, 150], [1e30, 150]]]}
    row["texts"] = ["SALE"] * 4
    with (photos / "photos.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    done = run("validate-dataset", "--jsonl", photos / "photos.jsonl", "--draw", photos / "drawn")
    assert done.exit_code == 1
    # Photos of one name get pictures of their own; those without a wrong word get none.
    assert sorted(path.name for path in (photos / "drawn").iterdir()) == ["b_2_findings.jpg", "b_findings.jpg"]
    drawn = np.asarray(PIL.Image.open(photos / "drawn" / "b_2_findings.jpg").convert("RGB"), np.int16)
    assert drawn.shape == (400, 600, 3)
    redness = drawn[:, :, 0] - drawn[:, :, 1]
    # The sound word is green; the outline that leaves the photo is red as far as it is in it.
    assert redness[260, 270:430].max() < -60
    assert redness[150, 10:590].min() > 60


def import_labels(*arguments: object) -> Result:
    return run("import-labels", *arguments)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The photos that the exports among the fixtures are about."""
    folder = tmp_path / "photos"
    folder.mkdir()
    sizes = {"filename000.jpg": (1600, 1200), "filename001.jpg": (1600, 1200)}
    sizes |= {"moon walk.jpg": (600, 403), "shop.png": (200, 100), "wall.jpg": (64, 48)}
    sizes |= dict.fromkeys(("img_61.jpg", "img_24.jpg", "img_30.jpg"), (1280, 720))
    for name, size in sizes.items():
        PIL.Image.new("L", size).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("export", "form", "summary", "problems"),
    [
        ("label_studio.json", "label-studio", "3 photos (1 without any), 5 words, 4 with text, 1 ignored", 3),
        ("cvat_images_1.1.xml", "cvat", "2 photos (1 without any), 3 words, 2 with text, 0 ignored", 2),
        ("ppocrlabel/Label.txt", "paddleocr", "2 photos, 6 words, 5 with text, 2 ignored", 1),
    ],
)
def test_exports_become_json_lines(exported: Path, export: str, form: str, summary: str, problems: int) -> None:
    output = exported.parent / "labels" / "labels.jsonl"
    done = import_labels(EXPORTS / export, "--images", exported, "--output", output)
    assert done.exit_code == 1, done.output
    assert done.stdout == f"{summary}; labels in {output}\n"
    assert [line.startswith(f"error: {EXPORTS / export}, ") for line in done.stderr.splitlines()] == [True] * problems
    rows = load_jsonl(output)
    assert all((exported / name).is_file() for name in rows["image_id"])
    first = output.read_bytes()
    import_labels(EXPORTS / export, "--images", exported, "--output", output, "--format", form)
    assert output.read_bytes() == first


def test_an_export_without_problems_gives_exit_code_0(exported: Path) -> None:
    lines = (EXPORTS / "ppocrlabel" / "Label.txt").read_text(encoding="utf-8").split("\n")
    (exported / "Label.txt").write_text(lines[0], encoding="utf-8")
    output = exported / "labels.jsonl"
    done = import_labels(exported / "Label.txt", "--images", exported, "--output", output)
    assert (done.exit_code, done.stderr) == (0, "")
    assert run("validate-dataset", "--jsonl", output).exit_code == 0


def test_options_reach_the_import(exported: Path) -> None:
    output = exported / "labels.jsonl"
    options = ("--text-field", "characters", "--ignore", "illegible", "--reorder")
    import_labels(EXPORTS / "cvat_images_1.1.xml", "--images", exported, "--output", output, *options)
    row = load_jsonl(output)[0]
    assert row["ignore"] == [False, False, True]
    assert row["polygons"][2][0] == pytest.approx([561.30, 842.77], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.json", "--images", "."], "no such file: absent.json"),
        ([EXPORTS / "label_studio.json", "--images", "nowhere"], "no such folder: nowhere"),
        ([EXPORTS / "label_studio.json", "--images", ".", "--format", "cvat"], "not well-formed XML"),
        ([EXPORTS / "label_studio.json", "--images", "."], "none of the 5 photos of"),
        ([EXPORTS / "cvat_images_1.1.xml", "--images", ".", "--text-field", "word"], "no text field 'word'"),
    ],
)
def test_nothing_to_import_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = import_labels(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "labels.jsonl").exists()


def test_names_to_ignore_that_mark_nothing_are_told(exported: Path) -> None:
    output = exported / "labels.jsonl"
    source = EXPORTS / "cvat_images_1.1.xml"
    done = import_labels(source, "--images", exported, "--output", output, "--ignore", "ilegible", "--ignore", "PLATE")
    assert done.exit_code == 1
    assert "--ignore ilegible: no word is marked so; the marks are: illegible, illegible=false" in done.stderr
    assert load_jsonl(output)[0]["ignore"] == [True, True, True]


def test_labels_of_another_form_are_told_with_how_they_are_read(photos: Path) -> None:
    arc = [(20 + 10 * i, 20) for i in range(7)] + [(80 - 10 * i, 50) for i in range(7)]
    line = ",".join(f"{x},{y}" for x, y in arc)
    (photos / "gt" / "gt_a.txt").write_text(f"{line},SALE\n", encoding="utf-8")
    (photos / "gt" / "gt_b.txt").write_text("20,20,80,50,SALE\n20,60,80,70,NOW\n", encoding="utf-8")
    done = run("validate-dataset", *folders(photos))
    assert done.exit_code == 1
    assert f"{photos / 'gt' / 'gt_a.txt'}: read as outlines of 14 points" in done.stdout
    assert f"{photos / 'gt' / 'gt_b.txt'}: read as boxes `left,top,right,bottom`" in done.stdout
    assert run("validate-dataset", *folders(photos), "--allow", "other-layout").exit_code == 0
