"""Hooks of MkDocs, named in `mkdocs.yml`: pages from outside of `docs`, generated pages, links, equations.

A page may link to any file of the repository. What is linked to becomes a part of the site: Markdown a page, a module
of the package a page of the reference, anything else a file to download.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

sys.path.insert(0, str(Path(__file__).parent))  # hooks are loaded by path
import site_pages
from site_pages import ROOT

FIRST = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
EQUATION = re.compile(r"^```math\n(.*?)^```", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    # Anchors as GitHub makes them.
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    config.nav = site_pages.with_more_pages(config.nav, (path.name for path in (ROOT / "docs").glob("*.md")))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    linked = list(_linked())
    for path in linked:
        if path.endswith(".md") and (ROOT / path).is_file():
            files.append(File.generated(config, path, content=(ROOT / path).read_text(encoding="utf-8")))
        elif site_pages.site_path(path) == path:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for path, text in site_pages.reference_pages(linked).items():
        files.append(File.generated(config, path, content=text))
    files.append(File.generated(config, site_pages.ZOO, content=site_pages.model_zoo()))
    return files


def _linked() -> Iterator[str]:
    """Files outside of `docs` that are reached by links from its pages, each once."""
    seen: set[str] = set()
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("hub_configs/*/*.md")]
    todo = [*FIRST, *(path.relative_to(ROOT).as_posix() for path in pages)]
    while todo:
        path = todo.pop()
        if path in seen or not (ROOT / path).exists():  # MkDocs warns of links that lead nowhere
            continue
        seen.add(path)
        if path.endswith(".md"):
            todo += site_pages.linked_files((ROOT / path).read_text(encoding="utf-8"), path)
        if not path.startswith("docs/"):
            yield path


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    source = page.file.src_uri
    if source == site_pages.ZOO or source.startswith("reference/"):
        return markdown
    inside = (ROOT / "docs" / source).is_file()
    markdown = site_pages.with_site_links(markdown, f"docs/{source}" if inside else source)
    return EQUATION.sub(lambda match: f"<div>{convert(match[1], display='block')}</div>", markdown)
