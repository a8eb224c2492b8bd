"""The trained models that are installed along with the package."""

from pathlib import Path

__all__ = ["BUNDLED_MODELS", "DEFAULT_MODEL", "DEFAULT_SPOTTER", "bundled_model_path"]

BUNDLED_MODELS = Path(__file__).parents[1] / "bundled"
DEFAULT_MODEL = "fasttcm-dbnet-tiny"
DEFAULT_SPOTTER = "fasttcm-spotter-tiny"


def bundled_model_path(name: str = DEFAULT_MODEL) -> Path:
    """Folder of a bundled model, for `from_pretrained` and `pipeline(…, model=…)`.

    Raises:
        ValueError: naming the bundled models, if `name` is none of them.
    """
    names = sorted(config.parent.name for config in BUNDLED_MODELS.glob("*/config.json"))
    if name not in names:
        raise ValueError(f"no bundled model is called {name!r}; there are: {', '.join(names) or 'none'}")
    return BUNDLED_MODELS / name
