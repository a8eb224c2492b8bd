"""Model cards, written by code: what a configuration, an image processor and weights say, and what their author adds.

A card begins with what is generated: front matter, title, a sentence on the architecture, a picture, and the sections
"Use", "Model" and "Thresholds". The sections of the author follow (data, recipe, results, limits), then the licence.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..models.tcm.heads import head_class
from ..models.tcm.recognition import recognizer_class

__all__ = [
    "PICTURE_FILE",
    "UNKNOWN",
    "CardDetails",
    "Publication",
    "eval_result",
    "model_card",
    "replace_thresholds",
]

PICTURE_FILE = "example.jpg"
PHOTO_CREDIT = (
    "The photo is *friends* by Aitzol Berasategi, "
    "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), cropped and with words rendered into it."
)
LICENCE = "Licence and citation"
GENERATED = ("Use", "Model", "Thresholds", LICENCE)
UNKNOWN = """## Training

The author has not described on what data and how these weights were trained.
"""
TASKS = {"text detection": "object-detection", "text spotting": "image-to-text", "word recognition": "image-to-text"}
VARIANTS = {"fasttcm": "FastTCM", "tcm": "TCM", "none": "plain, unprompted"}


@dataclass
class CardDetails:
    """What only the author of the weights knows.

    Args:
        text: Markdown sections with headings of the second level: data, recipe, results, limits.
        eval_results: measured figures, see `eval_result`.
        license: identifier of the Hub, such as `"apache-2.0"`, for the weights.
        base_model: name on the Hub of the model that the training started from.
        datasets: names on the Hub of the training data.
        tags: in addition to those that every card gets.
    """

    text: str = UNKNOWN
    eval_results: list[EvalResult] = field(default_factory=list)
    license: str | None = None
    base_model: str | None = None
    datasets: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    @classmethod
    def from_card(cls, path: str | Path) -> "CardDetails":
        """Those of an existing card: its figures, and all sections that are not generated.

        Raises:
            FileNotFoundError: if there is no such file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no model card {path}")
        card = ModelCard.load(path, ignore_metadata_errors=True)
        data = card.data
        sections = _sections(card.text)
        text = "".join(body for heading, body in sections if heading not in GENERATED)
        return cls(
            text=text or UNKNOWN,
            eval_results=data.eval_results or [],
            license=data.license,
            base_model=data.base_model,
            datasets=data.datasets or [],
            tags=data.tags or [],
        )


@dataclass
class Publication:
    """What a card is generated from.

    Args:
        name: of the model.
        config: a `TCMConfig`.
        image_processor: a TCM image processor.
        source: the Python expression that stands for the model in the example code.
        parameters: how many there are; `None` for settings without weights.
        num_bytes: size of the weight files.
        dtype: of the weights.
        picture: whether the folder has a picture of the output.
        credit: who made the photo of the picture, a sentence.
    """

    name: str
    config: Any
    image_processor: Any
    source: str
    parameters: int | None = None
    num_bytes: int = 0
    dtype: str = ""
    picture: bool = False
    credit: str = PHOTO_CREDIT

    @property
    def is_oriented(self) -> bool:
        """Whether it finds oriented objects."""
        return head_class(self.config.head_type).task == "oriented"

    @property
    def task(self) -> str:
        """Of its pipeline."""
        if self.is_oriented:
            return "oriented-object-detection"
        return "text-spotting" if self.config.is_spotter else "text-detection"


def eval_result(
    task: str, metric: str, value: float, dataset: str, dataset_type: str, split: str = "validation"
) -> EvalResult:
    """A measured figure as the Hub shows it.

    Args:
        task: "text detection", "text spotting" or "word recognition".
        metric: for example "hmean".
        value: rounded to four decimals.
        dataset: what was measured on, in words.
        dataset_type: its short name.
        split: of the data set.

    Raises:
        ValueError: for another task.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; expected one of {', '.join(TASKS)}")
    return EvalResult(
        task_type=TASKS[task],
        task_name=task,
        dataset_type=dataset_type,
        dataset_name=dataset,
        # Figures are grouped by everything but the name of the task, which would be lost.
        dataset_config=None if task == "text detection" else task,
        dataset_split=split,
        metric_type=metric,
        metric_name=f"{task}, {metric}",
        metric_value=round(value, 4),
    )


def model_card(publication: Publication, details: CardDetails) -> ModelCard:
    """The whole card."""
    reads, subject = publication.config.is_spotter, "aerial-images" if publication.is_oriented else "scene-text"
    metadata = ModelCardData(
        license=details.license,
        library_name="transformers",
        pipeline_tag="image-to-text" if reads else "object-detection",
        tags=list(dict.fromkeys([publication.task, subject, "tcm", "clip", *details.tags])),
        base_model=details.base_model,
        datasets=details.datasets or None,
        model_name=publication.name,
        eval_results=details.eval_results or None,
    )
    text = (
        _templates()
        .get_template("model_card.md")
        .render(
            publication=publication,
            config=publication.config,
            details=details,
            summary=_summary(publication.config),
            settings_to_tell=_settings_to_tell(publication.config),
            reader=publication.config.reading_settings,
            settings=_thresholds(publication.image_processor),
            picture_file=PICTURE_FILE,
            licence=LICENCE,
        )
    )
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}")


def replace_thresholds(card: str, image_processor: Any) -> str:
    """A card with the thresholds of another image processor; without that section it stays as it is."""
    for heading, body in _sections(card):
        if heading == "Thresholds":
            section = _templates().get_template("thresholds.md").render(settings=_thresholds(image_processor))
            return card.replace(body, section + "\n")
    return card


def _sections(text: str) -> list[tuple[str, str]]:
    """Heading and text, with the heading, of each section of the second level; headings in code do not count."""
    starts, code = [], False
    for line in re.finditer(r"^.*$", text, re.MULTILINE):
        code ^= line.group().startswith("```")
        if line.group().startswith("## ") and not code:
            starts.append(line.start())
    bodies = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [(body.partition("\n")[0].removeprefix("## ").strip(), body) for body in bodies]


def _summary(config: Any) -> str:
    """One sentence on the architecture."""
    head = head_class(config.head_type).display_name
    if (config.head_config or {}).get("adaptive_scale_fusion"):
        head += "++"
    oriented = head_class(config.head_type).task == "oriented"
    kind, reader = "detector of oriented objects" if oriented else "text detector", ""
    if config.recognizer is not None:
        decoder = recognizer_class(config.recognizer_settings.decoder).display_name
        kind, reader = "text spotter", f", and a recogniser with {decoder} decoding on the same features"
    elif config.is_spotter:
        kind, reader = "text spotter", " that reads what it finds"
    vision = config.vision_config
    depths = "+".join(map(str, vision.depths))
    prompting = "" if config.prompting == "none" else "prompted with text, an instance-language score map, "
    return (
        f"A {VARIANTS[config.prompting]} {kind}: CLIP's form of ResNet with {depths} blocks "
        f"of width {vision.width}, {prompting}a {head} head{reader}."
    )


def _settings_to_tell(config: Any) -> str:
    """As much as the conversion of CLIP needs to be told, as JSON; nothing where all is as by default."""
    defaults = type(config)(head_type=config.head_type)
    told: dict[str, Any] = {}
    if config.num_context_tokens != defaults.num_context_tokens:
        told["num_context_tokens"] = config.num_context_tokens
    if config.head_type != type(config).head_type:
        told["head_type"] = config.head_type
    settings, usual = asdict(config.head_settings), asdict(defaults.head_settings)
    if head_config := {name: value for name, value in settings.items() if value != usual[name]}:
        told["head_config"] = head_config
    return json.dumps(told) if told else ""


def _thresholds(image_processor: Any) -> dict[str, Any]:
    """Settings of the image processor that are given in a call, by name."""
    settings = {**asdict(image_processor.decoding_settings()), "text_threshold": image_processor.text_threshold}
    size = ", ".join(f"{name} {value}" for name, value in dict(image_processor.size).items() if value is not None)
    return {name: value for name, value in {"size": size, **settings}.items() if value is not None}


@cache
def _templates() -> Environment:
    """Of Markdown, in which nothing is escaped."""
    return Environment(
        loader=PackageLoader(__package__),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
