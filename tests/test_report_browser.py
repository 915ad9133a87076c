"""The report in a real browser, with the network off: Debian's chromium and its driver, without a screen."""

import json
import re
import shutil
import time
from itertools import pairwise

import pytest

import hyppo
from tests.studies import hostile_study, small_study

pytest.importorskip("altair")
pytest.importorskip("vl_convert")
webdriver = pytest.importorskip("selenium.webdriver")
if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
    pytest.skip("chromium is not installed: apt-get install chromium chromium-driver", allow_module_level=True)

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


def opened(driver, path, width=1280, scheme="light"):
    """Open a page from disk and wait until every figure is drawn."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    driver.get_log("browser")
    driver.get(path.as_uri())
    until = time.monotonic() + 60
    while not driver.execute_script("return document.documentElement.dataset.drawn"):
        assert time.monotonic() < until, driver.get_log("browser")
        time.sleep(0.1)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return hyppo.load(small_study(tmp_path_factory.mktemp("browser") / "study.h5"))


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    return study.report(tmp_path_factory.mktemp("page") / "report.html")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_opens_from_disk_without_network_or_complaint(browser, page, width, scheme):
    opened(browser, page, width, scheme)
    assert browser.get_log("browser") == []
    drawn = browser.execute_script("return [...document.querySelectorAll('.drawn')].map(e => !!e.querySelector('svg'))")
    assert len(drawn) > 10
    assert all(drawn)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []
    # nothing but a figure may be wider than the screen, and that has a scroll bar of its own
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    ink, paper = browser.execute_script(
        "const s = getComputedStyle(document.body), t = document.querySelector('.drawn svg text');"
        "return [getComputedStyle(t).fill, s.backgroundColor]"
    )
    assert abs(brightness(ink) - brightness(paper)) > 0.6


def brightness(color):
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", color)[:3])
    return 0.3 * red + 0.6 * green + 0.1 * blue


def test_the_numbers_are_those_of_the_study(browser, page, study):
    opened(browser, page)
    best = study.best
    answer = browser.execute_script("return document.getElementById('answer').innerText")
    assert f"trial {best.number}" in answer
    assert f"{best.interval[0]:.6g} to {best.interval[1]:.6g}" in answer
    pasted = browser.execute_script("return document.getElementById('params').textContent")
    scope = {}
    exec(pasted, scope)
    assert scope["params"] == best.params
    rows = browser.execute_script(
        "const given = JSON.parse(document.querySelector('[data-place=figure-parallel]').textContent);"
        "return views['figure-parallel'].data(given.layer[0].data.name)"
    )
    means = {t.number: t.mean for t in study.trials if t.mean is not None}
    assert {row["trial"]: row["loss"] for row in rows} == pytest.approx(means, rel=1e-5)


def moved(driver, x, y, button=0, kind="mouseMoved"):
    told = {
        "type": kind,
        "x": x,
        "y": y,
        "button": "left" if button else "none",
        "buttons": button,
        "clickCount": button,
    }
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", told)


def place_of(driver, selector):
    """The middle of an element, on the screen after scrolling to it."""
    return driver.execute_script(
        "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]",
        selector,
    )


def test_a_tooltip_shows_the_training(browser, page, study):
    opened(browser, page)
    x, y, width, height = place_of(browser, "#figure-convergence .mark-symbol path")
    moved(browser, x + width / 2 - 30, y + height / 2)
    moved(browser, x + width / 2, y + height / 2)
    until = time.monotonic() + 10
    tip = "return document.querySelector('#vg-tooltip-element.visible')?.innerText ?? ''"
    while not (text := browser.execute_script(tip)):
        assert time.monotonic() < until
        time.sleep(0.05)
    shown = dict(re.findall(r"(\w+):?\s+(\S+)", text))
    record = next(r for r in study.trials[int(shown["trial"])].replicas if r.index == int(shown["replica"]))
    assert float(shown["loss"]) == pytest.approx(record.loss, rel=1e-5)


def texts(driver, figure):
    """The labels of a figure's axes."""
    return driver.execute_script(
        f"return [...document.querySelectorAll('#figure-{figure} .role-axis-label text')].map(e => e.textContent)"
    )


def test_the_smallest_study_and_an_interval_below_zero_are_drawn(browser, tmp_path):
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), seed=0)
    study.tell(study.ask().number, 0.5)
    opened(browser, study.report(tmp_path / "one.html"))
    assert browser.get_log("browser") == []
    labels = texts(browser, "convergence")
    assert labels[:3] == ["0", "1", "2"]

    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), seed=0, replicas=2)
    for losses in ([0.5, 0.6], [0.01, 0.05], [0.3, 0.4]):
        study.tell(study.ask().number, losses)
    assert study.best.interval[0] < 0
    opened(browser, study.report(tmp_path / "below.html"))
    band = "return document.querySelector('#figure-convergence .mark-area path').getBBox().height"
    assert browser.execute_script(band) > 0


def test_whole_numbers_on_an_axis_are_whole(browser, tmp_path):
    study = hyppo.Study(hyppo.Space(width=hyppo.Integer(1, 100)), seed=0)
    for width in (1, 30, 60, 100):
        study.add({"width": width}, [0.1 * width])
    opened(browser, study.report(tmp_path / "report.html"))
    labels = texts(browser, "parameter-0")
    assert "100" in labels
    assert not any("e" in label for label in labels)


def test_the_picture_of_a_confirmation_is_as_wide_as_its_losses(browser, tmp_path):
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), lambda replica: 100 + replica.seed % 7, isolate=False)
    study.run(trials=12, progress=False)
    study.confirm(replicas=3, progress=False)
    opened(browser, study.report(tmp_path / "report.html"))
    labels = [float(text) for text in texts(browser, "confirmation") if not text.startswith("trial")]
    assert min(labels) >= 99


def test_a_brush_keeps_the_lines_that_pass_through_it(browser, page):
    opened(browser, page)

    def lines():
        return browser.execute_script(
            "return document.querySelectorAll('#figure-parallel .mark-line.role-mark.layer_2_pathgroup path,"
            "#figure-parallel .layer_2_marks path').length"
        )

    every = lines()
    assert every > 10
    x, y, width, height = place_of(browser, "#figure-parallel svg .background")
    # around the first axis, the upper half
    left, right, top, middle = x + 0.02 * width, x + 0.13 * width, y + 0.05 * height, y + 0.5 * height
    moved(browser, left, top)
    moved(browser, left, top, 1, "mousePressed")
    for share in (0.3, 0.7, 1.0):
        moved(browser, left + share * (right - left), top + share * (middle - top), 1)
    moved(browser, right, middle, 1, "mouseReleased")
    until = time.monotonic() + 10
    while not 0 < lines() < every:
        assert time.monotonic() < until, (every, lines())
        time.sleep(0.1)
    kept = browser.execute_script("return views['figure-parallel'].signal('brush').height")
    assert kept is not None


def test_a_menu_changes_the_colour(browser, page):
    opened(browser, page)
    points = "[...document.querySelectorAll('#figure-spread .mark-symbol path')]"
    fills = f"return {points}.map(e => e.getAttribute('fill')).join()"
    before = browser.execute_script(fills)
    browser.execute_script(
        "const s = document.querySelector('#figure-spread select'); s.selectedIndex = 2;"
        "s.dispatchEvent(new Event('input', {bubbles: true})); s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    until = time.monotonic() + 10
    while browser.execute_script(fills) == before:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_keyboard_and_a_screen_reader_get_through(browser, page):
    opened(browser, page)
    named = browser.execute_script("return [...document.querySelectorAll('.chart')].map(e => e.ariaLabel)")
    assert all(named)
    headings = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1])")
    assert headings[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(headings))
    assert browser.execute_script("return document.documentElement.lang") == "en"
    browser.execute_cdp_cmd(
        "Input.dispatchKeyEvent", {"type": "keyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    )
    assert browser.execute_script("return document.activeElement.className") == "skip"


def test_it_is_printed_whole_and_dark_on_white(browser, page):
    opened(browser, page, scheme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    ink, paper = browser.execute_script(
        "return [getComputedStyle(document.querySelector('.drawn svg text')).fill, "
        "getComputedStyle(document.body).backgroundColor]"
    )
    assert brightness(ink) < 0.2
    assert brightness(paper) > 0.9
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(printed["data"]) > 50_000
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_hostile_study_shows_only_text(browser, tmp_path):
    page = hostile_study(tmp_path / "study.h5").report(tmp_path / "report.html")
    opened(browser, page)
    assert browser.get_log("browser") == []
    assert browser.title == "study.h5: hyppo report"
    assert browser.execute_script("return document.querySelectorAll('main img, header img').length") == 0
    text = browser.execute_script("return document.body.innerText")
    assert 'onerror="document.title=1"' in text
    assert "</script><script>document.title=2</script>" in text
    x, y, width, height = place_of(browser, "#figure-parallel svg .background")
    for share in range(1, 20):  # tooltips of some lines
        moved(browser, x + 0.05 * share * width, y + 0.5 * height)
    assert browser.execute_script("return document.querySelectorAll('#vg-tooltip-element img').length") == 0
    assert browser.title == "study.h5: hyppo report"
    assert json.loads(browser.execute_script("return JSON.stringify(Object.keys(views))"))
