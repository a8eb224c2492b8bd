"""The metric `word_recognition` for `evaluate.load`."""

__all__: list[str] = []
