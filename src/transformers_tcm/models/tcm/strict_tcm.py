"""Settings that cannot change, and are checked when they are made."""

from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassFieldValidationError

__all__ = ["strict_frozen"]

Settings = TypeVar("Settings", bound=type)


def strict_frozen(cls: Settings) -> Settings:
    """Check the types of the fields of a frozen dataclass, before its `__post_init__`.

    `strict` alone checks what is assigned to fields, and nothing is assigned to those of a frozen one.

    Raises:
        StrictDataclassFieldValidationError: by the class, for a value of another type; it names field and type.
    """
    strict(cls)
    name = "__post_init__" if hasattr(cls, "__post_init__") else "__init__"
    original = getattr(cls, name)

    @wraps(original)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        if name == "__init__":
            original(self, *args, **kwargs)
        for field in fields(self):
            for validator in type(self).__validators__[field.name]:
                try:
                    validator(getattr(self, field.name))
                except (TypeError, ValueError) as error:
                    raise StrictDataclassFieldValidationError(field=field.name, cause=error) from error
        if name == "__post_init__":
            original(self)

    setattr(cls, name, checked)
    return cls
