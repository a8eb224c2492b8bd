"""The demo in a browser: headless Chromium uploads photos to a server on this machine."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs_pages import ROOT
from PIL import Image

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
MISSING = [name for name in ("gradio", "selenium") if importlib.util.find_spec(name) is None]
PHOTO = ROOT / "examples" / "images" / "street.jpg"
PATIENCE = 240  # seconds; machines that test are often busy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs Chromium and its chromedriver"),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: `make test-demo` installs them"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a running demo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Gradio gives up where its own page does not come within three seconds, as on a busy machine.
    command = "import gradio.networking; gradio.networking.url_ok = lambda url: True\n"
    command += "from transformers_tcm.cli import main; main()"
    arguments = ["demo", "--size", "640", "--port", str(port), "--device", "cpu"]
    folder = tmp_path_factory.mktemp("server")
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "uploads"), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", command, *arguments], stdout=log, stderr=log, cwd=folder, env=environment
        )
        try:
            wait(lambda: server.poll() is not None or answers(f"http://127.0.0.1:{port}"))
            assert server.poll() is None, (folder / "log.txt").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10) as response:
            return response.status == 200
    except OSError:
        return False


def wait(condition: Callable[[], Any]) -> Any:
    """What the condition gives once it is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError("waited in vain")


class Page:
    """The demo in a browser of its own."""

    def __init__(self, address: str, downloads: Path, phone: bool = False, camera: Path | None = None):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1000"):
            options.add_argument(argument)
        if camera is not None:
            for argument in ("use-fake-ui", "use-fake-device"):
                options.add_argument(f"--{argument}-for-media-stream")
            options.add_argument(f"--use-file-for-fake-video-capture={camera}")
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        if phone:
            metrics = {"width": 390, "height": 844, "pixelRatio": 2, "mobile": True, "touch": True}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        self.downloads = downloads
        self.browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.browser.set_page_load_timeout(PATIENCE)
        self.browser.get(address)
        wait(lambda: self.all(".tcm-photo input[type=file]"))

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return wait(lambda: self.all(selector))[0]

    def upload(self, path: Path) -> None:
        self.one(".tcm-photo input[type=file]").send_keys(str(path))

    def press(self, label: str) -> None:
        # Tabs are there twice, once for measuring their width.
        wait(lambda: [one for one in self.all("button") if one.is_displayed() and label in one.text])[0].click()

    def tab_to(self, selector: str) -> None:
        """Press the tab key until that has the focus."""
        from selenium.webdriver import ActionChains, Keys

        for _ in range(60):
            ActionChains(self.browser).send_keys(Keys.TAB).perform()
            focused = self.browser.switch_to.active_element
            if any(focused == one for one in self.all(selector)):
                # Whoever uses the keyboard has to see where they are.
                assert self.browser.execute_script("return arguments[0].matches(':focus-visible')", focused)
                return
        raise AssertionError(f"the tab key does not reach {selector}")

    def type(self, *keys: str) -> None:
        """Press keys, whatever has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def choose(self, name: str) -> None:
        self.one(f"input[type=radio][value='{name}']").click()

    @property
    def status(self) -> str:
        return self.one(".tcm-result .prose").text

    @property
    def text(self) -> str:
        return self.one(".tcm-result textarea").get_property("value")

    @property
    def words(self) -> set[str]:
        return set(self.text.upper().split())

    @property
    def picture(self) -> str:
        return next((image.get_attribute("src") for image in self.all(".tcm-picture img")), "")

    def slider(self, label: str) -> Any:
        return self.one(f"input[type=range][aria-label*='{label}']")

    def downloaded(self, name: str) -> Path:
        return wait(lambda: next(self.downloads.glob(name), None))


@pytest.fixture(scope="module")
def page(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """At the width of a desktop."""
    page = Page(address, tmp_path_factory.mktemp("downloads"))
    yield page
    page.browser.quit()


@pytest.fixture
def result(page: Page) -> Page:
    """With the words of the photo."""
    page.browser.refresh()
    page.upload(PHOTO)
    wait(lambda: {"SCHOOL", "PUPPY"} <= page.words)
    return page


def test_a_photo_is_read_and_its_results_are_downloaded(result: Page) -> None:
    assert result.status.endswith("words")
    result.press("Download JSON")
    found = json.loads(result.downloaded("*.json").read_text(encoding="utf-8"))
    assert (found["width"], found["height"]) == (1280, 853)
    assert "SCHOOL" in {word["text"] for word in found["instances"]}
    result.press("Download PNG")
    with Image.open(result.downloaded("*.png")) as drawn, Image.open(PHOTO) as photo:
        difference = np.abs(np.asarray(drawn.convert("RGB"), int) - np.asarray(photo.convert("RGB"), int))
        assert drawn.width == photo.width
        assert (difference.max(axis=2) > 60).mean() > 0.005  # outlines and words


def test_the_keyboard_moves_a_threshold_and_the_words_follow(result: Page) -> None:
    from selenium.webdriver import Keys

    before = result.words
    slider = result.slider("Reading score")
    slider.send_keys(*[Keys.ARROW_RIGHT] * 7)
    fewer = wait(lambda: result.words if result.words < before else None)
    assert "SCHOOL" in fewer
    result.slider("Reading score").send_keys(Keys.END)
    wait(lambda: result.status == "no words")
    assert result.text == ""
    result.slider("Reading score").send_keys(Keys.HOME)
    wait(lambda: result.words >= before)


def test_everything_from_the_example_to_the_download_is_done_with_the_keyboard(page: Page) -> None:
    from selenium.webdriver import Keys

    page.browser.refresh()
    page.tab_to(".tcm-photo .gallery-item")
    page.type(Keys.ENTER)
    before = wait(lambda: page.words if {"SCHOOL", "PUPPY"} <= page.words else None)
    page.tab_to("input[type=range][aria-label*='Reading score']")
    page.type(*[Keys.ARROW_RIGHT] * 7)
    wait(lambda: page.words < before)
    page.tab_to("input[type=radio][value='Score map']")
    drawn = page.picture
    page.type(Keys.SPACE)
    wait(lambda: page.picture not in (drawn, ""))
    already = set(page.downloads.glob("*.json"))
    page.tab_to(".tcm-result button.md")
    page.type(Keys.ENTER)
    wait(lambda: set(page.downloads.glob("*.json")) - already)


def test_a_lexicon_leaves_its_words(result: Page) -> None:
    from selenium.webdriver import Keys

    result.one(".tcm-settings textarea, .tcm-settings input[type=text]").send_keys("puppy, school", Keys.ENTER)
    wait(lambda: result.words == {"PUPPY", "SCHOOL"})
    assert "puppy" in result.text.split()


def test_maps_are_laid_over_the_photo(result: Page) -> None:
    pictures = [result.picture]
    for name in ("Score map", "Probability map"):
        result.choose(name)
        pictures.append(wait(lambda: result.picture if result.picture not in (*pictures, "") else None))
    assert len(set(pictures)) == 3


def test_another_model_brings_its_own_settings(result: Page) -> None:
    result.choose("Only find words")
    wait(lambda: result.status.endswith("regions"))
    assert not any(area.is_displayed() for area in result.all(".tcm-result textarea"))
    assert not any(slider.is_displayed() for slider in result.all("input[aria-label*='Reading score']"))


def test_what_is_no_photo_gives_a_message(page: Page, tmp_path: Path) -> None:
    page.browser.refresh()
    (tmp_path / "notes.png").write_text("not a picture")
    page.upload(tmp_path / "notes.png")
    wait(lambda: "notes.png: not an image" in page.status)
    assert page.picture == ""
    (tmp_path / "notes.txt").write_text("not a picture")
    page.upload(tmp_path / "notes.txt")
    wait(lambda: "Only image/* allowed" in page.one("body").text)


def test_photos_that_are_too_large_give_a_message(page: Page, tmp_path: Path) -> None:
    page.browser.refresh()
    Image.new("1", (10000, 7000)).save(tmp_path / "wide.png")
    page.upload(tmp_path / "wide.png")
    wait(lambda: "10000 x 7000 pixels, which is too large" in page.status)
    (tmp_path / "heavy.png").write_bytes(bytes(31 * 2**20))
    page.upload(tmp_path / "heavy.png")
    wait(lambda: "exceed the maximum allowed size" in page.one("body").text)


def test_the_second_tab_says_that_it_needs_a_model(page: Page) -> None:
    page.browser.refresh()
    page.one("button[role=tab]")
    page.press("Oriented objects")
    wait(lambda: "No model for oriented objects is bundled" in page.one("body").text)
    assert "--objects-model" in page.one("body").text


def test_the_camera_takes_a_photo_that_can_be_read(address: str, tmp_path: Path) -> None:
    with Image.open(PHOTO) as photo:
        write_video(photo.resize((1280, 852)), tmp_path / "scene.y4m")
    page = Page(address, tmp_path, camera=tmp_path / "scene.y4m")
    try:
        page.one("button[aria-label='Capture from camera']").click()
        page.one(".tcm-photo [title='grant webcam access'] button").click()
        wait(lambda: page.browser.execute_script("return document.querySelector('.tcm-photo video')?.videoWidth"))
        wait(lambda: page.all(".tcm-photo [title='capture photo']"))[0].click()
        wait(lambda: {"SCHOOL", "PUPPY"} <= page.words)  # not mirrored
    finally:
        page.browser.quit()


def write_video(picture: Image.Image, path: Path) -> None:
    """What a camera sees that looks at a picture: two frames as YUV4MPEG2, with even sides."""
    planes = [np.asarray(plane) for plane in picture.convert("YCbCr").split()]
    frame = planes[0].tobytes() + b"".join(plane[::2, ::2].tobytes() for plane in planes[1:])
    header = f"YUV4MPEG2 W{picture.width} H{picture.height} F10:1 Ip A1:1 C420jpeg\n".encode()
    path.write_bytes(header + 2 * (b"FRAME\n" + frame))


def test_a_phone_shows_the_result_below_the_photo_without_scrolling_sideways(address: str, tmp_path: Path) -> None:
    page = Page(address, tmp_path, phone=True)
    try:
        page.upload(PHOTO)
        wait(lambda: "SCHOOL" in page.words)
        assert page.browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        tops = [page.one(f".tcm-{name}").location["y"] for name in ("photo", "result", "settings")]
        assert tops == sorted(tops)
        assert page.one(".tcm-picture img").size["width"] > 300
        sizes = [page.one(selector).value_of_css_property("font-size") for selector in ("textarea", ".prose p")]
        assert all(float(size.removesuffix("px")) >= 14 for size in sizes)
    finally:
        page.browser.quit()
