"""`transformers-tcm detect`, with a detector that takes every image for one big word."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from tiny_settings import SMALLEST
from typer.testing import CliRunner

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMImageProcessorPil, TextInstances, __version__
from transformers_tcm.cli import app
from transformers_tcm.data.loaders import load_jsonl

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny detector that gives every pixel the probability 0.953."""
    config = TCMConfig(**SMALLEST, fused=True)
    torch.manual_seed(0)
    detector = TCMForTextDetection(config)
    last = detector.head.probability[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 3.0)
    folder = tmp_path_factory.mktemp("model")
    detector.save_pretrained(folder)
    TCMImageProcessorPil(size={"longest_edge": 160}).save_pretrained(folder)
    return folder


@pytest.fixture
def run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `detect` in an empty folder, results in `out`."""
    monkeypatch.chdir(tmp_path)

    def detect(*arguments: object) -> Result:
        result = CliRunner().invoke(app, ["detect", "--model", str(model), "--output", "out", *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return detect


def photo(name: str, size: tuple[int, int] = (160, 96), mode: str = "RGB") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)
    return path


def read(name: str) -> dict:
    return json.loads(Path("out", name).read_text(encoding="utf-8"))


def test_json_tells_image_size_and_instances(run: Run) -> None:
    photo("street.png", (320, 192))
    result = run("street.png")
    assert result.exit_code == 0, result.output
    assert result.stdout == "1 region in 1 of 1 image; results in out: street.json\n"
    found = read("street.json")
    assert (found["image"], found["width"], found["height"]) == ("street.png", 320, 192)
    [word] = found["instances"]
    assert word["score"] == pytest.approx(0.953, abs=0.01)
    assert word["label"] == "text"
    assert list(word["box"].values()) == pytest.approx([0, 0, 320, 192], abs=3)
    assert np.array(word["polygon"]) == pytest.approx(np.array([[0, 0], [320, 0], [320, 192], [0, 192]]), abs=3)
    assert sorted(path.name for path in Path("out").iterdir()) == ["street.json"]


def test_icdar_lines_are_whole_pixels(run: Run) -> None:
    photo("street.png")
    assert run("street.png", "--format", "icdar").exit_code == 0
    text = Path("out/res_street.txt").read_text()
    assert all(number.isdigit() for number in text.strip().split(","))
    [quad] = TextInstances.from_icdar(text).polygons
    assert quad == pytest.approx(np.array([[0, 0], [160, 0], [160, 96], [0, 96]]), abs=3)


def test_json_lines_are_what_the_loader_reads(run: Run) -> None:
    photo("a/street.png"), photo("b/straße.png", (96, 160))
    for _ in range(2):  # a second run starts the file anew
        assert run("a", "b", "--format", "jsonl", "--force").exit_code == 0
    rows = load_jsonl("out/results.jsonl")
    assert rows["image_id"] == ["street.png", "straße.png"]
    assert [row["image"].size for row in rows] == [(160, 96), (96, 160)]
    assert [len(row["polygons"]) for row in rows] == [1, 1]


def test_draw_writes_the_picture_with_outlines(run: Run) -> None:
    photo("street.jpg", (320, 192))
    assert run("street.jpg", "--draw").exit_code == 0
    drawn = Image.open("out/street_text.png")
    assert drawn.size == (320, 192)
    assert np.asarray(drawn).max() > 200  # the photo is black


def test_a_large_jpeg_file_is_written_and_drawn_at_its_size(run: Run) -> None:
    photo("street.jpg", (1280, 768))
    assert run("street.jpg").exit_code == 0
    plain = read("street.json")
    assert run("street.jpg", "--draw", "--force").exit_code == 0
    assert read("street.json") == plain
    assert (plain["width"], plain["height"]) == Image.open("out/street_text.png").size == (1280, 768)
    assert list(plain["instances"][0]["box"].values()) == pytest.approx([0, 0, 1280, 768], abs=12)


def test_settings_reach_the_model(run: Run) -> None:
    photo("street.png")
    run("street.png", "--box-threshold", "0.99")
    assert read("street.json")["instances"] == []
    run(
        "street.png",
        "--force",
        "--polygon",
        "--size",
        "320",
        "--threshold",
        "0.2",
        "--unclip-ratio",
        "0",
        "--min-size",
        "1",
    )
    [word] = read("street.json")["instances"]
    assert np.array(word["polygon"]).max(axis=0) == pytest.approx(np.array([160, 96]), abs=3)


def test_tiles_of_a_large_photo_give_one_result(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []
    forward = TCMForTextDetection.forward
    monkeypatch.setattr(
        TCMForTextDetection,
        "forward",
        lambda self, **inputs: widths.append(inputs["pixel_values"].shape[3]) or forward(self, **inputs),
    )
    photo("street.png", (500, 300))
    result = run("street.png", "--tile", "128")
    assert result.exit_code == 0, result.output
    assert widths == [160] + [128] * 15
    [word] = read("street.json")["instances"]  # all of the photo is one word, which no tile sees whole
    assert list(word["box"].values()) == pytest.approx([0, 0, 500, 300], abs=10)


def test_folders_and_patterns_are_expanded_and_nothing_is_done_twice(run: Run) -> None:
    photo("photos/b.png"), photo("photos/a.JPG"), photo("photos/deep/c.png")
    Path("photos/notes.txt").write_text("no image")
    result = run("photos", "photos/**/*.png", "photos/a.JPG", "--format", "jsonl")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line)["image"] for line in Path("out/results.jsonl").read_text().splitlines()]
    assert rows == ["../photos/a.JPG", "../photos/b.png", "../photos/deep/c.png"]


def test_a_file_may_be_called_like_a_pattern(run: Run) -> None:
    photo("photo[1].png")
    assert run("photo[1].png").exit_code == 0
    assert read("photo[1].json")["image"] == "photo[1].png"


def test_equal_names_do_not_overwrite_each_other(run: Run) -> None:
    paths = [photo("a/street.png"), photo("b/street.png"), photo("b/Street.jpg"), photo("c/street_2.png")]
    result = run(*paths, "--draw")
    assert result.exit_code == 0, result.output
    results = {str(Path(read(path.name)["image"])) for path in Path("out").glob("*.json")}
    assert results == {str(path) for path in paths}
    assert len(list(Path("out").glob("*_text.png"))) == 4


def test_pictures_never_replace_an_image(run: Run) -> None:
    photo("out/street.png"), photo("out/street_text.png", (32, 32))
    assert run("out", "--draw").exit_code == 0
    assert Image.open("out/street_text.png").size == (32, 32)
    assert read("street_2.json")["image"] == str(Path("out/street.png"))


def write_bad_images() -> dict[str, str]:
    """Files that hold no image, and what is said about them."""
    Path("text.jpg").write_text("not an image")
    Path("empty.png").touch()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save("whole.jpg")
    Path("truncated.jpg").write_bytes(Path("whole.jpg").read_bytes()[:3000])
    Path("nothing").mkdir()
    return {
        "text.jpg": "not an image",
        "empty.png": "empty file",
        "truncated.jpg": "truncated",
        "missing.jpg": "no such image file",
        "nothing": "no images in",
        "none*.png": "no images in",
        f"{'long' * 200}.png": "too long",
    }


def test_bad_images_are_reported_in_a_line_each_and_the_others_are_done(run: Run) -> None:
    problems = write_bad_images()
    photo("good.png")
    result = run(*problems, "good.png")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == len(problems)
    for name, problem in problems.items():
        assert [line for line in lines if line.startswith("error: ") and name in line and problem in line], name
    assert len(read("good.json")["instances"]) == 1
    assert "good.png: 1 region\n1 region in 1 of 6 images; results in out: good.json\n" in result.stdout
    assert [path.name for path in Path("out").iterdir()] == ["good.json"]


def test_only_bad_images(run: Run) -> None:
    result = run("missing*.png")
    assert result.exit_code == 1
    assert result.stderr == "error: no images in 'missing*.png'\n"
    assert not Path("out").exists()


def write_odd_images() -> dict[str, tuple[int, int]]:
    """Unusual images that can be read, and their sizes."""
    photo("pixel.png", (1, 1)), photo("strip.png", (20_000, 10)), photo("column.png", (10, 3000))
    photo("cmyk.jpg", mode="CMYK"), photo("bits16.png", mode="I;16"), photo("palette.png", mode="P")
    photo("grey_alpha.png", mode="LA"), photo("alpha.png", mode="RGBA"), photo("bilevel.tif", mode="1")
    frames = [Image.new("RGB", (160, 96), color) for color in ("red", "green", "blue")]
    frames[0].save("animated.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (160, 96)).save("turned.jpg", exif=exif)
    usual = ("cmyk.jpg", "bits16.png", "palette.png", "grey_alpha.png", "alpha.png", "bilevel.tif", "animated.gif")
    sizes = {"pixel.png": (1, 1), "strip.png": (20_000, 10), "column.png": (10, 3000), "turned.jpg": (96, 160)}
    return sizes | dict.fromkeys(usual, (160, 96))


def test_odd_images_give_correct_results(run: Run) -> None:
    sizes = write_odd_images()
    result = run(*sizes, "--draw")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for name, (width, height) in sizes.items():
        found = read(f"{Path(name).stem}.json")
        assert (found["width"], found["height"]) == (width, height)
        assert Image.open(f"out/{Path(name).stem}_text.png").size == (width, height)
        # A strip of 160 x 1 pixels after resizing may hold no word; where there is one, it is the whole image.
        for word in found["instances"]:
            assert list(word["box"].values()) == pytest.approx([0, 0, width, height], rel=0.05, abs=3), name
        assert len(found["instances"]) == 1 or min(width, height) <= 10, name


def test_quiet_says_nothing_but_errors(run: Run) -> None:
    photo("a.png"), photo("b.png")
    result = run("a.png", "b.png", "missing.png", "--quiet")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: no such image file: 'missing.png'\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["street.png", "--format", "xml"],
        ["street.png", "--threshold", "1.5"],
        ["street.png", "--size", "0"],
        ["street.png", "--tile", "63"],
        ["street.png", "--model", "no-such-folder"],
        ["street.png", "--model", "."],
        ["street.png", "--model", "damaged"],
        ["street.png", "--device", "abacus"],
        ["street.png", "--output", "street.png"],
        ["street.png", "--output", "street.png/out"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, model: Path, arguments: list[str]) -> None:
    photo("street.png")
    Path("damaged").mkdir()
    for file in model.iterdir():
        content = b"damaged" if file.suffix == ".safetensors" else file.read_bytes()
        Path("damaged", file.name).write_bytes(content)
    result = run(*arguments)
    assert result.exit_code == 2
    assert "error" in result.stderr.lower()
    assert "Traceback" not in result.output


def test_results_of_an_earlier_run_are_not_replaced_unasked(run: Run) -> None:
    photo("a.png"), photo("b.png")
    assert run("a.png", "--draw").exit_code == 0
    before = Path("out/a.json").read_bytes()
    result = run("b.png", "a.png", "--size", "320")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: out/a.json is there already, of an earlier run: add --force")
    assert result.stderr.count("\n") == 1
    assert Path("out/a.json").read_bytes() == before
    assert not Path("out/b.json").exists()
    assert run("b.png", "a.png", "--force").exit_code == 0


def test_many_results_are_not_all_named(run: Run) -> None:
    for index in range(6):
        photo(f"{index}.png")
    last = run("*.png").stdout.splitlines()[-1]
    assert last == "6 regions in 6 of 6 images; results in out: 0.json, 1.json, 2.json, 3.json and 2 more"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["demo", "--help"],
        ["serve", "--help"],
        ["spot", "--help"],
        ["validate-dataset", "--help"],
    ],
)
def test_help_and_version_do_not_wait_for_torch(arguments: list[str]) -> None:
    code = "import sys; sys.argv[0] = '/bin/transformers-tcm'\n"
    code += "from transformers_tcm.cli import main\ntry: main()\n"
    code += "finally: print({'fastapi', 'gradio', 'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


def test_version_and_help() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"transformers-tcm {__version__}\n"
    overview = CliRunner().invoke(app, ["--help"]).stdout
    assert "detect" in overview
    assert "convert" in overview
    assert "transformers-tcm detect photo.jpg --draw\n" in CliRunner().invoke(app, ["detect", "--help"]).stdout


def test_the_command_in_a_process_of_its_own(model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (160, 96)).save(tmp_path / "street.png")
    # By the name of the console script, which knows the models only when it loads one.
    code = "import sys; sys.argv[0] = 'transformers-tcm'; from transformers_tcm.cli import main; main()"
    command = [sys.executable, "-c", code, "detect"]
    command += ["street.png", "missing.png", "--draw", "--model", str(model), "--output", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == (
        "street.png: 1 region\n1 region in 1 of 2 images; results in out: street.json, street_text.png\n"
    )
    assert done.stderr == "error: no such image file: 'missing.png'\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["street.json", "street_text.png"]


def test_folders_give_every_picture_and_nothing_that_is_none(run: Run) -> None:
    photo("photos/a.png"), photo("photos/b.png")
    Path("photos/b.png").rename("photos/b.jfif")
    Path("photos/._a.png").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    result = run("photos")
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.json", "b.json"]


def test_pictures_of_phones_are_reported_with_the_remedy(run: Run) -> None:
    photo("photos/a.png")
    Path("photos/b.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    result = run("photos")
    assert result.exit_code == 1
    assert "b.HEIC: HEIC or HEIF" in result.stderr
    assert "pip install pillow-heif" in result.stderr
    assert Path("out/a.json").exists()


def test_subfolders_are_hinted_at(run: Run) -> None:
    photo("photos/deep/a.png")
    result = run("photos")
    assert result.exit_code == 1
    assert "no images in 'photos'; there are images in its subfolders, such as 'photos/deep'" in result.stderr
    assert "'photos/**/*.png'" in result.stderr
    photo("photos/b.png")
    result = run("photos")
    assert result.exit_code == 0
    assert result.stderr.startswith("note: photos: there are images in its subfolders")


def test_addresses_of_files_are_files_and_others_are_named(run: Run) -> None:
    photo("a.png")
    assert run(Path("a.png").resolve().as_uri()).exit_code == 0
    result = run("HTTPS://example.org/a.png?size=3")
    assert result.exit_code == 1
    assert "is an address; the commands read files" in result.stderr
