"""Train a TCM text spotter with the Trainer of transformers.

Arguments come from the command line or from one YAML or JSON file, which further arguments override:

    python run_text_spotting.py recipes/fasttcm_spotter_tiny_recognizer.yaml --train_words lists/train.tsv ...
"""

import logging

import torch
from spotting_recipe import (
    SpotterArguments,
    SpottingPhotoArguments,
    WordArguments,
    check,
    collator,
    evaluation_data,
    report_unreadable_words,
    save_fused,
    training_data,
)
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
    spotter, photos, words, arguments = parse_recipe(
        SpotterArguments, SpottingPhotoArguments, WordArguments, TCMTrainingArguments
    )
    check(spotter, photos, words)
    logging.basicConfig(format="%(message)s")
    set_seed(arguments.seed)
    model, image_processor = spotter.load()
    model.to(memory_format=torch.channels_last)
    data = training_data(photos, words, image_processor, arguments.num_items, arguments.seed)
    report_unreadable_words(data, model)
    evaluated = evaluation_data(spotter, photos, words, image_processor)
    if evaluated is None:
        stop_evaluation(arguments)
    trainer = TCMTrainer(
        model=model,
        args=arguments,
        data_collator=collator(spotter, model),
        train_dataset=data,
        eval_dataset=evaluated,
        image_processor=image_processor,
    )
    if trainer.is_world_process_zero():
        print(describe_run(model, arguments, data, evaluated, recipe_file(), spotter.model_name_or_path))
    if arguments.do_train:
        result = trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
    if arguments.do_eval and trainer.eval_dataset is not None:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if arguments.do_train:
        trainer.save_model()
        if spotter.fuse and model.config.prompting == "fasttcm" and trainer.is_world_process_zero():
            fused = save_fused(arguments.output_dir)
            if arguments.push_to_hub:
                trainer.push_to_hub(commit_message="Text tower folded into a stored embedding", model=fused)
        if trainer.is_world_process_zero():
            print(f"saved in {arguments.output_dir}")


if __name__ == "__main__":
    main()
