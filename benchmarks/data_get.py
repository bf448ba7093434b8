"""`fusionlib data get sample general` whole, from a server on 127.0.0.1 that serves FUSION_DATA
under the addresses of the table: killed ten times at random moments, started again, then compared.

Prints kills, requests, seconds, and what differs (nothing, if all is well).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from fusionlib import places
from fusionlib.datasets import get

KILLS = 10
WORDS = dict.fromkeys(("info", "description"))  # of JSON files; only their numbers are compared


class Server(BaseHTTPRequestHandler):
    """Serves the files of the table and keeps what was asked for."""

    files: dict[str, Path] = {}
    asked: list[str] = []

    def do_GET(self):
        self.asked.append(unquote(self.path))
        content = self.files[unquote(self.path)].read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args):
        pass


def same(mine: Path, real: Path) -> bool:
    """Tell whether two files hold the same, words in JSON aside."""
    if not mine.is_file() or mine.suffix != ".json":
        return mine.is_file() and mine.read_bytes() == real.read_bytes()
    return json.loads(mine.read_text()) | WORDS == json.loads(real.read_text()) | WORDS


def main() -> int:
    real = Path(os.environ.get("FUSION_DATA") or places.NOWHERE)
    if not real.is_dir():
        print("FUSION_DATA: no folder of real files to serve, nothing to do")
        return 0
    commits = {name: facts["commit"] for name, facts in get._sources()["repositories"].items()}
    places_of: dict[str, list[str]] = {}
    for row in (row for name in get.sets() for row in get._table()[name]):
        address = f"/{row['repository']}/raw/{commits[row['repository']]}/{row['path']}"
        places_of.setdefault(address, []).append(row["file"])
        Server.files[address] = real / row["file"]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.handle_error = lambda *_args: None  # a client that was killed
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        mirror = f"http://127.0.0.1:{server.server_port}"
        command = [sys.executable, "-m", "fusionlib", "data", "get", "sample", "general", "--yes"]
        command += ["--to", folder, "--mirror", mirror]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        chance, wrong = random.Random(0), 0
        for _ in range(KILLS):
            complete = {a for a, names in places_of.items() if (Path(folder) / names[0]).is_file()}
            first = len(Server.asked)
            process = subprocess.Popen(command, **quiet)
            until = first + chance.randint(1, len(places_of) // KILLS)
            while process.poll() is None and len(Server.asked) < until:
                time.sleep(0.001)
            time.sleep(chance.random() / 100)
            process.kill(), process.wait()
            wrong += len(complete & set(Server.asked[first:]))
        start = time.monotonic()
        code = subprocess.run(command).returncode
        seconds = time.monotonic() - start
        files = [p.relative_to(real) for p in real.glob("[im]*/**/*") if p.is_file()]
        differ = [str(name) for name in files if not same(Path(folder, name), real / name)]
        mine = {p.relative_to(folder) for p in Path(folder).rglob("*") if p.is_file()}
        times = Counter(Server.asked)
        print(
            f"{KILLS} kills, {len(Server.asked)} requests for {len(times)} addresses of"
            f" {sum(map(len, places_of.values()))} files, {sum(times.values()) - len(times)} again,"
            f" on their way at a kill, {wrong} of a file that was there; last run"
            f" {seconds:.0f} s, exit code {code}; {len(differ)} of {len(files)} differ,"
            f" such as {differ[:3]}, {len(mine - set(files))} too many"
        )
    return int(bool(code or differ or wrong or mine - set(files)))


if __name__ == "__main__":
    sys.exit(main())
