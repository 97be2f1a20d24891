"""A page opened in Chromium, by chromedriver's own protocol (W3C WebDriver)."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ),
    *("--disable-sync", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars"),
)


class Browser:
    """A window of a width in pixels.

    Attributes:
        errors: what the console has said: of each page, as a warning or worse.
    """

    def __init__(self, width):
        self._process = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
        line = next(line for line in self._process.stdout if "successfully on port" in line)
        self._root = f"http://127.0.0.1:{line.split('port ')[1].strip().rstrip('.')}"
        emulated = {"deviceMetrics": {"width": width, "height": 900, "pixelRatio": 1, "mobile": width < 600}}
        options = {
            "binary": CHROMIUM,
            "args": [*FLAGS],
            "mobileEmulation": emulated,
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{session['sessionId']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._ask("DELETE", self._session)
        finally:
            self._process.terminate()
            self._process.wait()

    def _ask(self, method, path, body=None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self._root + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, page):
        self._ask("POST", f"{self._session}/url", {"url": page.resolve().as_uri()})
        time.sleep(0.5)

    def run(self, script):
        """What a script (the body of a function) returns."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def read_console(self):
        return [each["message"] for each in self._ask("POST", f"{self._session}/se/log", {"type": "browser"})]

    def read_requests(self):
        """Addresses of all that was asked for, but for what is in the page itself and in files."""
        events = [
            json.loads(each["message"])["message"]
            for each in self._ask("POST", f"{self._session}/se/log", {"type": "performance"})
        ]
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]

    def save_picture(self, path):
        """The whole page."""
        answer = self._ask(
            "POST",
            f"{self._session}/goog/cdp/execute",
            {"cmd": "Page.captureScreenshot", "params": {"format": "png", "captureBeyondViewport": True}},
        )
        path.write_bytes(base64.b64decode(answer["data"]))
