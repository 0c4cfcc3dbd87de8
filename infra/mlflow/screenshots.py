"""What a team sees of its models in MLflow, in a headless Chromium: runs compared, contact sheets side by side, the registry.

    python infra/mlflow/screenshots.py MODEL FOLDER

writes compare.png, sheets.png and model.png of the newest runs of the experiment of this name, and of the registered model of
this name, at MLFLOW_TRACKING_URI (with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, where it wants them). Needs
Debian's chromium and chromium-driver; the tests read the pages by the same means.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from mlflow import MlflowClient
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

Found = TypeVar("Found")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
    "--force-device-scale-factor=1",
)
WIDE, COMPACT = (2400, 1000), (1400, 1000)
PATIENCE_S = 300.0  # of a loaded machine: Chromium draws on the CPU
POLL_S = 0.5
# MLflow greets its first visitor with an assistant across a third of the page
CALM = {"mlflow.assistant.panelOpen_v1": "false", "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true"}
SHEETS = "test/samples"  # the key of an evaluation's contact sheet

_ROW = 45  # pixels
# the halves of the table of metrics, names and values: each draws what is in sight and follows the other
_HALVES = "const [names, values] = document.querySelectorAll('.ReactVirtualized__Grid');"
_CELLS = """return [names, values].map(half => [...half.querySelectorAll('[class$=innerScrollContainer] > div')].map(
    cell => [parseInt(cell.style.top), parseInt(cell.style.left), cell.innerText.trim()]));"""
_SCROLL = "values.scrollTop = arguments[0]; values.scrollIntoView({block: 'center'}); return values.scrollTop;"


class Pages:
    """The pages of one MLflow server."""

    def __init__(self, driver: webdriver.Chrome, uri: str) -> None:
        self._driver, self._uri = driver, uri

    @property
    def text(self) -> str:
        """All that can be read on the page."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    def screenshot(self, path: Path) -> None:
        self._driver.save_screenshot(str(path))

    def compare(self, experiment_id: str, run_ids: Sequence[str]) -> dict[str, list[str]]:
        """The metrics of the page that compares runs, as it shows them: name -> the value of each run."""
        self._open(f"compare-runs?runs={_json(run_ids)}&experiments={_json([experiment_id])}", COMPACT)
        self._until(lambda: len(self._driver.find_elements(By.CLASS_NAME, "ReactVirtualized__Grid")) == 2)
        self._until(lambda: len(self._table(_CELLS)[1]) > 0)
        found = self._until(self._rows)
        self._until(lambda: self._scroll_to([*found].index("test/fid") * _ROW))
        return found

    def sheets(self, experiment_id: str, count: int) -> list[str]:
        """The addresses of the contact sheets of all runs, once they are drawn; beside them are the charts of FID and NLL."""
        self._open(f"experiments/{experiment_id}/runs?compareRunsMode=CHART", WIDE)
        field = self._until(
            lambda: self._driver.find_element(By.CSS_SELECTOR, "input[placeholder='Search metric charts']")
        )
        field.send_keys(f"test/(fid|nll)$|{SHEETS}")
        menu = "[data-testid='experiment-view-compare-runs-card-menu']"
        self._press(lambda: (card := self._card(SHEETS)) and card.find_element(By.CSS_SELECTOR, menu), by=Keys.ENTER)
        self._press(lambda: self._with_text("[role=menuitem]", "Configure"), by=Keys.ENTER)
        # without all the parameters above each image
        self._press(lambda: self._driver.find_element(By.CSS_SELECTOR, "[role=dialog] [role=switch]"))
        self._press(lambda: self._with_text("button", "Save changes"))
        self._until(lambda: not self._driver.find_elements(By.CSS_SELECTOR, "[role=dialog]"))
        return self._until(lambda: found if len(found := self._drawn(SHEETS)) >= count else None)

    def model(self, name: str, versions: int) -> str:
        """The text of a registered model's page."""
        self._open(f"models/{quote(name)}", COMPACT)
        self._until(lambda: all(f"Version {version}" in self.text for version in range(1, versions + 1)))
        return self.text

    def _open(self, page: str, size: tuple[int, int]) -> None:
        self._driver.set_window_size(*size)
        self._driver.get("about:blank")  # what follows # alone would not load the page anew
        self._driver.get(f"{self._uri}/#/{page}")

    def _table(self, script: str, *arguments: Any) -> Any:
        return self._driver.execute_script(_HALVES + script, *arguments)

    def _rows(self) -> dict[str, list[str]] | None:
        """All rows, from the top to the bottom; None where a half was not drawn in time, for both draw what is in sight alone."""
        names: dict[int, str] = {}
        values: dict[int, list[str]] = {}
        whole = self._table("return values.scrollHeight;")
        for top in range(0, whole, 2 * _ROW):
            self._table(_SCROLL, top)
            time.sleep(POLL_S / 5)
            left, right = self._table(_CELLS)
            names |= {at: text for at, _, text in left}
            values |= {at: [text for other, _, text in sorted(right) if other == at] for at, _, _ in right}
        places = range(0, whole - _ROW + 1, _ROW)
        return {names[at]: values[at] for at in places} if all(at in names and at in values for at in places) else None

    def _scroll_to(self, place: int) -> bool:
        """Whether both halves are there: without a window on a screen the one follows the other's last move but one."""
        for top in (place, place + 1):
            self._table(_SCROLL, top)
            time.sleep(POLL_S)
        return bool(self._table("return Math.abs(names.scrollTop - values.scrollTop) < 2;"))

    def _card(self, title: str) -> WebElement | None:
        cards = self._driver.find_elements(By.CSS_SELECTOR, "[data-testid='experiment-view-compare-runs-card']")
        return next((one for one in cards if one.text.startswith(title)), None)

    def _press(self, find: Callable[[], WebElement | None], by: str | None = None) -> None:
        """A key on what is found, or a click, as soon as it takes one: a dialog that is on its way in does not."""

        def pressed() -> bool:
            if (found := find()) is None:
                return False
            if by:
                found.send_keys(by)
            else:
                found.click()
            return True

        self._until(pressed)

    def _with_text(self, selector: str, text: str) -> WebElement | None:
        return next((one for one in self._driver.find_elements(By.CSS_SELECTOR, selector) if one.text == text), None)

    def _drawn(self, title: str) -> list[str]:
        card = self._card(title)
        images = card.find_elements(By.CSS_SELECTOR, "img[src*='get-artifact']") if card else []
        return [str(one.get_attribute("src")) for one in images if one.get_property("naturalWidth")]

    def _until(self, condition: Callable[[], Found | None]) -> Found:
        """What a condition finds at last; pages that are being drawn throw away elements while one looks at them."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if found := condition():
                    return found
                problem = "it is not there"
            except WebDriverException as error:
                problem = str(error.msg)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{problem}; the page at {self._driver.current_url} says: {self.text[-2000:]}")
            time.sleep(POLL_S)


@contextmanager
def browser(uri: str, user: str | None = None, password: str | None = None) -> Iterator[Pages]:
    """A Chromium with a profile of its own, gone at the end. RuntimeError where Debian's packages are not installed."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        raise RuntimeError(
            "there is no Chromium here: apt-get install --no-install-recommends chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    options.page_load_strategy = "eager"
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(str(programs[1])))
        try:
            driver.command_executor.client_config.timeout = PATIENCE_S
            driver.set_page_load_timeout(PATIENCE_S)
            driver.set_script_timeout(PATIENCE_S)
            if user is not None:
                token = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
                driver.execute_cdp_cmd("Network.enable", {})
                driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Authorization": f"Basic {token}"}})
            driver.get(f"{uri}/health")  # a page of this server, in whose storage the settings lie
            for name, value in CALM.items():
                driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", name, value)
            yield Pages(driver, uri)
        finally:
            driver.quit()


def _json(values: Any) -> str:
    return quote(json.dumps(list(values)))


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    uri = os.environ["MLFLOW_TRACKING_URI"]
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        sys.exit(f"there is no experiment {name!r} at {uri}")
    runs = [run.info.run_id for run in client.search_runs([experiment.experiment_id], "metrics.`test/fid` > 0")]
    versions = len(client.search_model_versions(f"name='{name}'"))
    folder.mkdir(parents=True, exist_ok=True)
    with browser(uri, os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")) as pages:
        pages.compare(experiment.experiment_id, runs)
        pages.screenshot(folder / "compare.png")
        pages.sheets(experiment.experiment_id, len(runs))
        pages.screenshot(folder / "sheets.png")
        pages.model(name, versions)
        pages.screenshot(folder / "model.png")


if __name__ == "__main__":
    main()
