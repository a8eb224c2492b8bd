"""Make a publishable folder of a trained detector or spotter: fused, in bfloat16, with its thresholds and its card.

    python scripts/export_model.py runs/joint src/transformers_tcm/bundled/fasttcm-spotter-tiny \
        --processor '{"box_threshold": 0.65, "text_threshold": 0.5}'
    transformers-tcm evaluate --model … --images … --annotations … --include val.txt --output evaluation.json
    python scripts/export_model.py --card-only src/transformers_tcm/bundled/… --figures evaluation.json \
        --stages "2,000 steps" "700 steps"

The second and third command put measured figures into the card.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import AutoModel

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor

CARDS = Path(__file__).parent
DATASET = "ICDAR 2015, 100 validation photos of the training set"


def export(source: Path, target: Path, settings: dict[str, Any]) -> None:
    """Fuse, convert to bfloat16 and save with the image processor."""
    model = AutoModel.from_pretrained(source, dtype="float32").fuse_text_embeddings()
    model.to(torch.bfloat16).save_pretrained(target)
    TCMImageProcessor.from_pretrained(source, **settings).save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)


def eval_result(task: str, metric: str, value: float) -> EvalResult:
    """A figure as the Hub shows it."""
    return EvalResult(
        task_type="object-detection" if task == "text detection" else "image-to-text",
        task_name=task,
        dataset_type="icdar2015",
        dataset_name=DATASET,
        dataset_split="validation",
        metric_type=metric,
        metric_value=round(value, 4),
    )


def write_card(target: Path, figures: dict[str, Any], stages: list[str]) -> None:
    """Model card with the figures of `transformers-tcm evaluate` (and of `evaluate_words.py`, for a spotter)."""
    model, processor = AutoModel.from_pretrained(target), TCMImageProcessor.from_pretrained(target)
    reads = isinstance(model, TCMForTextSpotting)
    results = [eval_result("text detection", "hmean", figures["hmean"])]
    if reads:
        results.append(eval_result("text spotting", "hmean", figures["end_to_end"]["hmean"]))
        results.append(eval_result("word recognition", "accuracy", figures["words"]["accuracy_ignore_case"]))
    metadata = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="image-to-text" if reads else "object-detection",
        tags=["text-spotting" if reads else "text-detection", "scene-text", "tcm", "clip"],
        model_name=target.name,
        eval_results=results,
    )
    card = (CARDS / ("spotter_card.md" if reads else "detector_card.md")).read_text(encoding="utf-8")
    text = card.format(
        metadata=metadata.to_yaml(),
        name=target.name,
        preset=target.name.rsplit("-", 1)[-1],
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        megabytes=(target / "model.safetensors").stat().st_size / 1e6,
        processor=processor,
        stages=stages,
        figures=figures,
    )
    ModelCard(text).save(target / "README.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", help="folder of the trained model")
    parser.add_argument("target", type=Path, help="folder to write; its name is the name of the model")
    parser.add_argument("--processor", type=json.loads, default={}, help="JSON of image processor settings")
    parser.add_argument("--card-only", action="store_true", help="leave weights and settings as they are")
    parser.add_argument("--figures", type=Path, nargs="+", default=[], help="JSON files of measured figures, merged")
    parser.add_argument("--stages", nargs="+", default=[], help="steps and time of each stage, for the card")
    arguments = parser.parse_args()
    if not arguments.card_only:
        if arguments.source is None:
            parser.error("give the folder of the trained model and the folder to write")
        export(arguments.source, arguments.target, arguments.processor)
    if arguments.figures:
        figures: dict[str, Any] = {}
        for path in arguments.figures:
            figures |= json.loads(path.read_text(encoding="utf-8"))
        write_card(arguments.target, figures, arguments.stages)


if __name__ == "__main__":
    main()
