"""What a training starts from: a published row, CLIP's weights, or the smallest model that can be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from ..models.tcm.backends import image_processor_class
from ..models.tcm.configuration_tcm import TCMConfig
from ..models.tcm.heads import HEADS, head_class
from ..models.tcm.modeling_tcm import TCMDetector
from .recipe_files import json_settings

__all__ = ["StartArguments"]

Model = TypeVar("Model", bound=TCMDetector)
# Longest side of photos where `--smoke` resizes them.
_SMOKE_EDGE = 128


@dataclass
class StartArguments:
    """Where configuration and weights of a new model come from, for all training scripts."""

    config_overrides: str = field(
        default="{}",
        metadata={
            "help": 'JSON of configuration settings, such as {"prompting": "tcm"} or {"recognizer": {"decoder": '
            '"attention"}}. A head of another kind than that of the checkpoint starts anew.'
        },
    )
    processor_overrides: str = field(
        default="{}",
        metadata={
            "help": 'JSON of image processor settings, such as {"box_threshold": 0.5, "size": {"longest_edge": 1280}}.'
        },
    )
    config_name: str | None = field(
        default=None,
        metadata={"help": "Folder with the configuration and the image processor of a new model, as in hub_configs."},
    )
    clip: str | None = field(
        default=None,
        metadata={
            "help": "CLIP's RN50.pt, OpenAI's or open_clip's, that image encoder and text tower of a new model start "
            "from. The text tower stays as it is, the image encoder learns at a tenth of the rate."
        },
    )
    smoke: bool = field(
        default=False,
        metadata={
            "help": "Whether a recipe and its data work: two steps of two crops of 96 pixels on the tiny preset, or at "
            "full size with --clip."
        },
    )

    def config_settings(self) -> dict[str, Any]:
        """`config_overrides`; ValueError for no JSON, or what `TCMConfig` does not have."""
        return json_settings("config_overrides", self.config_overrides, [field.name for field in fields(TCMConfig)])

    def processor_settings(self) -> dict[str, Any]:
        """`processor_overrides`; ValueError for no JSON, or what no image processor of this package has."""
        own = get_type_hints(image_processor_class().valid_kwargs)
        decoding = {field.name for name in HEADS for field in fields(head_class(name).decoding_class)}
        return json_settings("processor_overrides", self.processor_overrides, own.keys() | decoding)

    def starts_anew(self, checkpoint: str | None) -> bool:
        """Whether the model is new and its configuration is named; not so with a checkpoint to go on from.

        Raises:
            ValueError: if CLIP's weights are for no new model.
        """
        if self.clip is not None and (self.config_name is None or checkpoint is not None):
            raise ValueError("--clip is for a new model of --config_name, not for --model_name_or_path or --preset")
        return self.config_name is not None and checkpoint is None

    def named_model(
        self,
        model_class: type[Model],
        overrides: Mapping[str, Any],
        processing: Mapping[str, Any],
        load_clip: Callable[[Model, str], None],
    ) -> tuple[Model, Any]:
        """A new model of `config_name`, and its image processor.

        Args:
            model_class: of the task.
            overrides: settings of the configuration.
            processing: settings of the image processor.
            load_clip: starts a model from a file of CLIP, `transformers_tcm.conversion.clip.load_clip`.

        Raises:
            ValueError: for a configuration or a file of CLIP that cannot be read, or that do not fit each other.
        """
        assert self.config_name is not None
        config = TCMConfig.from_pretrained(self.config_name, **overrides)
        sizes: dict[str, Any] = {}
        if self.smoke:
            sizes = {"size": {"longest_edge": _SMOKE_EDGE}}
            config = config if self.clip else config.resized("tiny")
        model = model_class(config)
        if self.clip is not None:
            load_clip(model, self.clip)
        processor = image_processor_class().from_pretrained(self.config_name, **{**processing, **sizes})
        return model, processor.for_model(model.config)
