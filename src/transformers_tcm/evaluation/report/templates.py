"""The templates of the report, in this folder: everything that is filled in is escaped."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..failures import Outcome

__all__ = ["render"]


def render(template: str, **values: Any) -> Markup:
    """A filled-in template; `Markup` among the values is taken as it is.

    Args:
        template: name of the file.
        **values: what its fields stand for.
    """
    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["slug"] = _slug
    return environment


def _slug(kind: Outcome) -> str:
    """The name of a kind as a class of the style sheet."""
    return kind.value.replace(" ", "-")
