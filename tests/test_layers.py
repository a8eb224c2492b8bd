"""Who may know whom: the ground floor knows nobody, models know it, and what sits on top does not know each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import transformers_tcm

PACKAGE = Path(transformers_tcm.__file__).parent
MIDDLE = {"data", "evaluation", "visualization"}
TOP = {"pipelines", "training", "conversion", "export", "hub", "serving"}
MAY_KNOW = {
    **{part: {"ground"} for part in MIDDLE},
    **{part: {"ground", "models", *MIDDLE} for part in TOP},
    # Shows what a pipeline finds.
    "demo": {"ground", "models", "visualization", "pipelines"},
    "ground": {"ground"},
    "models": {"ground"},
}
# Each on purpose: targets of a head, publishing of what a model or a training saves, problems that are drawn.
EXCEPTIONS = {
    ("data/collation.py", "models"),
    ("explain.py", "models"),
    ("hub/publishing.py", "pipelines"),
    ("models/tcm/image_processing_common_tcm.py", "hub"),
    ("models/tcm/modeling_tcm.py", "hub"),
    ("training/card.py", "hub"),
    ("training/hub.py", "hub"),
    ("visualization/findings.py", "data"),
}


def part_of(module: tuple[str, ...]) -> str:
    """The package that a module belongs to, `"ground"` for those beside the packages."""
    return module[0] if module and (PACKAGE / module[0]).is_dir() else "ground"


def known_modules(file: Path) -> Iterator[tuple[str, ...]]:
    """Modules of the package that a file imports, at its top or later."""
    here = file.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((*base, *name.split(".")) for name in names)


def test_nobody_knows_whom_it_should_not() -> None:
    found = set()
    for file in PACKAGE.rglob("*.py"):
        place = file.relative_to(PACKAGE)
        part = part_of(place.parts)
        if part == "cli" or (place.name in ("__init__.py", "__main__.py") and len(place.parts) == 1):
            continue  # both know everybody
        for module in known_modules(file):
            known = part_of(module)
            if known not in MAY_KNOW[part] | {part}:
                found.add((place.as_posix(), known))
    assert found == EXCEPTIONS
