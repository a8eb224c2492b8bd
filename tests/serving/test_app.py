"""The application with a toy in place of a pipeline: what it answers, refuses and counts."""

import asyncio
import io
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient
from PIL import Image

from transformers_tcm.images import ReducedImage, load_image
from transformers_tcm.serving.app import create_app
from transformers_tcm.serving.limits import ServiceLimits
from transformers_tcm.serving.uploads import read_upload

SECONDS = 20
POISON = (13, 13)


def word(image: Image.Image) -> dict[str, Any]:
    """One word as large as the image."""
    width, height = image.size
    box = {"xmin": 0.0, "ymin": 0.0, "xmax": float(width), "ymax": float(height)}
    polygon = [[0.0, 0.0], [float(width), 0.0], [float(width), float(height)], [0.0, float(height)]]
    return {
        "score": 0.98765,
        "label": "text",
        "box": box,
        "polygon": polygon,
        "text": "TOY",
        "text_score": 0.5,
        "line": 0,
    }


class Toy:
    """A pipeline that finds one word in every image, chokes on those of one size, and may be stopped at a gate."""

    def __init__(self) -> None:
        self.gate, self.entered = Event(), Event()
        self.gate.set()
        self.batches: list[int] = []

    def __call__(self, images: list[Image.Image], batch_size: int) -> list[list[dict[str, Any]]]:
        assert len(images) == batch_size
        self.entered.set()
        assert self.gate.wait(SECONDS)
        self.batches.append(len(images))
        if any(image.size == POISON for image in images):
            raise RuntimeError("secret details")
        return [[word(image)] for image in images]


@contextmanager
def served(toy: Toy, batch_size: int = 4, **limits: Any) -> Iterator[TestClient]:
    app = create_app(toy, "text-spotting", "toy", ServiceLimits(**limits), batch_size)
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with served(Toy(), max_bytes=20_000, max_pixels=10_000) as client:
        yield client


def png(width: int = 40, height: int = 20) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(file, "PNG")
    return file.getvalue()


def count(client: TestClient, name: str) -> float:
    """A sample of `/metrics`."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_the_body_is_an_image(client: TestClient, kind: str) -> None:
    answer = client.post("/spot", content=png(), headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == 200, answer.text
    expected = {**word(Image.new("L", (40, 20))), "score": 0.988}
    assert answer.json() == {"image": None, "width": 40, "height": 20, "instances": [expected]}


def test_a_pipeline_loads_the_images_itself() -> None:
    class Loading(Toy):
        def load_photo(self, content: bytes, pixel_limit: int) -> ReducedImage:
            return ReducedImage(load_image(content, pixel_limit=pixel_limit).reduce(2), 40, 20)

        def __call__(self, images: list[ReducedImage], batch_size: int) -> list[list[dict[str, Any]]]:
            return super().__call__([one.image for one in images], batch_size)

    with served(Loading(), max_pixels=10_000) as client:
        answer = client.post("/spot", content=png()).json()
        assert (answer["width"], answer["height"]) == (40, 20)
        assert answer["instances"][0]["box"]["xmax"] == 20
        assert client.post("/spot", content=png(101, 100)).status_code == 413


def test_the_file_of_a_form_is_an_image_with_a_name(client: TestClient) -> None:
    answer = client.post("/spot", files={"image": ("straße.png", png(), "image/png")}, data={"more": "text"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"] == "straße.png"


@pytest.mark.parametrize(
    ("status", "request_", "said"),
    [
        (415, {"json": {"url": "http://example.org/a.jpg"}}, "the body is application/json"),
        (422, {"content": b""}, "no image in the request"),
        (422, {"content": b"http://example.org/photo.jpg"}, "not an image"),
        (422, {"content": png(90, 90)[:60]}, "cannot read this image"),
        (422, {"files": {"image": ("a.png", b"", "image/png")}}, "no image in the request"),
        (422, {"data": {"image": "photo.jpg"}, "files": {}}, "not an image"),
        (422, {"content": b"--b--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, "no file"),
        (400, {"content": b"oops", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, "multipart"),
        (400, {"files": [("image", png()), ("image", png())]}, "Too many files"),
        (413, {"content": png(101, 100)}, "101 x 100 pixels; no more than 10,000 pixels are allowed"),
        (413, {"content": bytes(20_001)}, "more than 20,000 bytes"),
        (413, {"content": (bytes(5_000) for _ in range(5))}, "more than 20,000 bytes"),
        (413, {"files": {"image": ("a.png", bytes(20_001), "image/png")}}, "more than 20,000 bytes"),
    ],
)
def test_what_is_refused_says_why(client: TestClient, status: int, request_: dict[str, Any], said: str) -> None:
    name = f'transformers_tcm_requests_total{{status="{status}"}}'
    before = count(client, name)
    answer = client.post("/spot", **request_)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert count(client, name) == before + 1
    assert count(client, "transformers_tcm_requests_accepted") == 0


def test_other_routes(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "task": "text-spotting", "model": "toy", "accepted": 0}
    assert client.get("/spot").status_code == 405
    assert client.post("/detect", content=png()).status_code == 404
    assert "multipart/form-data" in str(client.get("/openapi.json").json()["paths"]["/spot"]["post"]["requestBody"])
    assert count(client, "process_resident_memory_bytes") > 1e6


def test_an_image_that_breaks_the_pipeline_costs_the_others_nothing() -> None:
    toy = Toy()
    with served(toy) as client, ThreadPoolExecutor(4) as pool:
        first = stopped(toy, client, pool)
        sizes = [(30, 20), POISON, (30, 20)]
        answers = [pool.submit(client.post, "/spot", content=png(*size)) for size in sizes]
        wait_for(client, accepted=4)
        toy.gate.set()
        assert first.result(SECONDS).status_code == 200
        assert [answer.result(SECONDS).status_code for answer in answers] == [200, 500, 200]
        assert "secret" not in answers[1].result().text
    assert toy.batches == [1, 3, 1, 1, 1]


def test_requests_beyond_the_queue_are_refused_and_the_others_computed_together() -> None:
    toy = Toy()
    with served(toy, queue=5) as client, ThreadPoolExecutor(8) as pool:
        first = stopped(toy, client, pool)
        answers = [pool.submit(client.post, "/spot", content=png()) for _ in range(4)]
        wait_for(client, accepted=5)
        refused = client.post("/spot", content=png())
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert client.get("/healthz").status_code == 200
        toy.gate.set()
        assert {answer.result(SECONDS).status_code for answer in (first, *answers)} == {200}
        assert client.post("/spot", content=png()).status_code == 200
        assert count(client, "transformers_tcm_batch_images_sum") == 6
    assert toy.batches == [1, 4, 1]


def stopped(toy: Toy, client: TestClient, pool: ThreadPoolExecutor) -> Any:
    """A request at which the toy stands still."""
    toy.gate.clear()
    toy.entered.clear()
    answer = pool.submit(client.post, "/spot", content=png())
    assert toy.entered.wait(SECONDS)
    return answer


def wait_for(client: TestClient, accepted: int) -> None:
    while client.get("/healthz").json()["accepted"] < accepted:
        time.sleep(0.01)


def test_a_service_that_has_stopped_is_not_healthy() -> None:
    with served(Toy()) as client:
        pass
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "stopped"


@pytest.mark.parametrize(("message", "status"), [(None, 408), ({"type": "http.disconnect"}, 400)])
def test_slow_clients_and_those_that_leave(message: dict[str, Any] | None, status: int) -> None:
    async def receive() -> dict[str, Any]:
        return message or await asyncio.Future()

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(HTTPException) as raised:
        asyncio.run(read_upload(request, ServiceLimits(upload_seconds=0.01)))
    assert raised.value.status_code == status


def test_what_cannot_be_served() -> None:
    with pytest.raises(ValueError, match="no service for the task 'object-detection'"):
        create_app(Toy(), "object-detection", "toy")
    with pytest.raises(ValueError, match="batch_size is 0"):
        create_app(Toy(), "text-detection", "toy", batch_size=0)
    with pytest.raises(ValueError, match="queue is 0; expected a positive number"):
        ServiceLimits(queue=0)
