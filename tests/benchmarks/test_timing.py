"""Timing in turns: a round before that does not count, and ratios of the same round."""


def test_runs_take_turns_and_the_first_round_does_not_count(script) -> None:
    turns: list[str] = []
    seconds = script.in_turn({name: lambda name=name: turns.append(name) for name in "ab"}, rounds=2)
    assert turns == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}
    assert min(min(times) for times in seconds.values()) >= 0


def test_ratios_are_of_the_same_round(script) -> None:
    assert script.median_ratio([2, 30, 9], [1, 10, 3]) == 3
    assert script.peak_megabytes() > 10
