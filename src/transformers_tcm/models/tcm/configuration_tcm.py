"""Configuration of TCM and FastTCM: CLIP's ResNet and text tower, the prompts between them, a detection head."""

import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPTextConfig, PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import SubConfigSpec

from .heads import head_class
from .hub_tcm import LoadsThroughShim, auto_map, write_shim
from .recognition import recognizer_class
from .recognition.base import RecognizerConfig, changed_settings

__all__ = ["CONTEXT_TOKENS", "DEFAULT_PROMPT", "DEFAULT_PROMPT_TOKEN_IDS", "TCMConfig", "TCMVisionConfig"]

DEFAULT_PROMPT = "the pixels of many arbitrary-shape text instances."
DEFAULT_PROMPT_TOKEN_IDS = [49406, 518, 34099, 539, 1346, 22702, 856, 268, 6448, 4160, 1264, 3515, 269, 49407]
# Learnable tokens before the prompt, by the task of the head: names of classes say less than a sentence does.
CONTEXT_TOKENS = {"text": 4, "oriented": 8}
# What `AutoModelForObjectDetection` makes of a checkpoint of each of our models; there are no boxes without a head.
OBJECT_DETECTORS = {
    "TCMModel": None,
    "TCMForTextDetection": "TCMForTextDetection",
    "TCMForTextSpotting": "TCMForTextDetection",
    "TCMForOrientedObjectDetection": "TCMForOrientedObjectDetection",
}


@strict
class TCMVisionConfig(BackboneConfigMixin, PreTrainedConfig):
    """CLIP's modified ResNet with dense attention pooling; the defaults are CLIP RN50.

    Args:
        num_channels (`int`, *optional*, defaults to 3): colour channels of the input.
        width (`int`, *optional*, defaults to 64): channels after the stem; stage k has 4 x width x 2^(k-1) channels.
        depths (`list[int]`, *optional*, defaults to `[3, 4, 6, 3]`): bottleneck blocks of the four stages.
        projection_dim (`int`, *optional*, defaults to 1024): size of CLIP's joint embedding space.
        num_attention_heads (`int`, *optional*, defaults to 32): heads of the attention pool.
        positional_grid (`int`, *optional*, defaults to 7): side of the square grid at which the attention pool's
            positional embedding is stored; it is resized once to the size of each input.
        sr_ratio (`int`, *optional*, defaults to 1): spatial reduction of keys and values (PVT) in the attention pool
            and the visual prompt generator: they are averaged over so many positions in both directions. 2 makes large
            pictures cheaper; the weights are the same.
        batch_norm_eps (`float`, *optional*, defaults to 1e-5): epsilon of the batch norms.
        initializer_range (`float`, *optional*, defaults to 0.02): standard deviation of new embeddings.
    """

    model_type = "tcm_clip_resnet"
    base_config_key = "vision_config"

    num_channels: int = 3
    width: int = 64
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    projection_dim: int = 1024
    num_attention_heads: int = 32
    positional_grid: int = 7
    sr_ratio: int = 1
    batch_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.depths = list(self.depths)
        self.stage_names = ["stem", *(f"stage{index}" for index in range(1, len(self.depths) + 1))]
        out_features = kwargs.pop("out_features", None)
        out_indices = kwargs.pop("out_indices", None)
        self.set_output_features_output_indices(out_indices=out_indices, out_features=out_features)
        super().__post_init__(**kwargs)

    @property
    def hidden_sizes(self) -> list[int]:
        """Channels of the four stages (C2 to C5)."""
        return [4 * self.width * 2**index for index in range(len(self.depths))]

    def validate_architecture(self) -> None:
        """Called by `@strict` after construction."""
        _check_positive(self, "num_channels", "projection_dim", "num_attention_heads", "batch_norm_eps")
        if len(self.depths) != 4 or min(self.depths) < 1:
            raise ValueError(f"`depths` must hold four positive block counts, got {self.depths}")
        if self.width < 2 or self.width % 2:
            raise ValueError(f"`width` must be even and positive (the stem starts with width / 2), got {self.width}")
        if self.hidden_sizes[-1] % self.num_attention_heads:
            raise ValueError(
                f"the last stage has {self.hidden_sizes[-1]} channels, which {self.num_attention_heads} attention-pool "
                "heads do not divide; choose another `num_attention_heads`"
            )
        _check_positive(self, "positional_grid", "sr_ratio")


# Sizes of the presets, those of the heads are with the heads; `base` is CLIP RN50 and the same as no settings at all.
_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "vision_config": {"width": 32, "depths": [2, 2, 3, 1], "projection_dim": 256, "num_attention_heads": 16},
        "text_config": {
            "hidden_size": 128,
            "intermediate_size": 512,
            "projection_dim": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        "decoder_hidden_size": 128,
        "decoder_num_layers": 2,
    },
    "small": {
        "vision_config": {"width": 48, "depths": [2, 3, 4, 2], "projection_dim": 512, "num_attention_heads": 24},
        "text_config": {
            "hidden_size": 256,
            "intermediate_size": 1024,
            "projection_dim": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
        },
        "decoder_num_layers": 2,
    },
    "base": {},
}


@strict
class TCMConfig(LoadsThroughShim, PreTrainedConfig):
    """Configuration of a TCM text detector or spotter; the defaults build the full-size FastTCM-CR50-DBNet.

    Thresholds of the post-processing are not here but in the image processor's configuration.

    Args:
        vision_config (`TCMVisionConfig`, *optional*): the image encoder.
        text_config (`CLIPTextConfig`, *optional*, defaults to CLIP RN50's text tower): the text encoder.
        prompting (`str`, *optional*, defaults to `"fasttcm"`): where the language prompt comes from: `"fasttcm"`, a
            learned meta query, with bimodal similarity matching; `"tcm"`, each image's global embedding; or `"none"`,
            no prompting: the stages of the image encoder and the head alone, without attention pool, text tower, score
            map and auxiliary loss, the baseline of ablations.
        prompts (`list[str]`, *optional*): the predefined prompt texts, one for each class; a sentence about text, for
            heads of oriented objects the names in `id2label`, which are those of DOTA-v1.0 unless given.
        prompt_token_ids (`list[list[int]]`, *optional*): their CLIP token ids, all of one length; made with CLIP's
            tokenizer when only `prompts` is given.
        num_context_tokens (`int`, *optional*): learnable tokens spliced in after the start token, 4 for text and 8 for
            oriented objects unless given.
        decoder_hidden_size (`int`, *optional*, defaults to 256): width of the visual prompt decoder and the text
            refiner.
        decoder_num_heads (`int`, *optional*, defaults to 4): their attention heads.
        decoder_num_layers (`int`, *optional*, defaults to 3): their layers.
        decoder_dropout (`float`, *optional*, defaults to 0.1): their dropout.
        temperature (`float`, *optional*, defaults to 0.07): tau of the score map's logits, cosine / tau.
        learnable_logit_scale (`bool`, *optional*, defaults to `False`): scale the score map itself by a learned exp(s),
            which starts at 1 / tau, in place of the fixed temperature.
        text_refiner (`bool`, *optional*, defaults to `True`): refine the text embedding from the visual context.
        visual_prompt (`bool`, *optional*, defaults to `True`): add a visual prompt to the local embeddings.
        matching (`bool`, *optional*, defaults to `True`): bimodal similarity matching of text and image, of FastTCM.
        normalized_matching (`bool`, *optional*, defaults to `False`): normalise both embeddings before they are summed
            in the bimodal similarity matching; the paper's formula does not.
        residual_scale (`float`, *optional*, defaults to 1e-3): initial scale of the visual prompt and of the
            refinement.
        score_map_loss_weight (`float`, *optional*, defaults to 1.0): lambda of the auxiliary loss.
        head_type (`str`, *optional*, defaults to `"dbnet"`): the detection head.
        head_config (`dict`, *optional*): its settings, see the head's own configuration class.
        recognizer (`dict`, *optional*): settings of the text recogniser, see `RecognizerConfig`; `{}` for a spotter
            with the defaults, `None` for a detector.
        fused (`bool`, *optional*, defaults to `False`): the text tower has been folded into a stored text embedding.
        clip_pretrained (`bool`, *optional*, defaults to `False`): both towers come from CLIP; training then freezes
            the text tower and lowers the learning rate of the image encoder.
        initializer_range (`float`, *optional*, defaults to 0.02): standard deviation of new linear layers.
    """

    model_type = "tcm"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["loss_dict", "hidden_states", "attentions"]
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "vision_config": SubConfigSpec(config_class=TCMVisionConfig),
        "text_config": SubConfigSpec(config_class=CLIPTextConfig),
    }

    vision_config: dict[str, Any] | TCMVisionConfig | None = None
    text_config: dict[str, Any] | CLIPTextConfig | None = None
    prompting: Literal["fasttcm", "tcm", "none"] = "fasttcm"
    prompts: list[str] | tuple[str, ...] | None = None
    prompt_token_ids: list[list[int]] | None = None
    num_context_tokens: int | None = None
    decoder_hidden_size: int = 256
    decoder_num_heads: int = 4
    decoder_num_layers: int = 3
    decoder_dropout: float | int = 0.1
    temperature: float | int = 0.07
    learnable_logit_scale: bool = False
    text_refiner: bool = True
    visual_prompt: bool = True
    matching: bool = True
    normalized_matching: bool = False
    residual_scale: float | int = 1e-3
    score_map_loss_weight: float | int = 1.0
    head_type: str = "dbnet"
    head_config: dict[str, Any] | None = None
    recognizer: dict[str, Any] | None = None
    fused: bool = False
    clip_pretrained: bool = False
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if "variant" in kwargs:
            raise ValueError(
                f"`variant` is a keyword of the Hub, as in variant='fp16'; the source of the language prompt is called "
                f"`prompting`: TCMConfig(prompting={kwargs['variant']!r})"
            )
        if self.text_config is None:
            # The text tower of CLIP RN50 projects to 1024 dimensions, transformers' default (ViT-B/32) to 512.
            self.text_config = {"projection_dim": 1024}
        if self.recognizer is not None and head_class(self.head_type).reads:
            raise ValueError(f"the head {self.head_type!r} reads what it finds; leave `recognizer` out")
        if self.recognizer_settings is not None:
            settings = asdict(self.recognizer_settings).items()
            # Lists, as they come back from JSON.
            self.recognizer = {name: list(value) if isinstance(value, tuple) else value for name, value in settings}
        head = head_class(self.head_type)
        if self.id2label is None and "num_labels" not in kwargs:
            self.id2label = dict(enumerate(head.default_labels))
        if self.num_context_tokens is None:
            self.num_context_tokens = CONTEXT_TOKENS[head.task]
        # AutoModel walks through this list to choose among the classes registered for one configuration.
        self.architectures = self.architectures or []
        super().__post_init__(**kwargs)
        names: dict[int, str] = self.id2label  # type: ignore[assignment]  # integers by now
        self.label2id = {name: index for index, name in names.items()}
        # The number of classes is that of the labels, and stands nowhere else.
        settings = asdict(self.head_settings).items()
        self.head_config = {name: value for name, value in settings if name != "num_classes"}
        self.prompts = self._default_prompts() if self.prompts is None else list(self.prompts)
        if self.prompt_token_ids is None:
            self.prompt_token_ids = _tokenize(self.prompts)
        self.vision_config.out_features = self.vision_config.stage_names[1:]  # C2 … C5, which every head takes

    def _default_prompts(self) -> list[str]:
        """What the text encoder is told where nothing else is given."""
        if head_class(self.head_type).task == "text":
            return [DEFAULT_PROMPT]
        names: dict[int, str] = self.id2label  # type: ignore[assignment]  # integers by now
        return [names[index].replace("-", " ") for index in sorted(names)]

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "TCMConfig":
        """A configuration by size: `"tiny"`, `"small"` or `"base"` (CLIP RN50), settings overridden by `overrides`.

        Raises:
            ValueError: for an unknown name.
        """
        if name not in _PRESETS:
            raise ValueError(f"unknown preset {name!r}; choose one of {', '.join(_PRESETS)}")
        head_type = overrides.get("head_type", cls.head_type)
        head_config = head_class(head_type).presets.get(name)
        return cls(**{**_PRESETS[name], "head_config": head_config, **overrides})

    def resized(self, name: str) -> "TCMConfig":
        """The same model in the size of a preset: prompts, head and recogniser stay what they are.

        Raises:
            ValueError: for an unknown name.
        """
        sizes = type(self).from_preset(name, head_type=self.head_type).to_dict()
        head = {**(self.head_config or {}), **(head_class(self.head_type).presets.get(name) or {})}
        parts = ("vision_config", "text_config", "decoder_hidden_size", "decoder_num_layers", "decoder_num_heads")
        return type(self).from_dict({**self.to_dict(), **{part: sizes[part] for part in parts}, "head_config": head})

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Save `config.json`, and beside it the line of code by which `trust_remote_code=True` finds this package.

        A configuration of another model class than those of this package is saved without that line.
        """
        architecture = (self.architectures or ["TCMModel"])[0]
        ours = architecture in OBJECT_DETECTORS
        if ours:
            detector = OBJECT_DETECTORS[architecture]
            detectors = {} if detector is None else {"AutoModelForObjectDetection": detector}
            self.auto_map = auto_map(AutoConfig=type(self).__name__, AutoModel=architecture, **detectors)
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        if ours:
            write_shim(save_directory)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """See `PreTrainedConfig.from_dict`.

        Another `head_type` than that of the dictionary takes the defaults of the new head, and one for another task
        also its labels and prompts; one that reads leaves out the recogniser. Other labels given as `id2label` take
        prompts of their own. Another `prompting` than that of a fused model takes a text tower of its own, if any.
        `recognizer` changes those settings of a spotter's recogniser that it names; a language model that lacks
        characters of a new `charset` is left out.

        Raises:
            ValueError: naming the entry that is of the wrong type or out of range; for other prompts of a fused model.
        """
        given = dict(config_dict)
        if "variant" in given:  # its name before 0.2
            given["prompting"] = given.pop("variant")
        former = given.get("head_type", cls.head_type)
        if kwargs.get("head_type", former) != former:
            given.pop("head_config", None)
            given["head_type"] = kwargs["head_type"]  # else the defaults would be those of the former head
            if head_class(given["head_type"]).reads:
                given["recognizer"] = kwargs.pop("recognizer", None)  # that of the former head has nothing to read
            if head_class(given["head_type"]).task != head_class(former).task:
                _drop(given, "id2label", "label2id", "prompts", "prompt_token_ids", "fused")
        if kwargs.get("id2label") is not None and head_class(given.get("head_type", former)).task == "oriented":
            # The base class sets it on the finished configuration, when prompts have been made.
            labels = _by_number(kwargs.pop("id2label"))
            if labels != _by_number(given.get("id2label") or {}):
                _drop(given, "label2id", "prompts", "prompt_token_ids", "fused")
            given["id2label"] = labels
        if kwargs.get("recognizer") is not None and given.get("recognizer") is not None:
            kwargs["recognizer"] = changed_settings(given["recognizer"], kwargs["recognizer"])
        _drop_stale_text(given, kwargs)
        # The base class sets them on the finished configuration, which is not validated again before it is saved.
        own = TCMConfig.__annotations__.keys() - cls.sub_configs_defaults.keys()
        given |= {name: kwargs.pop(name) for name in own & kwargs.keys()}
        try:
            return super().from_dict(given, **kwargs)
        except (StrictDataclassError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise ValueError(f"this is no configuration of a TCM model: {error}") from error

    @property
    def projection_dim(self) -> int:
        """Size of CLIP's joint embedding space, in which image and text are compared."""
        return self.vision_config.projection_dim

    @property
    def num_score_maps(self) -> int:
        """Score maps that are concatenated to C5: one for each prompt, none without prompting."""
        return 0 if self.prompting == "none" else len(self.prompts or ())

    @property
    def head_settings(self) -> Any:
        """`head_config` as an object of the head's `config_class`, with its defaults and the number of labels."""
        settings_class, given = head_class(self.head_type).config_class, dict(self.head_config or {})
        if any(field.name == "num_classes" for field in fields(settings_class)):
            given["num_classes"] = self.num_labels or 1
        try:
            return settings_class(**given)
        except (TypeError, StrictDataclassError) as error:  # an unknown name, or a string among the numbers
            reason = " ".join(str(error.__cause__ or error).split())
            raise ValueError(f"`head_config` does not fit the head {self.head_type!r}: {reason}") from error

    @property
    def recognizer_settings(self) -> RecognizerConfig | None:
        """`recognizer` as an object, with its defaults; `None` for a detector."""
        try:
            if self.recognizer is None:
                return None
            settings: RecognizerConfig = recognizer_class(self.recognizer.get("decoder", "ctc")).config_class(
                **self.recognizer
            )
            return settings
        except TypeError as error:
            raise ValueError(f"`recognizer` does not fit: {error}") from error

    @property
    def reading_settings(self) -> Any:
        """Settings of what reads, with a `charset`: the recogniser or a head that reads; `None` for a detector."""
        return self.head_settings if head_class(self.head_type).reads else self.recognizer_settings

    @property
    def is_spotter(self) -> bool:
        """Whether a model of it reads what it finds: by a recogniser, or by a head that reads."""
        return self.recognizer is not None or head_class(self.head_type).reads

    def validate_architecture(self) -> None:
        """Called by `@strict` after construction."""
        _check_positive(self, "decoder_hidden_size", "decoder_num_heads", "decoder_num_layers", "temperature")
        _check_positive(self.text_config, "hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
        _check_positive(self.text_config, "num_attention_heads", "projection_dim")
        if self.vision_config.projection_dim != self.text_config.projection_dim:
            raise ValueError(
                f"image and text must meet in one space: vision_config.projection_dim is "
                f"{self.vision_config.projection_dim}, text_config.projection_dim is {self.text_config.projection_dim}"
            )
        if self.decoder_hidden_size % self.decoder_num_heads:
            raise ValueError(
                f"`decoder_hidden_size` {self.decoder_hidden_size} is not a multiple of `decoder_num_heads` "
                f"{self.decoder_num_heads}"
            )
        if not 0 <= self.decoder_dropout <= 1:
            raise ValueError(f"`decoder_dropout` must lie in [0, 1], got {self.decoder_dropout}")
        assert self.num_context_tokens is not None  # filled in by __post_init__, as the prompts are
        if self.num_context_tokens < 0:
            raise ValueError(f"`num_context_tokens` must not be negative, got {self.num_context_tokens}")
        if self.fused and self.prompting == "tcm":
            raise ValueError("prompting 'tcm' prompts with each image's embedding and cannot be fused; use 'fasttcm'")
        if self.fused and self.prompting == "none":
            raise ValueError("prompting 'none' has no text tower that could be fused; leave `fused` out")
        self._validate_prompts()

    def _validate_prompts(self) -> None:
        assert self.prompt_token_ids is not None  # all filled in by __post_init__
        assert self.prompts is not None
        assert self.num_context_tokens is not None
        lengths = {len(ids) for ids in self.prompt_token_ids}
        if not self.prompts or len(self.prompt_token_ids) != len(self.prompts) or len(lengths) != 1:
            raise ValueError(
                f"`prompt_token_ids` must hold one list for each of {len(self.prompts)} prompts, all of one length; "
                f"got {len(self.prompt_token_ids)} lists of lengths {sorted(lengths)}"
            )
        if not all(0 <= token < self.text_config.vocab_size for ids in self.prompt_token_ids for token in ids):
            raise ValueError(f"`prompt_token_ids` must lie in [0, {self.text_config.vocab_size}), the vocabulary")
        total = lengths.pop() + self.num_context_tokens
        if total > self.text_config.max_position_embeddings:
            raise ValueError(
                f"the prompt and {self.num_context_tokens} context tokens make {total} tokens; the text tower takes "
                f"{self.text_config.max_position_embeddings}"
            )


def _drop(settings: dict[str, Any], *names: str) -> None:
    for name in names:
        settings.pop(name, None)


def _by_number(id2label: Mapping[Any, str]) -> dict[int, str]:
    """Names of labels; JSON knows no numbers as keys."""
    return {int(index): name for index, name in id2label.items()}


def _drop_stale_text(settings: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Take out of `settings` what was made of the text that `changes` replace."""
    former = settings.get("prompting", TCMConfig.prompting)
    if changes.get("prompting", former) != former:
        settings["fused"] = False  # the stored embedding is that of the former prompting
    prompts = settings.get("prompts")
    if list(changes.get("prompts") or prompts or ()) == list(prompts or ()):
        return
    if changes.get("fused", settings.get("fused")):
        raise ValueError(
            "this model is fused: its prompts were folded into a stored embedding; take the checkpoint from before the "
            "fusion, or give fused=False to train a text tower anew"
        )
    _drop(settings, "prompt_token_ids")


def _check_positive(config: Any, *names: str) -> None:
    """Raise `ValueError` for sizes that are not above 0, or NaN."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"`{name}` of {type(config).__name__} must be positive, got {getattr(config, name)}")


def _tokenize(prompts: list[str]) -> list[list[int]]:
    """CLIP token ids, padded with the end token to one length."""
    if prompts == [DEFAULT_PROMPT]:
        return [DEFAULT_PROMPT_TOKEN_IDS]
    from .tokenization_tcm import clip_tokenizer

    return clip_tokenizer()(prompts, padding=True)["input_ids"]
