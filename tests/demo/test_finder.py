"""What the demo does apart from its page, for which no Gradio is needed: finding, remembering, drawing, opening."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from spotting_fakes import photo, tiny_spotter_config
from torch import nn
from transformers import pipeline
from typer.testing import CliRunner

from transformers_tcm import TCMForTextSpotting, TCMImageProcessorPil, demo
from transformers_tcm.cli import app
from transformers_tcm.demo import photos
from transformers_tcm.demo.finder import Finder, Found, lexicon_of, text_finders
from transformers_tcm.demo.memory import RecentResults
from transformers_tcm.demo.photos import open_photo
from transformers_tcm.demo.pictures import FOUND, PROBABILITY_MAP, SCORE_MAP, draw, summary, text_of

# Of a head without training: all that is a little brighter than the rest is text, whatever it says.
LOOSE = {"threshold": 0.45, "box_threshold": 0.1, "text_threshold": 0.0, "min_size": 1}
SHIP = {"score": 0.9, "label": "ship", "polygon": [[5, 5], [25, 5], [25, 15], [5, 15]]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spotter without training."""
    folder = tmp_path_factory.mktemp("spotter")
    torch.manual_seed(0)
    TCMForTextSpotting(tiny_spotter_config(word_boundaries=True)).save_pretrained(folder)
    TCMImageProcessorPil(size={"longest_edge": 160}, coarse_edge=96, **LOOSE).save_pretrained(folder)
    return folder


@pytest.fixture
def street() -> Image.Image:
    return photo(160, 96, (20, 20, 70, 36), (90, 50, 140, 70))


class Calls:
    """How often a module computes something."""

    def __init__(self, module: nn.Module):
        self.count = 0
        forward = module.forward

        def counted(*arguments, **others):
            self.count += 1
            return forward(*arguments, **others)

        module.forward = counted


def test_other_thresholds_run_no_network_again_and_find_what_the_pipeline_does(folder, street) -> None:
    finder, plain = Finder("text-spotting", str(folder)), pipeline("text-spotting", model=str(folder))
    model = finder.pipeline.model
    # Below the memory, which has taken the place of the modules' own `forward`.
    encoder, neck = Calls(model.model.backbone), Calls(model.head.neck)
    for settings in ({}, {"threshold": 0.48}, {"text_threshold": 0.01}, {"box_threshold": 0.45}, {}):
        found = finder.find(street, orientation="upright", **settings).instances
        expected = plain(street, orientation="upright", **settings)
        assert [one["text"] for one in found] == [one["text"] for one in expected]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one["polygon"], other["polygon"], atol=1e-3)
    assert encoder.count == neck.count == 3  # a look at the full size and two coarser ones
    finder.find(photo(160, 96, (20, 20, 70, 60)), orientation="upright")
    assert encoder.count == neck.count == 6


def test_words_whose_outline_is_known_are_not_read_again(folder, street) -> None:
    finder = Finder("text-spotting", str(folder))
    crops = Calls(finder.pipeline.model.recognizer.encoder)
    found = finder.find(street)
    assert found.instances
    read = crops.count
    finder.find(street, box_threshold=0.3)
    finder.find(street, text_threshold=0.2)
    assert crops.count == read > 0


def test_maps_are_those_of_the_photo(folder, street) -> None:
    found = Finder("text-spotting", str(folder)).find(street)
    assert found.score_map.shape == found.probability_map.shape == (96, 160)
    for view in (FOUND, SCORE_MAP, PROBABILITY_MAP):
        assert draw(found, view).width == 160


def test_settings_of_a_model_are_those_it_has_stored(folder) -> None:
    finders = text_finders(str(folder), None, None)
    (kind,) = finders
    assert kind == "Find and read words"
    assert LOOSE.items() <= finders[kind].defaults().items()


def test_recent_results_are_kept_and_older_ones_computed_again() -> None:
    recent, computed = RecentResults(limit=2), []

    def compute(indices: list[int]) -> list[int]:
        computed.append(indices)
        return [10 * index for index in indices]

    assert recent.of(["a", "b"], compute) == [0, 10]
    assert recent.of(["b", "a", "c"], compute) == [10, 0, 20]
    assert recent.of(["a", "c"], compute) == [0, 20]
    assert computed == [[0, 1], [2]]
    recent.of(["b"], compute)
    assert computed[-1] == [0]
    assert len(recent) == 2


def test_large_photos_are_drawn_as_large_as_a_screen() -> None:
    word = {"score": 0.9, "text": "SALE", "text_score": 0.9, "line": 0, "polygon": SHIP["polygon"]}
    found = Found(Image.new("RGB", (3200, 1600)), [word], None, None)
    assert draw(found, FOUND).size == (1600, 800)
    with pytest.raises(ValueError, match="no score map"):
        draw(found, SCORE_MAP)
    assert (summary(found, reads=True), text_of(found, reads=True)) == ("1 word", "SALE")
    assert (summary(found, reads=False), text_of(found, reads=False)) == ("1 region", "")


def test_objects_are_counted_by_class() -> None:
    found = Found(Image.new("RGB", (60, 40)), [SHIP, SHIP], None, None)
    classes = {0: "plane", 1: "ship"}
    assert (summary(found, False, classes), text_of(found, False, classes)) == ("2 objects", "ship: 2")
    assert draw(found, FOUND, classes).size == (60, 40)
    assert summary(Found(found.photo, [], None, None), False, classes) == "no objects"


def test_a_lexicon_is_separated_by_spaces_commas_and_lines() -> None:
    assert lexicon_of(" ,\n") is None
    words = lexicon_of("exit, open\nparking").match_all(["EXIT", "open", "parking", "school"], "within", max_distance=1)
    assert words == ["exit", "open", "parking", None]


def test_uploads_are_opened_or_refused_by_name(tmp_path, monkeypatch) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    assert open_photo(str(tmp_path / "a.png")).size == (50, 40)
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"^notes.png: not an image"):
        open_photo(str(tmp_path / "notes.png"))
    with pytest.raises(ValueError, match="not an image"):
        open_photo("data:image/png;base64,AAAA")
    monkeypatch.setattr(photos, "MOST_MEGAPIXELS", 0.001)
    with pytest.raises(ValueError, match=r"^a.png: 50 x 40 pixels, which is too large"):
        open_photo(str(tmp_path / "a.png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"^a.png: hundreds of megapixels"):
        open_photo(str(tmp_path / "a.png"))


def test_without_gradio_the_command_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "transformers_tcm.demo.page", raising=False)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 2
    assert 'pip install "transformers-tcm[demo]"' in result.stderr


def test_the_example_is_the_photo_of_the_repository() -> None:
    ours = Path(demo.__file__).with_name("street.jpg").read_bytes()
    assert ours == (Path(__file__).parents[2] / "examples" / "images" / "street.jpg").read_bytes()
