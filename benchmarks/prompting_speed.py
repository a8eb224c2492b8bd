"""What prompting costs in each engine: the plain network, FastTCM, FastTCM with its text tower each time, and TCM.

    python benchmarks/prompting_speed.py [--preset base] [--size 736 1280] [--engines torch openvino] [--rounds 3]

Detectors with DBNet and random weights; all of an engine take turns on one image, and beside the medians stand the
ratios to the plain network of that engine. Exported graphs have their text fused in, so that only torch has all four.
The processor chooses torch's number type ("fastest") unless --dtype does; int8 is calibrated on one photo.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from timing import in_turn, median_ratio

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMImageProcessor
from transformers_tcm.export import export_model
from transformers_tcm.models.tcm.exported_tcm import load_exported

PHOTO = Path(__file__).parents[1] / "examples" / "images" / "street.jpg"
Run = Callable[[torch.Tensor], object]
ENGINES = ("torch", "onnxruntime", "onnxruntime int8", "openvino", "openvino int8")


def variants(preset: str) -> dict[str, TCMForTextDetection]:
    """Models by name, the plain one first."""
    torch.manual_seed(0)
    promptings = {"plain": "none", "FastTCM": "fasttcm", "FastTCM, not fused": "fasttcm", "TCM": "tcm"}
    models = {
        name: TCMForTextDetection(TCMConfig.from_preset(preset, prompting=prompting)).eval()
        for name, prompting in promptings.items()
    }
    models["FastTCM"].fuse_text_embeddings()
    return models


def in_torch(preset: str, dtype: str) -> dict[str, Run]:
    """Forward passes of all variants."""
    runs: dict[str, Run] = {}
    for name, model in variants(preset).items():
        model.optimize_for_inference(dtype if dtype == "fastest" else getattr(torch, dtype))

        def run(pixels: torch.Tensor, model: TCMForTextDetection = model) -> object:
            if not model.config.fused:
                model.model._forget_text_embedding()  # it keeps that of FastTCM
            return model(pixels.to(model.dtype))

        runs[name] = run
    return runs


def in_engine(engine: str, preset: str, folder: Path) -> dict[str, Run]:
    """Forward passes of what is exported: the plain network and FastTCM."""
    backend, _, number_type = engine.partition(" ")
    runs: dict[str, Run] = {}
    for name, model in variants(preset).items():
        if name not in ("plain", "FastTCM"):
            continue
        target = folder / f"{engine}-{name}".replace(" ", "-")
        form = "onnx" if backend == "onnxruntime" else backend
        export_model(model, TCMImageProcessor(), target, form, calibration=[PHOTO] if number_type else ())
        runs[name] = load_exported(target, backend=backend)
    return runs


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base", choices=["tiny", "small", "base"])
    parser.add_argument("--size", type=int, nargs=2, default=(736, 1280), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--engines", nargs="+", default=["torch"], choices=ENGINES)
    parser.add_argument("--dtype", default="fastest", choices=["fastest", "float32", "bfloat16"], help="in torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pixels = torch.randn(1, 3, *arguments.size)
    for engine in arguments.engines:
        with TemporaryDirectory() as folder:
            if engine == "torch":
                runs = in_torch(arguments.preset, arguments.dtype)
            else:
                with torch.inference_mode(False):
                    runs = in_engine(engine, arguments.preset, Path(folder))
            seconds = in_turn({name: partial(run, pixels) for name, run in runs.items()}, arguments.rounds)
        plain = seconds["plain"]
        for name, times in seconds.items():
            ratio = f"{median_ratio(times, plain):5.2f} x"
            print(f"{engine:17} {name:19} {1000 * statistics.median(times):7.0f} ms {ratio}", flush=True)


if __name__ == "__main__":
    main()
