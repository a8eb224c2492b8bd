"""How likely a word is as a word: a small model of characters, each from the ones before it.

References: Bengio et al., A Neural Probabilistic Language Model, JMLR 2003; for its use with CTC, Hannun et al.,
First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs, 2014.

Shapes: N words, L characters of the longest, M characters and ends of all words together, W the context.
"""

from dataclasses import dataclass

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional

__all__ = ["CharacterLanguageModel", "LanguageModelConfig"]

# Words that are weighed at once, which bounds the memory.
CHUNK_SIZE = 4096


@strict
@dataclass
class LanguageModelConfig:
    """Settings of the language model of a recogniser, and of its use.

    Args:
        context: W, the characters before one that it is predicted from.
        embedding_size: numbers that stand for a character.
        hidden_size: width of the hidden layers.
        num_layers: residual hidden layers after the first.
        weight: what the logarithm of a word's probability as a word counts, where that of its looks counts 1.
        length_bonus: nats that each character adds to that logarithm, since long words are less probable.
        num_candidates: readings of a word's looks to choose from.
    """

    context: int = 10
    embedding_size: int = 32
    hidden_size: int = 512
    num_layers: int = 1
    weight: float | int = 0.8
    length_bonus: float | int = 2.5
    num_candidates: int = 32

    def __post_init__(self) -> None:
        for name in ("context", "embedding_size", "hidden_size", "num_candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` of the language model must be positive, got {getattr(self, name)}")
        for name in ("num_layers", "weight", "length_bonus"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` of the language model must not be negative, got {getattr(self, name)}")


class ResidualLayer(nn.Sequential):
    """A hidden layer around a shortcut."""

    def __init__(self, size: int):
        super().__init__(nn.LayerNorm(size), nn.GELU(), nn.Linear(size, size))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states + super().forward(states)


class CharacterLanguageModel(nn.Module):
    """Probabilities of words by their spelling, without regard to case and to which digit a digit is.

    It learns from lists of words, not from pictures, so its parameters ask for no gradients until
    `requires_grad_` says so.

    Args:
        settings: its settings.
        charset: the characters of the recogniser, in the order of its classes.
    """

    def __init__(self, settings: LanguageModelConfig, charset: str):
        super().__init__()
        self.settings = settings
        folded = [fold_character(character) for character in charset]
        alphabet = sorted(set(folded))
        # Symbol 0 is the beginning and the end of a word, the last one any character outside the charset.
        self.symbols = [alphabet.index(character) + 1 for character in folded] + [len(alphabet) + 1]
        num_symbols, size = len(alphabet) + 2, settings.hidden_size
        self.embedding = nn.Embedding(num_symbols, settings.embedding_size)
        self.input = nn.Linear(settings.context * settings.embedding_size, size)
        self.layers = nn.ModuleList(ResidualLayer(size) for _ in range(settings.num_layers))
        self.output = nn.Sequential(nn.GELU(), nn.Linear(size, num_symbols))
        self.requires_grad_(False)

    def forward(self, classes: torch.Tensor) -> torch.Tensor:
        """Natural logarithms (N,) of the probabilities of words: classes (N, L) of the recogniser, -1 after the end."""
        return torch.cat([self._log_probabilities(words) for words in classes.split(CHUNK_SIZE)])

    def loss(self, classes: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of the characters and ends of words (N, L), in nats."""
        return self._costs(classes)[0].mean()

    def _log_probabilities(self, classes: torch.Tensor) -> torch.Tensor:
        costs, words = self._costs(classes)
        return costs.new_zeros(len(classes)).index_add(0, words, -costs)

    def _costs(self, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy (M,) of every character and end, and the words (M,) that they belong to."""
        table = torch.tensor(self.symbols, device=classes.device)
        symbols = table[classes.clamp(min=0)].masked_fill(classes < 0, 0)  # (N, L)
        contexts = functional.pad(symbols, (self.settings.context, 0)).unfold(1, self.settings.context, 1)
        targets = functional.pad(symbols, (0, 1))  # (N, L + 1), beside contexts (N, L + 1, W)
        counted = functional.pad(classes >= 0, (1, 0), value=True)
        states = self.input(self.embedding(contexts[counted]).flatten(1))  # (M, W, E) -> (M, W x E) -> (M, hidden)
        for layer in self.layers:
            states = layer(states)
        costs = functional.cross_entropy(self.output(states).float(), targets[counted], reduction="none")
        return costs, counted.nonzero()[:, 0]


def fold_character(character: str) -> str:
    """The character that stands for this one: one for all digits, the lower case for letters."""
    if character.isdigit():
        return "0"
    lower = character.lower()
    return lower if len(lower) == 1 else character
