"""Make a model of a checkpoint of a training: the averaged weights, with configuration and image processor.

python checkpoint_to_model.py runs/6/checkpoint-1800 --output runs/6-at-1800

Detectors and spotters, of both training scripts. Also for a run that was broken off.
"""

import argparse
from pathlib import Path

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.training import ExponentialMovingAverage


def model_of(checkpoint: Path, fuse: bool = True) -> TCMForTextDetection:
    """The model with the averaged weights of a checkpoint, or with its weights where the training averaged none.

    Args:
        checkpoint: its folder.
        fuse: fold the text tower of a FastTCM model into a stored embedding.

    Raises:
        FileNotFoundError: if the folder is no checkpoint.
    """
    missing = [name for name in ("config.json", "model.safetensors") if not (checkpoint / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{checkpoint} has no {' and no '.join(missing)}; expected a folder checkpoint-N")
    spots = TCMConfig.from_pretrained(checkpoint).is_spotter
    model = (TCMForTextSpotting if spots else TCMForTextDetection).from_pretrained(checkpoint, dtype="float32")
    averages = ExponentialMovingAverage(model, decay=0)
    if averages.load(checkpoint):
        averages.copy_to(model)
    return model.fuse_text_embeddings() if fuse and model.config.prompting == "fasttcm" else model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder checkpoint-N of a training")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--keep_text_tower", action="store_true", help="do not fuse, for prompts to be trained further")
    arguments = parser.parse_args()
    model_of(arguments.checkpoint, not arguments.keep_text_tower).eval().save_pretrained(arguments.output)
    TCMImageProcessor.from_pretrained(arguments.checkpoint).save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
