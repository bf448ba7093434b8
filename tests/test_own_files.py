"""Nobody's files are overwritten, and what was done before an interruption stays."""

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pandas as pd
import psutil
import pytest

from fusionlib import decoding, images, methods, places, runs, scoring
from fusionlib.__main__ import main
from fusionlib.experiments import comparison, protocol
from fusionlib.networks import load_checkpoint, save_checkpoint


def folder_of(path, count=3, size=(32, 48)):
    rng = np.random.default_rng(len(str(path)))
    for number in range(count):
        images.write(path / f"{number:03}.png", rng.integers(0, 256, size).astype(np.uint8))
    return path


@pytest.fixture
def home(tmp_path):
    folder_of(tmp_path / "ir"), folder_of(tmp_path / "vi")
    return tmp_path


def content(folder):
    """Return the bytes of all files below a folder that are not hidden."""
    files = (path for path in sorted(folder.rglob("[!.]*")) if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def call(monkeypatch, capsys, *words):
    """Run the command line here; return exit code and what it said on stderr."""
    monkeypatch.setattr(sys, "argv", ["fusionlib", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().err


def same_file(home):
    return home / "ir/000.png", home / "vi/000.png", home / "ir/000.png"


def linked_file(home):
    (home / "link.png").symlink_to(home / "vi/000.png")
    return home / "ir/000.png", home / "vi/000.png", home / "link.png"


def hard_link(home):
    os.link(home / "vi/000.png", home / "twin.png")
    return home / "ir/000.png", home / "vi/000.png", home / "twin.png"


def sources_named_as_outputs(home):
    (home / "ir").rename(home / "gray"), (home / "vi").rename(home / "color")
    return home / "gray", home / "color", home


def output_links_to_sources(home):
    (home / "out").mkdir(), (home / "out/gray").symlink_to(home / "ir")
    return home / "ir", home / "vi", home / "out"


def output_is_a_source(home):
    return home / "ir", home / "vi", home / "vi"


def source_below_the_output(home):
    (home / "out/gray").mkdir(parents=True)
    os.link(home / "vi/001.png", home / "out/gray/001.png")
    return home / "ir", home / "vi", home / "out"


def foreign_record(home):
    runs.Run("t", home / "out", {}).finish()
    return home / "ir", home / "vi", home / "out"


def foreign_images(home):
    folder_of(home / "out/gray", 5)
    return home / "ir", home / "vi", home / "out"


KINDS = [same_file, linked_file, hard_link, sources_named_as_outputs, output_links_to_sources]
KINDS += [output_is_a_source, source_below_the_output, foreign_record, foreign_images]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("options", [(), ("--overwrite",)], ids=["", "overwrite"])
def test_nobodys_files_are_replaced(kind, options, home, monkeypatch, capsys):
    words = kind(home)
    before = content(home)
    code, sentence = call(monkeypatch, capsys, "fuse", "--method", "average", *options, *words)
    assert code == 1 and str(home) in sentence and sentence.count("\n") == 1
    assert content(home) == before


@pytest.mark.parametrize(
    "change", [{"method": "maximum"}, {"weight": 0.3}, {"pairs": 4}], ids=lambda c: next(iter(c))
)
def test_an_output_of_something_else_is_replaced_whole_or_not_at_all(change, home):
    out = home / "out"
    methods.fuse_folders(methods.get("LP"), home / "ir", home / "vi", out, progress=False, levels=2)
    before = content(out)
    for side in ("ir", "vi"):
        folder_of(home / side, change.get("pairs", 3))
    other = methods.get(change.get("method", "LP"))
    options = {"levels": 2} if other.name == "LP" else {}
    options |= {"weight": change["weight"]} if "weight" in change else {}
    call = (other, home / "ir", home / "vi", out)
    with pytest.raises(ValueError, match="expected the same method, parameters and pairs"):
        methods.fuse_folders(*call, progress=False, **options)
    assert content(out) == before
    methods.fuse_folders(*call, overwrite=True, progress=False, **options)
    record = json.loads((out / "run.json").read_text())
    fresh = home / "fresh"
    methods.fuse_folders(*call[:3], fresh, progress=False, **options)
    assert record["method"] == other.name and list(record["images"]) == record["pairs"]
    for kind in ("gray", "color"):
        assert list(content(out / kind).values()) == list(content(fresh / kind).values())


def test_weights_that_changed_under_their_path_are_another_method(home):
    folder, out = home / "training", home / "out"
    shutil.copytree(methods.ARTEFACT, folder)
    weights, call = folder / "model.safetensors", (home / "ir", home / "vi", out)
    for attempt in ("first", "trained anew"):
        method = methods.get("MoE-Fusion", checkpoint=folder, device="cpu")
        if attempt == "trained anew":
            with pytest.raises(ValueError, match="got another weights; name another folder, or"):
                methods.fuse_folders(method, *call, progress=False)
        methods.fuse_folders(method, *call, overwrite=True, progress=False)
        tensors = load_checkpoint(weights)
        changed = {name: value + 1e-3 for name, value in tensors.items()}
        save_checkpoint(weights, changed, tensors.config)


def test_weights_that_are_nowhere_are_one_sentence_and_touch_nothing(home, monkeypatch):
    monkeypatch.setenv("FUSION_WEIGHTS", places.NOWHERE)
    with pytest.raises(FileNotFoundError, match="YDTR: no weights found"):
        methods.fuse_folders(methods.get("YDTR"), home / "ir", home / "vi", home / "out")
    assert not (home / "out").exists()


def test_a_method_of_ones_own_may_fail_in_any_way(home, monkeypatch, capsys):
    plugin = home / "mine.py"
    plugin.write_text(
        "from fusionlib.methods import register\n"
        "@register('mine of keys')\n"
        "def mine(a, b):\n    '''Fails where the first is black.'''\n"
        "    return {0: a}[int(not a.any())]\n"
    )
    images.write(home / "ir/001.png", np.zeros((32, 48), np.uint8))
    words = ("--plugin", plugin, "--method", "mine of keys", home / "ir", home / "vi")
    code, sentences = call(monkeypatch, capsys, "fuse", *words, home / "out")
    assert code == 1 and "001: 1" in sentences
    assert len(list((home / "out/gray").glob("*"))) == 2


def test_one_bad_pair_stops_no_other_and_is_named(home, monkeypatch, capsys):
    (home / "vi/001.png").write_bytes(b"no image")
    words = ("fuse", "--method", "LP", "--set", "levels=2", home / "ir", home / "vi", home / "out")
    code, sentences = call(monkeypatch, capsys, *words)
    assert code == 1 and "error: 001: " in sentences and "001.png" in sentences
    assert len(list((home / "out/gray").glob("*"))) == 2 and not (home / "out/run.json").exists()
    images.write(home / "vi/001.png", np.zeros((32, 48), np.uint8))
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert len(json.loads((home / "out/run.json").read_text())["images"]) == 3
    assert not list((home / "out").rglob(".fused*"))


def test_a_file_without_partner_stops_no_pair_and_is_named(home, monkeypatch, capsys):
    images.write(home / "ir/alone.png", np.zeros((32, 48), np.uint8))
    (home / "vi/002.jpg").write_bytes(b"another of that stem")
    (home / "vi/gone.png").symlink_to(home / "not fetched")
    words = ("fuse", "--method", "average", home / "ir", home / "vi", home / "out")
    code, said = call(monkeypatch, capsys, *words)
    assert code == 1 and sorted(p.stem for p in (home / "out/gray").iterdir()) == ["000", "001"]
    assert f"alone: expected an image in both folders, found none to read in {home / 'vi'}" in said
    assert "002.jpg" in said and "gone.png: expected an image file, got a link" in said
    for path in ("ir/alone.png", "vi/002.jpg", "vi/gone.png"):
        (home / path).unlink()
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert len(json.loads((home / "out/run.json").read_text())["images"]) == 3
    (home / "empty").mkdir()
    code, said = call(monkeypatch, capsys, *words[:3], home / "ir", home / "empty", home / "new")
    assert code == 1 and "expected image pairs, found none: 000: expected" in said


def test_sources_that_look_swapped_are_told_once_and_fused(home, monkeypatch, capsys):
    for path in (home / "vi").iterdir():
        images.write(path, np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8))
    note = "infrared first? the first image is coloured, the second is not"
    for first, second, count in (("vi", "ir", 1), ("ir", "vi", 0)):
        for name in ("", "000.png"):
            sources = home / first / name, home / second / name
            out = home / f"out of {first}" if not name else home / f"out of {first}.png"
            code, said = call(monkeypatch, capsys, "fuse", "--method", "average", *sources, out)
            assert (code, said.count(note)) == (0, count)


def test_a_coloured_infrared_image_is_its_y_as_in_the_notebooks(home, monkeypatch, capsys):
    for number, side in enumerate(("ir", "vi")):
        for path in (home / side).iterdir():
            image = np.random.default_rng(number).integers(0, 256, (32, 48, 3), np.uint8)
            images.write(path, image)
    pair = images.read(home / "ir/000.png"), images.read(home / "vi/000.png")
    as_y, both = images.luma(pair[0]), methods.get("average").fuse(*pair)
    as_notebooks = methods.get("average").fuse(as_y, pair[1])
    assert not np.array_equal(as_notebooks, both)
    for option, expected in (((), as_notebooks), (("--keep-both-colours",), both)):
        for name in ("", "000.png"):
            out = home / f"out {len(option)}" / name
            words = "--method", "average", *option, home / "ir" / name, home / "vi" / name, out
            code, said = call(monkeypatch, capsys, "fuse", *words, *(["--overwrite"] * (not name)))
            assert (code, said.count("both images are coloured")) == (0, 0 if option else 1)
            fused = images.read(out if name else out / "color/000.png")
            assert np.array_equal(fused, expected)


@pytest.mark.parametrize(
    ("infrared", "visible", "names"),
    [
        ("{}_ir", "{}_vi", {"000", "001", "002"}),
        ("FLIR_{}_PreviewData", "FLIR_{}_RGB", {"FLIR_000", "FLIR_001", "FLIR_002"}),
        ("{}", "{}-Visible", {"000", "001", "002"}),
        ("{}_ir", "{}_ir", {"000_ir", "001_ir", "002_ir"}),
        ("{}_red", "{}_blue", set()),
    ],
)
def test_names_that_end_in_the_modality(infrared, visible, names, home, monkeypatch, capsys):
    for side, form in (("ir", infrared), ("vi", visible)):
        for path in sorted((home / side).iterdir()):
            path.rename(path.with_stem(form.format(path.stem)))
    words = "--method", "average", home / "ir", home / "vi", home / "out"
    code, said = call(monkeypatch, capsys, "fuse", *words)
    assert (code, "expected image pairs" in said) == ((0, False) if names else (1, True))
    assert {path.stem for path in (home / "out/gray").glob("*")} == names
    if names:
        folders = home / "out/gray", home / "ir", home / "vi"
        frame, problems = scoring.score_folder(*folders)
        assert set(frame["image"]) == names and not problems


def test_one_odd_pair_among_others_is_matched_and_ambiguous_names_are_not(home):
    for side, stem in (("ir", "x_ir"), ("vi", "x_vi"), ("vi", "x-rgb"), ("vi", "y_vi")):
        shutil.copy(home / "ir/000.png", home / side / f"{stem}.png")
    shutil.copy(home / "ir/000.png", home / "ir/y.png")
    out = home / "out"
    count, problems = methods.fuse_folders(
        methods.get("average"), home / "ir", home / "vi", out, progress=False
    )
    assert count == 4 and (out / "gray/y.png").is_file()
    assert [problem.split(":")[0] for problem in problems] == ["x-rgb", "x_ir", "x_vi"]


def test_two_at_once_into_one_folder(home):
    with (
        runs.lock(home / "out", "the folder"),
        pytest.raises(RuntimeError, match="already being worked on"),
    ):
        methods.fuse_folders(methods.get("average"), home / "ir", home / "vi", home / "out")


def start(*words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "fusionlib", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own
        **options,
    )


def wait_until(what):
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("how", "jobs"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGKILL, 1)]
    + [(signal.SIGTERM, 2), (signal.SIGKILL, 2)],
)
def test_an_interrupted_fusion_goes_on(how, jobs, tmp_path):
    for side in ("ir", "vi"):
        folder_of(tmp_path / side, 40, (200, 200))
    folders = (tmp_path / "ir", tmp_path / "vi", tmp_path / "out")
    words = ("fuse", "--method", "LP", "--jobs", jobs, *folders)
    process, gray = start(*words), tmp_path / "out/gray"
    wait_until(lambda: len(list(gray.glob("[!.]*"))) > 2)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    _, sentence = process.communicate(timeout=20)
    assert not psutil.wait_procs(workers, timeout=10)[1]
    if how != signal.SIGKILL:
        assert process.returncode == 130 and "of 40 pairs are fused in" in sentence
    first = {path: path.stat().st_mtime_ns for path in gray.glob("[!.]*")}
    assert len(first) < 40 and not (tmp_path / "out/run.json").exists()
    assert start(*words).wait() == 0
    again = {path for path in first if path.stat().st_mtime_ns != first[path]}
    assert len(again) <= jobs, "only pairs that were being written are fused again"
    alone = tmp_path / "alone"
    methods.fuse_folders(methods.get("LP"), tmp_path / "ir", tmp_path / "vi", alone, progress=False)
    for kind in ("gray", "color"):
        one, two = (list(content(out / kind).values()) for out in (tmp_path / "out", alone))
        assert one == two
    hidden = {path.name for path in (tmp_path / "out").rglob(".*")}
    assert hidden <= {".lock", ".lock-holder"}


def test_what_a_shell_started_with_an_ampersand_is_ended_by_kill(tmp_path):
    folders = [folder_of(tmp_path / side, 40, (200, 200)) for side in ("ir", "vi")]
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    process = start("fuse", "--method", "LP", *folders, tmp_path / "out", **ignored)
    wait_until(lambda: len(list((tmp_path / "out/gray").glob("[!.]*"))) > 2)
    process.terminate()
    _, sentence = process.communicate(timeout=20)
    assert process.returncode == 130 and "of 40 pairs are fused in" in sentence


def test_several_processes_fuse_what_one_does_and_name_the_bad_pair(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from fusionlib.methods import register\n"
        "@register('mine')\n"
        "def mine(a, b, w=0.25):\n"
        "    if a[0, 0] == 7:\n"
        "        raise KeyError('a seven')\n"
        "    return w * a + (1 - w) * b\n"
    )
    folders = [folder_of(tmp_path / side, 6, (30, 40)) for side in ("ir", "vi")]
    seven = images.read(folders[0] / "002.png")
    seven[0, 0] = 7
    images.write(folders[0] / "002.png", seven)
    for jobs in (1, 2):
        words = ("--plugin", plugin, "--method", "mine", "--set", "w=0.4", "--jobs", jobs)
        process = start("fuse", *words, *folders, tmp_path / f"{jobs}")
        said, sentences = process.communicate(timeout=120)
        assert process.returncode == 1 and "5 pairs fused" in said
        assert "error: 002: 'a seven'" in sentences
    one, two = (content(tmp_path / f"{jobs}") for jobs in (1, 2))
    assert len(one) == 10 and [*one.values()] == [*two.values()]
    seven[0, 0] = 8  # mended: the rest stays
    images.write(folders[0] / "002.png", seven)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "2").glob("*/[!.]*.png")}
    assert start("fuse", *words, *folders, tmp_path / "2").wait(timeout=120) == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    record = json.loads((tmp_path / "2/run.json").read_text())
    assert [*record["images"]] == [*record["sources"]] == [f"{number:03}" for number in range(6)]


@pytest.mark.parametrize(
    ("how", "send"),
    [(how, os.kill) for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)]
    # a terminal and a scheduler send it to the workers too
    + [(how, os.killpg) for how in (signal.SIGINT, signal.SIGTERM)],
)
def test_an_interrupted_score_leaves_no_worker_and_keeps_what_is_done(how, send, tmp_path):
    for side in ("f", "ir", "vi"):
        (first,) = folder_of(tmp_path / side, 1, (900, 1200)).iterdir()
        for number in range(1, 60):
            os.link(first, first.with_name(f"{number:03}.png"))
    table = tmp_path / "s.csv"
    folders = [tmp_path / side for side in ("f", "ir", "vi")]
    process = start("score", *folders, "--jobs", "2", "--csv", table)
    parent = psutil.Process(process.pid)
    # more than it takes to start: it is at work
    wait_until(lambda: any(child.cpu_times().user > 5 for child in parent.children(recursive=True)))
    workers = parent.children(recursive=True)
    send(process.pid, how)
    _, sentences = process.communicate(timeout=20)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    if how != signal.SIGKILL:
        assert process.returncode == 130
        count = pd.read_csv(table)["image"].nunique()
        assert f"{count} of 60 images are scored, in {table}" in sentences and 0 < count < 60


# ---- writing -------------------------------------------------------------------------------------


def test_a_device_or_a_pipe_is_written_to(home, tmp_path, monkeypatch, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    folders = (home / "ir", home / "ir", home / "vi")
    assert call(monkeypatch, capsys, "score", *folders, "--csv", pipe)[0] == 0
    assert reader.communicate(timeout=60)[0].startswith("image,metric") and pipe.is_fifo()
    images.write_text("/dev/null", "nothing")
    assert not os.path.isfile("/dev/null")


@pytest.mark.parametrize(("name", "number"), [("/dev/stdout", 1), ("/dev/fd/7", 7)])
def test_an_open_file_is_written_to_where_it_stands(name, number, home):
    table, link = home / "table.txt", home / "link.csv"
    table.write_text("kept\n"), link.symlink_to(name)
    command = f'exec {shlex.join([sys.executable, "-m", "fusionlib"])} "$@" {number}>> {table}'
    score = ["score", home / "ir", home / "ir", home / "vi", "--csv", link]
    done = subprocess.run(["sh", "-c", command, "sh", *score], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept, rows = table.read_text().split("\n", 1)
    assert kept == "kept"
    assert set(pd.read_csv(io.StringIO(rows))["image"]) == {0, 1, 2}, "the means stand elsewhere"
    picture = home / "picture"
    fuse = ["fuse", "--method", "average", home / "ir/000.png", home / "vi/000.png", name]
    command = command.replace(f">> {table}", f"> {picture}")
    assert not subprocess.run(["sh", "-c", command, "sh", *fuse]).returncode
    assert images.read(picture).shape == (32, 48) and os.path.islink("/dev/stdout")


@pytest.mark.parametrize("given", ["weight=null", "weight=[1, 2]", "weight=2", "nonsense=1"])
def test_a_wrong_parameter_is_named_and_is_in_nobodys_way(given, home, monkeypatch, capsys):
    words = ("fuse", home / "ir", home / "vi", home / "out", "--method", "LP", "--set")
    code, told = call(monkeypatch, capsys, *words, given)
    assert code == 1 and "the rest is there" not in told
    if given.startswith("weight"):
        assert told.count("weight: expected a number in [0, 1], got") == 3
    else:
        assert told.count("LP: no parameter named nonsense") == 1 and not (home / "out").exists()
    assert call(monkeypatch, capsys, *words, "weight=0.25")[0] == 0
    code, told = call(monkeypatch, capsys, *words, given)
    assert code == 1 and len(content(home / "out")) == 7, "what was fused stays"


@pytest.mark.parametrize("given", ["[1]", "3", "{", "[" * 100_000])
def test_parameters_of_a_notebook_are_one_object(given, home, monkeypatch, capsys):
    words = ("run", "n.ipynb", home / "out", "--parameters", given)
    code, told = call(monkeypatch, capsys, *words)
    assert code == 1 and told.startswith("error: --parameters: expected a JSON object, got '")
    assert len(told.splitlines()) == 1


def test_the_means_are_told_even_where_the_table_cannot_be_written(home, monkeypatch, capsys):
    (home / "taken").write_text("a file")
    words = ["score", home / "ir", home / "ir", home / "vi", "--csv", home / "taken" / "t.csv"]
    monkeypatch.setattr(sys, "argv", ["fusionlib", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 1 and "t.csv: cannot be written" in told.err
    assert "moe-fusion" in told.out


@pytest.mark.parametrize("name", ["..", ".", "../ir", "a/b", "", "LP", "infrared"])
def test_rows_of_ones_own_have_names_of_their_own(name, home):
    """Such a folder would be emptied: theirs, another row's, or a source's."""
    (home / "ir").rename(home / "gray")
    before = content(home)
    sources = protocol.Sources(home / "gray", home / "vi", ("000", "001"), "", (0, 1), ())
    with pytest.raises(ValueError, match="folders: expected names of new methods"):
        comparison.import_fused_folders({name: home / "vi"}, sources, home / "fused")
    with pytest.raises(ValueError, match="folders: expected the path of Mine's images, got 3"):
        comparison.import_fused_folders({"Mine": 3}, sources, home / "fused")
    assert content(home) == before
    if name not in methods.names():
        with pytest.raises(TypeError, match="register: expected a name"):
            methods.register(name)


def test_a_table_goes_under_csv_only(home, monkeypatch, capsys):
    (home / "folder.csv").mkdir()
    before = content(home)
    for name in (home / "ir/000.png", home / "new.txt", home / "folder.csv"):
        words = ("score", home / "ir", home / "ir", home / "vi", "--csv", name)
        code, sentence = call(monkeypatch, capsys, *words)
        assert code == 1 and "--csv: expected the name of a file that ends in .csv" in sentence
    assert content(home) == before


def test_a_bad_suffix_is_refused_before_the_work(home, monkeypatch, capsys):
    monkeypatch.setattr(methods.Method, "fuse", lambda *_a, **_k: pytest.fail("it has worked"))
    words = (home / "ir/000.png", home / "vi/000.png", home / "out.xyz")
    code, sentence = call(monkeypatch, capsys, "fuse", "--method", "average", *words)
    assert code == 1 and "expected a suffix of an image format" in sentence


@pytest.mark.parametrize("stem", ["x" * 251, "é" * 125, "字" * 83])
def test_the_longest_names_can_be_written(stem, tmp_path):
    images.write(tmp_path / f"{stem}.png", np.zeros((2, 2), np.uint8))
    assert [path.stem for path in tmp_path.iterdir()] == [stem]


def test_what_a_killed_writer_left_is_swept(home):
    half = home / "out/gray/.writing-000-ab12cd34.png"
    half.parent.mkdir(parents=True), half.write_bytes(b"half")
    methods.fuse_folders(methods.get("average"), home / "ir", home / "vi", home / "out")
    assert not half.exists()


@pytest.mark.parametrize("suffix, error", [(".webp", 0), (".jpg", 4)])
def test_lossy_formats_are_written_well(suffix, error, tmp_path):
    ramp = np.add.outer(np.arange(64), 3 * np.arange(64)).astype(np.uint8)
    image = np.stack([ramp, ramp[::-1], ramp.T], axis=-1) // 2
    path = images.write(tmp_path / f"x{suffix}", image)
    assert np.abs(images.read(path).astype(int) - image).mean() <= error


def test_a_name_that_is_not_utf8_loses_no_scores(tmp_path, monkeypatch, capsys):
    name = os.fsdecode(b"\xd6\xd0.png")
    for side in ("f", "ir", "vi"):
        folder_of(tmp_path / side, 1)
        os.rename(tmp_path / side / "000.png", tmp_path / side / name)
    table = tmp_path / "s.csv"
    folders = [tmp_path / side for side in ("f", "ir", "vi")]
    assert call(monkeypatch, capsys, "score", *folders, "--csv", table)[0] == 0
    assert "\n\\xd6\\xd0,EN" in table.read_text()


def test_a_locked_training_is_one_sentence(tmp_path):
    from fusionlib.training import __main__ as training

    (tmp_path / "config.json").write_text("{}")
    with (
        runs.lock(tmp_path, "the folder of the training"),
        pytest.raises(SystemExit, match="already being worked on") as ended,
    ):
        training.main(["--config", str(tmp_path / "config.json"), "--device", "cpu"])
    assert "\n" not in str(ended.value)


def test_names_in_two_forms_of_unicode_are_one(home):
    for side, form in (("ir", "NFC"), ("vi", "NFD")):
        path = home / side / "000.png"
        path.rename(path.with_name(unicodedata.normalize(form, "café.png")))
    assert len(images.list_pairs(home / "ir", home / "vi")) == 3
    scores = scoring.score_folder(home / "vi", home / "ir", home / "vi", progress=False)
    assert not scores.problems and scores.frame["image"].nunique() == 3


def test_many_names_without_partner_are_a_short_sentence(home):
    folder_of(home / "ir", 500, (2, 2))
    with pytest.raises(ValueError, match="003, 004, 005 and 494 more") as refused:
        images.list_pairs(home / "ir", home / "vi")
    assert len(str(refused.value)) < 300


def test_a_link_that_leads_nowhere_is_told(home):
    for side in ("ir", "vi"):
        (home / side / "999.png").symlink_to(home / "not fetched")
    with pytest.raises(FileNotFoundError, match="999.png: expected an image file, got a link"):
        images.list_pairs(home / "ir", home / "vi")
    scores = scoring.score_folder(home / "vi", home / "ir", home / "vi", progress=False)
    assert len(scores.problems) == 3 and all("999.png" in told for told in scores.problems)


@pytest.mark.parametrize("suffix", [".jp2", ".avif", ".HEIC"])
def test_pictures_that_are_not_read_are_told(suffix, home, monkeypatch, capsys):
    for side in ("ir", "vi"):
        (home / side / f"999{suffix}").write_bytes(b"a picture")
    words = (home / "ir", home / "vi")
    code, told = call(monkeypatch, capsys, "fuse", "--method", "average", *words, home / "out")
    assert code == 1 and f"999{suffix}: expected a format such as .png" in told
    code, told = call(monkeypatch, capsys, "score", home / "vi", *words)
    assert code == 1 and told.count(f"999{suffix}: expected a format such as .png") == 3


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_fused_images_are_found_in_either_form_of_unicode(form, home):
    name, other = (unicodedata.normalize(form, "café"), "NFD" if form == "NFC" else "NFC")
    (home / "vi/000.png").rename(home / f"vi/{unicodedata.normalize(other, name)}.png")
    methods.import_fused_folder("Mine", home / "vi", [name, "001"], home / "out")
    assert images.read(home / f"out/gray/{name}.png").shape == (32, 48)


@pytest.mark.parametrize("command", ["fuse", "score", "data"])
def test_the_limit_of_pixels_is_an_option(command, home, monkeypatch, capsys):
    monkeypatch.setenv(decoding.LIMIT, "")
    layout = {"called": "plain", "infrared": "ir/{name}.*", "visible": "vi/{name}.*"}
    (home / "dataset.yaml").write_text(json.dumps({"Yard": {"pairs": 3, "layouts": [layout]}}))
    words = (
        command,
        *{
            "fuse": ("--method", "average", home / "ir", home / "vi", home / "out"),
            "score": (home / "ir", home / "ir", home / "vi"),
            "data": ("yard", "--check", home, "--processes", 2),
        }[command],
    )
    code, sentences = call(monkeypatch, capsys, *words, "--max-pixels", "1535")
    assert code == 1 and "at most 1535 pixels, got 32x48 = 1536" in sentences
    monkeypatch.setenv(decoding.LIMIT, "")
    assert call(monkeypatch, capsys, *words)[0] == 0


# ---- means ---------------------------------------------------------------------------------------


def test_means_say_over_how_many_images(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64)).astype(np.uint8)
    for side, flat in (("f", 90), ("ir", 90), ("vi", 90)):
        images.write(tmp_path / side / "a.png", noise // (1 + len(side)))
        images.write(tmp_path / side / "flat.png", np.full((64, 64), flat, np.uint8))
    frame = scoring.score_folder(
        *(tmp_path / side for side in ("f", "ir", "vi")), convention="standard", progress=False
    ).frame
    table, sentences = scoring.summarize(frame)
    for metric in table:
        values = frame[frame["metric"] == metric]["value"]
        finite = values[np.isfinite(values)]
        assert table[metric].iloc[0] == pytest.approx(finite.mean(), nan_ok=True)
        said = [sentence for sentence in sentences if sentence.startswith(f"{metric} ")]
        assert len(said) == int(values.isna().any()) + int(np.isinf(values).any())
    assert any("infinite for" in sentence for sentence in sentences)
    assert any("undefined for 1 of 2 images (flat" in sentence for sentence in sentences)
    only_flat, _ = scoring.summarize(frame[frame["image"] == "flat"])
    assert list(only_flat) == list(table), "a metric undefined everywhere keeps its column"


def test_a_finished_folder_is_not_fused_again(home, monkeypatch, capsys):
    """As after a kill between the last image and the end of the command; what has changed is."""
    words = ("fuse", "--method", "average", home / "ir", home / "vi", home / "out")

    def written():
        return {path.stem: path.stat().st_mtime_ns for path in (home / "out/gray").iterdir()}

    assert call(monkeypatch, capsys, *words)[0] == 0
    first, record = written(), (home / "out/run.json").read_bytes()
    assert call(monkeypatch, capsys, *words)[0] == 0
    assert written() == first and (home / "out/run.json").read_bytes() == record
    images.write(home / "ir/001.png", np.full((32, 48), 7, np.uint8))
    (home / "out/gray/002.png").unlink()
    assert call(monkeypatch, capsys, *words)[0] == 0
    second = written()
    assert {name for name in first if second[name] != first[name]} == {"001", "002"}
    assert call(monkeypatch, capsys, *words, "--overwrite")[0] == 0
    assert all(written()[name] != second[name] for name in second)
