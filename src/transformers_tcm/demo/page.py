"""The page in the browser, made with Gradio."""

import html
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ..results import as_json, rounded
from .finder import Finder, Found, lexicon_of
from .photos import MOST_MEGABYTES, open_photo
from .pictures import FOUND, PROBABILITY_MAP, SCORE_MAP, draw, summary, text_of

__all__ = ["build_page", "launch_options"]

_TITLE = "Text in photos"
_INTRO = (
    f"# {_TITLE}\n"
    "Drop a photo, paste one or use the camera. The network looks at it once; what you change afterwards only decodes "
    "its maps again. Photos stay on the machine that runs this page and are deleted within two hours."
)
_NO_OBJECTS = (
    "No model for oriented objects is bundled: train one, or take a checkpoint that was published for DOTA, and start "
    "this page with it:\n\n"
    "```\ntransformers-tcm demo --objects-model my_detector\n```"
)
_CREDIT = (
    "The example is the photo *friends* by Aitzol Berasategi, "
    "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), cropped and with words rendered into it."
)
_EXAMPLE = Path(__file__).with_name("street.jpg")
_WAITING = "Choose a photo."

# Mirrored text cannot be read, and on a phone the scene is before the camera on the back; others take what they have.
_CAMERA = gr.WebcamOptions(
    mirror=False,
    constraints={"video": {"facingMode": "environment", "width": {"ideal": 1920}, "height": {"ideal": 1440}}},
)

# Settings that the page offers where the model has them: lowest and highest value, step, label and what it means.
_SLIDERS: dict[str, tuple[float, float, float, str, str]] = {
    "text_threshold": (0, 1, 0.05, "Reading score", "Lowest score of a word that was read."),
    "box_threshold": (0.1, 1, 0.05, "Outline score", "Lowest score of an outline."),
    "threshold": (0.05, 0.95, 0.05, "Map threshold", "What has a higher probability counts."),
    "unclip_ratio": (0, 4, 0.1, "Growth", "How far outlines grow beyond the cores of words."),
    "nms_threshold": (0, 1, 0.05, "Overlap", "Largest IoU of two neighbours that are both kept."),
}

_CSS = """
.tcm-panel {
    display: grid; gap: 16px; grid-template: "photo result" auto "settings result" 1fr / 340px minmax(0, 1fr);
}
.tcm-photo { grid-area: photo; }
.tcm-result { grid-area: result; }
.tcm-settings { grid-area: settings; }
@media (max-width: 800px) {
    .tcm-panel { grid-template: "photo" "result" "settings" / minmax(0, 1fr); }
    .tcm-picture { height: auto !important; min-height: 200px; }
}
.tcm-result textarea { font-size: 16px; }
"""


def _uploaded(payload: Any) -> str | None:
    """What the photo's component hands on: the path of the file, or the `data:` URI of the camera.

    Gradio would decode the file first, and say less about what is none.
    """
    if payload is None:
        return None
    is_inline = payload.url and payload.url.startswith("data:")
    return str(payload.url if is_inline else payload.path)


def launch_options() -> dict[str, Any]:
    """What `launch` of the page needs besides its defaults: looks, limits, and nothing kept of photos."""
    return {
        "css": _CSS,
        "theme": _theme(),
        "max_file_size": f"{MOST_MEGABYTES}mb",
        "run_history": False,
        "footer_links": ["settings"],
    }


def _theme() -> Any:
    """Gradio's with labels and explanations dark enough to be read on a phone in the sun."""
    dark_grey = {f"{name}_text_color": "*neutral_700" for name in ("block_title", "block_label", "block_info")}
    light_grey = {f"{name}_dark": "*neutral_200" for name in dark_grey}
    return gr.themes.Default(primary_hue="teal").set(**dark_grey, **light_grey)


def build_page(finders: Mapping[str, Finder], objects: Finder | None = None) -> gr.Blocks:
    """The page, to be launched with `launch_options()`.

    Args:
        finders: of text, by what they do.
        objects: of oriented objects, for the second tab, which says how to get one where there is none.
    """
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(_INTRO)
        with gr.Tab("Text"):
            _Panel(finders, _EXAMPLE)
        with gr.Tab("Oriented objects"):
            if objects is None:
                gr.Markdown(_NO_OBJECTS)
            else:
                _Panel({"Find objects": objects})
        gr.Markdown(_CREDIT)
    return page


class _Panel:
    """A photo, what is found in it, and the settings of finding; one tab of the page.

    Args:
        finders: by what they do, all of text or one of objects.
        example: a photo to begin with.
    """

    def __init__(self, finders: Mapping[str, Finder], example: Path | None = None):
        self.finders = finders
        first = next(iter(finders.values()))
        with gr.Row(elem_classes="tcm-panel"):
            with gr.Column(elem_classes="tcm-photo"):
                self.photo = gr.Image(
                    label="Photo", sources=["upload", "webcam", "clipboard"], type="filepath", height=260, buttons=[],
                    webcam_options=_CAMERA,
                )  # fmt: skip
                self.photo.preprocess = _uploaded
                if example is not None:
                    gr.Examples([[str(example)]], [self.photo], label="No photo at hand? Take this one.")
                self.kind = gr.Radio([*finders], value=next(iter(finders)), label="Task", visible=len(finders) > 1)
            with gr.Column(elem_classes="tcm-result"):
                self._add_results(has_text=first.reads or first.classes is not None)
            with gr.Column(elem_classes="tcm-settings"):
                self._add_settings(first)
        self._listen()

    def _add_results(self, has_text: bool) -> None:
        self.view = gr.Radio([FOUND, SCORE_MAP, PROBABILITY_MAP], value=FOUND, label="Show")
        self.picture = gr.Image(
            label="Result", format="png", interactive=False, buttons=["fullscreen"], height=480,
            elem_classes="tcm-picture", alt_text="The photo with what was found in it",
        )  # fmt: skip
        self.status = gr.Markdown(_WAITING)
        self.text = gr.Textbox(
            label="Text", lines=4, max_lines=12, interactive=False, buttons=["copy"], visible=has_text
        )  # fmt: skip
        with gr.Row():
            self.json_file = gr.DownloadButton("Download JSON", interactive=False, size="md")
            self.png_file = gr.DownloadButton("Download PNG", interactive=False, size="md")

    def _add_settings(self, first: Finder) -> None:
        defaults = first.defaults()
        self.sliders = {
            name: gr.Slider(
                lowest, highest, defaults.get(name, lowest), step=step, label=label, info=info, visible=name in defaults
            )
            for name, (lowest, highest, step, label, info) in _SLIDERS.items()
        }
        self.polygon = gr.Checkbox(
            defaults.get("polygon", False), label="Outlines follow curved text", visible="polygon" in defaults
        )
        self.words = gr.Textbox(
            label="Lexicon", info="The only words there can be, separated by spaces or commas. Enter applies them.",
            placeholder="exit open parking school", lines=1, max_lines=4, visible=first.reads,
        )  # fmt: skip
        self.spelling = gr.Checkbox(True, label="Prefer readings that are spelled like words", visible=first.reads)

    def _listen(self) -> None:
        settings = [self.polygon, self.words, self.spelling, *self.sliders.values()]
        results = [self.picture, self.status, self.text, self.json_file, self.png_file]
        outputs = [*results, self.photo]
        # One photo at a time, and of many moves of a slider the last one.
        one_by_one: Any = {
            "concurrency_limit": 1, "concurrency_id": "model", "trigger_mode": "always_last",
            "api_visibility": "private", "show_progress_on": [self.picture],
        }  # fmt: skip
        inputs = [self.photo, self.kind, self.view, *settings]
        changes = [self.photo.change, self.view.input, self.polygon.input, self.spelling.input]
        # `input` and not `change`, which also comes where another model brings its own settings.
        changes += [self.words.submit, self.words.blur, *(slider.input for slider in self.sliders.values())]
        gr.on(changes, self._show, inputs, outputs, **one_by_one)
        self.photo.clear(lambda: _nothing(_WAITING), None, results, api_visibility="private")
        self.kind.input(self._take_defaults, self.kind, [*settings, self.text], api_visibility="private").then(
            self._show, inputs, outputs, **one_by_one
        )

    def _take_defaults(self, kind: str) -> list[Any]:
        """Settings of another model, those hidden that it does not know, and the place of its text likewise."""
        finder = self.finders[kind]
        defaults = finder.defaults()
        sliders = [
            gr.update(value=defaults.get(name, slider.value), visible=name in defaults)
            for name, slider in self.sliders.items()
        ]
        polygon = gr.update(value=defaults.get("polygon", False), visible="polygon" in defaults)
        return [polygon, *[gr.update(visible=finder.reads)] * 2, *sliders, gr.update(visible=finder.reads)]

    def _show(
        self, source: str | None, kind: str, view: str, polygon: bool, words: str, spelling: bool, *values: float
    ) -> Iterator[list[Any]]:
        """The outputs for a photo and all settings; a message where there is something wrong with them."""
        if source is None:  # `clear` has the last word, or a photo that was refused
            yield [gr.skip()] * 6
            return
        finder = self.finders[kind]
        try:
            photo = open_photo(source)
        except ValueError as error:
            yield [*_nothing(_warn(error)), None]
            return
        settings: dict[str, Any] = {**dict(zip(self.sliders, values, strict=True)), "polygon": polygon}
        settings = {name: value for name, value in settings.items() if name in finder.defaults()}
        try:
            if finder.reads:
                settings |= {"lexicon": lexicon_of(words), "use_language_model": spelling}
            found = finder.find(photo, **settings)
            picture = draw(found, view, finder.classes)
        except (ValueError, TypeError) as error:
            yield [*_nothing(_warn(error)), gr.skip()]
            return
        stem = "photo" if source.startswith("data:") else Path(source).stem
        # Gradio copies the files before it goes on here.
        with tempfile.TemporaryDirectory() as folder:
            json_file, png_file = _write(found, picture, Path(folder), stem)
            downloads = [gr.update(value=file, interactive=True) for file in (json_file, png_file)]
            told = [told_of(found, finder.reads, finder.classes) for told_of in (summary, text_of)]
            yield [png_file, *told, *downloads, gr.skip()]


def _warn(error: Exception) -> str:
    """Say what was wrong in a box above the page; returns the message for the place of the result."""
    message = html.escape(str(error), quote=False)  # of a file's name, such as "<b>.png"
    gr.Warning(message)
    return f"⚠ {message}"


def _write(found: Found, picture: Image.Image, folder: Path, stem: str) -> tuple[str, str]:
    """Paths of the JSON file and of the picture, named as `transformers-tcm spot --draw` does."""
    json_file, png_file = folder / f"{stem}.json", folder / f"{stem}_text.png"
    json_file.write_text(as_json(stem, *found.photo.size, rounded(found.instances)), encoding="utf-8")
    picture.save(png_file, compress_level=1)  # the best compression takes seconds
    return str(json_file), str(png_file)


def _nothing(status: str) -> list[Any]:
    """Outputs without a result."""
    return [None, status, "", *[gr.update(value=None, interactive=False)] * 2]
