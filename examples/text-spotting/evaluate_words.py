"""How well a spotter's recogniser reads words whose place is known.

python evaluate_words.py fasttcm-spotter-tiny --words lists/held_out.tsv --output words.json

In bfloat16 where that is computed fast, on the accelerator if there is one.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.word_crops import WordCrop, WordPhotos, load_word_crops
from transformers_tcm.evaluation import WordRecognition
from transformers_tcm.models.tcm.backends import emulates
from transformers_tcm.training import score_batch


@torch.inference_mode()
def read_words(model: TCMForTextSpotting, image_processor: TCMImageProcessor, words: list[WordCrop]) -> list[str]:
    """What the recogniser makes of each crop, on the device of the model."""
    collator = TextDetectionCollator(model.config, train_detection=False)
    loader = DataLoader(WordPhotos(words, image_processor), batch_size=20, collate_fn=collator)
    readings: list[str] = []
    slow = model.device.type == "cpu" and emulates(torch.bfloat16)
    for batch in tqdm(loader, desc="Reading", leave=False):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=not slow):
            scores = score_batch(model, image_processor, send_to_device(batch, model.device))
        readings += [reading for image in scores.words for _, reading in image]
    return readings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a spotter, name on the Hub, or a bundled model such as fasttcm-...")
    parser.add_argument("--words", type=Path, required=True, help="list of word crops, as hold_out_words.py writes it")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    parser.add_argument("--device", default=accelerator or "cpu", help="such as cpu or cuda:1 (default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="print the words that are read wrongly")
    arguments = parser.parse_args()
    name = arguments.model
    model = TCMForTextSpotting.from_pretrained(name, dtype="float32").eval().to(arguments.device)
    words = load_word_crops(arguments.words)
    readings = read_words(model, TCMImageProcessor.from_pretrained(name), words)
    by_source: dict[str, WordRecognition] = defaultdict(WordRecognition)
    for word, reading in zip(words, readings, strict=True):
        for source in ("all", word.image.parent.parent.name):
            by_source[source].update([word.text], [reading])
        if arguments.show and word.text.lower() != reading.lower():
            print(f"{word.text!r} read as {reading!r}: {word.image.name}")
    for source, recognition in by_source.items():
        result = recognition.compute()
        print(
            f"{source}: {result.words} words, exact but for the case {result.accuracy_ignore_case:.4f}, exact "
            f"{result.accuracy:.4f}, character error rate {result.character_error_rate:.4f}"
        )
    if arguments.output:
        report = {"words": vars(by_source["all"].compute())}
        arguments.output.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
