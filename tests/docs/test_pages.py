"""Every link of the documentation leads somewhere, every page is in the navigation and in the README's table, and the
tables of settings have the settings there are."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from docs_pages import PAGES, ROOT

from transformers_tcm.models.tcm.heads import head_class
from transformers_tcm.models.tcm.recognition import recognizer_class

LINKING = [*PAGES, "SECURITY.md", "CHANGELOG.md"]
LINKING += [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "examples").glob("*/README.md"))]


class ConfigLoader(yaml.SafeLoader):
    """mkdocs.yml has tags for values from the environment."""


ConfigLoader.add_constructor("!ENV", lambda loader, node: "")


@pytest.fixture(scope="module")
def navigation() -> list[object]:
    return yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), ConfigLoader)["nav"]


@pytest.fixture
def site_pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`scripts/site_pages.py` as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("site_pages")


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            linked = (ROOT / page).parent / file if file else ROOT / page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def test_every_page_is_linked_from_the_readme() -> None:
    links = set(re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {page for page in PAGES if page.startswith("docs/")} <= links


def test_every_page_is_in_the_navigation(site_pages: ModuleType, navigation: list[object]) -> None:
    named = site_pages.named_pages(navigation)
    assert len(named) == len(set(named))
    generated = {"model_zoo.md", "reference/index.md"}
    assert {site_pages.site_path(page) for page in [*PAGES, "CHANGELOG.md"]} | generated == set(named)


def test_a_page_that_the_navigation_does_not_name_goes_under_more(site_pages: ModuleType) -> None:
    navigation = ["a.md", {"Part": [{"B": "b.md"}]}]
    assert site_pages.with_more_pages(navigation, ["b.md", "d.md", "c.md"]) == [*navigation, {"More": ["c.md", "d.md"]}]
    assert site_pages.with_more_pages(navigation, ["a.md", "b.md"]) == navigation


def test_links_out_of_docs_stay_within_the_site(site_pages: ModuleType) -> None:
    text = "[a](../README.md#use) [b](using.md) [c](../src/transformers_tcm/tiling.py) [d](../hub_configs)\n"
    text += "![e](images/road.svg) [f](https://example.org/x.md) [g](#here)\n```\n[h](../README.md)\n```\n"
    expected = "[a](README.md#use) [b](using.md) [c](reference/tiling.md) [d](model_zoo.md)\n"
    expected += "![e](images/road.svg) [f](https://example.org/x.md) [g](#here)\n```\n[h](../README.md)\n```\n"
    assert site_pages.with_site_links(text, "docs/page.md") == expected
    nested = site_pages.with_site_links("[a](../../docs/using.md)", "hub_configs/x/README.md")
    assert nested == "[a](../../using.md)"


def test_the_model_zoo_has_a_row_for_every_folder(site_pages: ModuleType) -> None:
    zoo = site_pages.model_zoo()
    assert set(re.findall(r"^\| \[([\w-]+)\]", zoo, re.MULTILINE)) == {
        path.name for path in (ROOT / "hub_configs").iterdir()
    }
    row = next(line for line in zoo.splitlines() if "[fasttcm-testr-totaltext]" in line)
    assert (
        "| testr |  | Total-Text | detection 86.94; end to end 73.25 without and 83.88 with the full lexicon |" in row
    )
    assert "| AP50 75.1 (TCM) | settings only |" in zoo
    assert zoo.count("| in the package |") == 2


def test_the_reference_has_what_is_imported_from_the_package(site_pages: ModuleType) -> None:
    package = importlib.import_module("transformers_tcm")
    pages = site_pages.reference_pages()
    modules = {getattr(package, name).__module__ for name in package.__all__ if name not in ("__version__", "register")}
    modules = {module.removeprefix("transformers_tcm.") for module in modules}
    documented = {page.removeprefix("reference/").removesuffix(".md") for page in pages}
    # The two image processors share what they document.
    backends = {"models.tcm.image_processing_tcm", "models.tcm.image_processing_pil_tcm"}
    assert modules - backends <= documented
    assert "models.tcm.image_processing_common_tcm" in documented


def settings_of(*classes: type) -> Mapping[str, object]:
    """Fields of dataclasses with their defaults."""
    return {field.name: getattr(kind(), field.name) for kind in classes for field in fields(kind)}


# The classes whose settings a page has tables of, and names that stand in another table or have no short default.
HEAD_PAGES = {"dbnet": "dbnet", "pan": "pan", "fcenet": "fcenet", "abcnet": "abcnet", "testr": "testr"}
HEAD_PAGES |= {name: name for name in ("deepsolo", "rotated_fcos", "rotated_atss", "rotated_retinanet")}
SEQUENCE = recognizer_class("ctc").config_class


def classes_of_head(name: str) -> tuple[type, type]:
    return head_class(name).config_class, head_class(name).decoding_class


@pytest.mark.parametrize(
    ("page", "classes", "elsewhere"),
    [
        *((page, classes_of_head(head), {"charset"}) for page, head in HEAD_PAGES.items()),
        ("ctc", (SEQUENCE,), {"charset"}),
        ("abinet", (recognizer_class("abinet").config_class,), set(settings_of(SEQUENCE))),
        (
            "mask_textspotter",
            (*classes_of_head("spn"), recognizer_class("masked").config_class),
            set(settings_of(SEQUENCE)),
        ),
    ],
)
def test_tables_have_the_settings_and_their_defaults(page: str, classes: tuple[type, ...], elsewhere: set[str]) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    expected = {name: default for name, default in settings_of(*classes).items() if name not in elsewhere}
    rows = [row for row in re.findall(r"^\| `(\w+)` \| `(.+?)` \|", text, re.MULTILINE) if row[0] not in elsewhere]
    assert {name for name, _ in rows} == set(expected)
    for setting, default in rows:
        assert yaml.safe_load(default.replace("(", "[").replace(")", "]")) == yaml.safe_load(
            str(expected[setting]).replace("(", "[").replace(")", "]")
        ), setting


@pytest.mark.parametrize("page", [*HEAD_PAGES, "ctc", "attention", "abinet", "mask_textspotter"])
def test_pages_of_heads_and_recognisers_have_a_picture_settings_and_figures(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert re.search(r"!\[.+\]\(images/heads/\w+\.(png|jpg|svg)\)", text)
    assert "## Settings" in text
    assert "ublished" in text
    assert "not reproduced here" in text or "no trained model" in text.lower()


def test_the_site_is_built_in_ci_and_published_by_the_same_target() -> None:
    assert "make docs" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "docs.yml").read_text(encoding="utf-8"))
    assert any(step.get("run", "").startswith("make docs") for step in workflow["jobs"]["build"]["steps"])
    assert workflow["jobs"]["publish"]["needs"] == "build"
