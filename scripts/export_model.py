"""Make a publishable folder of a trained detector or spotter: fused, in bfloat16, with its thresholds and its card.

    python scripts/export_model.py runs/joint src/transformers_tcm/bundled/fasttcm-spotter-tiny \
        --processor '{"box_threshold": 0.65, "text_threshold": 0.5}'
    transformers-tcm evaluate --model … --images … --annotations … --include val.txt --output evaluation.json
    python scripts/export_model.py --card-only src/transformers_tcm/bundled/… --figures evaluation.json \
        --stages "2,000 steps" "700 steps"

The second and third command put measured figures into the card: its sections on data, recipe, results and limits come
from `detector_card.md` or `spotter_card.md` beside this script, the others and the picture from the folder. Without
figures, `--card-only` renews what is generated and keeps those sections of the card that is there.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.hub.model_card import CardDetails, eval_result
from transformers_tcm.hub.publishing import CARD_FILE, write_card

SECTIONS = Path(__file__).parent
DATASET = {
    "dataset": "ICDAR 2015, 100 validation photos of the training set",
    "dataset_type": "icdar2015",
    "split": "validation",
}


def export(source: Path, target: Path, settings: dict[str, Any]) -> None:
    """Fuse, convert to bfloat16 and save with the image processor."""
    model = AutoModel.from_pretrained(source, dtype="float32").fuse_text_embeddings()
    model.to(torch.bfloat16).save_pretrained(target)
    TCMImageProcessor.from_pretrained(source, **settings).save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)


def measured_details(reads: bool, processor: Any, figures: dict[str, Any], stages: list[str]) -> CardDetails:
    """The sections around the figures of `transformers-tcm evaluate` and, for a spotter, `evaluate_words.py`."""
    results = [eval_result("text detection", "hmean", figures["hmean"], **DATASET)]
    if reads:
        words = figures["words"]["accuracy_ignore_case"]
        results.append(eval_result("text spotting", "hmean", figures["end_to_end"]["hmean"], **DATASET))
        results.append(eval_result("word recognition", "accuracy", words, **DATASET))
    sections = (SECTIONS / ("spotter_card.md" if reads else "detector_card.md")).read_text(encoding="utf-8")
    text = sections.format(processor=processor, stages=stages, figures=figures)
    return CardDetails(text, results, license="apache-2.0")


def renew_card(target: Path, figures: dict[str, Any], stages: list[str]) -> None:
    """Card and picture, and the other text files as this version of the package writes them."""
    model, processor = AutoModel.from_pretrained(target), TCMImageProcessor.from_pretrained(target)
    model.config.save_pretrained(target)
    processor.save_pretrained(target)
    if figures:
        details = measured_details(isinstance(model, TCMForTextSpotting), processor, figures, stages)
    else:
        details = CardDetails.from_card(target / CARD_FILE)
    source = f'transformers_tcm.bundled_model_path("{target.name}")'
    write_card(target, model, processor, details, name=target.name, source=source)


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
    figures: dict[str, Any] = {}
    for path in arguments.figures:
        figures |= json.loads(path.read_text(encoding="utf-8"))
    if arguments.card_only or figures:
        renew_card(arguments.target, figures, arguments.stages)


if __name__ == "__main__":
    main()
