"""The papers' studies: which commands they are, what is skipped and not repeated, table and plot."""

import json
import shlex
import shutil
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
from public_data_sets import unpack
from tiny_settings import SMALLEST

from transformers_tcm import TCMConfig, TCMForTextDetection, TextInstances

STUDIES = ("few-shot", "cross-dataset", "night", "ablation", "speed")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """ICDAR 2015, Total-Text and the photos at night; CTW1500 and the others are missing."""
    data = tmp_path / "data"
    for name in ("icdar2015", "total-text"):
        for split in ("train", "test"):
            unpack(data, name, split)
    # Both splits into one folder.
    shutil.copytree(data / "totaltext", data / "Total-Text", dirs_exist_ok=True)
    shutil.rmtree(data / "totaltext")
    unpack(data, "nighttime-art", "test")
    return data


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos in the ICDAR-2015 format, the second one held out."""
    word = np.float32([[20, 20], [80, 20], [80, 50], [20, 50]])
    for part in ("images", "gt"):
        (tmp_path / "photos" / part).mkdir(parents=True)
    for name in "ab":
        PIL.Image.new("RGB", (120, 80), "grey").save(tmp_path / "photos" / "images" / f"{name}.png")
        label = TextInstances([word], texts=["SALE"]).to_icdar()
        (tmp_path / "photos" / "gt" / f"gt_{name}.txt").write_text(label, encoding="utf-8")
    (tmp_path / "photos" / "val.txt").write_text("b.png\n", encoding="utf-8")
    return tmp_path / "photos"


def commands(script: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[list, list, str]:
    """Trainings, evaluations, and what is skipped."""
    script.main([*map(str, arguments), "--dry_run"])
    said = capsys.readouterr()
    lines = [shlex.split(line) for line in said.out.splitlines()]
    trainings = [line for line in lines if line[1].endswith("run_text_detection.py")]
    return trainings, [line for line in lines if line not in trainings], said.err


def option(command: list[str], name: str) -> str | None:
    return command[command.index(name) + 1] if name in command else None


def test_few_shot_takes_shares_of_the_labels_with_seeds(script, root, capsys) -> None:
    options = ("few-shot", "--root", root, "--heads", "dbnet", "pan", "--seeds", 1, 2, "--max_seconds", 60)
    trainings, evaluations, skipped = commands(script, capsys, *options)
    assert len(trainings) == len(evaluations) == 2 * 2 * 3 * 2
    assert [option(line, "--few_shot") for line in trainings[:3]] == [None, "0.2", "0.1"]
    assert {option(line, "--few_shot_seed") for line in trainings} == {None, "1", "2"}
    assert {option(line, "--max_seconds") for line in trainings} == {"60"}
    assert {option(line, "--train_sets") for line in trainings} == {"icdar2015", "total-text"}
    polygons = {(option(line, "--dataset"), option(line, "--decoding")) for line in evaluations}
    assert polygons == {("icdar2015", "polygon=false"), ("total-text", "polygon=true")}
    assert "skipped: ctw1500: there is no folder of that name" in skipped
    assert "skipped: td500" in skipped


def test_cross_dataset_judges_every_training_on_every_set(script, root, photos, capsys) -> None:
    options = ("cross-dataset", "--root", root, "--sets", "icdar2015", "total-text", f"mine={photos}", "nighttime-art")
    trainings, evaluations, _ = commands(script, capsys, *options)
    assert len(trainings) == 3
    assert len(evaluations) == 3 * 4
    assert option(trainings[2], "--eval_list") == str(photos / "val.txt")
    assert [option(line, "--dataset") for line in evaluations[:4]] == ["icdar2015", "total-text", None, "nighttime-art"]


def test_photos_at_night_are_judged_by_models_that_have_seen_none(script, root, capsys) -> None:
    (training,), (evaluation,), skipped = commands(script, capsys, "night", "--root", root)
    assert training[training.index("--train_sets") + 1 : training.index("--data_root")] == ["icdar2015", "total-text"]
    assert option(evaluation, "--dataset") == "nighttime-art"
    assert "skipped: mlt2017" in skipped
    shutil.rmtree(root / "art")
    with pytest.raises(SystemExit, match="none of the data sets is there"):
        script.main(["night", "--root", str(root), "--dry_run"])


def test_ablation_leaves_out_one_component_at_a_time(script, photos, capsys) -> None:
    trainings, _, _ = commands(script, capsys, "ablation", "--sets", f"mine={photos}")
    settings = [json.loads(option(line, "--config_overrides")) for line in trainings]
    changed = [{name: one[name] for name in one if name != "head_type"} for one in settings]
    whole = {"prompting": "fasttcm"}
    assert changed == [{**whole, **settings} for settings in script.COMPONENTS.values()]
    assert len({option(line, "--output_dir") for line in trainings}) == 7
    sizes = {
        name: TCMForTextDetection(TCMConfig(**{**SMALLEST, **one})).num_parameters()
        for name, one in script.COMPONENTS.items()
    }
    assert sizes["no visual prompt"] < sizes["all (FastTCM)"] > sizes["no refiner"] > sizes["no prompting"]


def test_speed_shares_the_trainings_of_the_other_studies(script, photos, capsys) -> None:
    options = ("--sets", f"mine={photos}", "--heads", "dbnet", "pan")
    speed, _, _ = commands(script, capsys, "speed", *options)
    few_shot, _, _ = commands(script, capsys, "few-shot", *options, "--shares", 1)
    assert speed == few_shot


def test_an_encoder_gets_new_heads(script, root, capsys) -> None:
    options = ("few-shot", "--root", root, "--sets", "total-text", "--encoder", "fasttcm-dbnet-tiny", "--heads", "pan")
    trainings, _, _ = commands(script, capsys, *options)
    assert len(trainings) == 3
    for training in trainings:
        assert Path(option(training, "--model_name_or_path")).parts[-2:] == ("starts", "pan-fasttcm")
        assert json.loads(option(training, "--config_overrides")) == {"prompting": "fasttcm"}
        assert "--preset" not in training


def test_with_clip_the_recipes_are_those_of_the_papers(script, root, capsys) -> None:
    options = ("few-shot", "--root", root, "--sets", "total-text", "--clip", "RN50.pt", "--shares", 0.1)
    ((_, _, recipe, *training),), _, _ = commands(script, capsys, *options)
    assert recipe.endswith("hub_configs/fasttcm-dbnet-totaltext/finetuning.yaml")
    assert option(training, "--clip") == "RN50.pt"


def test_what_is_done_is_not_repeated_and_stands_in_table_and_plot(script, photos, tmp_path, monkeypatch) -> None:
    done: list[list[str]] = []

    def pretend(command: list[str], log: Path, threads: int, what: str) -> None:
        done.append(command)
        if "--output" in command:
            file = Path(option(command, "--output"))
            figures = {"hmean": 0.25 * len(done), "seconds_per_image": 0.1}
            file.write_text(json.dumps(figures), encoding="utf-8")
        else:
            (Path(option(command, "--output_dir"))).mkdir(parents=True)
            (Path(option(command, "--output_dir")) / "model.safetensors").touch()

    monkeypatch.setattr(script, "run_logged", pretend)
    arguments = ["few-shot", "--sets", f"icdar2015={photos}", "ctw1500", "--prompting", "tcm", "--shares", "1"]
    arguments += ["--output_dir", str(tmp_path / "runs"), "--max_steps", "3"]
    script.main(arguments)
    script.main([*arguments, "--seeds", "0", "1"])
    assert len(done) == 4
    assert all("--max_steps" in command for command in done[::2])
    table = (tmp_path / "runs" / "few-shot.md").read_text(encoding="utf-8")
    ours = "| dbnet, tcm | 100 % | icdar2015 | icdar2015 | 75.0 | 2, 50.0 to 100.0 | 88.8 | README of"
    assert ours in table
    assert "| abcnet, fasttcm | 10 % | total-text | total-text | | | 43.5 to 52.3 |" in table
    assert "Skipped: ctw1500: say with --root where public data sets lie." in table
    assert "Ours: new models of the tiny preset" in table
    plot = ElementTree.parse(tmp_path / "runs" / "few-shot.svg").getroot()
    kinds = [element.tag.split("}")[1] for element in plot]
    assert (kinds.count("rect"), kinds.count("line")) == (1, 1), "ours, and what is published"
    monkeypatch.setattr(script, "run_logged", lambda *_: pytest.fail("there is nothing to do"))
    script.main(["speed", *arguments[1:6], *arguments[8:]])
    assert "| 10.0 |" in (tmp_path / "runs" / "speed.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("head", ["dbnet", "pan", "fcenet"])
def test_a_study_runs_on_photos_of_ones_own(script, photos, tmp_path, head) -> None:
    arguments = ["few-shot", "--sets", f"mine={photos}", "--heads", head, "--output_dir", str(tmp_path / "runs")]
    script.main([*arguments, "--shares", "1", "--max_seconds", "1", "--crop_size", "96"])
    assert f"| {head}, fasttcm | 100 % | mine | mine |" in (tmp_path / "runs" / "few-shot.md").read_text()


def test_every_published_figure_has_a_source_and_a_study(script) -> None:
    assert {one.study for one in script.PUBLISHED} == set(STUDIES) == set(script.STUDIES)
    assert all(one.source and one.figure for one in script.PUBLISHED)
