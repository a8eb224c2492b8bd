"""Make a publishable folder of a trained detector: fused, in bfloat16, with its thresholds and its model card.

    python scripts/export_detector.py runs/finetune src/transformers_tcm/bundled/fasttcm-dbnet-tiny
    transformers-tcm evaluate --model … --images … --annotations … --include val.txt --output evaluation.json
    python scripts/export_detector.py --card-only src/transformers_tcm/bundled/… --figures evaluation.json

The second and third command put measured figures into the card.
"""

import argparse
import json
from pathlib import Path

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from transformers_tcm import TCMForTextDetection, TCMImageProcessor

CARD = Path(__file__).with_name("model_card.md")


def export(source: Path, target: Path) -> None:
    """Fuse, convert to bfloat16 and save with the image processor."""
    model = TCMForTextDetection.from_pretrained(source, dtype="float32").fuse_text_embeddings()
    model.to(torch.bfloat16).save_pretrained(target)
    TCMImageProcessor.from_pretrained(source).save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)


def write_card(target: Path, figures: dict, pretrain: str, finetune: str) -> None:
    """Model card with the figures of `transformers-tcm evaluate`."""
    model = TCMForTextDetection.from_pretrained(target)
    processor = TCMImageProcessor.from_pretrained(target)
    hmean = EvalResult(
        task_type="object-detection",
        task_name="text detection",
        dataset_type="icdar2015",
        dataset_name="ICDAR 2015, 100 validation photos of the training set",
        dataset_split="validation",
        metric_type="hmean",
        metric_value=round(figures["hmean"], 4),
    )
    metadata = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="object-detection",
        tags=["text-detection", "scene-text", "tcm", "clip"],
        model_name=target.name,
        eval_results=[hmean],
    )
    card = CARD.read_text(encoding="utf-8").format(
        metadata=metadata.to_yaml(),
        name=target.name,
        preset=target.name.rsplit("-", 1)[-1],
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        megabytes=(target / "model.safetensors").stat().st_size / 1e6,
        longest_edge=processor.size["longest_edge"],
        threshold=processor.threshold,
        box_threshold=processor.box_threshold,
        unclip_ratio=processor.unclip_ratio,
        pretrain=pretrain,
        finetune=finetune,
        **{name: figures[name] for name in ("precision", "recall", "hmean")},
    )
    ModelCard(card).save(target / "README.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", help="folder of the trained model")
    parser.add_argument("target", type=Path, help="folder to write; its name is the name of the model")
    parser.add_argument("--card-only", action="store_true", help="leave weights and settings as they are")
    parser.add_argument("--figures", type=Path, help="JSON written by `transformers-tcm evaluate --output`")
    parser.add_argument("--pretrain", default="", help="steps and time of the first stage, for the card")
    parser.add_argument("--finetune", default="", help="steps and time of the second stage, for the card")
    arguments = parser.parse_args()
    if not arguments.card_only:
        if arguments.source is None:
            parser.error("give the folder of the trained model and the folder to write")
        export(arguments.source, arguments.target)
    if arguments.figures:
        figures = json.loads(arguments.figures.read_text(encoding="utf-8"))
        write_card(arguments.target, figures, arguments.pretrain, arguments.finetune)


if __name__ == "__main__":
    main()
