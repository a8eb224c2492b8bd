"""The benchmark of prompting: four networks in torch, of which two compute their text each time."""

import sys

import pytest
import torch


def test_all_variants_run_and_the_text_is_computed_each_time(script, monkeypatch) -> None:
    runs = script.in_torch("tiny", "float32")
    assert list(runs) == ["plain", "FastTCM", "FastTCM, not fused", "TCM"]
    model = runs["FastTCM, not fused"].__defaults__[0]
    texts: list[torch.Tensor] = []
    model.model.text_encoder.register_forward_hook(lambda module, inputs, output: texts.append(output))
    with torch.inference_mode():
        for run in 2 * list(runs.values()):
            run(torch.randn(1, 3, 64, 64))
    assert len(texts) == 2


@pytest.mark.slow  # two exports
def test_an_engine_has_the_plain_network_and_fasttcm(script, monkeypatch, capsys) -> None:
    options = ("--preset", "tiny", "--size", "64", "96", "--engines", "onnxruntime", "--rounds", "1", "--threads", "1")
    monkeypatch.setattr(sys, "argv", ["prompting_speed.py", *options])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    script.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if " x" in line] == [
        ["onnxruntime", "plain"],
        ["onnxruntime", "FastTCM"],
    ]
