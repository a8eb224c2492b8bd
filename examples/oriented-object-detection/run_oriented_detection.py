"""Train a TCM detector of oriented objects with the Trainer of transformers.

Arguments come from the command line or from one YAML or JSON file, which further arguments override:

    python run_oriented_detection.py recipes/rotated_fcos.yaml --train_images patches/images \\
        --train_annotations patches/labelTxt --output_dir my_detector
"""

import logging

from oriented_recipe import DataArguments, ModelArguments, evaluation_images, names_of, save_fused
from transformers import set_seed

from transformers_tcm.training import (
    TCMTrainer,
    TCMTrainingArguments,
    describe_run,
    parse_recipe,
    recipe_file,
    stop_evaluation,
)


def main() -> None:
    detector, data, arguments = parse_recipe(ModelArguments, DataArguments, TCMTrainingArguments)
    logging.basicConfig(format="%(message)s")
    set_seed(arguments.seed)
    train, evaluated = data.rows("train"), data.rows("eval")
    if train is None:
        raise ValueError("nothing to train on: give --train_images and --train_annotations, or --yolo")
    model, image_processor = detector.load(names_of(train))
    patches = data.training_patches(train, image_processor, arguments)
    if evaluated is None:
        stop_evaluation(arguments)
    images = evaluation_images(evaluated, image_processor)
    trainer = TCMTrainer(
        model=model, args=arguments, train_dataset=patches, eval_dataset=images, image_processor=image_processor
    )
    if trainer.is_world_process_zero():
        print(describe_run(model, arguments, patches, images, recipe_file(), detector.model_name_or_path))
    if arguments.do_train:
        result = trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
    if arguments.do_eval and evaluated is not None:
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
