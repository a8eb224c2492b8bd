"""Reading: words straightened out of early feature maps, encoded, and decoded by CTC or attention.

References: ABCNet, Liu et al., CVPR 2020 (BezierAlign, CTC); ABCNet v2, Liu et al., TPAMI 2021 (attention decoder);
CTC, Graves et al., ICML 2006; CRNN, Shi et al., TPAMI 2017.

Shapes: N words, T steps, L characters of the longest word, D the hidden size.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional

from .language_model import CharacterLanguageModel, LanguageModelConfig
from .reading import PRINTABLE_ASCII, char_classes
from .sampling import BezierAlign, quads_to_bezier

__all__ = ["RecognizerConfig", "TextRecognizer", "WordSampler"]

# Words are encoded in multiples of this number.
ROUNDING = 8


@strict  # checks what is assigned, and so has no effect on a frozen class
@dataclass
class RecognizerConfig:
    """Settings of the recogniser.

    Args:
        charset: the characters that are read; all others are one class, unknown.
        decoder: `"ctc"` (ABCNet) or `"attention"` (ABCNet v2).
        feature_stride: words are cut out of the stem's map at stride 2, or of C2 at stride 4.
        crop_size: rows and columns of a straightened word. A step of the encoder is two columns.
        channels: width of the convolutions before each halving of the rows.
        num_blocks: residual blocks at each of these widths.
        hidden_size: D, width of the sequence encoder.
        num_layers: its transformer layers.
        num_heads: their attention heads.
        dropout: their dropout.
        max_length: steps of the attention decoder.
        chunk_size: words read at a time in evaluation mode, which bounds the memory.
        jitter: in training, corners are moved by up to this share of the word's height, since proposals are not exact.
        train_on_proposals: also learn from the detector's own proposals that overlap a word by half.
        loss_weight: weight of the recognition loss.
        language_model: settings of a language model that weighs how the words a CTC recogniser thinks likely are
            spelled, see `heads.language_model.LanguageModelConfig`; `None` for none.
    """

    charset: str = PRINTABLE_ASCII
    decoder: Literal["ctc", "attention"] = "ctc"
    feature_stride: Literal[2, 4] = 2
    crop_size: list[int] | tuple[int, ...] = (16, 96)
    channels: list[int] | tuple[int, ...] = (64, 96, 160, 224)
    num_blocks: list[int] | tuple[int, ...] = (0, 1, 1, 1)
    hidden_size: int = 256
    num_layers: int = 2
    num_heads: int = 4
    dropout: float | int = 0.1
    max_length: int = 32
    chunk_size: int = 256
    jitter: float | int = 0.1
    train_on_proposals: bool = False
    loss_weight: float | int = 1.0
    language_model: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.language_model is not None:
            if self.decoder != "ctc":
                raise ValueError("`language_model` goes with the decoder 'ctc'; 'attention' learns one itself")
            self.language_model = asdict(LanguageModelConfig(**self.language_model))
        if not self.charset or len(set(self.charset)) != len(self.charset) or "\0" in self.charset:
            raise ValueError(f"`charset` must hold every character once, at least one and no NUL; got {self.charset!r}")
        if len(self.channels) < 2 or len(self.num_blocks) != len(self.channels):
            raise ValueError(
                "`channels` and `num_blocks` must be of one length, at least 2; "
                f"got {list(self.channels)} and {list(self.num_blocks)}"
            )
        unit = 2 ** (len(self.channels) - 1)
        if len(self.crop_size) != 2 or min(self.crop_size) < 1 or self.crop_size[0] % unit or self.crop_size[1] % 2:
            raise ValueError(
                f"`crop_size` must be rows, a multiple of {unit} for {len(self.channels)} widths, and an even number "
                f"of columns; got {list(self.crop_size)}"
            )
        for name in ("hidden_size", "num_layers", "num_heads", "max_length", "chunk_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")
        if min(self.channels) < 1 or min(self.num_blocks) < 0:
            raise ValueError(
                "`channels` must be positive and `num_blocks` not negative; "
                f"got {list(self.channels)} and {list(self.num_blocks)}"
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(f"`hidden_size` {self.hidden_size} is not a multiple of `num_heads` {self.num_heads}")
        if not 0 <= self.dropout < 1 or self.jitter < 0 or self.loss_weight < 0:
            raise ValueError(
                "expected 0 <= `dropout` < 1, `jitter` >= 0 and `loss_weight` >= 0, "
                f"got {self.dropout}, {self.jitter} and {self.loss_weight}"
            )

    @property
    def num_classes(self) -> int:
        """The charset, unknown, and blank (CTC) or end (attention)."""
        return len(self.charset) + 2

    @property
    def num_steps(self) -> int:
        """Steps of the sequence encoder."""
        return self.crop_size[1] // 2


class WordSampler(nn.Module):
    """Straightens words of any size into crops of one size.

    A map is halved again and again by average pooling, and each word is cut out of the level at which a crop cell
    covers about one cell of the map: sampled too sparsely, large words would lose their strokes. Columns are sampled
    twice as densely and averaged, because words are more often too wide for the crop than too high.

    Args:
        crop_size: rows and columns of the crops.
        stride: of the map, in pixels of the network's input.
        num_levels: maps to choose from, the given one included.
    """

    def __init__(self, crop_size: Sequence[int], stride: int, num_levels: int):
        super().__init__()
        rows, columns = crop_size
        self.sampled_size = (rows, 2 * columns)
        self.stride = stride
        self.levels = nn.ModuleList(BezierAlign(self.sampled_size, stride * 2**level) for level in range(num_levels))

    def forward(
        self, features: torch.Tensor, control_points: torch.Tensor, batch_indices: torch.Tensor
    ) -> torch.Tensor:
        """Maps (B, C, H, W), control points (N, 8, 2) in pixels of the input, images (N,) to crops (N, C, h, w)."""
        chosen = self.choose_levels(control_points)
        crops, order = [], []
        # A map that no word is cut out of is not made.
        for level, align in enumerate(self.levels[: int(chosen.max()) + 1]):
            if level:
                features = functional.avg_pool2d(features, 2, ceil_mode=True)
            here = (chosen == level).nonzero()[:, 0]
            if len(here):
                crops.append(align(features, control_points[here], batch_indices[here]))
                order.append(here)
        sampled = torch.cat(crops)[torch.cat(order).argsort()]
        return functional.avg_pool2d(sampled, (1, 2))

    def choose_levels(self, control_points: torch.Tensor) -> torch.Tensor:
        """The level (N,) whose cells come closest to a word's samples."""
        rows, columns = self.sampled_size
        sides = control_points[:, [0, 1, 2, 4, 5, 6]] - control_points[:, [1, 2, 3, 5, 6, 7]]  # (N, 6, 2)
        widths = sides.norm(dim=-1).sum(dim=1) / 2
        cells = torch.maximum(word_heights(control_points) / rows, widths / columns) / self.stride
        return cells.clamp(min=1).log2().round().long().clamp(max=len(self.levels) - 1)


def word_heights(control_points: torch.Tensor) -> torch.Tensor:
    """Heights (N,) of words (N, 8, 2), the mean of both ends."""
    return (control_points[:, [0, 3]] - control_points[:, [7, 4]]).norm(dim=-1).mean(dim=1)


def with_margin(control_points: torch.Tensor, margin: float) -> torch.Tensor:
    """Words (N, 8, 2), enlarged on all sides by a share of their height."""
    upper, lower = control_points[:, :4], control_points[:, 4:].flip(1)  # (N, 4, 2), both along the word
    middle = upper + lower
    ends = functional.normalize(torch.stack([middle[:, 0] - middle[:, 1], middle[:, 3] - middle[:, 2]], dim=1), dim=-1)
    steps = torch.linspace(0, 1, 4, dtype=upper.dtype, device=upper.device)[:, None]  # (4, 1)
    # Points between the ends follow them, so that letters keep their places.
    outward = torch.lerp(ends[:, :1], ends[:, 1:], steps) * word_heights(control_points)[:, None, None]  # (N, 4, 2)
    upward = upper - lower
    return torch.cat([upper + margin * (outward + upward), (lower + margin * (outward - upward)).flip(1)], dim=1)


class ConvNorm(nn.Sequential):
    """3x3 convolution, batch norm and, unless it ends a residual branch, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int] = (1, 1), relu: bool = True):
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.Sequential(ConvNorm(channels, channels), ConvNorm(channels, channels, relu=False))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.relu(features + self.convs(features))


class WordEncoder(nn.Module):
    """Crops (N, C, h, w) to sequences (N, w / 2, D): convolutions, then a transformer along the word."""

    def __init__(self, settings: RecognizerConfig, in_channels: int):
        super().__init__()
        layers: list[nn.Module] = []
        for index, (channels, blocks) in enumerate(zip(settings.channels, settings.num_blocks, strict=True)):
            # The first halving of the rows also halves the columns.
            stride = [(1, 1), (2, 2)][index] if index < 2 else (2, 1)
            layers.append(ConvNorm(in_channels, channels, stride))
            layers.extend(ResidualBlock(channels) for _ in range(blocks))
            in_channels = channels
        self.convs = nn.Sequential(*layers)
        rows = settings.crop_size[0] // 2 ** (len(settings.channels) - 1)
        self.flatten = nn.Linear(rows * in_channels, settings.hidden_size)
        self.position_embedding = nn.Embedding(settings.num_steps, settings.hidden_size)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                settings.hidden_size,
                settings.num_heads,
                dim_feedforward=2 * settings.hidden_size,
                dropout=float(settings.dropout),
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(settings.num_layers)
        )
        self.norm = nn.LayerNorm(settings.hidden_size)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        columns = self.convs(crops).permute(0, 3, 1, 2).flatten(2)  # (N, C, rows, T) -> (N, T, C x rows)
        states = self.flatten(columns) + self.position_embedding.weight
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)


class CTCDecoder(nn.Linear):
    """Classes at every step, blank last."""

    def __init__(self, settings: RecognizerConfig):
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


class AttentionDecoder(nn.Module):
    """One character after the other: a GRU that looks at the states through additive attention (ABCNet v2)."""

    def __init__(self, settings: RecognizerConfig):
        super().__init__()
        size = settings.hidden_size
        self.max_length = settings.max_length
        self.end = settings.num_classes - 1
        self.embedding = nn.Embedding(settings.num_classes, size)
        self.query, self.key, self.energy = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, 1)
        self.cell = nn.GRUCell(2 * size, size)
        self.output = nn.Linear(size, settings.num_classes)

    def forward(self, states: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """States (N, T, D) to logits (N, steps, classes).

        With the right `classes` (N, L), -1 after the end, each step is told the character before it, in L + 1 steps;
        without, what it has read itself, until all words have ended.
        """
        keys = self.key(states)
        hidden = states.mean(dim=1)
        # The end also stands for the beginning.
        previous = torch.full((len(states),), self.end, device=states.device)
        steps = self.max_length if classes is None else classes.shape[1] + 1
        ended = torch.zeros_like(previous, dtype=torch.bool)
        logits: list[torch.Tensor] = []
        for step in range(steps):
            weights = self.energy(torch.tanh(keys + self.query(hidden)[:, None])).softmax(dim=1)  # (N, T, 1)
            context = (weights * states).sum(dim=1)
            hidden = self.cell(torch.cat([self.embedding(previous).to(context.dtype), context], dim=1), hidden)
            logits.append(self.output(hidden))
            if classes is None:
                previous = logits[-1].argmax(dim=1)
                ended |= previous == self.end
                if ended.all():
                    break
            elif step < classes.shape[1]:
                previous = classes[:, step].masked_fill(classes[:, step] < 0, self.end)
        # Chunks of words end at different steps; what follows the end of a word is not looked at.
        return functional.pad(torch.stack(logits, dim=1), (0, 0, 0, steps - len(logits)))

    def loss(self, char_logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of the characters and the end of each word."""
        targets = functional.pad(classes, (0, 1), value=-1)  # (N, L + 1)
        targets.scatter_(1, (classes >= 0).sum(dim=1, keepdim=True), self.end)
        return functional.cross_entropy(char_logits.float().flatten(0, 1), targets.flatten(), ignore_index=-1)


class TextRecognizer(nn.Module):
    """Reads words at given places of a feature map.

    Args:
        settings: its settings.
        in_channels: channels of the map.
    """

    def __init__(self, settings: RecognizerConfig, in_channels: int):
        super().__init__()
        self.settings = settings
        # The coarsest level has stride 16.
        self.sampler = WordSampler(
            settings.crop_size, settings.feature_stride, 4 if settings.feature_stride == 2 else 3
        )
        self.encoder = WordEncoder(settings, in_channels)
        self.decoder = CTCDecoder(settings) if settings.decoder == "ctc" else AttentionDecoder(settings)
        self.language_model = None
        if settings.language_model is not None:
            language = LanguageModelConfig(**settings.language_model)
            self.language_model = CharacterLanguageModel(language, settings.charset)

    def forward(
        self,
        features: torch.Tensor,
        control_points: torch.Tensor,
        batch_indices: torch.Tensor,
        classes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits (N, T, classes) of words.

        Args:
            features: (B, C, H, W).
            control_points: (N, 8, 2) pixels of the network's input, see `transformers_tcm.bezier`.
            batch_indices: (N,) the image that each word is in.
            classes: (N, L) the right characters, for the attention decoder to be taught with.
        """
        size = max(len(control_points), 1) if self.training else self.settings.chunk_size
        parts = [
            self._read_chunk(features, points, images, classes)
            for points, images in zip(control_points.split(size), batch_indices.split(size), strict=True)
            if len(points)
        ]
        steps = self.settings.num_steps if self.settings.decoder == "ctc" else self.settings.max_length
        return torch.cat(parts) if parts else features.new_zeros(0, steps, self.settings.num_classes)

    def views(self, features: torch.Tensor, control_points: torch.Tensor, batch_indices: torch.Tensor) -> torch.Tensor:
        """Logits (N, V, T, classes) of words in all views."""
        points = self.view_points(control_points)  # (N, V, 8, 2)
        views = self(features, points.flatten(0, 1), batch_indices.repeat_interleave(points.shape[1]))
        return views.unflatten(0, points.shape[:2])  # (N x V, T, classes) -> (N, V, T, classes)

    def view_points(self, control_points: torch.Tensor) -> torch.Tensor:
        """Words (N, 8, 2) as they are and with each margin of the language model, (N, V, 8, 2)."""
        margins = () if self.language_model is None else self.language_model.settings.margins
        return torch.stack([control_points, *(with_margin(control_points, margin) for margin in margins)], dim=1)

    def _read_chunk(
        self,
        features: torch.Tensor,
        control_points: torch.Tensor,
        batch_indices: torch.Tensor,
        classes: torch.Tensor | None,
    ) -> torch.Tensor:
        """`forward` for words that are read at once.

        Their number is rounded up by reading the last one several times: convolutions on a CPU keep compiled kernels
        and their memory for every number of words that they have met, gigabytes after a while.
        """
        extra = -len(control_points) % min(ROUNDING, self.settings.chunk_size)
        crops = self.sampler(features, control_points, batch_indices)
        crops = torch.cat([crops, crops[-1:].expand(extra, -1, -1, -1)])
        if classes is not None:
            classes = torch.cat([classes, classes[-1:].expand(extra, -1)])
        return self.decoder(self.encoder(crops), classes)[: len(control_points)]

    def loss(
        self,
        features: torch.Tensor,
        control_points: torch.Tensor,
        batch_indices: torch.Tensor,
        char_ids: torch.Tensor,
    ) -> torch.Tensor:
        """Weighted recognition loss of words with Unicode code points `char_ids` (N, L), zeros after the end."""
        if not len(control_points):
            # Something is read all the same, for nothing: every process of a distributed training needs gradients.
            corner = features.new_tensor([[0, 0], [32, 0], [32, 8], [0, 8]], dtype=torch.float32)
            nowhere = self(
                features, quads_to_bezier(corner)[None], batch_indices.new_zeros(1), char_ids.new_zeros(1, 1)
            )
            return nowhere.float().sum() * 0
        classes = char_classes(char_ids, self.settings.charset)
        char_logits = self(features, self._jittered(control_points), batch_indices, classes)
        return self.settings.loss_weight * self.decoder.loss(char_logits, classes)

    def _jittered(self, control_points: torch.Tensor) -> torch.Tensor:
        """Words (N, 8, 2) with corners moved at random in training, and the curves with them."""
        if not self.training or not self.settings.jitter:
            return control_points
        corners = torch.rand(len(control_points), 4, 2, device=control_points.device) * 2 - 1
        amount = self.settings.jitter * word_heights(control_points)[:, None, None]
        # Control points between two corners follow them like points on a straight side.
        return control_points + amount * quads_to_bezier(corners)
