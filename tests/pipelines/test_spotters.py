"""`pipeline("text-spotting")` with heads that read what they find: words, lexicons, tiles, cards, the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_heads import QUERIES
from tiny_settings import SETTINGS
from transformers import pipeline

from transformers_tcm import (
    AutoModelForTextSpotting,
    Lexicon,
    TCMConfig,
    TCMForTextSpotting,
    TCMImageProcessor,
    TextSpottingPipeline,
)
from transformers_tcm.cli import app
from transformers_tcm.data.loaders import save_jsonl
from transformers_tcm.hub.model_card import CardDetails, Publication, model_card
from transformers_tcm.instances import TextInstances

HEADS = ["testr", "deepsolo"]
HEAD_CONFIG: dict[str, Any] = {**QUERIES, "num_decoder_layers": 1, "num_queries": 3, "charset": "abcdefgh"}
TEXT = "abba"


class Found(TCMForTextSpotting):
    """A model whose first query is a word in the middle of every image that is bright there, and says `TEXT`.

    Of its characters the second is about as likely to be "c" as what it is.
    """

    def _detect(self, outputs: Any, pixel_mask: Any, sizes: torch.Tensor, with_training_maps: bool) -> Any:
        maps = super()._detect(outputs, pixel_mask, sizes, with_training_maps)
        bright = torch.tensor(self.bright)
        maps["class_logits"] = torch.full_like(maps["class_logits"], -9.0)
        maps["class_logits"][:, bright, 0] = 3.0
        upper, lower = torch.linspace(0.3, 0.7, 8), torch.linspace(0.7, 0.3, 8)
        if "boundary" in maps:
            steps = torch.linspace(0.3, 0.7, maps["boundary"].shape[3])
            edges = torch.stack([steps, steps * 0 + 0.4, steps, steps * 0 + 0.6], dim=-1)
            maps["boundary"][:, :, 0] = edges
        else:
            sides = [torch.stack([x, x * 0 + y], dim=-1) for x, y in ((upper, 0.4), (lower, 0.6))]
            maps["points"][:, :, 0] = torch.cat(sides)
        logits = torch.full_like(maps["text_logits"], 0.0)
        logits[..., -1] = 9.0  # padding, or blank
        for place, character in enumerate(TEXT):
            step = 2 * place
            logits[..., step, :] = 0.0
            logits[..., step, HEAD_CONFIG["charset"].index(character)] = 6.0
        logits[..., 2, HEAD_CONFIG["charset"].index("c")] = 5.9
        maps["text_logits"] = logits
        return maps

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
        self.bright = [bool(image.mean() > 0) for image in pixel_values.float()]
        return super().forward(pixel_values, **kwargs)


def config(head: str, **changes: Any) -> TCMConfig:
    settings = {**SETTINGS, "head_type": head, "head_config": {**HEAD_CONFIG, **changes}, "fused": True}
    return TCMConfig(**settings)


def spotter(head: str) -> TextSpottingPipeline:
    torch.manual_seed(0)
    model = Found(config(head)).eval()
    processor = TCMImageProcessor(size={"longest_edge": 64}, text_threshold=0.0).for_model(model.config)
    return pipeline("text-spotting", model=model, image_processor=processor)


WHITE, BLACK = (Image.fromarray(np.full((64, 64, 3), level, np.uint8)) for level in (255, 0))


@pytest.mark.parametrize("head", HEADS)
def test_words_come_with_outline_and_text(head: str) -> None:
    found = spotter(head)
    words, nothing = found([WHITE, BLACK], batch_size=2)
    assert nothing == []
    assert [word["text"] for word in words] == [TEXT]
    assert np.allclose(words[0]["polygon"], [[19.2, 25.6], [44.8, 25.6], [44.8, 38.4], [19.2, 38.4]], atol=0.5)
    assert words[0]["score"] == pytest.approx(torch.tensor(3.0).sigmoid().item(), abs=1e-4)
    assert found(WHITE, box_threshold=0.99) == []
    assert len(found(WHITE, polygon=True)[0]["polygon"]) == {"testr": 16, "deepsolo": 50}[head]


@pytest.mark.parametrize("head", HEADS)
def test_lexicons_weigh_edits_by_the_characters_that_were_likely(head: str) -> None:
    """Of two words at one edit from the reading, the one whose character was nearly read."""
    found = spotter(head)
    lexicon = Lexicon(["ahba", "acba"])
    assert [word["text"] for word in found(WHITE, lexicon=lexicon, lexicon_rule="weighted")] == ["acba"]
    assert [word["text"] for word in found(WHITE, lexicon=["abb"])] == ["abb"]
    assert found(WHITE, lexicon=["hhhh"]) == []
    with pytest.raises(ValueError, match="cannot read: 'R', 'Z'"):
        found(WHITE, lexicon=["zebra"])


@pytest.mark.parametrize("head", HEADS)
def test_tiles_are_read_one_by_one_and_joined(head: str) -> None:
    wide = Image.fromarray(np.full((64, 192, 3), 255, np.uint8))
    words = spotter(head)(wide, tile=64, tile_overlap=0, size={"height": 64, "width": 192})
    assert [word["text"] for word in words] == [TEXT] * 3
    assert [round(word["box"]["xmin"] / 64) for word in words] == [0, 1, 2]


@pytest.mark.parametrize("head", HEADS)
def test_a_saved_spotter_loads_with_its_kind_and_a_card(head: str, tmp_path: Path) -> None:
    model = TCMForTextSpotting(config(head))
    processor = TCMImageProcessor().for_model(model.config)
    assert (processor.head_type, processor.charset) == (head, HEAD_CONFIG["charset"])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoModelForTextSpotting.from_pretrained(tmp_path)
    assert isinstance(again, TCMForTextSpotting)
    assert pipeline("text-spotting", model=str(tmp_path)).image_processor.head_type == head
    text = str(model_card(Publication("name", model.config, processor, source='"name"'), CardDetails()))
    assert f"a {model.head.display_name} head that reads what it finds" in text
    assert "- Reads 8 characters: `` abcdefgh ``." in text
    with pytest.raises(ValueError, match="leave `recognizer` out"):
        TCMConfig(**{**SETTINGS, "head_type": head, "head_config": HEAD_CONFIG}, recognizer={})
    with pytest.raises(ValueError, match="reads only what it finds"):
        model.recognize(torch.zeros(1, 3, 64, 64), torch.zeros(0, 8, 2), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
def test_presets_build(head: str, preset: str) -> None:
    with torch.device("meta"):
        model = TCMForTextSpotting(TCMConfig.from_preset(preset, head_type=head))
    layers = {"tiny": 2, "small": 3, "base": 6}[preset]
    assert len(model.head.encoder) == layers
    if preset == "base":
        assert (len(model.head.decoder), model.config.head_settings.num_queries) == (6, 100)


def test_a_language_model_respells_what_deepsolo_saw() -> None:
    """Its own logits are CTC, so that spelling can be weighed; those of TESTR are not."""
    language = {"context": 2, "embedding_size": 4, "hidden_size": 8}
    model = TCMForTextSpotting(config("deepsolo", language_model=language)).eval()
    likely = model.head.language_model.output[-1]
    torch.nn.init.zeros_(likely.weight)
    likely.bias.data = torch.eye(len(likely.bias))[2] * 5  # after the end and "a"
    logits = torch.zeros(1, 25, 10)
    logits[:, :, -1] = 9.0
    logits[0, 3] = torch.tensor([5.0, 4.8, *[0.0] * 8])
    readings = [model.read(logits, use_language_model=use)["sequences"] for use in (True, False)]
    assert ["".join(map(chr, reading[0].tolist())) for reading in readings] == ["b", "a"]
    with pytest.raises(ValueError, match="does not fit the head 'testr'"):
        config("testr", language_model=language)


@pytest.mark.parametrize("head", HEADS)
def test_the_commands_evaluate_and_explain(head: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    torch.manual_seed(0)
    model = TCMForTextSpotting(TCMConfig(**{**SETTINGS, "head_type": head, "head_config": HEAD_CONFIG}))
    model.save_pretrained(tmp_path / "model")
    processor = TCMImageProcessor(size={"longest_edge": 64}, text_threshold=0.0).for_model(model.config)
    processor.save_pretrained(tmp_path / "model")
    word = TextInstances([np.float32([[8, 8], [56, 8], [56, 30], [8, 30]])], texts=["ab"])
    WHITE.save(tmp_path / "white.png")
    save_jsonl(tmp_path / "photos.jsonl", [tmp_path / "white.png"], [word])
    runner, given = CliRunner(), ["--model", str(tmp_path / "model")]
    files = ["--jsonl", str(tmp_path / "photos.jsonl"), "--output", str(tmp_path / "report.json")]
    done = runner.invoke(app, ["evaluate", *given, *files, "--box-threshold", "0.001", "--decoding", "min_size=0"])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"hmean", "end_to_end", "word_spotting"} <= set(report)
    explained = runner.invoke(app, ["explain", str(tmp_path / "white.png"), *given, "--output", str(tmp_path / "out")])
    assert explained.exit_code == 0, explained.output
    assert (tmp_path / "out" / "white_score_map.png").is_file()
