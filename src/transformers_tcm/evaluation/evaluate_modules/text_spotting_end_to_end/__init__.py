"""The metric `text_spotting_end_to_end` for `evaluate.load`."""

__all__: list[str] = []
