"""The CTC recogniser: classes at every step, with a language model that guides the search for words.

References: CTC, Graves et al., ICML 2006; ABCNet, Liu et al., CVPR 2020; the search is in `ctc_search`.

Shapes: N words, V views, T steps, D the hidden size, L characters of the longest word.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .encoder import SequenceConfig, SequenceRecognizer
from .reading import WordReading, ctc_steps, read_words

__all__ = ["CTCRecognizer"]


class TCMCTCDecoder(nn.Linear):
    """Classes at every step, blank last."""

    def __init__(self, settings: SequenceConfig):
        super().__init__(settings.hidden_size, settings.num_classes)

    def forward(self, states: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """States (N, T, D) to logits (N, T, classes); what the words are (`classes`) makes no difference."""
        return super().forward(states)

    def loss(self, char_logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Mean over the words of the loss per character; words too long for the steps count nothing."""
        lengths = (classes >= 0).sum(dim=1)
        steps = lengths.new_full((len(classes),), char_logits.shape[1])
        log_probabilities = char_logits.float().log_softmax(dim=-1).transpose(0, 1)  # (T, N, classes)
        return functional.ctc_loss(
            log_probabilities,
            classes.clamp(min=0),
            steps,
            lengths,
            blank=char_logits.shape[2] - 1,
            zero_infinity=True,
        )


class CTCRecognizer(SequenceRecognizer):
    """A character is what a run of equal steps says, and blanks separate them."""

    display_name = "CTC"
    class_tensors = ("weight", "bias")

    def make_decoder(self, settings: Any) -> nn.Module:
        return TCMCTCDecoder(settings)

    def classify(self, states: torch.Tensor, classes: torch.Tensor | None) -> torch.Tensor:
        # Quantisation puts plain linear layers, which take nothing else, in place of the decoder.
        logits: torch.Tensor = self.decoder(states)
        return logits

    @property
    def num_steps(self) -> int:
        return self.settings.num_steps

    def find_spaces(self, char_logits: torch.Tensor) -> list[list[tuple[float, float]]]:
        if not self.settings.split_at_spaces or " " not in self.settings.charset:
            return super().find_spaces(char_logits)
        space = self.settings.charset.index(" ")
        return [_spaces(word, space) for word in char_logits[:, 0].detach().float().cpu().numpy()]

    def decode(
        self, char_logits: torch.Tensor, use_language_model: bool = True, text_threshold: float | torch.Tensor = 0.0
    ) -> list[WordReading]:
        language_model = self.language_model if use_language_model else None
        return read_words(char_logits, self.settings.charset, ctc_steps, language_model, text_threshold)


def _spaces(logits: np.ndarray, space: int) -> list[tuple[float, float]]:
    """See `Recognizer.find_spaces`, of logits (T, classes) that agree on one word."""
    steps = ctc_steps(logits)
    characters = logits[steps].argmax(axis=1)
    if space not in characters:
        return []
    # A character is as wide as the mean one, its step is at its middle.
    half, places = 0.5 / len(steps), (steps + 0.5) / len(logits)
    return [
        (min(places[index - 1] + half, places[index]), max(places[index + 1] - half, places[index]))
        for index in np.flatnonzero(characters == space).tolist()
        if 0 < index < len(steps) - 1
    ]
