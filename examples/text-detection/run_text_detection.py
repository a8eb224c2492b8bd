"""Train a TCM text detector with the Trainer of transformers.

Arguments come from the command line or from one YAML or JSON file, which further arguments override:

    python run_text_detection.py recipes/finetune.yaml --train_images photos --train_annotations labels ...
"""

import logging

import torch
from detection_recipe import ModelArguments, save_fused
from transformers import set_seed

from transformers_tcm.data.datasets import TextPhotos
from transformers_tcm.training import (
    PhotoArguments,
    TCMTrainer,
    TCMTrainingArguments,
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
    crops = photos.training_crops(image_processor, arguments.num_items, arguments.seed)
    rows = photos.evaluation_rows()
    if rows is None:
        stop_evaluation(arguments)
    evaluated = None if rows is None else TextPhotos(rows, image_processor)
    trainer = TCMTrainer(
        model=model, args=arguments, train_dataset=crops, eval_dataset=evaluated, image_processor=image_processor
    )
    if trainer.is_world_process_zero():
        print(describe_run(model, arguments, crops, evaluated, recipe_file(), detector.model_name_or_path))
    if arguments.do_train:
        result = trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
    if arguments.do_eval and rows is not None:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if arguments.do_train:
        trainer.save_model()
        if detector.fuse and model.config.prompting == "fasttcm" and trainer.is_world_process_zero():
            fused = save_fused(arguments.output_dir)
            if arguments.push_to_hub:
                trainer.push_to_hub(commit_message="Text tower folded into a stored embedding", model=fused)
        if trainer.is_world_process_zero():
            print(f"saved in {arguments.output_dir}")


if __name__ == "__main__":
    main()
