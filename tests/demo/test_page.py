"""The page without a browser, for what needs a model that is not bundled."""

from pathlib import Path

import pytest
import torch
from oriented_fakes import CONFIG
from PIL import Image

from transformers_tcm import TCMForOrientedObjectDetection, TCMImageProcessorPil
from transformers_tcm.demo.finder import Finder

gradio = pytest.importorskip("gradio", reason="of the extra demo: `make test-demo` installs it")

pytestmark = pytest.mark.slow


def test_the_tab_of_objects_shows_what_a_model_finds(tmp_path: Path) -> None:
    from transformers_tcm.demo.page import _Panel, build_page
    from transformers_tcm.demo.pictures import FOUND, SCORE_MAP

    torch.manual_seed(0)
    TCMForOrientedObjectDetection(CONFIG).save_pretrained(tmp_path / "model")
    TCMImageProcessorPil(head_type="rotated_fcos", threshold=0.0, size={"longest_edge": 128}).save_pretrained(
        tmp_path / "model"
    )
    Image.effect_noise((128, 96), 80).convert("RGB").save(tmp_path / "harbor.png")
    finder = Finder("oriented-object-detection", str(tmp_path / "model"))
    with gradio.Blocks():
        panel = _Panel({"Find objects": finder})
    shown = {name for name, slider in panel.sliders.items() if slider.visible}
    assert shown == {"threshold", "nms_threshold"}
    for view in (FOUND, SCORE_MAP):
        values = [slider.value for slider in panel.sliders.values()]
        results = panel._show(str(tmp_path / "harbor.png"), "Find objects", view, False, "", True, *values)
        picture, status, text, *downloads, _ = next(results)
        assert status.endswith("objects")
        assert "ship: " in text or "small-vehicle: " in text
        with Image.open(picture) as drawn:
            assert drawn.width == 128
        assert [Path(file["value"]).name for file in downloads] == ["harbor.json", "harbor_text.png"]
    assert isinstance(build_page({"Find objects": finder}, finder), gradio.Blocks)
