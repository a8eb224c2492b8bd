"""The metric `text_spotting_cleval` for `evaluate.load`."""

__all__: list[str] = []
