"""A page in headless Chromium through its DevTools: clicks, keys, console lines, requests."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-dev-shm-usage", "--remote-allow-origins=*",
         "--remote-debugging-port=0")  # fmt: skip


class Browser:
    """One page: ``console`` and ``requests`` grow while it is used."""

    def __init__(self, profile):
        """Start the program with a fresh folder ``profile`` for what it keeps."""
        import websocket

        command = [PROGRAM, *QUIET, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port = self._port(profile / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            pages = [one for one in json.load(answer) if one["type"] == "page"]
        self.socket = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], timeout=60)
        self.count, self.console, self.requests = 0, [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    @staticmethod
    def _port(path, patience=60):
        for _ in range(10 * patience):
            if path.is_file() and (lines := path.read_text().splitlines()):
                return lines[0]
            time.sleep(0.1)
        raise TimeoutError(f"{path}: expected the port of Chromium, it did not start")

    def send(self, method, **parameters):
        """Call the browser, take note of what it says meanwhile, and return the answer."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        self.socket.send(json.dumps(message))
        while (heard := json.loads(self.socket.recv())).get("id") != self.count:
            self._hear(heard)
        if "error" in heard:
            raise RuntimeError(f"{method}: {heard['error']['message']}")
        return heard["result"]

    def _hear(self, event):
        name, told = event.get("method", ""), event.get("params", {})
        if name in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.console.append(json.dumps(told)[:500])
        if name == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def open(self, path, width=1280, height=900):
        """Show a file in a window of a size, in pixels, and wait until it is there."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        self.send("Page.navigate", url=path.resolve().as_uri())
        for _ in range(600):
            if self.run("document.readyState === 'complete' && location.protocol === 'file:'"):
                return
            time.sleep(0.1)

    def run(self, script):
        """Return the value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def middle(self, selector):
        """Scroll the first element that ``selector`` finds into view and return its middle."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center'}})")
        return self.run(
            f"(() => {{ const box = {found}.getBoundingClientRect();"
            " return [box.left + box.width / 2, box.top + box.height / 2]; })()"
        )

    def mouse(self, kind, x, y, count=1):
        """Send one event of the mouse: pressed, released or moved, at a point of the window."""
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left",
                  buttons=int(kind != "Released"), clickCount=count)  # fmt: skip

    def click(self, selector, count=1):
        """Click, or double click, the first element that ``selector`` finds."""
        x, y = self.middle(selector)
        for number in range(1, count + 1):
            self.mouse("Pressed", x, y, number)
            self.mouse("Released", x, y, number)

    def drag(self, selector, dx, dy=0):
        """Drag from the middle of an element, in pixels."""
        x, y = self.middle(selector)
        self.mouse("Pressed", x, y)
        self.mouse("Moved", x + dx / 2, y + dy / 2)
        self.mouse("Moved", x + dx, y + dy)
        self.mouse("Released", x + dx, y + dy)

    def key(self, name, text=""):
        """Press one key, where the focus is."""
        self.send("Input.dispatchKeyEvent", type="keyDown", key=name, text=text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=name)

    def type(self, selector, text):
        """Focus a field and type into it."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.send("Input.insertText", text=text)

    def picture(self, path):
        """Write what the window shows as a PNG."""
        data = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        """End the program."""
        self.socket.close()
        self.process.terminate()
        self.process.wait()
