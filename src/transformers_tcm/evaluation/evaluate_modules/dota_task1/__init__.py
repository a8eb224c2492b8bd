"""The metric `dota_task1` for `evaluate.load`."""

__all__: list[str] = []
