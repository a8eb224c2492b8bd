"""Recipe files and the photos that scripts train on."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from transformers_tcm import TCMImageProcessor, TextInstances
from transformers_tcm.data.loaders import save_jsonl
from transformers_tcm.training import (
    PhotoArguments,
    StartArguments,
    TCMTrainingArguments,
    few_shot_subset,
    parse_recipe,
    photometric_jitter,
    stop_evaluation,
    unreadable_words,
    words_of_rows,
)

WORD = np.float32([[40, 30], [90, 30], [90, 50], [40, 50]])


@dataclass
class Options:
    """Some of every kind."""

    name: str | None = field(default=None)
    numbers: list[float] = field(default_factory=list)
    settings: str = field(default="{}")
    fuse: bool = field(default=True)


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
def test_files_and_overrides(tmp_path: Path, suffix: str) -> None:
    recipe = tmp_path / f"recipe.{suffix}"
    values = {"name": "a", "numbers": [1, 0.5], "settings": {"b": {"c": [1, None]}}, "fuse": False}
    recipe.write_text(json.dumps(values))  # YAML includes JSON
    [options] = parse_recipe(Options, arguments=[str(recipe)])
    assert options == Options("a", [1.0, 0.5], '{"b": {"c": [1, null]}}', False)
    [options] = parse_recipe(Options, arguments=[str(recipe), "--name", "d", "--numbers", "3", "--fuse", "true"])
    assert options == Options("d", [3.0], options.settings, True)
    [options] = parse_recipe(Options, arguments=[str(recipe), "--name=e"])
    assert options.name == "e"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "numers: [1]", "there is no setting 'numers'; did you mean numbers"),
        ("a.yaml", "zzz: 1", "there is no setting 'zzz'; there are"),
        ("a.json", '{"numers": [1]}', "no setting 'numers'"),
        ("a.yaml", "name: a\nname: b", "gives 'name' more than once"),
        ("a.json", '{"name": "a", "name": "b"}', "gives 'name' more than once"),
        ("a.yaml", "- name\n- a", "expected settings such as"),
        ("a.json", "[1]", "expected settings such as"),
        ("a.yaml", "", "expected settings such as"),
        ("a.yaml", "numbers: [1,", "is no YAML"),
        ("a.json", "name: a", "is no JSON"),
    ],
)
def test_recipes_that_cannot_be_meant(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        parse_recipe(Options, arguments=[str(tmp_path / name)])


def test_recipe_that_is_missing() -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no recipe missing\.yaml"):
        parse_recipe(Options, arguments=["missing.yaml"])


def test_empty_settings_and_dashes(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: null\nnumbers: []\nfuse: false")
    assert parse_recipe(Options, arguments=[str(recipe)]) == (Options(fuse=False),)
    recipe.write_text("max-steps: 3\noutput_dir: out")
    [arguments] = parse_recipe(TCMTrainingArguments, arguments=[str(recipe), "--use_cpu"])
    assert arguments.max_steps == 3


def test_command_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_recipe(Options, arguments=["--name", "a"]) == (Options("a"),)
    assert parse_recipe(Options, arguments=[]) == (Options(),)
    monkeypatch.setattr("sys.argv", ["script.py", "--numbers", "1", "2"])
    assert parse_recipe(Options) == (Options(numbers=[1.0, 2.0]),)


def test_several_classes(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    lines = ["name: a", "crop_size: 64", "output_dir: out", "max_steps: 3", "learning_rate: 1.0e-3"]
    recipe.write_text("\n".join([*lines, "lr_scheduler_kwargs: {power: 0.9}"]))
    classes = (Options, PhotoArguments, TCMTrainingArguments)
    options, photos, training = parse_recipe(*classes, arguments=[str(recipe), "--use_cpu"])
    assert (options.name, photos.crop_size, training.lr_scheduler_kwargs) == ("a", 64, {"power": 0.9})
    assert training.learning_rate == 1e-3
    assert training.num_items == 3 * training.per_device_train_batch_size


def test_unknown_settings_are_named(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("nmae: a\n")
    with pytest.raises(ValueError, match="nmae"):
        parse_recipe(Options, arguments=[str(recipe)])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        parse_recipe(Options, arguments=[str(tmp_path / "nowhere.yaml")])


def test_number_of_items(tmp_path: Path) -> None:
    common = {"output_dir": str(tmp_path), "use_cpu": True, "per_device_train_batch_size": 3}
    assert TCMTrainingArguments(**common, max_steps=5, gradient_accumulation_steps=2).num_items == 30
    with pytest.raises(ValueError, match="give --max_steps, the number of optimizer steps"):
        _ = TCMTrainingArguments(**common).num_items


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos of a colour each, with a word, in both formats."""
    (tmp_path / "images").mkdir()
    (tmp_path / "gt").mkdir()
    paths = []
    instances = TextInstances([WORD], texts=["sale"], ignore=np.array([False]))
    for index, colour in enumerate([(250, 0, 0), (0, 250, 0), (0, 0, 250)]):
        paths.append(tmp_path / "images" / f"{index}.png")
        PIL.Image.new("RGB", (160, 120), colour).save(paths[-1])
        (tmp_path / "gt" / f"gt_{index}.txt").write_text(instances.to_icdar())
    save_jsonl(tmp_path / "photos.jsonl", paths, [instances] * 3)
    (tmp_path / "val.txt").write_text("2.png\n")
    return tmp_path


def test_sources_of_photos(photos: Path) -> None:
    arguments = PhotoArguments(
        train_images=[str(photos / "images")],
        train_annotations=[str(photos / "gt")],
        train_jsonl=[str(photos / "photos.jsonl")],
        eval_images=str(photos / "images"),
        eval_annotations=str(photos / "gt"),
        eval_list=str(photos / "val.txt"),
        crop_size=64,
        word_height_range=[20, 30],
    )
    crops = arguments.training_crops(TCMImageProcessor(), length=7, seed=2)
    # Photos that are evaluated on are left out of the folder, not of other sources.
    assert [len(rows) for rows in crops.sources] == [2, 3]
    assert crops.weights.tolist() == [0.5, 0.5]
    assert len(crops) == 7
    assert crops[0]["pixel_values"].shape == (3, 64, 64)
    assert crops.augmentation.word_height_range == (20, 30)
    rows = arguments.evaluation_rows()
    assert [row["image_id"] for row in rows] == ["2.png"]


def test_held_out_photos_are_found_however_the_folder_is_written(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    common = {"train_images": ["images"], "train_annotations": ["gt"], "eval_list": "val.txt"}
    arguments = PhotoArguments(**common, eval_images=str(photos / "gt" / ".." / "images"))
    assert len(arguments.training_crops(TCMImageProcessor(), length=1, seed=0).sources[0]) == 2
    with pytest.raises(ValueError, match="--eval_list holds photos of the folder --eval_images; name it"):
        PhotoArguments(**common).training_crops(TCMImageProcessor(), length=1, seed=0)


def test_weights_and_jsonl(photos: Path) -> None:
    jsonl = str(photos / "photos.jsonl")
    arguments = PhotoArguments(train_jsonl=[jsonl, jsonl], train_weights=[3, 1], eval_jsonl=jsonl, decode_once=False)
    assert arguments.training_crops(TCMImageProcessor(), 5, 0).weights.tolist() == [0.75, 0.25]
    assert len(arguments.evaluation_rows()) == 3


def test_missing_sources_are_named(photos: Path) -> None:
    with pytest.raises(ValueError, match="one --train_annotations folder for each --train_images folder"):
        PhotoArguments(train_images=["a", "b"], train_annotations=["c"]).training_crops(TCMImageProcessor(), 5, 0)
    with pytest.raises(ValueError, match="nothing to train on: give --train_images and"):
        PhotoArguments().training_crops(TCMImageProcessor(), 5, 0)
    with pytest.raises(ValueError, match="positive weight"):
        PhotoArguments(train_jsonl=[str(photos / "photos.jsonl")], train_weights=[1, 2]).training_crops(
            TCMImageProcessor(), 5, 0
        )
    assert PhotoArguments().evaluation_rows() is None
    assert PhotoArguments(eval_images=str(photos / "images")).evaluation_rows() is None


@pytest.mark.parametrize("seed", [0, 3])
def test_few_shot_subsets_are_nested(seed: int) -> None:
    subsets = [few_shot_subset(300, share, seed) for share in (0.05, 0.1, 0.2, 0.5, 1.0)]
    assert [len(subset) for subset in subsets] == [15, 30, 60, 150, 300]
    for smaller, larger in itertools.pairwise(subsets):
        assert set(smaller) < set(larger)
    assert all(subset == sorted(subset) for subset in subsets)
    assert few_shot_subset(300, 0.1, seed) == subsets[1] != few_shot_subset(300, 0.1, seed + 1)
    assert max(few_shot_subset(300, 0.1, seed)) > 100  # not the first photos
    assert len(few_shot_subset(3, 0.05, seed)) == 1


@pytest.mark.parametrize("name", ["--few_shot", "--few-shot"])
def test_few_shot_takes_photos_and_leaves_rendered_scenes(photos: Path, tmp_path: Path, name: str) -> None:
    jsonl = str(photos / "photos.jsonl")
    recipe = tmp_path / "recipe.json"
    folders = {"train_images": [str(photos / "images")], "train_annotations": [str(photos / "gt")]}
    recipe.write_text(json.dumps({**folders, "train_jsonl": [jsonl], "train_weights": [3, 1], "few_shot": 1.0}))
    [arguments] = parse_recipe(PhotoArguments, arguments=[str(recipe), name, "0.7"])
    crops = arguments.training_crops(TCMImageProcessor(), 5, seed=9)
    assert [len(rows) for rows in crops.sources] == [2, 3]
    assert crops.weights.tolist() == [0.75, 0.25]
    again = arguments.training_crops(TCMImageProcessor(), 5, seed=4)
    names = [[row["image_id"] for row in training.sources[0]] for training in (crops, again)]
    assert names[0] == names[1] == [f"{index}.png" for index in few_shot_subset(3, 0.7)]


def test_few_shot_of_photos_in_json_lines(photos: Path) -> None:
    jsonl = [str(photos / "photos.jsonl")]
    crops = PhotoArguments(train_jsonl=jsonl, few_shot=0.34, jsonl_photos=True).training_crops(
        TCMImageProcessor(), 5, 0
    )
    assert [len(rows) for rows in crops.sources] == [1]
    with pytest.raises(ValueError, match="add --jsonl_photos true"):
        PhotoArguments(train_jsonl=jsonl, few_shot=0.34).training_crops(TCMImageProcessor(), 5, 0)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_shares_outside_the_unit_interval_are_named(share: float) -> None:
    with pytest.raises(ValueError, match=rf"above 0 and at most 1; got {share}"):
        few_shot_subset(10, share)


def test_pasted_words_come_from_training_photos_and_lists(photos: Path) -> None:
    """Not from photos that are evaluated on or left out by few-shot, nor from JSON lines, which are rendered."""
    (photos / "words").mkdir()
    PIL.Image.new("RGB", (60, 20), (9, 9, 9)).save(photos / "words" / "word.png")
    (photos / "words" / "words.tsv").write_text("word.png\tlisted\n")
    common = {
        "train_images": [str(photos / "images")],
        "train_annotations": [str(photos / "gt")],
        "train_jsonl": [str(photos / "photos.jsonl")],
        "copy_paste_probability": 0.25,
        "copy_paste_max_words": 2,
        "copy_paste_heights": [10, 30],
    }
    held_out = {"eval_images": common["train_images"][0], "eval_list": str(photos / "val.txt")}

    def patches(**changes: object) -> list:
        arguments = PhotoArguments(**{**common, **changes})
        paste = arguments.training_crops(TCMImageProcessor(), 5, 0).augmentation.copy_paste
        assert (paste.probability, paste.max_words, paste.word_heights) == (0.25, 2, (10, 30))
        return paste.patches

    assert [patch.text for patch in patches()] == ["sale"] * 3
    assert [tuple(patch.pixels[0, 0]) for patch in patches(**held_out)] == [(250, 0, 0), (0, 250, 0)]
    assert len(patches(few_shot=0.34)) == 1
    assert len(patches(jsonl_photos=True)) == 6
    assert [patch.text for patch in patches(copy_paste_words=[str(photos / "words" / "words.tsv")])] == ["listed"] + [
        "sale"
    ] * 3
    none = PhotoArguments(**{**common, "copy_paste_probability": 0.0})
    assert none.training_crops(TCMImageProcessor(), 5, 0).augmentation.copy_paste is None
    alone = {"train_images": [], "train_annotations": [], "copy_paste_words": []}
    with pytest.raises(ValueError, match="no word to paste"):
        patches(**alone)


RECIPE = {
    "output_dir": "out",
    "dataloader_num_workers": 2,
    "dataloader_persistent_workers": True,
    "dataloader_prefetch_factor": 3,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "save_strategy": "steps",
    "save_steps": 5,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_hmean",
    "max_steps": 5,
}


@pytest.mark.parametrize("override", [["--dataloader_num_workers", "0"], ["--dataloader-num-workers=0"]])
def test_recipes_run_without_workers(tmp_path: Path, override: list[str]) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    common = [str(tmp_path / "recipe.json"), "--use_cpu"]
    [training] = parse_recipe(TCMTrainingArguments, arguments=common)
    assert (training.dataloader_persistent_workers, training.dataloader_prefetch_factor) == (True, 3)
    [training] = parse_recipe(TCMTrainingArguments, arguments=[*common, *override])
    assert training.dataloader_num_workers == 0
    assert (training.dataloader_persistent_workers, training.dataloader_prefetch_factor) == (False, None)


def test_recipes_run_without_data_to_evaluate_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    [training] = parse_recipe(TCMTrainingArguments, arguments=[str(tmp_path / "recipe.json"), "--use_cpu"])
    stop_evaluation(training)
    assert (training.eval_strategy, training.do_eval, training.load_best_model_at_end) == ("no", False, False)
    assert "the last model is kept: there are no data to evaluate on" in caplog.text


def test_empty_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    path = str(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match=r"empty\.jsonl holds no photo"):
        PhotoArguments(train_jsonl=[path]).training_crops(TCMImageProcessor(), 5, 0)
    with pytest.raises(ValueError, match=r"empty\.jsonl holds no photo"):
        PhotoArguments(eval_jsonl=path).evaluation_rows()


def test_words_outside_the_charset_are_counted() -> None:
    assert unreadable_words(["SALE", "Cafe\u0301"], "SALECafe\u00e9") is None
    report = unreadable_words(["\u51fa\u53e3", "SALE", "\u51fa"], "SALE")
    assert report.startswith("2 of 3 words to train on hold characters that the recogniser cannot read")
    assert "charset of 4 characters: '\u51fa' (2), '\u53e3' (1)." in report
    rows = [{"texts": ["a", "b", None], "ignore": [False, True, False]}, {"texts": ["c"], "ignore": [False]}]
    assert list(words_of_rows(rows)) == ["a", "c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config_overrides": '{"head_typ": "pan"}'}, "--config_overrides: .* did you mean head_type"),
        ({"config_overrides": '{"head_type"'}, "--config_overrides is no JSON"),
        ({"processor_overrides": '{"siz": 3}'}, "--processor_overrides: .* did you mean size"),
        ({"processor_overrides": "[1]"}, "--processor_overrides is no JSON object"),
    ],
)
def test_overrides_that_cannot_be_meant(arguments: dict[str, str], message: str) -> None:
    start = StartArguments(**arguments)
    with pytest.raises(ValueError, match=message):
        start.config_settings(), start.processor_settings()


def test_overrides_of_every_head() -> None:
    start = StartArguments('{"head_type": "pan"}', '{"max_distance": 3, "unclip_ratio": 1.4, "text_threshold": 0.3}')
    assert start.config_settings() == {"head_type": "pan"}
    assert start.processor_settings() == {"max_distance": 3, "unclip_ratio": 1.4, "text_threshold": 0.3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"word_height_range": [3]}, "--word_height_range takes two numbers"),
        ({"few_shot": 3}, "--few_shot is a share"),
        ({"eval_list": "val.txt"}, "name it, also where nothing is evaluated"),
    ],
)
def test_settings_of_photos_that_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhotoArguments(**arguments)


def test_unknown_changes_of_the_photos() -> None:
    with pytest.raises(ValueError, match=r"--photometric: .* did you mean brightness"):
        photometric_jitter("photometric", '{"brightnes": 3}')
