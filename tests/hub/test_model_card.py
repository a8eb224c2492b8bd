"""Cards: what is generated, what the author says, and both in an existing card."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from transformers_tcm import TCMConfig, TCMImageProcessor
from transformers_tcm.hub.model_card import CardDetails, Publication, eval_result, model_card, replace_thresholds

TEXT = """## Data

Photos.

```
## not a heading
```

## Limits

None known.
"""
RESULTS = [
    eval_result("text detection", "hmean", 0.70711, "held-back photos", "photos"),
    eval_result("text spotting", "hmean", 0.5, "held-back photos", "photos"),
    eval_result("word recognition", "accuracy", 0.61, "held-back photos", "photos"),
]


def publication(**changes: object) -> Publication:
    settings = {
        "name": "fasttcm-dbnet",
        "config": TCMConfig.from_preset("tiny"),
        "image_processor": TCMImageProcessor(box_threshold=0.44),
        "source": '"org/fasttcm-dbnet"',
        "parameters": 7_860_000,
        "num_bytes": 15_781_158,
        "dtype": "bfloat16",
    }
    return Publication(**{**settings, **changes})


def details(**changes: object) -> CardDetails:
    settings = {"text": TEXT, "eval_results": RESULTS, "license": "apache-2.0", "base_model": "org/base"}
    return CardDetails(**{**settings, "datasets": ["org/photos"], "tags": ["clip", "mine"], **changes})


def test_front_matter_is_what_the_hub_reads() -> None:
    data = model_card(publication(), details()).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "object-detection"
    assert data["tags"] == ["text-detection", "scene-text", "tcm", "clip", "mine"]
    assert data["base_model"] == "org/base"
    assert data["datasets"] == ["org/photos"]
    (model,) = data["model-index"]
    assert model["name"] == "fasttcm-dbnet"
    tasks = [(result["task"]["name"], result["metrics"][0]["value"]) for result in model["results"]]
    assert tasks == [("text detection", 0.7071), ("text spotting", 0.5), ("word recognition", 0.61)]


def test_what_nobody_said_is_left_out_or_said_to_be_unknown() -> None:
    card = model_card(publication(), CardDetails())
    assert not {"license", "base_model", "datasets", "model-index"} & card.data.to_dict().keys()
    assert "has not described" in card.text
    assert "has not stated a licence" in card.text


def test_text_of_a_detector_and_of_a_spotter() -> None:
    text = model_card(publication(), details()).text
    assert "A FastTCM text detector" in text
    assert 'pipeline("text-detection", model="org/fasttcm-dbnet")' in text
    assert "7.86 million parameters; weights in bfloat16, 15.8 MB" in text
    assert "| `box_threshold` | 0.44 |" in text
    assert "text_threshold" not in text
    config = TCMConfig.from_preset("tiny", prompting="tcm", recognizer={"charset": "ab ", "decoder": "attention"})
    spotter = publication(config=config, image_processor=TCMImageProcessor(text_threshold=0.3))
    card = model_card(spotter, details())
    assert "A TCM text spotter" in card.text
    assert "attention decoding" in card.text
    assert "Reads 3 characters: `` ab `` and space" in card.text
    assert "| `text_threshold` | 0.3 |" in card.text
    assert card.data.pipeline_tag == "image-to-text"
    assert "language model" not in card.text


def test_the_language_model_is_named() -> None:
    config = TCMConfig.from_preset("tiny", recognizer={"language_model": {}})
    text = model_card(publication(config=config, image_processor=TCMImageProcessor(text_threshold=0.3)), details()).text
    assert "- A language model of characters weighs spelling; `use_language_model=False`" in text


def test_the_picture_comes_with_who_made_the_photo() -> None:
    assert "example.jpg" not in model_card(publication(), details()).text
    text = model_card(publication(picture=True), details()).text
    assert "![Text that the model found in a photo](example.jpg)" in text
    assert "Aitzol Berasategi" in text
    assert "Berasategi" not in model_card(publication(picture=True, credit=""), details()).text


def test_settings_without_weights_say_how_to_get_some() -> None:
    text = model_card(publication(parameters=None, config=TCMConfig(prompting="tcm")), details()).text
    assert "transformers-tcm convert RN50.pt start --prompting tcm\n" in text
    assert "pipeline(" not in text
    text = model_card(publication(parameters=None, config=TCMConfig(num_context_tokens=32)), details()).text
    assert '--config settings.json  # a file with {"num_context_tokens": 32}' in text


def test_details_survive_a_card(tmp_path: Path) -> None:
    card = model_card(publication(picture=True), details())
    card.save(tmp_path / "README.md")
    again = CardDetails.from_card(tmp_path / "README.md")
    assert again.text.strip() == TEXT.strip()
    assert str(model_card(publication(picture=True), again)) == str(card)


def test_cards_of_other_making_keep_their_sections(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# mine\n\nhello\n\n## How it was made\n\nBy hand.\n", encoding="utf-8")
    found = CardDetails.from_card(tmp_path / "README.md")
    assert found.text == "## How it was made\n\nBy hand.\n"
    assert found.license is None
    with pytest.raises(FileNotFoundError, match=r"no model card .*missing\.md"):
        CardDetails.from_card(tmp_path / "missing.md")


def test_thresholds_are_replaced_and_nothing_else() -> None:
    card = str(model_card(publication(), details()))
    changed = replace_thresholds(card, TCMImageProcessor(box_threshold=0.9))
    assert changed == card.replace("| `box_threshold` | 0.44 |", "| `box_threshold` | 0.9 |")
    assert replace_thresholds("# a card\n\n## Use\n", TCMImageProcessor()) == "# a card\n\n## Use\n"


def test_figures_have_a_known_task() -> None:
    with pytest.raises(ValueError, match="unknown task 'ocr'; expected one of text detection"):
        eval_result("ocr", "hmean", 0.1, "photos", "photos")


def test_front_matter_is_parsed_by_the_hubs_own_reader() -> None:
    card = ModelCard(str(model_card(publication(), details())))
    assert [result.metric_value for result in card.data.eval_results] == [0.7071, 0.5, 0.61]
