"""Every recipe of `hub_configs/` trains two steps on hand-made photos of its data sets (`--smoke`)."""

import ast
import importlib.util
import json
import math
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch
import yaml
from public_data_sets import unpack
from safetensors.torch import load_file

from transformers_tcm import OrientedInstances, TCMConfig
from transformers_tcm.dota import DOTA_V1_CLASSES

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "hub_configs").glob("*/*.yaml"))
SCRIPTS = {
    "TCMForTextDetection": "text-detection/run_text_detection",
    "TCMForTextSpotting": "text-spotting/run_text_spotting",
    "TCMForOrientedObjectDetection": "oriented-object-detection/run_oriented_detection",
}
FAST = {
    "fasttcm-dbnet-icdar2015/finetuning",
    "tcm-pan-ctw1500/pretraining",
    "fasttcm-rotated-fcos-dota/training",
}


def name_of(recipe: Path) -> str:
    return f"{recipe.parent.name}/{recipe.stem}"


def unpack_data(recipe: Path, root: Path) -> list[str]:
    """Lay out what a recipe trains on; returns the arguments that name it."""
    sets = yaml.safe_load(recipe.read_text(encoding="utf-8")).get("train_sets")
    if sets is None:
        return unpack_patches(root)
    for name in sets:
        known, _, split = name.partition(":")
        unpack(root, known, split or "train")
    return ["--data_root", str(root)]


def unpack_patches(root: Path) -> list[str]:
    for part in ("images", "labelTxt"):
        (root / part).mkdir()
    PIL.Image.new("RGB", (256, 256), "grey").save(root / "images" / "P0.png")
    ship = torch.tensor([[40.0, 40.0], [160.0, 60.0], [150.0, 110.0], [30.0, 90.0]]).numpy()
    labels = OrientedInstances([ship], labels=[6]).to_dota(dict(enumerate(DOTA_V1_CLASSES)))
    (root / "labelTxt" / "P0.txt").write_text(labels, encoding="utf-8")
    return ["--train_images", str(root / "images"), "--train_annotations", str(root / "labelTxt")]


def train(recipe: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the training script of a recipe in this process, from the root of the repository."""
    (architecture,) = TCMConfig.from_pretrained(recipe.parent).architectures
    script = ROOT / "examples" / f"{SCRIPTS[architecture]}.py"
    specification = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [str(script), str(recipe), "--use_cpu", "--disable_tqdm", "true", *arguments])
    specification.loader.exec_module(module)
    module.main()


def losses(folder: Path) -> list[float]:
    log = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [entry["loss"] for entry in log if "loss" in entry]


def test_every_row_has_its_stages() -> None:
    stages = {}
    for recipe in RECIPES:
        stages.setdefault(recipe.parent.name, []).append(recipe.stem)
    full_size = {path.name for path in (ROOT / "hub_configs").iterdir() if not path.name.endswith("-tiny")}
    assert set(stages) == full_size
    assert {tuple(names) for names in stages.values()} == {("finetuning", "pretraining"), ("training",)}


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, id=name_of(recipe), marks=[] if name_of(recipe) in FAST else pytest.mark.slow)
        for recipe in RECIPES
    ],
)
def test_two_steps_on_the_fixtures(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = unpack_data(recipe, tmp_path)
    train(recipe, [*arguments, "--smoke", "--output_dir", str(tmp_path / "out")], monkeypatch)
    found = losses(tmp_path / "out")
    assert len(found) == 2
    assert all(math.isfinite(loss) for loss in found)
    config = TCMConfig.from_pretrained(tmp_path / "out")
    published = TCMConfig.from_pretrained(recipe.parent)
    assert (config.head_type, config.prompting) == (published.head_type, published.prompting)
    assert config.vision_config.width == 32, "the tiny preset"
    assert config.num_context_tokens == published.num_context_tokens
    assert config.fused == (config.prompting == "fasttcm" and recipe.stem != "pretraining")
    assert (tmp_path / "out" / "model.safetensors").is_file()


def full_size_clip(golden_dir: Path) -> dict[str, torch.Tensor]:
    """Random tensors of the names and shapes of OpenAI's RN50.pt, in its float16."""
    tensors = {}
    for line in (golden_dir / "keys_openai_clip_rn50.txt").read_text(encoding="utf-8").splitlines():
        name, sizes, _ = ast.literal_eval(line)
        fan_in = math.prod(sizes[1:]) or 1
        tensor = torch.randn(sizes, dtype=torch.float16) / math.sqrt(fan_in)
        is_scale = name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight", "ln_final.weight"))
        tensors[name] = torch.ones_like(tensor) if is_scale else tensor
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize("row", ["fasttcm-dbnet-icdar2015/finetuning", "fasttcm-abcnet-totaltext/training"])
def test_clip_starts_both_towers_at_full_size(
    row: str, tmp_path: Path, golden_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ROOT / "hub_configs" / f"{row}.yaml"
    torch.manual_seed(0)
    clip = full_size_clip(golden_dir)
    torch.save(clip, tmp_path / "RN50.pt")
    arguments = [*unpack_data(recipe, tmp_path), "--smoke", "--clip", str(tmp_path / "RN50.pt")]
    arguments += ["--max_steps", "1", "--crop_size", "64", "--fuse", "false", "--output_dir", str(tmp_path / "out")]
    train(recipe, arguments, monkeypatch)
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "out"))
    assert TCMConfig.from_pretrained(tmp_path / "out").clip_pretrained
    trained = load_file(tmp_path / "out" / "model.safetensors")
    stem = trained["model.backbone.stem.0.0.weight"]
    moved = (stem - clip["visual.conv1.weight"].float()).abs().max()
    rate = yaml.safe_load(recipe.read_text(encoding="utf-8"))["learning_rate"]
    assert moved > 0, "the image encoder learns"
    if "optimizer: adam" in recipe.read_text(encoding="utf-8"):
        assert moved < 0.2 * rate, "at a tenth of the rate, which is a step of Adam"
    embeddings = trained["model.text_encoder.text_model.embeddings.token_embedding.weight"]
    assert torch.equal(embeddings, clip["token_embedding.weight"].float()), "the text tower is frozen"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clip", "RN50.pt", "--model_name_or_path", "fasttcm-dbnet-tiny"], "not for --model_name_or_path"),
        (["--clip", "nowhere.pt"], r"no checkpoint file nowhere\.pt"),
        (["--train_sets", "total-text"], r"no Images/Train and no .* in .*the set is published at"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    recipe = ROOT / "hub_configs" / "fasttcm-dbnet-icdar2015" / "finetuning.yaml"
    arguments = ["--data_root", str(tmp_path), "--smoke", "--output_dir", str(tmp_path / "out"), *arguments]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(recipe, arguments, monkeypatch)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="say with --data_root where they lie"):
        train(recipe, ["--smoke", "--output_dir", str(tmp_path / "out")], monkeypatch)
