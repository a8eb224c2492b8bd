"""The text spotting examples, run as a user would, on pictures made here."""

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_settings import LEARNING, RECOGNIZER

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor, TextInstances
from transformers_tcm.data.collation import label_words
from transformers_tcm.data.loaders import save_jsonl
from transformers_tcm.data.word_crops import load_word_crops

FOLDER = Path(__file__).parents[2] / "examples" / "text-spotting"
TRAINER, NO_TRAINER = "run_text_spotting.py", "run_text_spotting_no_trainer.py"
OVERRIDES: dict[str, Any] = {
    **LEARNING,
    "recognizer": {**RECOGNIZER, "num_blocks": [0, 1, 0], "hidden_size": 32, "dropout": 0.0, "jitter": 0.0},
}
WORDS = ["EXIT", "SALE", "24h", "Cafe", "TAXI", "Books", "Bar", "PARK"]
SETTINGS: dict[str, Any] = {
    "config_overrides": OVERRIDES,
    "crop_size": 96,
    "do_train": True,
    "do_eval": True,
    "use_cpu": True,
    "max_steps": 4,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 3,
    "learning_rate": 0.003,
    "logging_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "ema_decay": 0.5,
    "seed": 3,
    "disable_tqdm": True,
}


def picture(word: str, margin: int = 4) -> tuple[np.ndarray, tuple[int, int]]:
    """White letters on grey, and the size (width, height) of the word."""
    (width, height), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 1.0, 2)
    image = np.full((height + 2 * margin, width + 2 * margin, 3), 90, np.uint8)
    cv2.putText(image, word, (margin, margin + height), cv2.FONT_HERSHEY_DUPLEX, 1.0, (255, 255, 255), 2)
    return image, (width, height)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two words each as JSON lines, `words.tsv` with single crops, and a recipe."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    paths, annotations, lines = [], [], []
    for index in range(4):
        photo = np.random.default_rng(index).integers(60, 120, (160, 200, 3), dtype=np.uint8)
        polygons = []
        for row, word in enumerate(WORDS[2 * index : 2 * index + 2]):
            crop, _ = picture(word)
            height, width = crop.shape[:2]
            x, y = 20 + 20 * row, 20 + 70 * row
            photo[y : y + height, x : x + width] = crop
            polygons.append([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
            cv2.imwrite(str(folder / "images" / f"{word}.png"), crop)
            lines.append(f"{word}.png\t{word}\n")
        paths.append(folder / f"photo_{index}.png")
        cv2.imwrite(str(paths[-1]), photo)
        annotations.append(TextInstances(polygons, texts=WORDS[2 * index : 2 * index + 2]))
    save_jsonl(folder / "photos.jsonl", paths, annotations)
    (folder / "words.tsv").write_text("".join(lines), encoding="utf-8")
    joint = {**SETTINGS, "train_jsonl": [str(folder / "photos.jsonl")], "eval_jsonl": str(folder / "photos.jsonl")}
    (folder / "joint.json").write_text(json.dumps(joint), encoding="utf-8")
    words = {"train_words": str(folder / "words.tsv"), "eval_words": str(folder / "words.tsv")}
    alone = {**SETTINGS, **words, "train_detection": False}
    (folder / "alone.json").write_text(json.dumps(alone), encoding="utf-8")
    return folder


def run(script: str, *arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    command = [sys.executable, *launcher, str(FOLDER / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def trainer_log(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "trainer_state.json").read_text())["log_history"]


def plain_log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def values(log: list[dict[str, float]], name: str) -> list[float]:
    return [entry[name] for entry in log if name in entry]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["alone", "joint"])
def test_both_scripts_train_by_the_same_recipe(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Losses of every step, the figures of each stage, a fused model."""
    for script, name in ((TRAINER, "one"), (NO_TRAINER, "two")):
        arguments = [script, str(data / f"{stage}.json"), "--output_dir", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", arguments)
        load(script.removesuffix(".py"), monkeypatch).main()
    one, two = trainer_log(tmp_path / "one"), plain_log(tmp_path / "two")
    figure = "eval_word_accuracy" if stage == "alone" else "eval_end_to_end_hmean"
    for log, evaluations in ((one, 2), (two, 3)):  # the trainer keeps the last one in a file of its own
        assert len(set(values(log, "loss"))) == 4  # each step has words of its own
        assert len(values(log, figure)) >= evaluations
    np.testing.assert_allclose(np.mean(values(two, "loss")), np.mean(values(one, "loss")), rtol=0.3)
    for name in ("one", "two"):
        assert TCMForTextSpotting.from_pretrained(tmp_path / name).config.fused
        assert TCMImageProcessor.from_pretrained(tmp_path / name).text_threshold == 0.0


@pytest.mark.slow
def test_a_stopped_loop_goes_on_where_it_was(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGINT in the second of two accumulated batches of step 3: the step is completed and saved."""
    script = load(NO_TRAINER.removesuffix(".py"), monkeypatch)
    arguments = [NO_TRAINER, data / "joint.json", "--output_dir", tmp_path, "--gradient_accumulation_steps", 2]
    monkeypatch.setattr(sys, "argv", [*map(str, arguments), "--eval_strategy", "no", "--save_steps", "100"])
    learn, calls = script.learn, []

    def learn_and_be_stopped(*given: Any) -> torch.Tensor:
        calls.append(None)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGINT)
        return learn(*given)

    monkeypatch.setattr(script, "learn", learn_and_be_stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            script.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    first = values(plain_log(tmp_path), "loss")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--resume_from_checkpoint", "last"])
    script.main()
    assert len(calls) == 8
    log = plain_log(tmp_path)
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3, 4]
    assert values(log, "loss")[:3] == first
    assert TCMForTextSpotting.from_pretrained(tmp_path).config.fused


@pytest.mark.slow
def test_two_processes(data: Path, tmp_path: Path) -> None:
    """The items of a step are shared out: two processes with a batch of one see what one with two sees."""
    common = [data / "alone.json", "--per_device_eval_batch_size", 1, "--max_steps", 2]
    run(NO_TRAINER, *common, "--output_dir", tmp_path / "one")
    # `accelerate launch --cpu` starts one process, whatever number it is told.
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    run(
        NO_TRAINER,
        *common,
        "--output_dir",
        tmp_path / "two",
        "--per_device_train_batch_size",
        1,
        launcher=launcher,
    )
    one, two = plain_log(tmp_path / "one"), plain_log(tmp_path / "two")
    assert len(values(two, "loss")) == 2
    # Batch norms see half of the words each.
    np.testing.assert_allclose(values(two, "loss"), values(one, "loss"), rtol=0.2)
    assert [set(entry) for entry in one] == [set(entry) for entry in two]
    TCMForTextSpotting.from_pretrained(tmp_path / "two")


@pytest.mark.slow
def test_the_best_model_is_kept(data: Path, tmp_path: Path) -> None:
    """With a rate that spoils the model after the first evaluation, the saved one is that of the first."""
    best = ["--load_best_model_at_end", "true", "--metric_for_best_model", "eval_loss", "--fuse", "false"]
    schedule = ["--learning_rate", 1.0, "--lr_scheduler_type", "constant_with_warmup", "--warmup_steps", 400]
    arguments = [data / "alone.json", *best, *schedule, "--ema_decay", 0, "--eval_steps", 1, "--save_steps", 1]
    run(NO_TRAINER, *arguments, "--output_dir", tmp_path / "loop")
    losses = values(plain_log(tmp_path / "loop"), "eval_loss")
    assert losses[-1] == pytest.approx(min(losses[:-1]), rel=1e-4)


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as a module, with its neighbours importable."""
    monkeypatch.syspath_prepend(str(FOLDER))
    specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    script = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, name, script)
    specification.loader.exec_module(script)
    return script


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("spotting_recipe", monkeypatch)


@pytest.mark.parametrize("script", [TRAINER, NO_TRAINER])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train_images", "photos"], "one --train_annotations folder for each"),
        ([], "nothing to train on"),
        (["--train_words", "words.tsv"], "add --train_detection false"),
        (["--flip_probability", "0.5"], "mirrored words cannot be read"),
        (["--word_weight", "1.5"], "between 0 and 1; got 1.5"),
        (["--model_name_or_path", "fasttcm-nothing"], "no bundled model is called 'fasttcm-nothing'"),
    ],
)
def test_bad_arguments_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, arguments: list[str], message: str
) -> None:
    module = load(script.removesuffix(".py"), monkeypatch)
    common = ["--output_dir", str(tmp_path), "--max_steps", "1", "--use_cpu", "--do_train"]
    if "--model_name_or_path" not in arguments:
        common += ["--config_overrides", json.dumps(OVERRIDES)]
    monkeypatch.setattr(sys, "argv", [script, *common, *arguments])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        module.main()


@pytest.fixture
def small_model(recipe: ModuleType) -> Callable[..., tuple[TCMForTextSpotting, TCMImageProcessor]]:
    def make(**arguments: Any) -> tuple[TCMForTextSpotting, TCMImageProcessor]:
        return recipe.SpotterArguments(**arguments).load()

    return make


def test_a_new_model_has_a_recogniser(small_model: Callable) -> None:
    small = {name: value for name, value in OVERRIDES.items() if name != "recognizer"}
    model, processor = small_model(config_overrides=json.dumps(small))
    assert model.recognizer.settings.decoder == "ctc"
    assert processor.text_threshold == 0.0


def test_a_spotter_keeps_its_recogniser(small_model: Callable, tmp_path: Path) -> None:
    """The second stage continues with the recogniser and the thresholds of the first."""
    recognizer = {**OVERRIDES["recognizer"], "decoder": "attention", "charset": "abc"}
    model, processor = small_model(
        config_overrides=json.dumps({**OVERRIDES, "recognizer": recognizer}),
        processor_overrides='{"text_threshold": 0.4, "box_threshold": 0.7}',
    )
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, processor = small_model(model_name_or_path=str(tmp_path), freeze_detector=True)
    assert again.recognizer.settings == model.recognizer.settings
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    assert (processor.text_threshold, processor.box_threshold) == (0.4, 0.7)
    assert {name.split(".")[0] for name, p in again.named_parameters() if p.requires_grad} == {"recognizer"}


def test_a_spotter_keeps_the_settings_that_are_not_named(small_model: Callable, tmp_path: Path) -> None:
    recognizer = {**OVERRIDES["recognizer"], "language_model": {"hidden_size": 8}}
    model, processor = small_model(config_overrides=json.dumps({**OVERRIDES, "recognizer": recognizer}))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, _ = small_model(model_name_or_path=str(tmp_path), config_overrides='{"recognizer": {"jitter": 0.3}}')
    assert again.recognizer.settings == replace(model.recognizer.settings, jitter=0.3)
    assert again.recognizer.language_model is not None


@pytest.mark.parametrize(("decoder", "kept"), [("abinet", True), ("masked", False)])
def test_another_recogniser_keeps_what_it_has_in_common(
    small_model: Callable, tmp_path: Path, decoder: str, kept: bool
) -> None:
    """Of one of another kind the charset alone, and never the language model."""
    recognizer = {**OVERRIDES["recognizer"], "charset": "abc", "language_model": {"hidden_size": 8}}
    model, processor = small_model(config_overrides=json.dumps({**OVERRIDES, "recognizer": recognizer}))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    changes = json.dumps({"recognizer": {"decoder": decoder}})
    settings = small_model(model_name_or_path=str(tmp_path), config_overrides=changes)[0].recognizer.settings
    assert (settings.decoder, settings.charset, settings.language_model) == (decoder, "abc", None)
    assert (list(settings.channels) == list(OVERRIDES["recognizer"]["channels"])) is kept


def test_data_of_each_stage(recipe: ModuleType, data: Path) -> None:
    processor = TCMImageProcessor(text_threshold=0.0)
    photos = recipe.SpottingPhotoArguments(
        train_jsonl=[str(data / "photos.jsonl")], eval_jsonl=str(data / "photos.jsonl"), crop_size=96
    )
    words = recipe.WordArguments(train_words=[str(data / "words.tsv")], eval_words=str(data / "words.tsv"))
    joint, alone = recipe.SpotterArguments(), recipe.SpotterArguments(train_detection=False)
    kinds = [
        type(recipe.training_data(*pair, processor, 10, 0)).__name__
        for pair in (
            (photos, recipe.WordArguments()),
            (recipe.SpottingPhotoArguments(), words),
            (photos, words),
        )
    ]
    assert kinds == ["RandomTextCrops", "MixedDataset", "MixedDataset"]
    assert photos.flip_probability == 0
    evaluated = [
        recipe.evaluation_data(*arguments, processor)
        for arguments in ((joint, photos, words), (alone, photos, words), (alone, photos, recipe.WordArguments()))
    ]
    assert [(type(one).__name__, len(one)) for one in evaluated] == [
        ("TextPhotos", 4),
        ("WordPhotos", 8),
        ("TextPhotos", 4),
    ]
    assert recipe.evaluation_data(joint, recipe.SpottingPhotoArguments(), words, processor) is None


def test_words_are_evaluated(
    small_model: Callable, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    model, processor = small_model(config_overrides=json.dumps(OVERRIDES))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    script = load("evaluate_words", monkeypatch)
    arguments = ["--words", str(data / "words.tsv"), "--output", str(tmp_path / "words.json"), "--show"]
    monkeypatch.setattr(sys, "argv", ["evaluate_words.py", str(tmp_path), *arguments])
    script.main()
    figures = json.loads((tmp_path / "words.json").read_text())["words"]
    assert figures["words"] == 8
    assert figures["accuracy"] == 0  # nobody has taught it anything
    printed = capsys.readouterr().out
    assert "'EXIT' read as" in printed
    assert "all: 8 words, exact but for the case 0.0000" in printed


def test_words_are_cut_out_of_photos(data: Path, tmp_path: Path) -> None:
    """Their crops are pixels of the photo with the word where the list says; ignored words are left out."""
    rows = (data / "photos.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(rows[0])
    first["ignore"] = [False, True]
    (data / "some.jsonl").write_text("\n".join([json.dumps(first), *rows[1:]]), encoding="utf-8")
    done = run("cut_words.py", "--jsonl", data / "some.jsonl", "--output", tmp_path / "words", "--margin", 0.5)
    assert done.stdout == "7 words\n"
    words = load_word_crops(tmp_path / "words" / "labels.tsv")
    assert [word.text for word in words] == [WORDS[0], *WORDS[2:]]
    photo, crop = cv2.imread(str(data / "photo_0.png")), cv2.imread(str(words[0].image))
    corner = np.array(first["polygons"][0][0]) - np.array(words[0].quad[0])
    x, y = corner.round().astype(int)
    difference = np.abs(crop.astype(int) - photo[y : y + crop.shape[0], x : x + crop.shape[1]])
    assert difference.mean() < 10  # JPEG of noise around the word
    inner = np.array(words[0].quad).round().astype(int)
    (left, top), (right, bottom) = inner.min(axis=0), inner.max(axis=0)
    assert min(left, top) > 0
    assert ([right, bottom] < np.array(crop.shape[1::-1])).all()
    assert difference[top + 2 : bottom - 2, left + 2 : right - 2].mean() < 6


def test_neighbours_on_a_line_are_cut_out_as_one(data: Path, tmp_path: Path) -> None:
    """Two at a time, with a space between them; not words of other lines, sizes or directions, or far away."""
    photo = json.loads((data / "photos.jsonl").read_text(encoding="utf-8").splitlines()[0])

    def box(left: int, top: int, width: int, height: int) -> list[list[int]]:
        return [[left, top], [left + width, top], [left + width, top + height], [left, top + height]]

    boxes = {
        "The": box(10, 10, 30, 10),
        "open": box(43, 11, 40, 10),
        "gate": box(85, 11, 30, 10),
        "below": box(43, 23, 40, 10),
        "HIGH": box(117, 5, 20, 22),
        "far": box(95, 23, 20, 10),
    }
    row = {"image": photo["image"], "polygons": list(boxes.values()), "texts": list(boxes), "ignore": [False] * 6}
    (data / "line.jsonl").write_text(json.dumps(row), encoding="utf-8")
    done = run("cut_words.py", "--jsonl", data / "line.jsonl", "--output", tmp_path / "pairs", "--pairs")
    assert done.stdout == "2 words\n"
    words = load_word_crops(tmp_path / "pairs" / "labels.tsv")
    assert [word.text for word in words] == ["The open", "open gate"]
    assert words[0].quad is not None
    np.testing.assert_allclose(np.ptp(words[0].quad, axis=0), [73, 11], atol=0.2)


def test_words_come_from_several_lists(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the given shares, each word changed by the given jitter and distorted as far as the recipe says."""
    recipe = load("spotting_recipe", monkeypatch)
    lines = (data / "words.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    for name, part in (("first", lines[:4]), ("second", lines[4:])):
        (data / f"{name}.tsv").write_text("".join(part), encoding="utf-8")
    words = recipe.WordArguments(
        train_words=[str(data / "first.tsv"), str(data / "second.tsv")],
        train_words_weights=[0.0, 1.0],
        word_photometric='{"invert_probability": 1.0}',
        collage_settings='{"warp": 0.2, "enlargement": [1.0, 3.0]}',
    )
    collages = recipe.word_collages(
        recipe.SpottingPhotoArguments(crop_size=128), words, TCMImageProcessor(), length=5, seed=0
    )
    found = {word for index in range(5) for word in label_words(collages[index]["labels"])}
    assert set() < found <= set(WORDS[4:])
    assert collages.datasets[1].word_photometric.invert_probability == 1.0
    assert (collages.datasets[1].warp, collages.datasets[1].enlargement) == (0.2, [1.0, 3.0])


def test_unknown_settings_of_collages_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load("spotting_recipe", monkeypatch)
    words = recipe.WordArguments(train_words=[str(data / "words.tsv")], collage_settings='{"wrap": 0.2}')
    with pytest.raises(ValueError, match=r"--collage_settings.*wrap"):
        recipe.word_collages(recipe.SpottingPhotoArguments(), words, TCMImageProcessor(), length=5, seed=0)


class TestHoldOutWords:
    """Four photos of two legible words and an illegible one, and ten words of another list."""

    @pytest.fixture
    def lists(self, tmp_path: Path) -> Path:
        (tmp_path / "gt").mkdir()
        for folder, words in (("icdar", WORDS), ("other", [f"word{i}" for i in range(8)])):
            (tmp_path / folder).mkdir()
            for word in words:
                cv2.imwrite(str(tmp_path / folder / f"{word}.png"), np.zeros((20, 50, 3), np.uint8))
            lines = "".join(f"{word}.png\t{word}\n" for word in words)
            (tmp_path / folder / "labels.tsv").write_text(lines, encoding="utf-8")
        slanted = "10,10,60,20,60,30,10,20"  # its box has 50 x 20 pixels
        for index in range(4):
            words = [WORDS[2 * index], "###", WORDS[2 * index + 1]]
            text = "".join(f"{slanted},{word}\n" for word in words)
            (tmp_path / "gt" / f"gt_img_{index + 9}.txt").write_text(text, encoding="utf-8")  # 10 follows 9
        (tmp_path / "val.txt").write_text("img_10.jpg\nimg_12.jpg\n", encoding="utf-8")
        return tmp_path

    def arguments(self, lists: Path, count: int = 4) -> list[str]:
        icdar, other = lists / "icdar" / "labels.tsv", lists / "other" / "labels.tsv"
        named = {"annotations": lists / "gt", "photos": lists / "val.txt", "icdar": icdar, "words": other}
        given = {**named, "count": count, "output": lists / "out"}
        return [part for name, value in given.items() for part in (f"--{name}", str(value))]

    def test_words_of_validation_photos_are_not_trained_on(self, lists: Path) -> None:
        done = run("hold_out_words.py", *self.arguments(lists))
        train, held_out = (load_word_crops(lists / "out" / f"{name}.tsv") for name in ("train", "held_out"))
        assert done.stdout == f"train.tsv: {len(train)} words\nheld_out.tsv: {len(held_out)} words\n"
        validation = set(WORDS[2:4] + WORDS[6:8])
        assert len(held_out) == 4
        assert sum(word.text in validation for word in held_out) == 2  # the share of each list
        assert sum(word.text.startswith("word") for word in held_out) == 2
        assert {word.text for word in train} == set(WORDS) - validation | {
            word.text for word in load_word_crops(lists / "other" / "labels.tsv")
        } - {word.text for word in held_out}
        corners = [(0.0, 0.0), (50.0, 10.0), (50.0, 20.0), (0.0, 10.0)]
        assert all(word.quad == (None if word.text.startswith("word") else tuple(corners)) for word in train)

    def test_crops_of_other_photos_are_refused(self, lists: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        labels = lists / "icdar" / "labels.tsv"
        labels.write_text("".join(reversed(labels.read_text().splitlines(keepends=True))), encoding="utf-8")
        script = load("hold_out_words", monkeypatch)
        monkeypatch.setattr(sys, "argv", ["hold_out_words.py", *self.arguments(lists)])
        with pytest.raises(ValueError, match=r"do not show the 8 legible words of .*gt in their order"):
            script.main()
