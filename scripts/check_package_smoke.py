"""Use the installed package in the ways a user does, without a network: what `check_package.py` runs in environments.

    python -P -s scripts/check_package_smoke.py PHOTO

`-P` keeps the folder of this file off the search path. Each part prints a line; the first that fails ends the script
with its traceback.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

# Imported when first used: they make `import transformers_tcm` slow, or are extras.
LAZY = ["accelerate", "cv2", "datasets", "evaluate", "pyclipper", "rapidfuzz", "shapely"]


def refuse_connections(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: any connection of this process is an error. The commands it starts have HF_HUB_OFFLINE."""
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise AssertionError(f"the package tried to connect: {event} {arguments}")


def check_import(photo: Path) -> str:
    from transformers.utils import logging

    import transformers_tcm

    logging.disable_progress_bar()
    folder = Path(transformers_tcm.__file__).parent
    assert folder.is_relative_to(sys.prefix), f"transformers_tcm comes from {folder}, not from the environment"
    loaded = [name for name in LAZY if name in sys.modules]
    assert not loaded, f"`import transformers_tcm` imports {loaded}"
    assert (folder / "py.typed").is_file()
    return f"transformers_tcm {transformers_tcm.__version__}"


def rounded(words: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Words in a form that can be compared: their texts, scores to four digits, and corners to a tenth of a pixel."""
    return [
        (word.get("text"), round(word["score"], 4), [[round(x, 1), round(y, 1)] for x, y in word["polygon"]])
        for word in words
    ]


def check_pipeline(photo: Path, task: str) -> str:
    """Its words lie in the photo, and a saved and loaded copy finds the same."""
    import PIL.Image
    from transformers import pipeline

    run = pipeline(task)
    words = run(str(photo))
    width, height = PIL.Image.open(photo).size
    assert len(words) >= 3, f"{len(words)} words"
    assert all(0 <= word["score"] <= 1 for word in words)
    # Outlines may grow a little beyond the border.
    assert all(-20 <= x <= width + 20 and -20 <= y <= height + 20 for word in words for x, y in word["polygon"])
    with tempfile.TemporaryDirectory() as folder:
        run.save_pretrained(folder)
        again = pipeline(task, model=folder)(str(photo))
    assert rounded(again) == rounded(words), "a saved and loaded model finds something else"
    texts = [word["text"] for word in words if "text" in word]
    assert task != "text-spotting" or (len(texts) == len(words) and all(texts))
    return f"{len(words)} words {' '.join(texts)}".strip()


def check_auto_classes(photo: Path) -> str:
    """Every auto class takes both bundled models, and saved weights are the same after loading."""
    import torch
    import transformers

    import transformers_tcm
    from transformers_tcm.models.bundled import DEFAULT_SPOTTER

    detector, spotter = transformers_tcm.bundled_model_path(), transformers_tcm.bundled_model_path(DEFAULT_SPOTTER)
    for folder in (detector, spotter):
        assert type(transformers.AutoConfig.from_pretrained(folder)) is transformers_tcm.TCMConfig
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        assert isinstance(processor, transformers_tcm.TCMImageProcessor | transformers_tcm.TCMImageProcessorPil)
    assert type(transformers_tcm.AutoModelForTextSpotting.from_pretrained(spotter)).__name__ == "TCMForTextSpotting"
    assert type(transformers_tcm.AutoModelForTextDetection.from_pretrained(detector)).__name__ == "TCMForTextDetection"
    model = transformers.AutoModel.from_pretrained(detector)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = transformers.AutoModel.from_pretrained(folder)
    weights = loaded.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    return type(processor).__name__


def check_package_data(photo: Path) -> str:
    from transformers_tcm.data.rendering.words import street_words
    from transformers_tcm.evaluation.report import page
    from transformers_tcm.models.tcm.tokenization_tcm import clip_tokenizer

    assert (Path(page.__file__).parent / "page.html").is_file()
    return f"{len(street_words())} street words, {len(clip_tokenizer())} tokens"


def check_commands(photo: Path) -> str:
    """The installed command line, from a folder that is not the repository."""
    command = str(Path(sys.prefix) / ("Scripts" if os.name == "nt" else "bin") / "transformers-tcm")
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (
            ["--version"],
            ["env"],
            ["detect", str(photo), "--output", "found", "--quiet"],
            ["spot", str(photo), "--draw", "--output", "read", "--quiet"],
        ):
            run = subprocess.run([command, *arguments], cwd=folder, capture_output=True, text=True)
            assert run.returncode == 0, f"transformers-tcm {' '.join(arguments)}: {run.stdout}{run.stderr}"
        for output in ("found", "read"):
            result = json.loads((Path(folder) / output / f"{photo.stem}.json").read_text(encoding="utf-8"))
            assert result["instances"]
        assert (Path(folder) / "read" / f"{photo.stem}_text.png").is_file()
    return "--version, env, detect, spot --draw"


def main() -> None:
    """Run all parts on the photo named on the command line."""
    photo = Path(sys.argv[1]).resolve()
    sys.addaudithook(refuse_connections)
    parts: dict[str, Callable[[Path], str]] = {
        "import": check_import,
        "text-detection": lambda path: check_pipeline(path, "text-detection"),
        "text-spotting": lambda path: check_pipeline(path, "text-spotting"),
        "auto classes": check_auto_classes,
        "package data": check_package_data,
        "command line": check_commands,
    }
    for name, check in parts.items():
        print(f"  {name}: {check(photo)}", flush=True)
    print(f"  torchvision: {'used' if find_spec('torchvision') else 'not installed'}")


if __name__ == "__main__":
    main()
