"""Metrics as `evaluate.load` takes them, a folder each."""

__all__: list[str] = []
