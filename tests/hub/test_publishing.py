"""Folders for the Hub, as far as no Hub is needed; `tests/hub` has the rest."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from tiny_settings import SETTINGS
from transformers import AutoImageProcessor, AutoModel

from transformers_tcm import (
    AutoModelForTextDetection,
    TCMConfig,
    TCMForTextDetection,
    TCMImageProcessor,
    TCMModel,
    bundled_model_path,
)
from transformers_tcm.hub.model_card import CardDetails
from transformers_tcm.hub.publishing import EXAMPLE_PHOTO, _has_weights_of, draw_example, write_repository

PROCESSOR = TCMImageProcessor(size={"longest_edge": 160})


@pytest.fixture(scope="module")
def detector() -> TCMForTextDetection:
    torch.manual_seed(0)
    return TCMForTextDetection(TCMConfig(fused=True, **SETTINGS))


def test_a_folder_is_complete_and_loads(detector: TCMForTextDetection, tmp_path: Path) -> None:
    write_repository(tmp_path, detector, PROCESSOR, CardDetails(license="mit"), "org/small", max_shard_size="80KB")
    names = {path.name for path in tmp_path.iterdir()}
    shards = {name for name in names if name.endswith(".safetensors")}
    assert len(shards) > 1
    assert names - shards == {
        "README.md",
        "config.json",
        "example.jpg",
        "model.safetensors.index.json",
        "modeling_tcm_hub.py",
        "preprocessor_config.json",
    }
    assert (tmp_path / "modeling_tcm_hub.py").read_text().startswith("from transformers_tcm import ")
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "object-detection")
    assert f"{sum(path.stat().st_size for path in tmp_path.glob('*.safetensors')) / 1e6:.1f} MB" in card.text
    assert max(Image.open(tmp_path / "example.jpg").size) == 960
    loaded = AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(detector.state_dict()), rtol=0, atol=0)
    assert AutoImageProcessor.from_pretrained(tmp_path).size["longest_edge"] == 160


def test_a_model_without_a_head_has_no_picture(tmp_path: Path) -> None:
    write_repository(tmp_path, TCMModel(TCMConfig(fused=True, **SETTINGS)), PROCESSOR, CardDetails(), "org/small")
    assert not (tmp_path / "example.jpg").exists()
    assert "example.jpg" not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_drawing_leaves_the_model_as_it_is(detector: TCMForTextDetection) -> None:
    model = AutoModelForTextDetection.from_pretrained(bundled_model_path(), dtype=torch.bfloat16).train()
    drawn = draw_example(model, TCMImageProcessor(size={"longest_edge": 640}, box_threshold=0.3))
    assert model.training
    assert model.dtype == torch.bfloat16
    assert drawn.size == (960, 640)
    with Image.open(EXAMPLE_PHOTO) as photo:
        assert drawn.tobytes() != photo.resize(drawn.size).tobytes()
    own = Image.new("RGB", (96, 64), "white")
    assert draw_example(detector, PROCESSOR, own).size == (96, 64)


def test_the_package_has_the_photo_of_the_examples() -> None:
    photo = Path(__file__).parents[2] / "examples" / "images" / "street.jpg"
    assert EXAMPLE_PHOTO.read_bytes() == photo.read_bytes()


def test_weights_are_recognised_in_another_dtype_but_not_after_a_step(
    detector: TCMForTextDetection, tmp_path: Path
) -> None:
    detector.save_pretrained(tmp_path, max_shard_size="80KB")
    for dtype in (torch.float32, torch.bfloat16):
        model = TCMForTextDetection.from_pretrained(tmp_path, dtype=dtype)
        assert _has_weights_of(model, tmp_path)
        next(model.head.parameters()).data.mul_(1.5)
        assert not _has_weights_of(model, tmp_path)
    assert not _has_weights_of(model, tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("architecture", "auto_map"),
    [
        (
            "TCMForTextSpotting",
            {"AutoModel": "TCMForTextSpotting", "AutoModelForObjectDetection": "TCMForTextDetection"},
        ),
        ("TCMModel", {"AutoModel": "TCMModel"}),
        (None, {"AutoModel": "TCMModel"}),
    ],
)
def test_configurations_name_the_classes_of_the_package(
    architecture: str | None, auto_map: dict[str, str], tmp_path: Path
) -> None:
    config = TCMConfig(fused=True, **SETTINGS, architectures=None if architecture is None else [architecture])
    config.save_pretrained(tmp_path)
    names = {"AutoConfig": "TCMConfig", **auto_map}
    assert TCMConfig.from_pretrained(tmp_path).auto_map == {
        auto_class: f"modeling_tcm_hub.{name}" for auto_class, name in names.items()
    }


def test_a_configuration_of_another_class_has_no_remote_code(tmp_path: Path) -> None:
    TCMConfig(fused=True, **SETTINGS, architectures=["MyDetector"]).save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert not hasattr(TCMConfig.from_pretrained(tmp_path), "auto_map")


def test_classes_of_the_package_are_never_saved_as_source_code(detector: TCMForTextDetection, tmp_path: Path) -> None:
    class MyDetector(TCMForTextDetection):
        __module__ = "my_package"

    # transformers does this when it loads with `trust_remote_code=True`.
    TCMForTextDetection.register_for_auto_class("AutoModel")
    TCMConfig.register_for_auto_class()
    TCMImageProcessor.register_for_auto_class()
    detector.save_pretrained(tmp_path)
    PROCESSOR.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.py")] == ["modeling_tcm_hub.py"]
    MyDetector.register_for_auto_class("AutoModel")
    assert MyDetector._auto_class == "AutoModel"
    assert TCMForTextDetection._auto_class is None
