"""`fusionlib data get` from a server on 127.0.0.1 that misbehaves, from folders and repositories
made here, killed and repeated; and, where the real data is, all of it.
"""

import csv
import hashlib
import io
import json
import multiprocessing
import re
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import filelock
import numpy as np
import pytest
import yaml
from PIL import Image

from fusionlib import download, images, places
from fusionlib.__main__ import main
from fusionlib.datasets import catalog, clones, get, open_pairs

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(download.__file__).parent.parent


def png(seed, mode="L"):
    shape = (12, 16) if mode == "L" else (12, 16, 3)
    file = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


class Server(BaseHTTPRequestHandler):
    """Serves a dict; ``odd`` holds what else is done for an address, a function of the handler, the
    content and how often the address was asked for before.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(self.path)
        content, times = self.contents.get(path), self.asked.count(path)
        self.asked.append(path)
        self.close_connection = True
        if content is None:
            return self.send_error(404)
        self.odd.get(path, Server.plain)(self, content, times)
        self.sent.append(path)

    def head(self, length, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def plain(self, content, times):
        self.head(len(content))
        self.wfile.write(content)

    def log_message(self, *_args):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"contents": {}, "odd": {}, "asked": [], "sent": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.handle_error = lambda *_args: None  # a client that was killed
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        handler.url = f"http://127.0.0.1:{running.server_port}"
        yield handler
        running.shutdown()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in {"TIMEOUT": (2, 0.3), "GRACE": 1.0, "PAUSE": 0.01, "SLOWEST": 1e6}.items():
        monkeypatch.setattr(download, name, value)
    get._table.cache_clear()
    get._sources.cache_clear()
    yield
    get._table.cache_clear()
    get._sources.cache_clear()


def write_tables(home, contents, more=None):
    """Write the two tables of some files, ``{place: (repository, path, bytes)}``."""
    home.mkdir(exist_ok=True)
    with open(home / "addresses.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "repository", "path", "bytes", "sha256"))
        for place, (repository, path, content) in contents.items():
            digest = hashlib.sha256(content).hexdigest()
            table.writerow((place, repository, path, len(content), digest))
    repositories = {content[0]: {"commit": COMMIT, "terms": "MIT"} for content in contents.values()}
    sources = {"groups": {"sample": ["mfif/m"]}, "repositories": repositories, "boxes": {}}
    (home / "sources.yaml").write_text(yaml.safe_dump(sources | (more or {})))
    return {f"/{r}/raw/{COMMIT}/{path}": content for r, path, content in contents.values()}


@pytest.fixture
def tiny(tmp_path, monkeypatch, server):
    """Two small sets that share a file: infrared-visible with labels, multi-focus with a mask."""
    contents = {}
    for number, name in enumerate("pqr"):
        contents[f"ivif/general/ir/{name}.png"] = ("o/one", f"IR/{name} 1.png", png(number))
        contents[f"ivif/general/vi/{name}.png"] = (
            "o/one",
            f"VI/{name}.png",
            png(9 + number, "RGB"),
        )
    labels = {"p": b"0  0.5 0.5 0.25 0.5\n2 0.9 0.1 0.3 0.3", "q": b""}
    for name, text in labels.items():
        contents[f"ivif/general/labels/{name}.txt"] = ("o/two", f"l/{name}.txt", text)
    contents["mfif/m/a/lab.png"] = ("o/one", "IR/p 1.png", png(0))
    contents["mfif/m/b/lab.png"] = ("o/one", "VI/b.png", png(30))
    home = tmp_path / "tables"
    rule = {"from": "annotations.json", "labels": "labels", "decimals": 1}
    rules = {"boxes": {"ivif/general/annotations.json": rule}}
    server.contents |= write_tables(home, contents, rules)
    named = {"width": 16, "height": 12, "split": "train", "origin": "here", "time": "day"}
    listed = [{"id": i, "file_name": f"{name}.png"} | named for i, name in enumerate("pqr", 1)]
    classes = [{"id": i, "name": name} for i, name in enumerate(("person", "bicycle", "car"), 1)]
    kept = [{"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    coco = {"info": {}, "images": listed, "annotations": kept, "categories": classes}
    images.write_text(home / "made/ivif/general/annotations.json", json.dumps(coco))
    (home / "made/mfif/m/masks").mkdir(parents=True)
    mask = Image.fromarray(np.tile(np.arange(16) < 5, (12, 1)))
    mask.convert("1").save(home / "made/mfif/m/masks/lab.png")
    monkeypatch.setattr(get, "HERE", home)
    monkeypatch.setattr(get, "MADE", home / "made")
    return tmp_path / "data"


def fetch(server, folder, *names, **options):
    return get.get(get.plan(names or ("general", "m"), folder, server.url), **options)


def below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def address_of(server, end):
    return next(path for path in server.contents if path.endswith(end))


def test_a_folder_that_opens_at_once(server, tiny, synced):
    chosen = get.plan(["general", "sample"], tiny, server.url)
    assert "o/one" in chosen.words and "MIT" in chosen.words and "MB to fetch" in chosen.words
    assert chosen.size == sum(map(len, server.contents.values())) and get.get(chosen) == []
    assert sorted(server.asked) == sorted(server.contents), "each address is asked for once"
    pairs = open_pairs(tiny / "ivif/general", "general", "train")
    assert pairs.names == ["p", "q", "r"]
    assert pairs["p"].boxes.tolist() == [[6, 3, 4, 6], [12, 0, 4, 3]]
    assert pairs["p"].labels == ["person", "car"] and len(pairs["q"].boxes) == 0
    assert pairs["r"].boxes.tolist() == [[1, 2, 3, 4]]
    coco = json.loads((tiny / "ivif/general/annotations.json").read_text())
    assert [entry["id"] for entry in coco["annotations"]] == [1, 2, 3]
    assert (tiny / "ivif/general/origin.csv").read_text().splitlines()[1] == "p,train,here,day"
    assert (tiny / "mfif/m/masks/lab.png").is_file() and not list(tiny.glob(".*"))
    assert {*synced} == {path for path in tiny.rglob("*") if path.is_file()}
    for path in tiny.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = len(server.asked)
    assert fetch(server, tiny) == [] and len(server.asked) == before, "nothing to do, nothing done"


def test_only_what_is_missing_or_damaged_comes_again(server, tiny):
    fetch(server, tiny)
    (tiny / "ivif/general/ir/q.png").write_bytes(b"damaged")
    (tiny / "ivif/general/annotations.json").write_text("{")
    (tiny / "mfif/m/a/lab.png").unlink()
    server.asked.clear()
    assert fetch(server, tiny) == []
    assert server.asked == [address_of(server, "IR/q 1.png")], "lab is copied from its twin"
    assert len(open_pairs(tiny / "ivif/general")["p"].boxes) == 2


def again(status, times_before, **headers):
    def answer(self, content, times):
        if times < times_before:
            return self.head(0, status, **headers)
        self.plain(content, times)

    return answer


def stall(self, content, times):
    self.head(len(content))
    self.wfile.write(content[:9])
    time.sleep(1.5)


def closes_early(self, content, times):
    self.head(len(content))
    self.wfile.write(content[: len(content) // 2])


def of_no_length(part, self, content, times):
    self.head(None)
    self.wfile.write(content[: len(content) // part])


def another(self, content, times):
    self.plain(content[::-1], times)


def endless(self, content, times):
    self.head(None)
    for _ in range(10_000):
        self.wfile.write(b"\x89" * 10_000)


def dripping(self, content, times):
    self.head(len(content))
    for byte in content:
        self.wfile.write(bytes([byte]))
        time.sleep(0.05)


def sends(other, self, content, times):
    self.plain(other, times)


FAULTS = {
    "404": (again(404, 99), "status 404"),
    "429 for ever": (again(429, 99, Retry_After="0"), r"busy \(status 429\)"),
    "429 for an hour": (again(429, 99, Retry_After="3600"), r"busy \(status 429\)"),
    "503 for ever": (again(503, 99), r"busy \(status 503\)"),
    "stalls": (stall, "says nothing|too slow"),
    "closes early": (closes_early, "breaks off"),
    "closes early, no length": (partial(of_no_length, 2), "expected .* bytes, got"),
    "another file": (another, "expected sha256 .*, got another file"),
    "endless": (endless, "bytes, got more of them"),
    "a byte now and then": (dripping, "too slow: .* bytes in"),
    "a web page": (partial(sends, b"\n<!DOCTYPE html><p>log in"), "a web page in place of"),
    "an LFS pointer": (partial(sends, b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_at_fault(fault, server, tiny):
    answer, reason = FAULTS[fault]
    bad = address_of(server, "VI/q.png")
    server.odd[bad] = answer
    problems = fetch(server, tiny)
    assert len(problems) == 1 and "\n" not in problems[0]
    assert re.match(rf"ivif/general/vi/q.png: .*({reason})", problems[0]), problems
    assert server.url + bad in problems[0]
    missing = "ivif/general/vi/q.png"
    there = below(tiny)
    assert missing not in there and len(there) == len(get._table()["ivif/general"]) + 4
    assert server.asked.count(bad) <= download.ATTEMPTS
    server.odd.clear(), server.asked.clear()
    assert fetch(server, tiny) == [] and server.asked == [bad]


def dripping_on(self, content, times):
    self.head(None)
    for _ in range(200):
        self.wfile.write(b"x")
        time.sleep(0.02)


def of_any_length(self, content, times):
    self.head(10**15)


@pytest.mark.parametrize(
    "answer, words",
    [
        (dripping_on, "too slow: .* bytes in"),
        (endless, "got more of them"),
        (of_any_length, "expected room for 1000000000.0 MB, the disk has"),
    ],
)
def test_a_file_whose_size_nobody_knows(answer, words, server, tiny, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 10**6)
    server.contents["/x"], server.odd["/x"] = b"", answer
    file = download.Wanted(tiny / "x", server.url + "/x", None, lambda path: "")
    (error,) = download.bring([file], tiny).values()
    assert re.search(words, str(error)) and below(tiny) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status, server, tiny):
    for path in server.contents:
        server.odd[path] = again(status, 2)
    assert fetch(server, tiny) == [] and len(server.asked) == 3 * len(server.contents)


def test_labels_that_are_missing_are_said(server, tiny):
    server.odd[address_of(server, "l/q.txt")] = again(404, 99)
    problems = fetch(server, tiny)
    assert len(problems) == 2 and "boxes were not made" in problems[1]
    assert "ivif/general/annotations.json" not in below(tiny) and "mfif/m/a/lab.png" in below(tiny)


def test_no_network_is_one_sentence(server, tiny, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as closed:
        server.url = f"http://127.0.0.1:{closed.server_port}"
    monkeypatch.setattr(download, "ALIKE", 3)
    tried = []
    request = download._request
    monkeypatch.setattr(download, "_request", lambda *a: tried.append(a[0]) or request(*a))
    problems = fetch(server, tiny, "general", jobs=1)
    assert len(problems) == 2 and "8 files, " in problems[0] and "no connection to" in problems[0]
    assert len(set(tried)) == download.UNREACHED and len(tried) == 16, "then the rest is not tried"
    assert below(tiny) == []


def test_a_mirror_that_is_a_folder(server, tiny, tmp_path):
    mirror, repository = tmp_path / "a" / "raw" / "mirror", tmp_path / "a/raw/mirror/o/one"
    for path, content in server.contents.items():
        _, owner, name, _, commit, inside = path.split("/", 5)
        place = repository / inside if name == "one" else mirror / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    missing = repository / "VI/b.png"
    missing.rename(missing.with_name("elsewhere.png"))
    problems = get.get(get.plan(["general", "m"], tiny, str(mirror)))
    assert len(problems) == 1 and "mfif/m/b/lab.png: the mirror has no such file" in problems[0]
    missing.with_name("elsewhere.png").rename(missing)
    commit = repository_of(repository)
    sources = (get.HERE / "sources.yaml").read_text().replace(COMMIT, commit)
    (get.HERE / "sources.yaml").write_text(sources)
    get._sources.cache_clear()
    missing.unlink()  # of the working tree
    assert not get.get(get.plan(["m"], tiny, str(mirror))) and not server.asked
    assert (tiny / "mfif/m/b/lab.png").read_bytes() == png(30)


def repository_of(folder):
    """Make a git repository of a folder and return its commit."""
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    # serves the names alone too, as GitHub does
    partly = [
        ["config", f"uploadpack.{key}", "true"] for key in ("allowFilter", "allowAnySHA1InWant")
    ]
    for words in (["init", "-q"], *partly, ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_whole_set_is_cloned_and_counted(tmp_path, monkeypatch, synced):
    source, facts = tmp_path / "mirror/h/Set", catalog.entry("MSRS")[1]
    facts = facts | {"pairs": 2, "splits": {"train": 1, "test": 1}}
    clone = {"h/Set": [".", 1], "h/Labels": ["fusion", 1]}
    monkeypatch.setitem(catalog._entries(), "MSRS", facts | {"clone": clone})
    for split, name in (("train", "1D"), ("test", "2N")):
        for kind in ("ir", "vi"):
            images.write(source / split / kind / f"{name}.png", np.zeros((480, 640), np.uint8))
        text = source.with_name("Labels") / f"fusion/{split}/{name}.txt"
        text.parent.mkdir(parents=True)
        text.write_text("0 0.5 0.5 0.1 0.1\n")
    commit, data = repository_of(source), tmp_path / "data"
    chosen = get.plan(["MSRS"], data, str(source.parent.parent))
    assert "h/Set, 1 MB, a clone for MSRS" in chosen.words and facts["terms"] in chosen.words
    problems = get.get(chosen)
    assert len(problems) == 1 and "h/Labels" in problems[0] and "could not be cloned" in problems[0]
    repository_of(source.with_name("Labels"))
    assert get.get(chosen) == [] and not list(data.glob(".*"))
    assert commit in (data / "ivif/MSRS/.source").read_text()
    assert {data / "ivif/MSRS", data / "ivif/MSRS/fusion"} <= {*synced}
    pairs = open_pairs(data / "ivif/MSRS", "MSRS", "test")
    assert pairs.names == ["2N"] and len(pairs[0].boxes) == 1
    (data / "ivif/MSRS/test/ir/2N.png").write_text("version https://git-lfs.github.com/spec/v1")
    (data / "ivif/MSRS/train/vi/1D.png").unlink()
    problems = get.get(chosen)
    assert any("LFS pointer" in problem for problem in problems)
    assert any("expected 2 pairs of MSRS, found 1" in problem for problem in problems)


def run(home, *words):
    """Run the command line on the tables of a test; also in a process of its own."""
    get.HERE, get.MADE, download.PAUSE = home, home / "made", 0.01
    sys.argv = ["fusionlib", "data", *map(str, words)]
    main()


def test_killed_at_any_moment_and_started_again(tmp_path, server):
    rng = np.random.default_rng(0)
    contents = {f"mfif/m/a/{i}.png": ("o/one", f"{i}.png", rng.bytes(60_000)) for i in range(40)}
    contents["mfif/m/ref/7.png"] = contents["mfif/m/a/7.png"]
    server.contents |= write_tables(tmp_path / "tables", contents)

    def slowly(self, content, times):
        self.head(len(content))
        for start in range(0, len(content), 20_000):
            self.wfile.write(content[start : start + 20_000])
            time.sleep(0.01)

    server.odd |= dict.fromkeys(server.contents, slowly)
    data, words = tmp_path / "data", ("get", "m", "--mirror", server.url, "--yes", "--to")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fusionlib.__main__", "fusionlib.datasets.get", "pytest"])
    start = context.Process
    finished, kills = set(), 0
    while len(finished) < len(contents) - 8 and kills < 6:
        process = start(target=run, args=(tmp_path / "tables", *words, data))
        process.start()
        sent, least = len(server.sent), 4 + int(rng.integers(4))
        while process.is_alive() and len(server.sent) < sent + least:
            time.sleep(0.002)
        process.kill(), process.join()
        kills += 1
        finished = {name for name in below(data) if not name.startswith(download.WORK)}
        server.asked.append(("killed", frozenset(finished)))
    assert kills >= 3
    process = start(target=run, args=(tmp_path / "tables", *words, data))
    process.start(), process.join()
    assert process.exitcode == 0
    there = set()
    for path in server.asked:
        if isinstance(path, tuple):
            there = {f"/o/one/raw/{COMMIT}/{Path(name).name}" for name in path[1]}
        else:
            assert path not in there, "a file that was there was fetched again"
    asked = sum(isinstance(path, str) for path in server.asked)
    assert asked <= 40 + 4 * kills, "no more again than what was on its way"
    assert below(data) == sorted(contents), "no leftovers"
    assert all((data / name).read_bytes() == entry[2] for name, entry in contents.items())


def test_what_a_killed_download_had_whole_is_kept(server, tiny):
    address = address_of(server, "VI/b.png")
    part = tiny / download.WORK / hashlib.sha256(f"{server.url}{address}".encode()).hexdigest()
    part.parent.mkdir(parents=True)
    part.write_bytes(server.contents[address])
    part.with_name("0" * 64).write_bytes(b"of another call")
    assert fetch(server, tiny, "m") == []
    assert address not in server.asked and not (tiny / download.WORK).exists()


def test_killed_after_the_last_file_it_leaves_nothing_for_good(server, tiny):
    assert fetch(server, tiny, "m") == []
    work = tiny / download.WORK
    work.mkdir()
    (work / "lock").touch()
    with filelock.FileLock(work / "lock"):
        assert fetch(server, tiny, "m") == [] and work.exists(), "another one is at work there"
    assert fetch(server, tiny, "m") == [] and not work.exists()


def test_command_line(server, tiny, monkeypatch, capsys):
    words = ("get", "general", "m", "--mirror", server.url, "--to", tiny)
    monkeypatch.setattr(sys, "argv", [])
    for answer in ("", "n\n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        with pytest.raises(SystemExit) as ended:
            run(get.HERE, *words)
        said = capsys.readouterr()
        assert ended.value.code == 1 and "o/two" in said.out and not server.asked
        assert said.err.endswith("error: nothing was fetched: expected y, or --yes (make: YES=1)\n")
    server.odd[address_of(server, "VI/q.png")] = again(404, 9)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    for more, code in (((), 1), (("--yes",), 0), ((), 0)):
        with pytest.raises(SystemExit) as ended:
            run(get.HERE, *words, *more)
        assert ended.value.code == code
        assert ("error: ivif/general/vi/q.png: the server" in capsys.readouterr().err) == code
        server.odd.clear()


def test_room_and_folder(server, tiny, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    with monkeypatch.context() as patched:
        patched.setattr(download.shutil, "disk_usage", lambda _path: usage)
        with pytest.raises(OSError, match="expected room for 0.0 MB, the disk has 0.0 MB"):
            fetch(server, tiny)
    with download.working(tiny), pytest.raises(RuntimeError, match="another download is at work"):
        fetch(server, tiny)
    assert not server.asked
    tiny.rmdir(), tiny.write_text("a file in the way")
    with pytest.raises(OSError, match="cannot be written"):
        fetch(server, tiny)


@pytest.mark.parametrize(
    "name, paths",
    [
        ("RoadScene", ["cropinfrared/F_{}.jpg", "crop_LR_visible/F_{}.jpg", "infrared/F_{}.png"]),
        ("TNO", ["Image/Source-Image/TNO/ir/{}.png", "Image/Source-Image/TNO/vi/{}.png"]),
        ("MFIFB", ["input/c_{0}/c_{0}_A.jpg", "input/c_{0}/c_{0}_B.jpg", "output/M/c_{}.jpg"]),
    ],
)
def test_the_other_whole_sets_open_from_their_clones(name, paths, tmp_path, monkeypatch):
    facts = catalog.entry(name)[1]
    monkeypatch.setitem(catalog._entries(), name, facts | {"pairs": 2, "subsets": {}})
    home = tmp_path / "mirror" / next(iter(facts["clone"]))
    for path in paths:
        for number in (1, 2):
            images.write(home / path.format(number), np.zeros((32, 48), np.uint8))
    repository_of(home)
    assert get.get(get.plan([name], tmp_path / "data", str(tmp_path / "mirror"))) == []
    folder = clones.home(tmp_path / "data", name)
    opened = catalog.multi_focus(name, folder) if name == "MFIFB" else open_pairs(folder, name)
    assert len(opened) == 2


@pytest.fixture
def flir(tmp_path, monkeypatch):
    """A mirror with four pairs of FLIR-aligned, two of them for training, and their boxes."""
    home = tmp_path / "mirror/zonaqiu/FLIR-align"
    facts = {"pairs": 4, "splits": {"train": 2, "test": 2}}
    facts["subsets"] = {"FLIR-4129": {"split": "train", "pairs": 2}}
    facts["subsets"]["FLIR-1013"] = {"split": "test", "pairs": 2}
    monkeypatch.setitem(
        catalog._entries(), "FLIR-aligned", catalog.entry("FLIR-aligned")[1] | facts
    )
    names = [f"FLIR_0000{i}" for i in range(4)]
    for i, name in enumerate(names):
        picture = np.full((512, 640), 60 * i, np.uint8)
        images.write(home / f"IR/{name}_PreviewData.jpeg", picture)
        images.write(home / f"JPEGImages/{name}_RGB.jpg", np.stack([picture] * 3, axis=-1))
    (home / "align_train.txt").write_text("\n".join(f"{name}_PreviewData" for name in names[:2]))
    repository_of(home)
    coco = {
        "categories": [{"id": 1, "name": "person"}],
        "images": [
            {"id": i, "file_name": f"{name}_PreviewData.jpeg", "height": 512, "width": 640}
            for i, name in enumerate(names)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 20, 30, 40 + i]}
            for i in range(4)
        ],
    }
    boxes = tmp_path / "mirror/ganlumomo/voc2coco/flir_aligned_split/thermal_val_day/day.json"
    boxes.parent.mkdir(parents=True)
    boxes.write_text(json.dumps(coco))
    repository_of(boxes.parents[2])
    return tmp_path / "mirror"


@pytest.mark.parametrize("subset, numbers", [("", [0, 1, 2, 3]), ("flir-1013", [2, 3])])
def test_flir_comes_with_its_boxes(subset, numbers, flir, tmp_path):
    data = tmp_path / "data"
    chosen = ([], data, str(flir), [subset]) if subset else (["FLIR-aligned"], data, str(flir))
    assert get.get(get.plan(*chosen)) == []
    folder = data / "ivif/FLIR-aligned"
    pairs = open_pairs(folder, "FLIR-aligned", subset)
    assert pairs.names == [f"FLIR_0000{i}" for i in numbers]
    assert [pair.boxes[0].tolist()[3] for pair in pairs] == [40 + i for i in numbers]
    assert len(list(folder.glob("IR/*"))) == len(numbers) == len(list(folder.glob("JPEGImages/*")))
    assert get.get(get.plan(*chosen)) == []  # all there
    problems = get.get(get.plan([], data, str(flir), ["FLIR-4129"]))
    assert (
        problems
        == [f"{folder}: holds {subset} alone; remove this folder to get FLIR-4129"][: len(subset)]
    )


def test_names(tiny):
    assert get.plan(["ivif/general"], tiny).sets == get.plan(["general"], tiny).sets
    assert get.plan(["TNO"], tiny).clones == {"TNO": ""}
    assert get.plan([], tiny, subsets=["msrs-361"]).clones == {"MSRS": "msrs-361"}
    for names, subsets in ((["MSRS"], ["MSRS-361"]), ([], ["MSRS-361", "MSRS-1083"])):
        with pytest.raises(ValueError, match="MSRS: expected all of it or one subset"):
            get.plan(names, tiny, subsets=subsets)
    with pytest.raises(ValueError, match="which pairs M3FD-300 are is unknown here"):
        get.plan([], tiny, subsets=["M3FD-300"])
    with pytest.raises(ValueError, match="M3FD: lies in no public repository.*M3FD_Detection"):
        get.plan(["m3fd"], tiny)
    with pytest.raises(ValueError, match="name: expected some of sample, general, m, FLIR-al"):
        get.plan(["generell"], tiny)


def test_the_rule_where_things_are_looked_for(tmp_path, monkeypatch):
    checkout, cache = tmp_path / "checkout", tmp_path / "cache"
    monkeypatch.setattr(places, "PACKAGE", checkout / "fusionlib")
    monkeypatch.setattr("pooch.os_cache", lambda name: cache / name)
    monkeypatch.delenv("FUSION_DATA")
    assert places.folders("data") == [cache / "fusionlib/data"], "installed without a checkout"
    images.write_text(checkout / "pyproject.toml", "")
    monkeypatch.setenv("FUSION_DATA", str(tmp_path / "env"))
    expected = [tmp_path / "env", checkout / "data/downloaded", cache / "fusionlib/data"]
    assert places.folders("data") == expected
    assert places.folders("data", tmp_path / "named") == [tmp_path / "named", *expected]
    for folder in reversed(expected):
        for side in ("ir", "vi"):
            images.write(folder / f"ivif/msrs/{side}/1.png", np.zeros((8, 8), np.uint8))
        assert places.find("data", "ivif/msrs") == folder / "ivif/msrs"
        assert open_pairs("", "msrs").record["folder"] == str(folder / "ivif/msrs")
    with pytest.raises(FileNotFoundError, match="run: fusionlib data get general"):
        open_pairs("", "general")
    assert places.folders("data", "none") == [] and len(open_pairs("", "scenes")) == 8
    monkeypatch.setenv("FUSION_DATA", "none")
    assert places.folders("data") == [] and places.find("data", "ivif/msrs") is None
    with pytest.raises(FileNotFoundError, match="it is in none of no folder"):
        open_pairs("", "msrs")


def test_all_weights_with_an_address_are_fetched_once(tmp_path):
    from fusionlib.networks.weights.download import wanted  # torch: not in every child

    folder, files, lacking = wanted(["all"], tmp_path, "http://127.0.0.1:1")
    addresses = [file.address for file in files]
    assert len(addresses) == len(set(addresses)) and all(
        "/raw/" in address for address in addresses
    )
    assert len([file for file in files if file.path.name == "densefuse_gray.zip"]) == 1
    assert len({file.path for file in files}) == len(files)
    assert len(lacking) == 1 and "swinfuse" in lacking[0] and "no plain address" in lacking[0]


def test_the_table_of_the_project():
    rows = [row for name in get.sets() for row in get._table()[name]]
    repositories = get._sources()["repositories"]
    assert len(rows) == 2659 and (ROOT / "fusionlib/datasets/addresses.csv").stat().st_size < 1e6
    assert all(len(row["sha256"]) == 64 and row["repository"] in repositories for row in rows)
    assert all(len(facts["commit"]) == 40 and facts["terms"] for facts in repositories.values())
    assert set(get._sources()["groups"]["sample"]) == {*get.sets()} - {"ivif/general"}
    counts = {}
    for name in ("roadscene", "m3fd"):
        coco = json.loads((get.MADE / f"ivif/{name}/annotations.json").read_text())
        counts[name] = len(coco["annotations"])
    assert counts == {"roadscene": 508, "m3fd": 88}


NOT_BOXES = ("info", "description")


def test_all_real_files_from_a_server(fusion_data, server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (10, 30))  # a busy machine may well wait 0.3 s
    if not (fusion_data / "public.csv").is_file():
        pytest.skip("FUSION_DATA has no list of public addresses")
    for row in (row for name in get.sets() for row in get._table()[name]):
        commit = get._sources()["repositories"][row["repository"]]["commit"]
        path = f"/{row['repository']}/raw/{commit}/{row['path']}"
        server.contents[path] = (fusion_data / row["file"]).read_bytes()
    assert fetch(server, tmp_path, "sample", "general") == []
    assert len(server.asked) == len(server.contents) == 2551, "each address once"
    assert get.plan(["sample", "general"], tmp_path).files == [], "every SHA-256"
    for path in fusion_data.glob("[im]*/*/*.*"):
        mine = tmp_path / path.relative_to(fusion_data)
        if path.suffix == ".json":
            words = dict.fromkeys(NOT_BOXES)
            assert json.loads(mine.read_text()) | words == json.loads(path.read_text()) | words
        else:
            assert mine.read_bytes() == path.read_bytes()
    for path in fusion_data.glob("mfif/*/masks/*.png"):
        assert np.array_equal(
            images.read(path), images.read(tmp_path / path.relative_to(fusion_data))
        )
