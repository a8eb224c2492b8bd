"""The TCM model family."""

__all__: list[str] = []
