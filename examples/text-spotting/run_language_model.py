"""Teach the language model of a spotter's recogniser how words are spelled, from lists of words: the one beside a CTC
recogniser, which is added where there is none, or the one inside of ABINet++.

Arguments come from the command line or from one YAML or JSON file, which further arguments override:

    python run_language_model.py recipes/language_model.yaml --model_name_or_path runs/9 --words english.txt …
"""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import Trainer, set_seed

from transformers_tcm import TCMConfig, TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.models.tcm.recognition.language_model import LanguageModelConfig
from transformers_tcm.models.tcm.recognition.reading import char_classes
from transformers_tcm.training import TCMTrainingArguments, json_settings, parse_recipe


@dataclass
class LanguageArguments:
    """Which spotter gets a language model, and the words it learns."""

    model_name_or_path: str = field(
        metadata={
            "help": "Spotter with a CTC or ABINet++ recogniser, or with a DeepSolo head: a folder, a name on the Hub, "
            "or a bundled model."
        }
    )
    words: list[str] = field(metadata={"help": "Lists of words, a line `word` or `word<tab>frequency` for each."})
    words_weights: list[float] = field(
        default_factory=list, metadata={"help": "How much of what is drawn is of each list; default: equal shares."}
    )
    frequency_power: float = field(
        default=0.5, metadata={"help": "Words are drawn by this power of their frequency; below 1 favours rare ones."}
    )
    language_model: str = field(
        default="{}",
        metadata={"help": 'JSON of settings, such as {"hidden_size": 256}, of a new language model beside CTC.'},
    )

    def load(self) -> tuple[TCMForTextSpotting, TCMImageProcessor]:
        """The spotter with a language model, and its image processor."""
        name = self.model_name_or_path
        config = TCMConfig.from_pretrained(name)
        if not config.is_spotter:
            raise ValueError(f"{self.model_name_or_path} is a detector; run_text_spotting.py trains a recogniser on it")
        known = [field.name for field in fields(LanguageModelConfig)]
        settings = json_settings("language_model", self.language_model, known)
        model = TCMForTextSpotting.from_pretrained(name, config=config, dtype="float32")
        part, reader = ("head_config", model.head) if model.recognizer is None else ("recognizer", model.recognizer)
        if settings or reader.spelling is None:
            if not hasattr(reader.settings, "language_model"):
                raise ValueError(f"{name} does not read by CTC, for which a language model weighs words")
            setattr(config, part, {**getattr(config, part), "language_model": settings})
            model = TCMForTextSpotting.from_pretrained(name, config=config, dtype="float32")
        return model, TCMImageProcessor.from_pretrained(name)

    def shares(self) -> Counter[str]:
        """Every word and its share among those that are drawn.

        Raises:
            ValueError: if there is not one weight for each list.
        """
        weights = self.words_weights or [1.0] * len(self.words)
        if len(weights) != len(self.words):
            raise ValueError(f"{len(weights)} --words_weights for {len(self.words)} lists of --words")
        shares = Counter[str]()
        for path, weight in zip(self.words, weights, strict=True):
            powers = {word: count**self.frequency_power for word, count in load_frequencies(path).items()}
            total = sum(powers.values())
            for word, power in powers.items():
                shares[word] += weight * power / total
        return shares


def load_frequencies(path: str | Path) -> Counter[str]:
    """How often each word is in a list, a line `word` or `word<tab>frequency` for each.

    Raises:
        ValueError: naming the line that is not of this form, or a list without words.
    """
    frequencies = Counter[str]()
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), start=1):
        word, *count = line.split("\t")
        if not word or len(count) > 1 or not all(text.isdecimal() for text in count):
            raise ValueError(f"{path}, line {number}: expected `word` or `word<tab>frequency`, got {line!r}")
        frequencies[word] += int(count[0]) if count else 1
    if not frequencies.total():
        raise ValueError(f"{path} holds no words")
    return frequencies


class DrawnWords(Dataset):
    """Words drawn by their shares; item i depends on the seed and i alone."""

    def __init__(self, shares: Counter[str], length: int, seed: int):
        self.words = list(shares)
        self.bounds = np.cumsum(np.array(list(shares.values()))) / shares.total()
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> str:
        place = np.random.default_rng((self.seed, index)).random()
        return self.words[min(np.searchsorted(self.bounds, place), len(self.words) - 1)]


class WordLikelihood(nn.Module):
    """A language model as the Trainer wants it."""

    def __init__(self, language_model: nn.Module, charset: str):
        super().__init__()
        self.language_model, self.charset = language_model, charset

    def forward(self, char_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.language_model.loss(char_classes(char_ids, self.charset))}


def collate(words: Iterable[str]) -> dict[str, torch.Tensor]:
    """Unicode code points (N, L), zeros after the end."""
    codes = [torch.tensor([ord(character) for character in word]) for word in words]
    return {"char_ids": pad_sequence(codes, batch_first=True)}


def main() -> None:
    language, arguments = parse_recipe(LanguageArguments, TCMTrainingArguments)
    logging.basicConfig(format="%(message)s")
    set_seed(arguments.seed)
    model, image_processor = language.load()
    reader = model.recognizer or model.head
    language_model = reader.spelling.requires_grad_(True)
    trainer = Trainer(
        model=WordLikelihood(language_model, reader.settings.charset),
        args=arguments,
        data_collator=collate,
        train_dataset=DrawnWords(language.shares(), arguments.num_items, arguments.seed),
    )
    trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
    if trainer.is_world_process_zero():
        model.save_pretrained(arguments.output_dir)
        image_processor.save_pretrained(arguments.output_dir)


if __name__ == "__main__":
    main()
