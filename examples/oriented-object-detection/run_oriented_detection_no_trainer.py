"""Train a TCM detector of oriented objects with a plain loop on Accelerate, as `run_oriented_detection.py` does.

    accelerate launch run_oriented_detection_no_trainer.py recipes/rotated_fcos.yaml --train_images patches/images ...

Arguments are the same; `TrainingLoop` says which of those of `TrainingArguments` it heeds.
"""

import logging

from oriented_recipe import DataArguments, ModelArguments, evaluation_images, names_of, save_fused
from transformers import set_seed

from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.training import TCMTrainingArguments, TrainingLoop, parse_recipe, stop_evaluation


def main() -> None:
    detector, data, arguments = parse_recipe(ModelArguments, DataArguments, TCMTrainingArguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    set_seed(arguments.seed)
    train, evaluated = data.rows("train"), data.rows("eval")
    if train is None:
        raise ValueError("nothing to train on: give --train_images and --train_annotations, or --yolo")
    model, image_processor = detector.load(names_of(train))
    set_seed(arguments.seed)  # again, because a new model draws numbers and a loaded one does not
    patches = data.training_patches(train, image_processor, arguments)
    if evaluated is None:
        stop_evaluation(arguments)
    loop = TrainingLoop(arguments, model, image_processor, TextDetectionCollator(model.config))
    loop.run(patches, evaluation_images(evaluated, image_processor))
    if (
        arguments.do_train
        and detector.fuse
        and model.config.prompting == "fasttcm"
        and loop.accelerator.is_main_process
    ):
        save_fused(arguments.output_dir)


if __name__ == "__main__":
    main()
