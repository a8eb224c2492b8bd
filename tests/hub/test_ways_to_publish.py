"""Ways to publish and to load that take longer to test: Trainer, script, private repositories, broken connections."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hub.conftest import client_environment, run_client
from hub.server import READER, STRANGER, Blob, HubServer, Repository
from hub.test_round_trip import FILES, weights
from PIL import Image
from safetensors.torch import load_file
from tiny_settings import SETTINGS
from transformers import pipeline

from transformers_tcm import TextInstances, bundled_model_path
from transformers_tcm.data.loaders import save_jsonl
from transformers_tcm.hub.publishing import EXAMPLE_PHOTO

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

PUSH = """
import sys
from transformers import AutoImageProcessor
from transformers_tcm import AutoModelForTextDetection

folder, private = sys.argv[1], sys.argv[2] == "private"
options = {"private": private, "max_shard_size": "80KB", "create_pr": sys.argv[2] == "proposal"}
model, processor = AutoModelForTextDetection.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
try:
    model.push_to_hub("org/fasttcm-dbnet", image_processor=processor, **options)
    print('"pushed"')
except Exception as error:
    import json
    print(json.dumps(f"{type(error).__name__}: {error}"))
"""

LOAD = """
import json, os, sys
import transformers_tcm
from transformers import AutoImageProcessor, AutoModel


def attempt(revision, token):
    # Class, sum of the weights and a threshold, or what went wrong.
    where = {"revision": revision, "token": token, "cache_dir": f"{os.environ['HF_HOME']}/{token}"}
    try:
        model = AutoModel.from_pretrained("org/fasttcm-dbnet", **where)
        processor = AutoImageProcessor.from_pretrained("org/fasttcm-dbnet", **where)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    total = sum(float(tensor.double().sum()) for tensor in model.state_dict().values())
    return [type(model).__name__, total, processor.box_threshold]


revision, *tokens = sys.argv[1:]
results = [attempt(name, token or False) for name in revision.split(",") for token in tokens or [""]]
print(json.dumps(results if len(results) > 1 else results[0]))
"""

TRAIN = """
import sys
from training_fakes import Photos, detector, training_arguments
from transformers_tcm.training import TCMTrainer

folder, strategy = sys.argv[1:]
arguments = training_arguments(
    folder, push_to_hub=True, hub_model_id="org/trained", hub_strategy=strategy, hub_private_repo=True, do_eval=True
)
datasets = {"train_dataset": Photos(), "eval_dataset": Photos()}
trainer = TCMTrainer(detector(), arguments, **datasets, image_processor=Photos.processor)
trainer.train()
trainer.evaluate()
trainer.save_model()
trainer.push_to_hub(commit_message="Last", license="apache-2.0", dataset="noise", tags=["example"])
trainer.create_model_card(model_name="trained")
print("null")
"""

SPOT = """
import json, sys
import transformers_tcm
from transformers import pipeline

words = pipeline("text-spotting", model="org/fasttcm-spotter", dtype="float32")(sys.argv[1], size=960)
print(json.dumps([word["text"] for word in words]))
"""

PUSH_AGAIN = """
from transformers import AutoImageProcessor
import transformers_tcm

folder = transformers_tcm.bundled_model_path("fasttcm-spotter-tiny")
transformers_tcm.AutoModelForTextSpotting.from_pretrained(folder).push_to_hub("org/fasttcm-spotter")
AutoImageProcessor.from_pretrained(folder).push_to_hub("org/fasttcm-spotter")
print("null")
"""


def expected(folder: Path) -> list:
    """What `LOAD` prints for a folder that was published."""
    total = sum(float(tensor.double().sum()) for tensor in load_file(folder / "model.safetensors").values())
    return ["TCMForTextDetection", pytest.approx(total), 0.41]


def stock(hub: HubServer, name: str, folder: Path) -> None:
    """Put a folder on the Hub without a client."""
    repository = hub.repositories[name] = Repository(name, private=False)
    files = {path.name: Blob(path.read_bytes(), path.suffix == ".safetensors") for path in folder.iterdir()}
    hub.objects |= {blob.oid: blob.data for blob in files.values()}
    repository.commit("main", files, "by hand")


def test_private_repositories_need_a_token(hub: HubServer, detector: Path, tmp_path: Path) -> None:
    assert run_client(hub, tmp_path / "writer", PUSH, detector, "private") == "pushed"
    assert hub.repositories["org/fasttcm-dbnet"].private
    loaded, *refused = run_client(hub, tmp_path / "reader", LOAD, "main", READER, "", STRANGER, token=None)
    assert loaded == expected(detector)
    for message in refused:
        assert "is not a local folder and is not a valid model identifier" in message
        assert "private repository" in message
    assert hub.leaked_tokens == 0


def test_nobody_else_can_publish(hub: HubServer, detector: Path, tmp_path: Path) -> None:
    for token, error in ((READER, "you don't have the rights to write"), ("hf_unknown", "Invalid credentials")):
        assert error in run_client(hub, tmp_path, PUSH, detector, "public", token=token)
    assert hub.repositories == {}


def test_what_is_in_the_cache_loads_offline(hub: HubServer, detector: Path, tmp_path: Path) -> None:
    stock(hub, "org/fasttcm-dbnet", detector)
    cache = tmp_path / "reader"
    commit = hub.repositories["org/fasttcm-dbnet"].branches["main"]
    loaded, unknown = run_client(hub, cache, LOAD, "main,v7", token=None)
    assert loaded == expected(detector)
    assert "v7 is not a valid git identifier" in unknown
    requests = len(hub.requests)
    again = run_client(hub, cache, LOAD, f"main,{commit}", token=None, HF_HUB_OFFLINE="1")
    assert again == [expected(detector)] * 2
    missing = run_client(hub, tmp_path / "empty", LOAD, "main", token=None, HF_HUB_OFFLINE="1")
    assert "offline" in missing
    assert len(hub.requests) == requests


def test_a_proposal_leaves_the_main_branch_alone(hub: HubServer, detector: Path, tmp_path: Path) -> None:
    assert run_client(hub, tmp_path, PUSH, detector, "proposal") == "pushed"
    repository = hub.repositories["org/fasttcm-dbnet"]
    assert set(repository.files) == {".gitattributes"}
    assert set(repository.commits[repository.branches["refs/pr/1"]]) > FILES


@pytest.mark.parametrize("part_size", [None, 30_000])
def test_broken_connections_are_mended(hub: HubServer, detector: Path, tmp_path: Path, part_size: int | None) -> None:
    hub.part_size, hub.cut_uploads = part_size, 1
    assert run_client(hub, tmp_path / "writer", PUSH, detector, "public") == "pushed"
    assert hub.cut_uploads == 0
    assert bool(hub.count("PUT /objects/.*/2")) == (part_size is not None)
    hub.cut_downloads = 1
    assert run_client(hub, tmp_path / "reader", LOAD, "main", token=None) == expected(detector)
    assert hub.cut_downloads == 0


def test_a_broken_download_goes_on_where_it_stopped(hub: HubServer, tmp_path: Path) -> None:
    # The client keeps what it has in pieces of 10 MB.
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model.safetensors").write_bytes(bytes(12_000_000))
    stock(hub, "org/large", tmp_path / "files")
    hub.cut_downloads = 1
    code = """
from huggingface_hub import hf_hub_download
print(len(open(hf_hub_download("org/large", "model.safetensors"), "rb").read()))
"""
    assert run_client(hub, tmp_path, code, token=None) == 12_000_000
    assert hub.count(r"GET /objects/.* bytes=[1-9]\d+-") == 1


def test_a_killed_upload_leaves_nothing_and_is_repeated_without_what_arrived(
    hub: HubServer, detector: Path, tmp_path: Path
) -> None:
    hub.stall = threading.Event()
    client = subprocess.Popen(
        [sys.executable, "-c", PUSH, str(detector), "public"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=client_environment(hub, tmp_path, "hf_writer"),
    )
    assert hub.stalled.wait(120)
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    hub.stall.set()
    hub.stall = None
    repository = hub.repositories["org/fasttcm-dbnet"]
    assert set(repository.files) == {".gitattributes"}
    assert "RevisionNotFound" not in run_client(hub, tmp_path / "reader", LOAD, "main", token=None)
    arrived = set(hub.objects)
    assert arrived
    first_attempt = len(hub.requests)
    assert run_client(hub, tmp_path, PUSH, detector, "public") == "pushed"
    sent_again = [request for request in hub.requests[first_attempt:] if request.startswith("PUT")]
    assert sent_again
    assert not any(oid in request for request in sent_again for oid in arrived)
    assert weights(repository.files).keys() == load_file(detector / "model.safetensors").keys()
    assert run_client(hub, tmp_path / "reader", LOAD, "main", token=None) == expected(detector)


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint", "end"])
def test_the_trainer_publishes_the_same_files(hub: HubServer, tmp_path: Path, strategy: str) -> None:
    output = tmp_path / "output"
    run_client(hub, tmp_path / "home", TRAIN, output, strategy, PYTHONPATH=str(ROOT / "tests"))
    repository = hub.repositories["org/trained"]
    assert repository.private
    in_root = {path for path in repository.files if "/" not in path}
    assert in_root == FILES | {"model.safetensors"}
    saves = [f"Training in progress, step {step}" for step in (3, 6)]
    assert [message for message in repository.messages if message in saves] == ([] if strategy == "end" else saves)
    assert repository.messages[-1] == "Last"
    # The averages, as `save_model` saved them, not the weights of the last step.
    saved, last = (load_file(folder / "model.safetensors") for folder in (output, output / "checkpoint-6"))
    pushed = weights({path: data for path, data in repository.files.items() if path in in_root})
    assert all(pushed[name].equal(saved[name]) for name in saved)
    assert not all(last[name].equal(saved[name]) for name in saved)
    in_checkpoint = {path for path in repository.files if path.startswith("last-checkpoint/")}
    assert ("last-checkpoint/optimizer.pt" in in_checkpoint) == (strategy == "checkpoint")
    assert not any(path.endswith("training_args.bin") for path in repository.files)  # it holds the token
    card = repository.files["README.md"].decode()
    for text in ("license: apache-2.0", "- example", "type: hmean", "| optimiser steps | 6 of 6 |"):
        assert text in card
    for text in ("| learning rate | 0.003 |", "8 examples to evaluate on: noise", "| text detection, hmean |"):
        assert text in card
    assert (output / "README.md").read_text(encoding="utf-8").startswith("---\n")
    assert (output / "example.jpg").is_file()


def run_script(hub: HubServer, home: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "push_to_hub.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=client_environment(hub, home, "hf_writer"))


def test_script_model_and_image_processor_publish_the_same_files(hub: HubServer, tmp_path: Path) -> None:
    config = ROOT / "hub_configs" / "fasttcm-spotter-tiny"
    arguments = (config, "--repo-id", "org/fasttcm-spotter")
    tried = run_script(hub, tmp_path, *arguments, "--dry-run", "--output", tmp_path / "files")
    assert tried.returncode == 0, tried.stderr
    assert hub.requests == []
    done = run_script(hub, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    repository = hub.repositories["org/fasttcm-spotter"]
    assert repository.branches["main"] in done.stdout
    files = {path: data for path, data in repository.files.items() if path != ".gitattributes"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()} == files
    assert set(files) == {path.name for path in config.iterdir()} | {"model.safetensors"}
    for name in files:
        assert name in tried.stdout
    # Nothing has changed, so nothing is committed.
    commits = len(repository.messages)
    run_client(hub, tmp_path, PUSH_AGAIN)
    assert len(repository.messages) == commits
    words = run_client(hub, tmp_path / "reader", SPOT, EXAMPLE_PHOTO, token=None)
    local = pipeline("text-spotting", model=str(bundled_model_path("fasttcm-spotter-tiny")), dtype="float32")
    assert words == [word["text"] for word in local(EXAMPLE_PHOTO, size=960)]
    assert words


def test_the_example_script_publishes_the_fused_model(hub: HubServer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (120, 160, 3), np.uint8)).save(tmp_path / "photo.png")
    word = TextInstances([[[10, 10], [90, 10], [90, 40], [10, 40]]], texts=["SALE"], ignore=np.array([False]))
    save_jsonl(tmp_path / "photos.jsonl", [tmp_path / "photo.png"], [word])
    processor = {"size": {"longest_edge": 160}}
    arguments = f"""--config_overrides {json.dumps(SETTINGS)}
        --processor_overrides {json.dumps(processor)} --train_jsonl {tmp_path / "photos.jsonl"} --crop_size 64
        --output_dir {tmp_path / "output"} --do_train true --max_steps 2 --per_device_train_batch_size 2 --save_steps 1
        --push_to_hub true --hub_model_id org/mine --hub_strategy end --report_to none"""
    script = ROOT / "examples" / "text-detection" / "run_text_detection.py"
    command = [sys.executable, str(script), *_words(arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=client_environment(hub, tmp_path / "home", "hf_writer")
    )
    assert done.returncode == 0, done.stderr[-4000:]
    repository = hub.repositories["org/mine"]
    assert set(repository.files) == FILES | {"model.safetensors"}
    assert json.loads(repository.files["config.json"])["fused"]
    local = load_file(tmp_path / "output" / "model.safetensors")
    pushed = weights(repository.files)
    assert pushed.keys() == local.keys()
    assert all(pushed[name].equal(local[name]) for name in local)
    assert "1 photos for 100% of the training crops" in repository.files["README.md"].decode()


def _words(arguments: str) -> list[str]:
    """Names and values, which may have spaces in them."""
    return [word for pair in re.split(r"\s(?=--)", arguments.strip()) for word in pair.strip().split(maxsplit=1)]
