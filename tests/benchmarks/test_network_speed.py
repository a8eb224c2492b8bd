"""The benchmark of networks: the bundled one and those that transformers builds take turns."""

import sys

import torch


def test_each_network_is_timed_on_the_same_input(script, monkeypatch, capsys) -> None:
    options = ("--edges", "64", "96", "--rounds", "1", "--threads", "1")
    monkeypatch.setattr(sys, "argv", ["network_speed.py", *options])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    script.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [
        [edge, name] for edge in ("64", "96") for name in (script.BUNDLED, *script.PEERS)
    ]
    assert lines[0][-2:] == lines[2][-2:] == ["1.00", "x"]
