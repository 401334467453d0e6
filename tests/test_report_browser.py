"""The report in a real browser, headless: it opens from the disk without a word, and its controls do what they say.

Skipped where Chromium, its driver, Selenium or axe are not installed (the extra `browser`).
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from softmax_bench.report.page import page_of, to_html
from softmax_bench.report.source import Source
from softmax_bench.units import quantity

pytestmark = pytest.mark.slow
webdriver = pytest.importorskip("selenium.webdriver")
axe = pytest.importorskip("axe_core_python")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("Chromium and its driver are not installed", allow_module_level=True)

PATIENCE_S = 30.0
READY = "return document.documentElement.dataset.ready === 'yes'"
# What the marks of a chart show: the values on its y axis.
MARKS = "return softmaxBench.points(arguments[0]).y.length"
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, reference_run: Path) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(to_html(page_of(Source.load(reference_run))), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    driver.set_script_timeout(4 * PATIENCE_S)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, page: str) -> Any:
    browser.get(page)
    wait_for(lambda: browser.execute_script(READY))
    return browser


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_opens_without_a_message_and_without_a_request(opened: Any, page: str) -> None:
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {address for address in asked if not address.startswith("data:")} <= {page}
    assert opened.get_log("browser") == []


def test_implementations_are_switched_in_both_charts(opened: Any) -> None:
    before = [opened.execute_script(MARKS, key) for key in ("time", "peak")]
    box = opened.find_element("css selector", '#implementations input[value="vectorized"]')
    box.send_keys(" ")  # by the keyboard
    after = [opened.execute_script(MARKS, key) for key in ("time", "peak")]
    assert [old - new for old, new in zip(before, after, strict=True)] == [6, 6]
    assert "vectorized:" not in opened.find_element("id", "finding-time").get_attribute("textContent")
    opened.find_element("id", "none").click()
    assert opened.execute_script(MARKS, "time") == 0
    assert opened.find_element("id", "empty-time").is_displayed()


@pytest.mark.parametrize(("against", "points"), [("features", 6), ("batch", 5), ("working_set_bytes", 30)])
def test_the_axes_are_chosen(opened: Any, against: str, points: int) -> None:
    opened.find_element("id", "none").click()
    opened.find_element("css selector", '#implementations input[value="vectorized"]').click()
    choose(opened, "against", against)
    for scale, kind in (("linear", "LinearScale"), ("log", "LogScale")):
        choose(opened, "scales", scale)
        assert opened.execute_script("return softmaxBench.scale('time')") == kind
        assert opened.execute_script(MARKS, "time") == points


def choose(opened: Any, select: str, value: str) -> None:
    opened.find_element("css selector", f'#{select} option[value="{value}"]').click()


def test_pointing_at_a_mark_shows_its_figures(opened: Any, reference_run: Path) -> None:
    row = next(row for row in Source.load(reference_run).rows if "vectorized-B32-N512-float64-normal" in str(row.case))
    opened.find_element("id", "none").click()
    opened.find_element("css selector", '#implementations input[value="vectorized"]').click()
    chart = opened.find_element("id", "chart-time")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)
    time.sleep(1.0)  # until the chart is drawn again
    x, y = opened.execute_script("return softmaxBench.screen('time', 3)")
    webdriver.ActionChains(opened).move_to_element(chart).perform()
    action = webdriver.ActionChains(opened)
    action.w3c_actions.pointer_action.move_to_location(int(x), int(y))
    action.perform()
    wait_for(lambda: quantity(row.time_s, "s") in opened.execute_script(TOOLTIPS))
    shown = opened.execute_script(TOOLTIPS)
    assert f"{quantity(row.time_low_s, 's')} to {quantity(row.time_high_s, 's')}" in shown


# The text of every tooltip; Bokeh draws in shadow trees.
TOOLTIPS = """
const texts = [];
const walk = (node) => {
  if (node.classList?.contains("bk-Tooltip")) texts.push((node.shadowRoot ?? node).textContent);
  for (const child of [...(node.shadowRoot?.children ?? []), ...node.children]) walk(child);
};
walk(document.body);
return texts.join(" ");
"""


def test_the_table_sorts_filters_and_prints_as_python_does(opened: Any, reference_run: Path) -> None:
    rows = [row for row in Source.load(reference_run).rows if row.status == "measured"]
    texts = opened.execute_script("return softmaxBench.table.cells(null, 7).render('display').toArray()")
    times = [quantity(row.time_s, "s") for row in Source.load(reference_run).rows]
    assert texts == times
    opened.execute_script("softmaxBench.table.order([7, 'desc']).draw()")
    assert first_cell(opened, 8) == quantity(max(row.time_s for row in rows), "s")
    field = opened.find_element("css selector", 'input[aria-label="filter implementation"]')
    field.send_keys("row_loop")
    found = sum("row_loop" in row.implementation for row in Source.load(reference_run).rows)
    wait_for(lambda: opened.execute_script("return softmaxBench.table.page.info().recordsDisplay") == found)


def first_cell(opened: Any, number: int) -> str:
    return str(opened.find_element("css selector", f"#rows tbody tr:first-child td:nth-child({number})").text)


def test_dark_and_light_follow_the_system(opened: Any) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor + softmaxBench.ink('time')"
    seen = set()
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        seen.add(opened.execute_script(ground))
    assert len(seen) == 2


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window_and_axe_has_no_serious_finding(browser: Any, page: str, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(page)
        wait_for(lambda: browser.execute_script(READY))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        browser.execute_script("for (const fold of document.querySelectorAll('details')) fold.open = true")
        browser.execute_script((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = browser.execute_async_script("axe.run(document).then(arguments[arguments.length - 1])")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [one["id"] for one in found["violations"] if one["impact"] in SERIOUS] == []
