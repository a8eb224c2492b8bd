"""Train a TCM text detector with a plain loop on Accelerate: the recipes and the results of `run_text_detection.py`.

    accelerate launch run_text_detection_no_trainer.py recipes/finetune.yaml --train_images photos ...

Arguments are the same; `TrainingLoop` says which of those of `TrainingArguments` it heeds.
"""

import logging

import torch
from detection_recipe import ModelArguments, save_fused
from transformers import set_seed

from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import TextPhotos
from transformers_tcm.training import (
    PhotoArguments,
    TCMTrainingArguments,
    TrainingLoop,
    describe_run,
    parse_recipe,
    recipe_file,
    stop_evaluation,
)


def main() -> None:
    detector, photos, arguments = parse_recipe(ModelArguments, PhotoArguments, TCMTrainingArguments)
    logging.basicConfig(format="%(message)s")
    set_seed(arguments.seed)
    model, image_processor = detector.load()
    model.to(memory_format=torch.channels_last)
    set_seed(arguments.seed)  # again, because a new model draws numbers and a loaded one does not
    crops = None
    if arguments.do_train:
        crops = photos.training_crops(image_processor, arguments.num_items, arguments.seed)
    rows = photos.evaluation_rows()
    if rows is None:
        stop_evaluation(arguments)
    loop = TrainingLoop(arguments, model, image_processor, TextDetectionCollator(model.config))
    evaluated = None if rows is None else TextPhotos(rows, image_processor)
    if loop.accelerator.is_main_process:
        print(describe_run(model, arguments, crops, evaluated, recipe_file(), detector.model_name_or_path))
    loop.run(crops, evaluated)
    if arguments.do_train and loop.accelerator.is_main_process:
        if detector.fuse and model.config.prompting == "fasttcm":
            save_fused(arguments.output_dir)
        print(f"saved in {arguments.output_dir}")


if __name__ == "__main__":
    main()
