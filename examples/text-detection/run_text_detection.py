"""Train a TCM text detector with the Trainer of transformers.

Arguments come from the command line or from one YAML or JSON file, which further arguments override:

    python run_text_detection.py recipes/finetune.yaml --train_images photos --train_annotations labels ...
"""

import logging

import torch
import transformers
from detection_recipe import ModelArguments, save_fused
from transformers import set_seed

from transformers_tcm.data.datasets import TextPhotos
from transformers_tcm.training import PhotoArguments, TCMTrainer, TCMTrainingArguments, parse_recipe, stop_evaluation

logger = logging.getLogger(__name__)


def main() -> None:
    detector, photos, arguments = parse_recipe(ModelArguments, PhotoArguments, TCMTrainingArguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.should_log:
        transformers.utils.logging.set_verbosity_info()
    set_seed(arguments.seed)
    model, image_processor = detector.load()
    model.to(memory_format=torch.channels_last)
    crops = photos.training_crops(image_processor, arguments.num_items, arguments.seed)
    logger.info("training photos: %s", [len(rows) for rows in crops.sources] or "streamed")
    rows = photos.evaluation_rows()
    if rows is None:
        stop_evaluation(arguments)
    trainer = TCMTrainer(
        model=model,
        args=arguments,
        train_dataset=crops,
        eval_dataset=None if rows is None else TextPhotos(rows, image_processor),
        image_processor=image_processor,
    )
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


if __name__ == "__main__":
    main()
