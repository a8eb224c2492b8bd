"""The benchmark of folders: both ways write the same results."""

from detection_fakes import BrightPixels, photo

from transformers_tcm import TCMImageProcessor
from transformers_tcm.cli.result_files import ResultWriter
from transformers_tcm.pipelines import TextDetectionPipeline


def test_both_ways_write_the_same_files(script, tmp_path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        photo(128, 64, (10, 10 + index, 60, 30)).save(path)
    detector = TextDetectionPipeline(model=BrightPixels(), image_processor=TCMImageProcessor(), device="cpu")
    written = []
    for run in (script.one_by_one, script.several_at_once):
        writer = ResultWriter(tmp_path / run.__name__, "json", paths)
        writer.prepare()
        run(detector, writer)
        written.append({file.name: file.read_text() for file in sorted(writer.folder.iterdir())})
    assert len(written[0]) == 3
    assert "polygon" in written[0]["2.json"]
    assert written[0] == written[1]
