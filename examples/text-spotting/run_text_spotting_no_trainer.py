"""Train a TCM text spotter with a plain loop on Accelerate: the recipes and the results of `run_text_spotting.py`.

    accelerate launch run_text_spotting_no_trainer.py recipes/fasttcm_spotter_tiny_recognizer.yaml --train_words ...

Arguments are the same; `TrainingLoop` says which of those of `TrainingArguments` it heeds.
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
    TCMTrainingArguments,
    TrainingLoop,
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
    set_seed(arguments.seed)  # again, because a new model draws numbers and a loaded one does not
    data = None
    if arguments.do_train:
        data = training_data(photos, words, image_processor, arguments.num_items, arguments.seed)
        report_unreadable_words(data, model)
    evaluated = evaluation_data(spotter, photos, words, image_processor)
    if evaluated is None:
        stop_evaluation(arguments)
    loop = TrainingLoop(arguments, model, image_processor, collator(spotter, model))
    if loop.accelerator.is_main_process:
        print(describe_run(model, arguments, data, evaluated, recipe_file(), spotter.model_name_or_path))
    loop.run(data, evaluated)
    if arguments.do_train and loop.accelerator.is_main_process:
        if spotter.fuse and model.config.prompting == "fasttcm":
            save_fused(arguments.output_dir)
        print(f"saved in {arguments.output_dir}")


if __name__ == "__main__":
    main()
