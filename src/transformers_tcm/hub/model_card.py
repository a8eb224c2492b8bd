"""Model cards, written by code: what a configuration, an image processor and weights say, and what their author adds.

A card begins with what is generated: front matter, title, a sentence on the architecture, a picture, and the sections
"Use", "Model" and "Thresholds". The sections of the author follow (data, recipe, results, limits), then the licence.
"""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..models.tcm.heads import head_class
from ..models.tcm.recognition import recognizer_class

__all__ = ["PICTURE_FILE", "CardDetails", "Publication", "eval_result", "model_card", "replace_thresholds"]

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

USE = """## Use

```python
import transformers_tcm  # pip install transformers-tcm
from transformers import pipeline

for word in pipeline("{task}", model={source})("photo.jpg"):
    print({fields})
```

Where nobody imports `transformers_tcm`, `AutoModel.from_pretrained({source}, trust_remote_code=True)` loads the
model as well. That runs `modeling_tcm_hub.py`, a single line which imports the installed package.
"""
NO_WEIGHTS = """## Use

These are settings without weights: no full-size model has been trained with this package yet. Start from CLIP's
weights, and train as below:

```bash
transformers-tcm convert RN50.pt start --prompting {prompting}{config}
```
"""
# As much as the conversion needs to be told.
SETTINGS = ' --config settings.json  # a file with {{"num_context_tokens": {}}}'
CITATION = """```bibtex
@inproceedings{yu2023turning,
  title = {Turning a CLIP Model into a Scene Text Detector},
  author = {Yu, Wenwen and Liu, Yuliang and Hua, Wei and Jiang, Deqiang and Ren, Bo and Bai, Xiang},
  booktitle = {CVPR},
  year = {2023}
}
@article{yu2024turning,
  title = {Turning a CLIP Model into a Scene Text Spotter},
  author = {Yu, Wenwen and Liu, Yuliang and Zhu, Xingkui and Cao, Haoyu and Sun, Xing and Bai, Xiang},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year = {2024}
}
```
"""


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
    def reads(self) -> bool:
        """Whether it is a spotter."""
        return bool(self.config.is_spotter)


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
    reads = publication.reads
    kind = "text-spotting" if reads else "text-detection"
    metadata = ModelCardData(
        license=details.license,
        library_name="transformers",
        pipeline_tag="image-to-text" if reads else "object-detection",
        tags=list(dict.fromkeys([kind, "scene-text", "tcm", "clip", *details.tags])),
        base_model=details.base_model,
        datasets=details.datasets or None,
        model_name=publication.name,
        eval_results=details.eval_results or None,
    )
    picture = f"![Text that the model found in a photo]({PICTURE_FILE})\n\n{publication.credit}".rstrip() + "\n\n"
    sections = [
        _use(publication, kind),
        _model(publication),
        _thresholds(publication.image_processor),
        details.text.strip() + "\n",
        _licence(publication, details.license),
    ]
    title = f"# {publication.name}\n\n{_summary(publication.config)}\n\n{picture if publication.picture else ''}"
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{title}" + "\n".join(sections))


def replace_thresholds(card: str, image_processor: Any) -> str:
    """A card with the thresholds of another image processor; without that section it stays as it is."""
    for heading, body in _sections(card):
        if heading == "Thresholds":
            return card.replace(body, _thresholds(image_processor) + "\n")
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
    kind, reader = "detector", ""
    if config.recognizer is not None:
        decoder = recognizer_class(config.recognizer_settings.decoder).display_name
        kind, reader = "spotter", f", and a recogniser with {decoder} decoding on the same features"
    elif config.is_spotter:
        kind, reader = "spotter", " that reads what it finds"
    vision = config.vision_config
    depths = "+".join(map(str, vision.depths))
    prompting = "" if config.prompting == "none" else "prompted with text, an instance-language score map, "
    return (
        f"A {VARIANTS[config.prompting]} text {kind}: CLIP's form of ResNet with {depths} blocks "
        f"of width {vision.width}, {prompting}a {head} head{reader}."
    )


def _use(publication: Publication, task: str) -> str:
    if publication.parameters is None:
        tokens, default = publication.config.num_context_tokens, type(publication.config).num_context_tokens
        config = "" if tokens == default else SETTINGS.format(tokens)
        return NO_WEIGHTS.format(prompting=publication.config.prompting, config=config)
    fields = 'word["text"], word["polygon"]' if publication.reads else 'word["score"], word["polygon"]'
    return USE.format(task=task, source=publication.source, fields=fields)


def _model(publication: Publication) -> str:
    config, lines = publication.config, []
    if publication.parameters is not None:
        fused = ", without the text tower, which is folded into a stored embedding" if config.fused else ""
        lines.append(
            f"- {publication.parameters / 1e6:.2f} million parameters{fused}; weights in {publication.dtype}, "
            f"{publication.num_bytes / 1e6:.1f} MB."
        )
    lines.append(f"- {config.num_context_tokens} learned context tokens; prompt: {' / '.join(config.prompts)}")
    if publication.reads:
        reader = config.reading_settings
        charset = reader.charset
        if getattr(reader, "language_model", None) is not None:
            lines.append("- A language model of characters weighs spelling; `use_language_model=False` leaves it out.")
        lines.append(f"- Reads {len(charset)} characters: `` {charset.strip()} ``{' and space' * (' ' in charset)}.")
    return "\n".join(["## Model", "", *lines, ""])


def _thresholds(image_processor: Any) -> str:
    settings = {**asdict(image_processor.decoding_settings()), "text_threshold": image_processor.text_threshold}
    size = ", ".join(f"{name} {value}" for name, value in dict(image_processor.size).items() if value is not None)
    rows = [f"| `{name}` | {value} |" for name, value in {"size": size, **settings}.items() if value is not None]
    intro = "Stored in `preprocessor_config.json`; each can be given in a call of the pipeline instead."
    return "\n".join(["## Thresholds", "", intro, "", "| setting | value |", "| --- | --- |", *rows, ""])


def _licence(publication: Publication, license: str | None) -> str:
    stated = f"The weights are under {license}." if license else "The author has not stated a licence of the weights."
    stated = stated if publication.parameters else ""
    code = "The code of `transformers_tcm` is under Apache-2.0."
    return f"## {LICENCE}\n\n{stated} {code}".replace("\n ", "\n") + f"\n\n{CITATION}"
