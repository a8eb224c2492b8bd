"""The metric `text_spotting_word_spotting` for `evaluate.load`."""

__all__: list[str] = []
