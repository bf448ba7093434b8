"""Downloads from a server on 127.0.0.1 that answers rightly, or as bad servers do."""

from __future__ import annotations

import atexit
import hashlib
import os
import signal
import socket
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np

from fusionlib import download, workers

from . import damage
from .case import REFUSE, Case

RIGHT = ("whole", "no length", "busy once", "chunked", "redirected", "compressed if asked")
WRONG = ("status 404", "status 403", "status 500", "status 503", "early end", "longer", "endless")
WRONG += ("empty", "another file", "a web page", "an LFS pointer", "redirect to a file")
WRONG += ("redirect in a circle", "a byte now and then", "nonsense", "silence", "broken chunks")
QUICK = {"TIMEOUT": (2.0, 2.0), "GRACE": 4.0, "PAUSE": 0.05, "LONGEST_PAUSE": 0.1, "ATTEMPTS": 2}


def content_of(seed: int, size: int) -> bytes:
    """Return the right file."""
    return np.random.default_rng(seed).bytes(size)


class Handler(BaseHTTPRequestHandler):
    """Answers ``/MODE?seed=S&size=N`` as its mode says."""

    asked: set[str] = set()

    # radon C: one answer for each mode
    def do_GET(self):
        where = urlsplit(self.path)
        mode = where.path.strip("/").replace("-", " ")
        facts = {key: int(value[0]) for key, value in parse_qs(where.query).items()}
        right = content_of(**facts)
        first = self.path not in self.asked
        self.asked.add(self.path)
        if mode.startswith("status") or (mode == "busy once" and first):
            self.send_error(int(mode[-3:]) if mode.startswith("status") else 429)
        elif mode == "redirected":
            self.answer(302, {"Location": self.path.replace("/redirected", "/whole")})
        elif mode == "redirect to a file":
            self.answer(302, {"Location": "file:///etc/hostname"})
        elif mode == "redirect in a circle":
            self.answer(302, {"Location": self.path})
        elif mode == "nonsense":
            self.wfile.write(np.random.default_rng(facts["seed"]).bytes(500))
        elif mode == "silence":
            time.sleep(30)
        elif mode in ("chunked", "broken chunks"):
            self.answer(200, {"Transfer-Encoding": "chunked"})
            self.wfile.write(b"%x\r\n%s\r\n" % (len(right), right))
            self.wfile.write(b"0\r\n\r\n" if mode == "chunked" else b"ffff\r\nxx")
        elif mode == "endless":
            self.answer(200, {})
            self.drip(right, 0.0)
        elif mode == "a byte now and then":
            self.answer(200, {"Content-Length": str(len(right))})
            self.drip(b"x", 0.5)
        else:
            self.file(mode, right)

    def file(self, mode: str, right: bytes) -> None:
        """Answer with a file, the right one or another."""
        body = {
            "empty": b"",
            "another file": right[::-1],
            "a web page": damage.HTML,
            "an LFS pointer": damage.LFS % 7,
            "longer": right + b"more",
            "early end": right[: len(right) // 2],
        }.get(mode, right)
        length = len(right) if mode == "early end" else len(body)
        self.answer(200, {} if mode == "no length" else {"Content-Length": str(length)})
        self.wfile.write(body)

    def drip(self, piece: bytes, pause: float) -> None:
        """Send a piece again and again until the other side hangs up."""
        while True:
            self.wfile.write(piece)
            self.wfile.flush()
            time.sleep(pause)

    def answer(self, status: int, headers: dict[str, str]) -> None:
        """Send status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_args):
        pass


@cache
def server() -> int:
    """Start the server in a process of its own, which ends with this one; return its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    owner = os.getpid()
    process = os.fork()
    if not process:
        workers.end_with_parent(signal.SIGKILL)  # nothing is registered of one that is killed
        served = ThreadingHTTPServer(("127.0.0.1", port), Handler, bind_and_activate=False)
        served.socket.close()
        served.socket = listening
        served.handle_error = lambda *_args: None  # a client that hung up
        served.serve_forever()
    listening.close()
    atexit.register(lambda: os.getpid() == owner and os.kill(process, signal.SIGKILL))
    return port


def case(rng: np.random.Generator, folder: Path) -> Case:
    """Return a file that is fetched: the bytes that came, or a sentence and nothing left."""
    is_right = bool(rng.random() < 0.4)
    modes = RIGHT if is_right else WRONG
    mode = str(rng.choice(modes))
    facts = {"seed": int(rng.integers(2**31)), "size": int(rng.integers(1, 100_000))}
    right = content_of(**facts)
    size = len(right) if rng.random() < 0.7 else None
    query = "&".join(f"{key}={value}" for key, value in facts.items())
    address = f"http://127.0.0.1:{server()}/{mode.replace(' ', '-')}?{query}"
    path = folder / "sub" / "file.bin"

    def problem(file: Path) -> str:
        wanted = hashlib.sha256(right).hexdigest()
        got = hashlib.sha256(file.read_bytes()).hexdigest()
        return "" if got == wanted else f"expected SHA-256 {wanted[:12]}, got {got[:12]}"

    def call() -> object:
        for name, value in QUICK.items():
            setattr(download, name, value)
        with download.working(folder) as work:
            wanted = download.Wanted(path, address, size, problem)
            failed = download.fetch([wanted], work)
        left = [entry for entry in folder.rglob("*") if entry.is_file() and entry != path]
        if left or (failed and path.exists()):
            return f"left behind: {left}"
        for error in failed.values():
            raise error
        return path.read_bytes()

    recipe = f"{mode}, {len(right)} bytes, size {'known' if size else 'unknown'}"
    return Case(recipe, call, [""], right if is_right else REFUSE)
