"""What the documentation site is made of besides `docs`: pages of the repository, the model zoo, the reference.

Paths are those in the repository, with slashes. Nothing here needs MkDocs or the package, see `site_hooks.py`.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["linked_files", "map_links", "model_zoo", "named_pages", "reference_pages", "site_path", "with_more_pages"]

ROOT = Path(__file__).resolve().parent.parent
SOURCES = "src/transformers_tcm/"
ZOO = "model_zoo.md"
# Parts of the package that are meant to be called: each module below that has an `__all__` gets a page.
PUBLIC = (
    "instances images lexicon reading_order geometry bezier rotated_boxes tiling icdar dota explain pipelines "
    "models/auto models/bundled models/tcm/configuration_tcm models/tcm/modeling_tcm models/tcm/modeling_tcm_spotting "
    "models/tcm/modeling_tcm_oriented models/tcm/modeling_clip_resnet models/tcm/image_processing_common_tcm "
    "models/tcm/losses_tcm models/tcm/heads models/tcm/recognition data/datasets data/known_datasets data/loaders "
    "data/exporting data/synthetic data/readers evaluation training visualization export conversion hub"
).split()
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(?=[)#])")
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def map_links(text: str, change: Callable[[str], str]) -> str:
    """The text of a page with every relative link changed, outside of code blocks; anchors stay."""
    parts = FENCE.split(text)
    parts[::2] = [LINK.sub(lambda match: change(match[1]), part) for part in parts[::2]]
    return "".join(parts)


def linked_files(text: str, page: str) -> list[str]:
    """Paths in the repository that a page there links to, in order."""
    found: list[str] = []

    def collect(target: str) -> str:
        found.append(posixpath.normpath(posixpath.join(posixpath.dirname(page), target)))
        return target

    map_links(text, collect)
    return found


def site_path(path: str) -> str:
    """Where the site has a file of the repository: `docs` is its root, sources are in the reference."""
    if path == "hub_configs":
        return ZOO
    if path.startswith(SOURCES) and path.endswith(".py"):
        module = path.removeprefix(SOURCES).removesuffix(".py").removesuffix("/__init__")
        return f"reference/{module.replace('/', '.')}.md"
    return path.removeprefix("docs/")


def with_site_links(text: str, page: str) -> str:
    """The text of a page of the repository, with its links as they have to be on the site."""
    folder = posixpath.dirname(site_path(page))

    def change(target: str) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        return posixpath.relpath(site_path(path), folder or ".")

    return map_links(text, change)


def model_zoo() -> str:
    """A page with a row for each folder of `hub_configs`, from its settings and its card."""
    rows: dict[str, list[str]] = {"Detectors": [], "Spotters": [], "Oriented objects": []}
    for folder in sorted((ROOT / "hub_configs").iterdir()):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        card = (folder / "README.md").read_text(encoding="utf-8")
        kinds = {"TCMForTextDetection": "Detectors", "TCMForTextSpotting": "Spotters"}
        kind = kinds.get(config["architectures"][0], "Oriented objects")
        reader = (config["recognizer"] or {}).get("decoder", "")
        data = re.search(r"^## Data\n\n([^:\n]+):", card, re.MULTILINE)
        bundled = (ROOT / SOURCES / "bundled" / folder.name).is_dir()
        cells = [f"[{folder.name}](hub_configs/{folder.name}/README.md)", config["prompting"], config["head_type"]]
        cells += [reader, data[1] if data else "", published_figure(card)]
        cells += ["in the package" if bundled else "settings only"]
        rows[kind].append(f"| {' | '.join(cells)} |")
    head = "| settings | prompting | head | recogniser | data | published, not reproduced here | weights |"
    tables = [f"## {kind}\n\n{head}\n|{' --- |' * 7}\n" + "\n".join(lines) for kind, lines in rows.items()]
    return "# Model zoo\n\n" + ZOO_TEXT + "\n\n" + "\n\n".join(tables) + "\n"


ZOO_TEXT = """Generated from `hub_configs`. Each card has the settings, the published recipe and the command that trains
it. Two small models come with the package; the others are settings without weights, since no full-size model has been
trained with this package yet. What they are published at, where that is known, was not reproduced here."""


def published_figure(card: str) -> str:
    """What a card says that others report, in short."""
    text = re.search(r"^Published figures; not reproduced here: (.+?) \([A-Z]\w+ et al", card, re.MULTILINE | re.DOTALL)
    if text:
        return re.sub(r"\s+", " ", text[1]).split(", ", 1)[1]
    row = re.search(r"^\| TCM, .*? \| ([\d.]+) \|", card, re.MULTILINE)
    return f"AP50 {row[1]} (TCM)" if row else ""


def modules() -> Iterator[str]:
    """Source files that get a page of the reference."""
    for name in PUBLIC:
        path = ROOT / SOURCES / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            if re.search(r"^__all__ = \[\s*\"", file.read_text(encoding="utf-8"), re.MULTILINE):
                yield file.relative_to(ROOT).as_posix()


def reference_pages(linked: Iterable[str] = ()) -> dict[str, str]:
    """Pages of the reference by their place on the site, for the public modules and those that are linked to."""
    paths = dict.fromkeys([*modules(), *(path for path in linked if path.startswith(SOURCES) and path.endswith(".py"))])
    pages, listed = {}, []
    for path in paths:
        page = site_path(path)
        name = page.removeprefix("reference/").removesuffix(".md")
        docstring = (ROOT / path).read_text(encoding="utf-8").removeprefix('"""').split("\n\n")[0].split('"""')[0]
        pages[page] = f"# {name}\n\n::: transformers_tcm.{name}\n"
        listed.append(f"| [`{name}`]({page.removeprefix('reference/')}) | {' '.join(docstring.split())} |")
    table = "\n".join(sorted(listed))
    text = "What the modules of `transformers_tcm` provide, from their docstrings."
    return {**pages, "reference/index.md": f"# Reference\n\n{text}\n\n| module | |\n| --- | --- |\n{table}\n"}


def named_pages(nav: Any) -> list[str]:
    """Pages that a navigation names, at any depth."""
    if isinstance(nav, str):
        return [nav]
    items = nav.values() if isinstance(nav, dict) else nav
    return [page for item in items for page in named_pages(item)]


def with_more_pages(nav: list[Any], pages: Iterable[str]) -> list[Any]:
    """The navigation with the pages that it does not name in a section at the end."""
    named = named_pages(nav)
    more = sorted(page for page in pages if page not in named)
    return [*nav, {"More": more}] if more else nav
