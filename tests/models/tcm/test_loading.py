"""Loading a checkpoint with another head, another alphabet, or to be trained."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_settings import SETTINGS
from transformers import AutoModel, Trainer, TrainingArguments

from transformers_tcm import (
    AutoModelForTextDetection,
    AutoModelForTextSpotting,
    TCMConfig,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessor,
    TextInstances,
)
from transformers_tcm.bezier import fit_bezier
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.models.tcm.heads import HEADS, head_class

RECOGNIZER: dict[str, Any] = {
    "charset": "abc",
    "crop_size": [8, 32],
    "channels": [8, 12, 16],
    "num_blocks": [0, 0, 0],
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "max_length": 6,
    "dropout": 0.0,
}
LANGUAGE = {"hidden_size": 8, "embedding_size": 4, "context": 2, "num_layers": 0}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What the package and transformers have logged so far."""
    for name in ("transformers", "transformers_tcm"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    return lambda: caplog.text


def saved_spotter(folder: Path, **recognizer: Any) -> TCMForTextSpotting:
    torch.manual_seed(0)
    config = TCMConfig(**SETTINGS, fused=True, recognizer={**RECOGNIZER, **recognizer})
    spotter = TCMForTextSpotting(config).eval()
    spotter.save_pretrained(folder)
    return spotter


TEXT_HEADS = [name for name in HEADS if head_class(name).task == "text" and not head_class(name).reads]


@pytest.mark.parametrize("head", [name for name in TEXT_HEADS if name != "dbnet"])
def test_another_head_starts_anew_and_says_so(head: str, tmp_path: Path, said: Callable[[], str]) -> None:
    torch.manual_seed(0)
    detector = TCMForTextDetection(TCMConfig(**SETTINGS, fused=True))
    detector.save_pretrained(tmp_path)
    loaded, report = AutoModelForTextDetection.from_pretrained(tmp_path, head_type=head, output_loading_info=True)
    assert type(loaded.head) is head_class(head)
    assert f"the head '{head}' is new, the checkpoint has 'dbnet'" in said()
    new = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    assert {name.split(".")[0] for name in new} == {"head"}
    assert all(".".join(name.split(".")[:2]) in said() for name in new)
    assert all(tensor.isfinite().all() for tensor in loaded.state_dict().values())
    torch.testing.assert_close(dict(loaded.model.state_dict()), dict(detector.model.state_dict()))


@pytest.mark.parametrize("head", [name for name in HEADS if head_class(name).reads])
def test_a_head_that_reads_starts_on_the_encoder_of_a_spotter(
    head: str, tmp_path: Path, said: Callable[[], str]
) -> None:
    spotter = saved_spotter(tmp_path)
    loaded = TCMForTextSpotting.from_pretrained(tmp_path, head_type=head)
    assert type(loaded.head) is head_class(head)
    assert loaded.recognizer is None
    assert f"the head '{head}' is new, the checkpoint has 'dbnet'" in said()
    torch.testing.assert_close(dict(loaded.model.state_dict()), dict(spotter.model.state_dict()))


def test_the_same_head_says_nothing(tmp_path: Path, said: Callable[[], str]) -> None:
    TCMForTextDetection(TCMConfig(**SETTINGS, fused=True)).save_pretrained(tmp_path)
    TCMForTextDetection.from_pretrained(tmp_path, head_type="dbnet")
    assert "is new" not in said()


@pytest.mark.parametrize("loader", [AutoModelForTextSpotting, TCMForTextSpotting, AutoModel])
@pytest.mark.parametrize("decoder", ["ctc", "attention"])
def test_another_charset_keeps_what_is_shared_and_names_what_is_new(
    loader: type, decoder: str, tmp_path: Path, said: Callable[[], str]
) -> None:
    spotter = saved_spotter(tmp_path, decoder=decoder)
    loaded = loader.from_pretrained(tmp_path, recognizer={"charset": "жcaя"})
    assert (
        "2 of 4 characters are new to the recogniser and start at random; train it before it reads them: жя" in said()
    )
    assert loaded.config.recognizer == {**spotter.config.recognizer, "charset": "жcaя"}
    assert loaded.recognizer.settings.charset == "жcaя"
    # Row by row: c, a, unknown, blank or end.
    for name in loaded.recognizer.class_tensors:
        before, after = (model.recognizer.decoder.state_dict()[name] for model in (spotter, loaded))
        torch.testing.assert_close(after[[1, 2, 4, 5]], before[[2, 0, 3, 4]])
        assert len(after) == 6
        assert after.isfinite().all()
    torch.testing.assert_close(
        dict(loaded.recognizer.encoder.state_dict()), dict(spotter.recognizer.encoder.state_dict())
    )
    loaded.save_pretrained(tmp_path / "again")
    again = loader.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(dict(again.state_dict()), dict(loaded.state_dict()))


def test_a_language_model_of_other_characters_is_left_out(tmp_path: Path, said: Callable[[], str]) -> None:
    saved_spotter(tmp_path, language_model=LANGUAGE)
    loaded = TCMForTextSpotting.from_pretrained(tmp_path, recognizer={"charset": "abж"})
    assert loaded.recognizer.language_model is None
    assert loaded.config.recognizer["language_model"] is None
    assert "the language model is left out" in said()


def test_a_language_model_goes_on_with_fewer_characters(tmp_path: Path, said: Callable[[], str]) -> None:
    before = saved_spotter(tmp_path, language_model=LANGUAGE).recognizer.language_model
    after = TCMForTextSpotting.from_pretrained(tmp_path, recognizer={"charset": "cA"}).recognizer.language_model
    assert "left out" not in said()
    # Beginning of a word, then c, a and unknown; the model does not tell A from a.
    torch.testing.assert_close(after.embedding.weight, before.embedding.weight[[0, 1, 3, 4]])
    after_c, before_c = after.next_characters([(0,)])[0], before.next_characters([(2,)])[0]
    assert after_c[1] - after_c[0] == pytest.approx(before_c[0] - before_c[2], abs=1e-5)


def test_other_settings_of_the_recogniser_change_alone(tmp_path: Path) -> None:
    spotter = saved_spotter(tmp_path)
    loaded = TCMForTextSpotting.from_pretrained(tmp_path, recognizer={"jitter": 0.0})
    assert loaded.config.recognizer == {**spotter.config.recognizer, "jitter": 0.0}
    torch.testing.assert_close(dict(loaded.state_dict()), dict(spotter.state_dict()))


def drawn_word() -> tuple[np.ndarray, np.ndarray]:
    """A picture of the letters шпт, made of bars, and their outline."""
    picture = np.full((64, 96, 3), 255, np.uint8)
    top, bottom, bar = 20, 44, 4

    def draw(left: int, right: int, first: int, last: int) -> None:
        picture[first:last, left:right] = 0

    for left in (8, 17, 26):  # ш
        draw(left, left + bar, top, bottom)
    draw(8, 30, bottom - bar, bottom)
    for left in (36, 50):  # п
        draw(left, left + bar, top, bottom)
    draw(36, 54, top, top + bar)
    draw(60, 82, top, top + bar)  # т
    draw(69, 73, top, bottom)
    return picture, np.float32([[4, 16], [86, 16], [86, 48], [4, 48]])


@pytest.mark.parametrize("decoder", ["ctc", "attention"])
def test_a_cyrillic_word_is_learnt_and_read(decoder: str, tmp_path: Path) -> None:
    saved_spotter(tmp_path, decoder=decoder)
    model = TCMForTextSpotting.from_pretrained(tmp_path, recognizer={"charset": "abптш"}, dtype="float32").train()
    picture, outline = drawn_word()
    processor = TCMImageProcessor(do_resize=False).for_model(model.config)
    batch = TextDetectionCollator(model.config)(
        [process_for_model(processor, picture, TextInstances([outline], texts=["шпт"]))]
    )
    optimizer = torch.optim.Adam(model.recognizer.parameters(), lr=1e-2)
    for _ in range(90):
        loss = model(**batch).loss_dict["loss_reading"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2
    points = torch.from_numpy(fit_bezier(outline)).float()[None]
    with torch.no_grad():
        (reading,) = model.eval().recognize(batch["pixel_values"], points, torch.zeros(1, dtype=torch.int64))
    assert reading.text == "шпт"


@pytest.fixture
def stored_in_bfloat16(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    TCMForTextDetection(TCMConfig(**SETTINGS, fused=True)).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def train_with_the_plain_trainer(model: TCMForTextDetection, folder: Path) -> float:
    """A script as anybody writes it."""
    processor = TCMImageProcessor(do_resize=False)
    words = TextInstances([np.float32([[10, 12], [70, 10], [72, 34], [12, 36]])])
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(folder, max_steps=2, report_to="none", remove_unused_columns=False, use_cpu=True),
        train_dataset=[process_for_model(processor, image, words)] * 4,
        data_collator=TextDetectionCollator(model.config),
    )
    return trainer.train().training_loss


def test_a_plain_trainer_refuses_weights_of_the_precision_they_are_stored_in(
    stored_in_bfloat16: Path, tmp_path: Path
) -> None:
    model = AutoModel.from_pretrained(stored_in_bfloat16)
    assert model.dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"weights are in bfloat16.*from_pretrained\(…, dtype='float32'\)"):
        train_with_the_plain_trainer(model, tmp_path)


@pytest.mark.parametrize("remedy", ["float32", "bfloat16", "cast"])
def test_a_plain_trainer_trains_weights_of_a_chosen_precision(
    remedy: str, stored_in_bfloat16: Path, tmp_path: Path
) -> None:
    chosen = {} if remedy == "cast" else {"dtype": remedy}
    model = AutoModel.from_pretrained(stored_in_bfloat16, **chosen)
    model = model.float() if remedy == "cast" else model
    assert np.isfinite(train_with_the_plain_trainer(model, tmp_path))


def test_frozen_weights_may_be_in_any_precision(stored_in_bfloat16: Path) -> None:
    model = AutoModel.from_pretrained(stored_in_bfloat16).train().requires_grad_(False)
    processor = TCMImageProcessor(do_resize=False)
    words = TextInstances([np.float32([[10, 12], [70, 10], [72, 34], [12, 36]])])
    batch = TextDetectionCollator(model.config)([process_for_model(processor, np.zeros((64, 96, 3), np.uint8), words)])
    assert model(**batch).loss.isfinite()


def test_the_page_on_alphabets_says_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "alphabets.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    model = AutoModelForTextSpotting.from_pretrained("cyrillic_start")
    processor = TCMImageProcessor.from_pretrained("cyrillic_start")
    assert model.config.recognizer["charset"] == processor.charset
    assert "ж" in processor.charset
    assert model.recognizer.language_model is None
