"""Downloads from a server on 127.0.0.1: interrupted and resumed, checked, refused."""

import errno
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from fusionlib.datasets import catalog, download

CONTENT = np.random.default_rng(0).integers(0, 256, 700_001).astype(np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    content, ranges, breaks_after, asked = {}, True, None, []

    def do_GET(self):
        content, wanted = self.content.get(self.path), self.headers.get("Range")
        self.asked.append(wanted)
        start = (
            int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        )
        if content is None or start >= len(content):
            self.send_error(404 if content is None else 416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.breaks_after])

    def log_message(self, *_args):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"content": {"/file.zip": CONTENT}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        handler.url = f"http://127.0.0.1:{running.server_port}/"
        yield handler
        running.shutdown()
        thread.join()


def below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def one_sentence(error):
    assert "\n" not in str(error.value) and str(error.value).strip()
    return str(error.value)


def test_whole(server, tmp_path):
    path = download.fetch(server.url + "file.zip", tmp_path / "new" / "file.zip", SHA256.upper())
    assert path.read_bytes() == CONTENT and below(tmp_path) == ["file.zip"]
    download.fetch(server.url + "file.zip", path, SHA256)
    assert len(server.asked) == 1, "what is there and right is not fetched again"
    path.write_bytes(b"damaged later")
    assert download.fetch(server.url + "file.zip", path, SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_and_resumed(server, tmp_path, ranges):
    server.breaks_after, server.ranges = 300_000, ranges
    with pytest.raises(ConnectionError) as error:
        download.fetch(server.url + "file.zip", tmp_path / "file.zip", SHA256)
    kept = (tmp_path / "file.zip.part").stat().st_size
    assert 0 < kept <= 300_000 and below(tmp_path) == ["file.zip.part"]
    assert f"{kept} bytes are kept" in one_sentence(error) and "file.zip" in str(error.value)
    server.breaks_after = None
    assert (
        download.fetch(server.url + "file.zip", tmp_path / "file.zip", SHA256).read_bytes()
        == CONTENT
    )
    assert server.asked == [None, f"bytes={kept}-"] and below(tmp_path) == ["file.zip"]


def test_stopped_by_the_user(server, tmp_path, monkeypatch):
    def stop(*_args, **_more):
        yield CONTENT[:1234]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(download.requests.Response, "iter_content", stop)
        with pytest.raises(KeyboardInterrupt):
            download.fetch(server.url + "file.zip", tmp_path / "file.zip", SHA256)
    assert below(tmp_path) == ["file.zip.part"]
    assert (
        download.fetch(server.url + "file.zip", tmp_path / "file.zip", SHA256).read_bytes()
        == CONTENT
    )
    assert server.asked[-1] == "bytes=1234-"


def test_stopped_before_the_last_step(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(CONTENT)
    assert (
        download.fetch(server.url + "file.zip", tmp_path / "file.zip", SHA256).read_bytes()
        == CONTENT
    )
    assert below(tmp_path) == ["file.zip"]


def test_part_of_another_file(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(b"something else")
    with pytest.raises(ValueError, match="nothing was kept"):
        download.fetch(server.url + "file.zip", tmp_path / "file.zip", SHA256)
    assert below(tmp_path) == []
    assert (
        download.fetch(server.url + "file.zip", tmp_path / "file.zip", SHA256).read_bytes()
        == CONTENT
    )


def test_wrong_checksum(server, tmp_path):
    with pytest.raises(ValueError, match="expected sha256 000000000000 of file.zip") as error:
        download.fetch(server.url + "file.zip", tmp_path / "file.zip", "0" * 64)
    assert server.url in one_sentence(error) and below(tmp_path) == []


def test_not_there(server, tmp_path):
    with pytest.raises(ConnectionError, match="status 404") as error:
        download.fetch(server.url + "elsewhere.zip", tmp_path / "file.zip", SHA256)
    assert "elsewhere.zip" in one_sentence(error) and below(tmp_path) == []


def test_nobody_answers(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as closed:
        port = closed.server_port
    with pytest.raises(ConnectionError, match="could not be fetched from") as error:
        download.fetch(f"http://127.0.0.1:{port}/file.zip", tmp_path / "file.zip", SHA256)
    assert one_sentence(error) and below(tmp_path) == []


def test_full_disk(server, tmp_path, monkeypatch):
    class Full:
        """A file on a disk with room for two pieces."""

        def __init__(self, path, mode):
            self.file, self.room = open(path, mode), 2 * download.CHUNK

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            self.file.close()

        def write(self, piece):
            self.room -= len(piece)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(piece)

    with monkeypatch.context() as patched:
        patched.setattr(download, "open", Full, raising=False)
        with pytest.raises(OSError, match="cannot be written .No space left on device") as error:
            download.fetch(server.url + "file.zip", tmp_path / "file.zip", SHA256)
    assert "file.zip" in one_sentence(error) and below(tmp_path) == ["file.zip.part"]
    assert (
        download.fetch(server.url + "file.zip", tmp_path / "file.zip", SHA256).read_bytes()
        == CONTENT
    )


def test_a_file_in_the_way(server, tmp_path):
    (tmp_path / "way").write_text("a file")
    with pytest.raises(OSError, match="cannot be written") as error:
        download.fetch(server.url + "file.zip", tmp_path / "way" / "file.zip", SHA256)
    assert one_sentence(error) and below(tmp_path) == ["way"]


def test_files_of_the_catalogue(server, tmp_path, monkeypatch):
    server.content = {"/input/a/a_A.png": b"first", "/input/a/a_B.png": b"second"}
    facts = dict(
        catalog.entry("MFIFB")[1],
        address=server.url,
        files={
            path[1:]: hashlib.sha256(content).hexdigest()
            for path, content in server.content.items()
        },
    )
    monkeypatch.setitem(catalog._entries(), "MFIFB", facts)
    paths = catalog.download("mfifb", tmp_path)
    assert [path.read_bytes() for path in paths] == [b"first", b"second"]
    assert paths[0] == tmp_path / "input/a/a_A.png"
    with pytest.raises(
        ValueError, match="M3FD: no address with a checksum is known; M3FD_Detection from"
    ):
        catalog.download("M3FD", tmp_path)
