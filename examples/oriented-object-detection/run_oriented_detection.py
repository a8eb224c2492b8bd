"""Train a TCM detector of oriented objects with the Trainer of transformers.

Arguments come from the command line or from one YAML or JSON file, which further arguments override:

    python run_oriented_detection.py recipes/rotated_fcos.yaml --train_images patches/images \\
        --train_annotations patches/labelTxt --output_dir my_detector
"""

import logging

import transformers
from oriented_recipe import DataArguments, ModelArguments, evaluation_images, names_of, save_fused
from transformers import set_seed

from transformers_tcm.training import TCMTrainer, TCMTrainingArguments, parse_recipe, stop_evaluation

logger = logging.getLogger(__name__)


def main() -> None:
    detector, data, arguments = parse_recipe(ModelArguments, DataArguments, TCMTrainingArguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.should_log:
        transformers.utils.logging.set_verbosity_info()
    set_seed(arguments.seed)
    train, evaluated = data.rows("train"), data.rows("eval")
    if train is None:
        raise ValueError("nothing to train on: give --train_images and --train_annotations, or --yolo")
    model, image_processor = detector.load(names_of(train))
    patches = data.training_patches(train, image_processor, arguments)
    logger.info("%d patches, %d steps", len(patches.rows), arguments.max_steps)
    if evaluated is None:
        stop_evaluation(arguments)
    trainer = TCMTrainer(
        model=model,
        args=arguments,
        train_dataset=patches,
        eval_dataset=evaluation_images(evaluated, image_processor),
        image_processor=image_processor,
    )
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
            save_fused(arguments.output_dir)


if __name__ == "__main__":
    main()
