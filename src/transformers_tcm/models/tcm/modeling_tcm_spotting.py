"""TCM and FastTCM as a text spotter: what the detection head proposes is straightened and read, in one model.

References: FastTCM, Yu et al., TPAMI 2024; ABCNet, Liu et al., CVPR 2020.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init
from transformers.utils import can_return_tuple

from ... import geometry
from ...instances import TextInstances
from .configuration_tcm import TCMConfig
from .heads.base import DecodingSettings, HeadOutput
from .modeling_tcm import TCMForTextDetection, TCMModelOutput, TCMTextDetectionOutput, check_labels, valid_sizes
from .recognition.base import TextRecognizer
from .recognition.language_model import CharacterLanguageModel
from .recognition.proposals import proposals_to_bezier, with_matched_proposals
from .recognition.reading import WordReading, read_words

__all__ = ["TCMForTextSpotting", "TCMTextSpottingOutput"]

Labels = list[dict[str, torch.Tensor]]


@dataclass
class TCMTextSpottingOutput(TCMTextDetectionOutput):
    """Output of `TCMForTextSpotting`; the image processor's `post_process_text_spotting` turns it into words.

    The N proposals of all images of the batch follow each other. There are none where the model is trained on labels.

    Args:
        loss: scalar, the sum of `loss_dict`, where labels are given.
        loss_dict: weighted loss terms by name.
        head_output: the detection head's maps.
        score_map: (B, K, h, w) cosine of every position with the text; `None` without prompting.
        valid_sizes: (B, 2) height and width of each image within the padded input.
        hidden_states: maps of the stem and the four stages, where asked for.
        points: (sum of K_i, 2) outlines of the proposals, in pixels of the network's input.
        counts: (N,) points of each outline.
        batch_indices: (N,) the image that each proposal is in.
        scores: (N,) detection scores.
        char_logits: (N, V, T, len(charset) + 2) of every class at every step of the recogniser. There is one view of a
            word, more where a language model asks for them.
        charset: the recogniser's characters, in the order of its classes.
        decoder: what the steps mean, `"ctc"` or `"attention"`.
        language_model: weighs how likely words are spelled, where the recogniser has one.
    """

    points: torch.Tensor | None = None
    counts: torch.Tensor | None = None
    batch_indices: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    char_logits: torch.Tensor | None = None
    charset: str | None = None
    decoder: str | None = None
    language_model: CharacterLanguageModel | None = None

    def proposals(self) -> list[TextInstances]:
        """Outlines and scores of each image's proposals, in pixels of the network's input.

        Raises:
            ValueError: if the model was trained on labels and has proposed nothing.
        """
        self._check_read()
        polygons = [polygon.cpu().numpy() for polygon in self.points.split(self.counts.tolist())]
        scores = self.scores.float().cpu().numpy()
        return [
            TextInstances([polygons[i] for i in indices], scores=scores[indices]) for indices in self._image_indices()
        ]

    def read(self, use_language_model: bool = True) -> list[list[WordReading]]:
        """The most probable word of each image's proposals.

        Args:
            use_language_model: `False` reads character by character, whatever is a word.

        Raises:
            ValueError: if the model was trained on labels and has proposed nothing.
        """
        self._check_read()
        language_model = self.language_model if use_language_model else None
        words = read_words(self.char_logits, self.charset, self.decoder, language_model)  # type: ignore
        return [[words[i] for i in indices] for indices in self._image_indices()]

    def _check_read(self) -> None:
        if self.char_logits is None:
            raise ValueError("these outputs hold no readings: in training mode a spotter reads the words of its labels")

    def _image_indices(self) -> list[np.ndarray]:
        """Which proposals are in each image."""
        images = self.batch_indices.cpu().numpy()
        return [np.flatnonzero(images == image) for image in range(len(self.valid_sizes))]  # type: ignore


class TCMForTextSpotting(TCMForTextDetection):
    """TCM with a detection head and a recogniser on shared features.

    The weights of the detector in it have the names they have in `TCMForTextDetection`, so each loads from the other:
    `TCMForTextSpotting.from_pretrained(detector, recognizer={})` starts a spotter from a detector.

    Args:
        config: its settings; `recognizer` describes the recogniser.

    Raises:
        ValueError: for the configuration of a detector.
    """

    _keys_to_ignore_on_load_unexpected = []  # a detector leaves the recogniser of a spotter's weights out

    def __init__(self, config: TCMConfig):
        settings = config.recognizer_settings
        if settings is None:
            raise ValueError("this configuration describes a detector; `recognizer={}` adds the default recogniser")
        super().__init__(config)
        vision = config.vision_config
        in_channels = vision.width if settings.feature_stride == 2 else vision.hidden_sizes[0]
        self.recognizer = TextRecognizer(settings, in_channels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.GRUCell):
            # As torch does; weights that are missing in a checkpoint hold anything until they are set here.
            for parameter in module.parameters():
                init.uniform_(parameter, -(module.hidden_size**-0.5), module.hidden_size**-0.5)

    def train(self, mode: bool = True) -> "TCMForTextSpotting":
        """Training or evaluation mode; a frozen model or head stays in the latter, or its batch norms would drift."""
        super().train(mode)
        for part in (self.model, self.head):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    @property
    def _score_map_loss_form(self) -> str:
        return "dice"  # as all spotters (TCM), whatever the head

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        labels: Labels | None = None,
        decoding: dict[str, Any] | None = None,
        train_detection: bool | torch.Tensor = True,
        output_training_maps: bool = False,
        output_hidden_states: bool | None = None,
        **kwargs: object,
    ) -> TCMTextSpottingOutput:
        """Find and read the text of a batch of images.

        Args:
            pixel_values: (B, 3, H, W), normalised; H and W multiples of 32.
            pixel_mask: (B, H, W), 1 inside each image, 0 in the padding right and below; the whole map without one.
            labels: one dict for each image as the collator makes them: the head's target maps, `ignore` (N,),
                `control_points` (N, 8, 2) and `char_ids` (N, L), Unicode code points with zeros after the end. Words
                that are ignored, or of zeros only, train the detection alone. In training mode only the words of the
                labels are read, otherwise the model's own proposals.
            decoding: settings by which proposals are decoded, see `DecodingSettings`; the image processor of a spotter
                adds its own to every batch.
            train_detection: (B,), or one for all: `False` where an image's labels only hold words. Such images train
                the recogniser alone; the outputs are those of the others.
            output_training_maps: also compute the maps that only the loss needs.
            output_hidden_states: also return the maps of stem and stages.

        Raises:
            ValueError: if the labels are not one for each image, or lack what they should hold.
            TypeError: for an unknown name in `decoding`.
        """
        check_labels(labels, pixel_values)
        words = None
        if labels is not None:
            photos = torch.as_tensor(train_detection).cpu().expand(len(labels))
            if not photos.any():
                loss = self._reading_loss(self._reading_features(pixel_values), labels)
                return TCMTextSpottingOutput(loss=loss, loss_dict={"loss_reading": loss})
            if not photos.all():
                words = self._images_of_words(pixel_values[~photos], _select(labels, ~photos))
                pixel_values, labels = pixel_values[photos], _select(labels, photos)
                pixel_mask = None if pixel_mask is None else pixel_mask[photos]
        outputs = self.model(pixel_values, pixel_mask, output_hidden_states=output_hidden_states, return_dict=True)
        head_output = self._detect(outputs, self.training or output_training_maps or labels is not None)
        sizes = valid_sizes(pixel_values, pixel_mask)
        features = outputs.stem_features if self._reads_the_stem else outputs.feature_maps[0]
        settings = DecodingSettings(**(decoding or {}))
        loss_dict, found = None, {}
        if labels is not None:
            loss_dict = self._losses(head_output, outputs, features, labels, sizes, settings, words)
        if labels is None or not self.training:
            found = self._read_proposals(head_output, features, sizes, settings)
        return TCMTextSpottingOutput(
            loss=None if loss_dict is None else torch.stack(list(loss_dict.values())).sum(),
            loss_dict=loss_dict,
            head_output=head_output,
            score_map=outputs.score_map,
            valid_sizes=sizes,
            hidden_states=outputs.hidden_states,
            **found,
        )

    def recognize(
        self, pixel_values: torch.Tensor, control_points: torch.Tensor, batch_indices: torch.Tensor
    ) -> list[WordReading]:
        """Read N words at given places, without detecting any.

        Args:
            pixel_values: (B, 3, H, W), normalised; H and W multiples of 32.
            control_points: (N, 8, 2) pixels of the input, see `transformers_tcm.bezier`.
            batch_indices: (N,) the image that each word is in.
        """
        settings = self.recognizer.settings
        char_logits = self.recognizer.views(self._reading_features(pixel_values), control_points, batch_indices)
        return read_words(char_logits, settings.charset, settings.decoder, self.recognizer.language_model)

    @property
    def _reads_the_stem(self) -> bool:
        return self.recognizer.settings.feature_stride == 2

    def _reading_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The map that words are cut out of, without the rest of the image encoder."""
        backbone = self.model.backbone
        features = backbone.stem.before_pooling(pixel_values)
        return features if self._reads_the_stem else backbone.stages[0](backbone.stem[-1](features))

    def _images_of_words(self, pixel_values: torch.Tensor, labels: Labels) -> tuple[torch.Tensor, Labels]:
        """Features (B, C, h, w) and labels of images that only train the recogniser, beside photos.

        They do not look like photos, so the image encoder's batch norms must not learn their statistics.
        """
        backbone = self.model.backbone
        training = backbone.training
        try:
            backbone.eval()
            return self._reading_features(pixel_values), labels
        finally:
            backbone.train(training)

    def _losses(
        self,
        head_output: HeadOutput,
        outputs: TCMModelOutput,
        features: torch.Tensor,
        labels: Labels,
        sizes: torch.Tensor,
        settings: DecodingSettings,
        words: tuple[torch.Tensor, Labels] | None,
    ) -> dict[str, torch.Tensor]:
        """Of detection and reading; `words` are features and labels to be read besides those of the photos."""
        loss_dict = self._detection_losses(head_output, outputs.score_logits, labels)
        if self.training and self.recognizer.settings.train_on_proposals:
            proposals = head_output.decode(sizes, **vars(settings))
            labels = [
                with_matched_proposals(*pair, head_output.halves_are_sides)
                for pair in zip(labels, proposals, strict=True)
            ]
        if words is not None:
            features, labels = torch.cat([features, words[0]]), [*labels, *words[1]]
        return {**loss_dict, "loss_reading": self._reading_loss(features, labels)}

    def _reading_loss(self, features: torch.Tensor, labels: Labels) -> torch.Tensor:
        """Of the words with a transcription that are not ignored."""
        if any(name not in label for label in labels for name in ("control_points", "char_ids", "ignore")):
            raise ValueError(
                "`labels` lack `control_points`, `char_ids` or `ignore`; build them with the collator of "
                "transformers_tcm.data for a configuration with a recogniser"
            )
        readable = [~label["ignore"] & (label["char_ids"] > 0).any(dim=1) for label in labels]
        longest = max(label["char_ids"].shape[1] for label in labels)
        points, char_ids = [], []
        for label, chosen in zip(labels, readable, strict=True):
            points.append(label["control_points"][chosen])
            ids = label["char_ids"][chosen]
            char_ids.append(functional.pad(ids, (0, longest - ids.shape[1])))
        counts = torch.tensor([len(chosen) for chosen in points], device=features.device)
        images = torch.arange(len(labels), device=features.device).repeat_interleave(counts)
        return self.recognizer.loss(features, torch.cat(points), images, torch.cat(char_ids))

    def _read_proposals(
        self, head_output: HeadOutput, features: torch.Tensor, sizes: torch.Tensor, settings: DecodingSettings
    ) -> dict[str, Any]:
        """What the model finds and reads by itself, as fields of the output."""
        found = head_output.decode(sizes, **vars(settings))
        device = features.device
        polygons = [polygon for instances in found for polygon in instances.polygons]
        counts = torch.tensor([len(instances) for instances in found], device=device)
        images = torch.arange(len(found), device=device).repeat_interleave(counts)
        control_points = torch.from_numpy(proposals_to_bezier(polygons, head_output.halves_are_sides)).to(device)
        char_logits = self.recognizer.views(features, control_points, images)
        if not head_output.halves_are_sides:
            self._read_along_height(features, images, polygons, char_logits)
        scores = np.concatenate([np.asarray(instances.scores, np.float32) for instances in found])
        return {
            "points": torch.from_numpy(np.concatenate([*polygons, np.zeros((0, 2), np.float32)])).to(device),
            "counts": torch.tensor([len(polygon) for polygon in polygons], dtype=torch.int64, device=device),
            "batch_indices": images,
            "scores": torch.from_numpy(scores).to(device),
            "char_logits": char_logits,
            "charset": self.recognizer.settings.charset,
            "decoder": self.recognizer.settings.decoder,
            "language_model": self.recognizer.language_model,
        }

    def _read_along_height(
        self, features: torch.Tensor, images: torch.Tensor, polygons: list[np.ndarray], char_logits: torch.Tensor
    ) -> None:
        """Read tall quads as words that run down and up as well, and keep the surest reading and its corners, in place.

        A head that finds regions does not know which way a word runs.
        """
        tall = [index for index, polygon in enumerate(polygons) if geometry.is_tall_quad(polygon)]
        if not tall:
            return
        charset, decoder = self.recognizer.settings.charset, self.recognizer.settings.decoder
        surest = [reading.score for reading in read_words(char_logits[tall], charset, decoder)]
        for first_corner in (1, 3):
            turned = [np.roll(polygons[index], -first_corner, axis=0) for index in tall]
            control_points = torch.from_numpy(proposals_to_bezier(turned, False)).to(features.device)
            logits = self.recognizer.views(features, control_points, images[tall])
            for place, (index, reading) in enumerate(zip(tall, read_words(logits, charset, decoder), strict=True)):
                if reading.score > surest[place]:
                    surest[place] = reading.score
                    char_logits[index] = logits[place]
                    polygons[index] = turned[place]


def _select(labels: Labels, chosen: torch.Tensor) -> Labels:
    """The labels of the images (B,) that are chosen."""
    return [label for label, wanted in zip(labels, chosen.tolist(), strict=True) if wanted]
