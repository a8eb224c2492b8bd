"""Published with huggingface_hub's own client over HTTP, and loaded again: what most people do."""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub.conftest import client_environment, run_client
from hub.server import HubServer
from safetensors.torch import load

from transformers_tcm import AutoModelForTextDetection

FILES = {".gitattributes", "README.md", "config.json", "example.jpg", "modeling_tcm_hub.py", "preprocessor_config.json"}

PUSH = """
import json, sys
from transformers import AutoImageProcessor
from transformers_tcm import AutoModelForTextDetection, AutoModelForTextSpotting

detector, spotter, folder = sys.argv[1:]
model, processor = AutoModelForTextDetection.from_pretrained(detector), AutoImageProcessor.from_pretrained(detector)
model.push_to_hub("org/fasttcm-dbnet", image_processor=processor, max_shard_size="60KB")
# Saving can push as well, to a repository named as the folder.
processor.save_pretrained(folder + "/saved", push_to_hub=True)
model.save_pretrained(folder + "/saved", push_to_hub=True, max_shard_size="60KB", commit_message="Saved")
# The same in two steps, in this order; the model has been changed in between, so that nothing is known of it.
processor.push_to_hub("org/apart")
model.config._name_or_path = ""
model.push_to_hub("org/apart", max_shard_size="60KB")
# A branch, in one file; its threshold is another.
model.push_to_hub("org/fasttcm-dbnet", revision="v2", commit_message="One file")
processor.box_threshold = 0.73
processor.push_to_hub("org/fasttcm-dbnet", revision="v2")
AutoModelForTextSpotting.from_pretrained(spotter).push_to_hub("org/spotter")
print("null")
"""

LOAD = """
import json, sys
import transformers_tcm
from transformers import AutoImageProcessor, AutoModel, pipeline

photo = sys.argv[1]
models = {
    "AutoModel": AutoModel.from_pretrained("org/fasttcm-dbnet"),
    "AutoModelForTextDetection": transformers_tcm.AutoModelForTextDetection.from_pretrained("org/fasttcm-dbnet"),
    "revision": AutoModel.from_pretrained("org/fasttcm-dbnet", revision="v2"),
}
processors = [AutoImageProcessor.from_pretrained("org/fasttcm-dbnet", revision=name) for name in ("main", "v2")]
found = pipeline("text-detection", model="org/fasttcm-dbnet", dtype="float32")(photo)
words = pipeline("text-spotting", model="org/spotter", dtype="float32")(photo)
print(json.dumps({
    "classes": {name: type(model).__name__ for name, model in models.items()},
    "sums": [sum(float(tensor.double().sum()) for tensor in model.state_dict().values()) for model in models.values()],
    "thresholds": [processor.box_threshold for processor in processors],
    "found": found,
    "words": words,
}))
"""

PUSH_ONE = """
import sys
from transformers import AutoImageProcessor
from transformers_tcm import AutoModelForTextSpotting

found = sys.argv[1]
model, processor = AutoModelForTextSpotting.from_pretrained(found), AutoImageProcessor.from_pretrained(found)
model.push_to_hub("org/reads-itself", image_processor=processor)
print("null")
"""

LOAD_ONE = """
import json, sys
import transformers_tcm
from transformers import pipeline

spotter = pipeline("text-spotting", model="org/reads-itself", dtype="float32")
words = spotter(sys.argv[1])
print(json.dumps([type(spotter.model.head).__name__, spotter.image_processor.charset, isinstance(words, list)]))
"""

REMOTE_CODE = """
import json, sys
sys.path += json.loads(sys.argv[1])
from transformers import AutoImageProcessor, AutoModel

model = AutoModel.from_pretrained("org/fasttcm-dbnet", trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained("org/fasttcm-dbnet", trust_remote_code=True)
print(json.dumps([type(model).__name__, processor.box_threshold]))
"""


@pytest.fixture(scope="module")
def published(detector: Path, spotter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A Hub with a detector in two repositories, one of them with a branch, and a spotter."""
    with HubServer().running() as hub:
        run_client(hub, tmp_path_factory.mktemp("home"), PUSH, detector, spotter, tmp_path_factory.mktemp("local"))
        yield hub


def weights(files: dict[str, bytes]) -> dict[str, Any]:
    return {
        name: tensor
        for path, data in files.items()
        if path.endswith(".safetensors")
        for name, tensor in load(data).items()
    }


def test_a_repository_is_complete_and_made_in_one_commit(published: HubServer, detector: Path) -> None:
    repository = published.repositories["org/fasttcm-dbnet"]
    shards = {path for path in repository.files if path.endswith(".safetensors")}
    assert len(shards) > 1
    assert set(repository.files) == FILES | shards | {"model.safetensors.index.json"}
    assert set(json.loads(repository.files["model.safetensors.index.json"])["weight_map"].values()) == shards
    assert repository.messages[:2] == ["initial commit", "Upload TCMForTextDetection"]
    local = AutoModelForTextDetection.from_pretrained(detector).state_dict()
    uploaded = weights(repository.files)
    assert uploaded.keys() == local.keys()
    assert all(local[name].equal(tensor) for name, tensor in uploaded.items())
    assert json.loads(repository.files["preprocessor_config.json"])["box_threshold"] == 0.41
    assert repository.files["modeling_tcm_hub.py"].count(b"\n") == 1


def test_the_order_of_model_and_image_processor_does_not_matter(published: HubServer) -> None:
    together, apart = (published.repositories[f"org/{name}"].files for name in ("fasttcm-dbnet", "apart"))
    assert together.keys() == apart.keys()
    # The cards differ in the name of the model.
    for path in together.keys() - {"README.md"}:
        assert together[path] == apart[path], path
    assert together["README.md"].replace(b"fasttcm-dbnet", b"apart") == apart["README.md"]


def test_saving_can_push_the_complete_repository(published: HubServer) -> None:
    [name] = [name for name in published.repositories if name.endswith("/saved")]
    saved, together = (published.repositories[name] for name in (name, "org/fasttcm-dbnet"))
    assert saved.messages[-1] == "Saved"
    assert saved.files.keys() == together.files.keys()


def test_a_push_replaces_the_weights_of_an_earlier_one(published: HubServer) -> None:
    repository = published.repositories["org/fasttcm-dbnet"]
    files = {path: blob.data for path, blob in repository.commits[repository.branches["v2"]].items()}
    assert set(files) == FILES | {"model.safetensors"}
    assert weights(files).keys() == weights(repository.files).keys()
    assert "One file" in repository.messages


def test_thresholds_of_the_card_follow_the_image_processor(published: HubServer) -> None:
    repository = published.repositories["org/fasttcm-dbnet"]
    branch = repository.commits[repository.branches["v2"]]["README.md"].data.decode()
    main = repository.files["README.md"].decode()
    assert "| `box_threshold` | 0.41 |" in main
    assert branch == main.replace("| `box_threshold` | 0.41 |", "| `box_threshold` | 0.73 |")


def test_what_was_published_loads_into_an_empty_cache(
    published: HubServer, detector: Path, spotter: Path, tmp_path: Path
) -> None:
    from transformers import pipeline

    from transformers_tcm.hub.publishing import EXAMPLE_PHOTO

    loaded = run_client(published, tmp_path, LOAD, EXAMPLE_PHOTO, token=None)
    assert set(loaded["classes"].values()) == {"TCMForTextDetection"}
    local = AutoModelForTextDetection.from_pretrained(detector).state_dict()
    expected = sum(float(tensor.double().sum()) for tensor in local.values())
    assert loaded["sums"] == pytest.approx([expected] * 3)
    assert loaded["thresholds"] == [0.41, 0.73]
    found = pipeline("text-detection", model=str(detector), dtype="float32")(EXAMPLE_PHOTO)
    assert loaded["found"]
    assert [word["score"] for word in loaded["found"]] == pytest.approx([word["score"] for word in found], abs=1e-4)
    words = pipeline("text-spotting", model=str(spotter), dtype="float32")(EXAMPLE_PHOTO)
    assert [word["text"] for word in loaded["words"]] == [word["text"] for word in words]


def test_without_the_package_remote_code_says_what_to_install(published: HubServer, tmp_path: Path) -> None:
    # Without `site` an editable installation is not on the path.
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", REMOTE_CODE, json.dumps(folders)],
        capture_output=True,
        text=True,
        env=client_environment(published, tmp_path, None),
    )
    assert done.returncode == 1
    assert "ImportError: This modeling file requires" in done.stderr
    assert "pip install transformers_tcm" in done.stderr  # for pip the same as transformers-tcm


@pytest.mark.slow
def test_with_the_package_remote_code_needs_no_import(published: HubServer, tmp_path: Path) -> None:
    assert run_client(published, tmp_path, REMOTE_CODE, "[]", token=None) == ["TCMForTextDetection", 0.41]


@pytest.mark.slow
def test_a_spotter_whose_head_reads_is_published_and_loaded(
    hub: HubServer, query_spotter: Path, tmp_path: Path
) -> None:
    run_client(hub, tmp_path / "writer", PUSH_ONE, query_spotter)
    photo = Path(__file__).parents[2] / "examples" / "images" / "street.jpg"
    name, charset, listed = run_client(hub, tmp_path / "reader", LOAD_ONE, photo, token=None)
    assert name.lower() in ("testrhead", "deepsolohead")
    assert (charset, listed) == ("abc", True)
