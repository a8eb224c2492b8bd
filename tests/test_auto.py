"""Importing the package makes the auto classes of transformers know its models."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_settings import SETTINGS
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForObjectDetection,
    BertConfig,
    PreTrainedModel,
)

import transformers_tcm
from transformers_tcm import (
    AutoModelForTextDetection,
    AutoModelForTextSpotting,
    TCMConfig,
    TCMForTextDetection,
    TCMForTextSpotting,
    TCMImageProcessor,
    TCMImageProcessorPil,
    TCMModel,
    TCMVisionBackbone,
    TCMVisionConfig,
    bundled_model_path,
)
from transformers_tcm.models.auto import register_models
from transformers_tcm.models.bundled import folder_of_bundled
from transformers_tcm.models.tcm.backends import torchvision_works
from transformers_tcm.pipelines import register_pipelines


def tiny_config(**settings: object) -> TCMConfig:
    return TCMConfig(**{**SETTINGS, **settings})


@pytest.fixture(scope="module")
def detector() -> TCMForTextDetection:
    torch.manual_seed(0)
    return TCMForTextDetection(tiny_config()).eval().fuse_text_embeddings()


@pytest.fixture(scope="module")
def checkpoint(detector: TCMForTextDetection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    detector.save_pretrained(folder)
    TCMImageProcessorPil(box_threshold=0.45).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("config", [tiny_config(), TCMVisionConfig(**SETTINGS["vision_config"])])
def test_auto_config_knows_both_kinds(config: TCMConfig | TCMVisionConfig, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is type(config)
    assert type(AutoConfig.for_model(config.model_type)) is type(config)


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [
        (None, TCMModel),
        ([], TCMModel),
        (["SomethingElse"], TCMModel),
        (["TCMModel"], TCMModel),
        (["TCMForTextDetection"], TCMForTextDetection),
        (["TCMForTextSpotting"], TCMForTextSpotting),
    ],
)
def test_auto_model_from_config_resolves_by_architectures(
    architectures: list[str] | None, expected: type[PreTrainedModel]
) -> None:
    recognizer = {} if expected is TCMForTextSpotting else None
    config = tiny_config(architectures=architectures, recognizer=recognizer, fused=True)
    assert type(AutoModel.from_config(config)) is expected


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForObjectDetection, AutoModelForTextDetection])
def test_a_saved_detector_loads_as_a_detector(
    auto_class: type, checkpoint: Path, detector: TCMForTextDetection
) -> None:
    loaded = auto_class.from_pretrained(checkpoint)
    assert type(loaded) is TCMForTextDetection
    torch.testing.assert_close(dict(loaded.state_dict()), dict(detector.state_dict()), rtol=0, atol=0)


def test_a_saved_base_model_loads_as_a_base_model(detector: TCMForTextDetection, tmp_path: Path) -> None:
    detector.model.save_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is TCMModel


def test_text_detection_auto_class_builds_from_config_and_refuses_others() -> None:
    assert type(AutoModelForTextDetection.from_config(tiny_config(fused=True))) is TCMForTextDetection
    with pytest.raises(ValueError, match=r"AutoModelForTextDetection.*\n.*TCMConfig"):
        AutoModelForTextDetection.from_config(BertConfig())
    with pytest.raises(OSError, match="from_pretrained"):
        AutoModelForTextDetection()


@pytest.fixture(scope="module")
def spotter_checkpoint(detector: TCMForTextDetection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spotter that starts from the detector, its recogniser random."""
    folder = tmp_path_factory.mktemp("spotter")
    torch.manual_seed(0)
    recognizer = {"channels": [8, 16, 16], "num_blocks": [0, 1, 0]}
    spotter = TCMForTextSpotting(TCMConfig(**{**detector.config.to_dict(), "recognizer": recognizer}))
    spotter.load_state_dict(detector.state_dict(), strict=False)
    spotter.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForTextSpotting])
def test_a_saved_spotter_loads_as_a_spotter(auto_class: type, spotter_checkpoint: Path) -> None:
    loaded = auto_class.from_pretrained(spotter_checkpoint)
    assert type(loaded) is TCMForTextSpotting
    assert loaded.config.recognizer["channels"] == [8, 16, 16]


@pytest.mark.parametrize("auto_class", [AutoModelForTextDetection, AutoModelForObjectDetection])
def test_a_saved_spotter_loads_as_a_detector(
    auto_class: type, spotter_checkpoint: Path, detector: TCMForTextDetection
) -> None:
    loaded = auto_class.from_pretrained(spotter_checkpoint)
    assert type(loaded) is TCMForTextDetection
    torch.testing.assert_close(dict(loaded.state_dict()), dict(detector.state_dict()), rtol=0, atol=0)


def test_text_spotting_auto_class_refuses_detectors_and_others(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="describes a detector"):
        AutoModelForTextSpotting.from_pretrained(checkpoint)
    with pytest.raises(ValueError, match=r"AutoModelForTextSpotting.*\n.*TCMConfig"):
        AutoModelForTextSpotting.from_config(BertConfig())


def test_auto_backbone() -> None:
    backbone = AutoBackbone.from_config(TCMVisionConfig(**SETTINGS["vision_config"], out_features=["stage2", "stage4"]))
    assert type(backbone) is TCMVisionBackbone
    maps = backbone(torch.zeros(1, 3, 64, 32)).feature_maps
    assert [tuple(feature_map.shape) for feature_map in maps] == [(1, 64, 8, 4), (1, 256, 2, 1)]
    assert backbone.channels == [64, 256]


def test_auto_image_processor(checkpoint: Path) -> None:
    processor = AutoImageProcessor.from_pretrained(checkpoint)
    assert type(processor) is TCMImageProcessor
    assert processor.box_threshold == 0.45
    assert type(AutoImageProcessor.from_pretrained(checkpoint, backend="pil")) is TCMImageProcessorPil


def test_public_image_processor_is_one_that_works_here() -> None:
    assert TCMImageProcessor.__name__ == ("TCMImageProcessor" if torchvision_works() else "TCMImageProcessorPil")


def test_registering_again_changes_nothing_and_says_nothing(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    register_models()
    register_pipelines()
    assert not caplog.records
    assert type(AutoModel.from_pretrained(checkpoint)) is TCMForTextDetection


def test_public_names() -> None:
    missing = [name for name in transformers_tcm.__all__ if not hasattr(transformers_tcm, name)]
    assert missing == []
    assert "evaluation" in dir(transformers_tcm)
    assert transformers_tcm.evaluation.__name__ == "transformers_tcm.evaluation"
    with pytest.raises(AttributeError, match="no attribute 'TCMForEverything'"):
        transformers_tcm.TCMForEverything  # noqa: B018


def test_unknown_bundled_model_is_an_error_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"'fasttcm-huge'; there are: .*fasttcm-dbnet-tiny"):
        bundled_model_path("fasttcm-huge")


NEW_PACKAGES = """
import sys
from transformers import AutoModel, AutoImageProcessor, PreTrainedModel, pipeline
before = set(sys.modules)
import transformers_tcm
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_import_loads_nothing_heavy() -> None:
    """How long it takes is measured by `benchmarks/import_time.py`."""
    run = subprocess.run([sys.executable, "-c", NEW_PACKAGES], capture_output=True, text=True, check=True)
    heavy = {"accelerate", "cv2", "datasets", "evaluate", "pyclipper", "rapidfuzz", "shapely"}
    packages = set(run.stdout.split())
    assert "transformers_tcm" in packages
    assert not heavy & packages


BY_NAME = """
import socket, sys
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, pipeline  # before the package

def refuse(*arguments, **kwargs):
    raise AssertionError("asked the network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import transformers_tcm as tcm

for name, task in (("fasttcm-dbnet-tiny", "text-detection"), ("fasttcm-spotter-tiny", "text-spotting")):
    for loader in (AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, tcm.TCMConfig, tcm.TCMImageProcessorPil):
        loader.from_pretrained(name)
    assert pipeline(task, model=name).model.name_or_path == str(tcm.bundled_model_path(name))
tcm.AutoModelForTextSpotting.from_pretrained(pretrained_model_name_or_path=name)
tcm.TCMForTextDetection.from_pretrained("fasttcm-dbnet-tiny")
try:
    AutoModel.from_pretrained("fasttcm-huge")
except ValueError as error:
    print(error)
"""


def test_bundled_models_load_by_name_without_the_network() -> None:
    """A new place where transformers asks the Hub for a name shows here: see `models.auto._accept_bundled_names`."""
    run = subprocess.run([sys.executable, "-c", BY_NAME], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "no bundled model is called 'fasttcm-huge'; there are: fasttcm-dbnet-tiny" in run.stdout


def test_a_folder_called_like_a_bundled_model_is_taken(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(checkpoint, tmp_path / "fasttcm-dbnet-tiny")
    monkeypatch.chdir(tmp_path)
    loaded = AutoModel.from_pretrained("fasttcm-dbnet-tiny")
    assert loaded.config.vision_config.width == AutoConfig.from_pretrained(checkpoint).vision_config.width
    assert folder_of_bundled(Path("fasttcm-spotter-tiny")) == Path("fasttcm-spotter-tiny")
    assert folder_of_bundled("someone/fasttcm-dbnet-tiny") == "someone/fasttcm-dbnet-tiny"
