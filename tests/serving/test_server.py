"""`transformers-tcm serve` as a process of its own on loopback: load, overload and the end.

`TRANSFORMERS_TCM_LOAD_SECONDS` is how long the load lasts, 60 seconds unless set.
"""

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from spotting_fakes import save_wordy_spotter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]
CLIENTS = 16
LOAD_SECONDS = float(os.environ.get("TRANSFORMERS_TCM_LOAD_SECONDS", "60"))
# That nothing here takes, however busy the machine.
PATIENCE = 120
# The console script, whichever environment has it.
SCRIPT = "import sys; sys.argv[0] = 'transformers-tcm'; from transformers_tcm.cli import main; main()"


class Served(NamedTuple):
    """A service in a process."""

    process: subprocess.Popen[str]
    port: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path: str) -> str:
        with closing(self.connect()) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def accepted(self) -> int:
        return int(json.loads(self.get("/healthz"))["accepted"])

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_wordy_spotter(folder, most=3)
    return folder


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """Noise of three sizes: a processor keeps kernels for every size it has seen."""
    rng = np.random.default_rng(0)
    photos = []
    for index in range(12):
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (64, (32, 64, 96)[index % 3], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        photos.append(file.getvalue())
    return photos


@pytest.fixture
def serve(model: Path, tmp_path: Path) -> Iterator[Serve]:
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> Served:
        command = [sys.executable, "-c", SCRIPT, "serve", "--model", str(model), "--port", "0", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (tmp_path / "log.txt").open("w") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        processes.append(process)
        announcement = process.stdout.readline()
        address = re.search(r" at http://127\.0\.0\.1:(\d+)/spot;", announcement)
        assert address, announcement + (tmp_path / "log.txt").read_text()
        served = Served(process, int(address[1]))
        assert json.loads(served.get("/healthz"))["status"] == "ok"
        return served

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def post(connection: http.client.HTTPConnection, photo: bytes) -> tuple[int, Any]:
    connection.request("POST", "/spot", photo, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def stop(served: Served) -> int:
    served.process.send_signal(signal.SIGTERM)
    return served.process.wait(PATIENCE)


def test_sixteen_clients_lose_no_request_and_memory_stays(serve: Serve, photos: list[bytes]) -> None:
    served = serve("--queue", str(CLIENTS))
    with closing(served.connect()) as connection:
        expected = [post(connection, photo) for photo in photos]
    assert {status for status, _ in expected} == {200}
    assert any(result["instances"] for _, result in expected)

    def work(client: int, seconds: float) -> int:
        """Photo after photo on one connection; returns how many."""
        end, done = time.monotonic() + seconds, 0
        with closing(served.connect()) as connection:
            while time.monotonic() < end:
                index = (client + done) % len(photos)
                assert post(connection, photos[index]) == expected[index]
                done += 1
        return done

    def load(seconds: float) -> int:
        with ThreadPoolExecutor(CLIENTS) as pool:
            return sum(pool.map(work, range(CLIENTS), [seconds] * CLIENTS))

    warm = load(LOAD_SECONDS / 4)
    before = served.megabytes()
    done = load(LOAD_SECONDS * 3 / 4)
    assert served.megabytes() - before < 30
    assert served.metric('transformers_tcm_requests_total{status="200"}') == len(photos) + warm + done
    assert served.metric("transformers_tcm_batch_images_sum") == len(photos) + warm + done
    # They were computed together.
    assert served.metric("transformers_tcm_batch_images_count") < (len(photos) + warm + done) / 2
    assert served.accepted() == 0
    assert stop(served) == 0


def test_overload_is_refused_and_over_afterwards(serve: Serve, photos: list[bytes]) -> None:
    served = serve("--queue", "2")
    together = Barrier(CLIENTS)

    def work(client: int) -> list[int]:
        statuses = []
        with closing(served.connect()) as connection:
            for photo in photos:
                together.wait(PATIENCE)
                statuses.append(post(connection, photo)[0])
        return statuses

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = Counter(status for statuses in pool.map(work, range(CLIENTS)) for status in statuses)
    assert answers.keys() == {200, 429}
    assert answers.total() == CLIENTS * len(photos)
    assert answers[200] >= len(photos)
    assert served.metric('transformers_tcm_requests_total{status="429"}') == answers[429]
    with closing(served.connect()) as connection:
        assert post(connection, photos[0])[0] == 200
    assert stop(served) == 0


def test_a_signal_to_stop_lets_accepted_requests_end(serve: Serve, photos: list[bytes]) -> None:
    """Eight clients have sent half of their photo when the signal comes, and send the rest after it."""
    served = serve()
    connections = [served.connect() for _ in range(8)]
    for connection, photo in zip(connections, photos, strict=False):
        connection.putrequest("POST", "/spot")
        connection.putheader("Content-Length", str(len(photo)))
        connection.endheaders(photo[: len(photo) // 2])
    wait_until(lambda: served.accepted() == len(connections))
    served.process.send_signal(signal.SIGTERM)
    wait_until(lambda: refuses(served))
    assert served.process.poll() is None
    for connection, photo in zip(connections, photos, strict=False):
        connection.send(photo[len(photo) // 2 :])
    for connection in connections:
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["height"]) == (200, 64)
        connection.close()
    assert served.process.wait(PATIENCE) == 0


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def refuses(served: Served) -> bool:
    """Whether nobody listens any more."""
    with closing(served.connect()) as connection:
        try:
            connection.connect()
        except ConnectionRefusedError:
            return True
    return False
