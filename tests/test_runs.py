"""Run records, locks, and the strict papermill call."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import nbformat
import pandas as pd
import pytest

from fusionlib import images, runs

NOTEBOOKS = sorted((runs.root() / "notebooks").glob("*.ipynb"))


def notebook(
    path,
    *cells,
    parameters="output: str = ''\nn: int = 3  # how many\nrate: float = 0.5\nname: str = 'x'",
):
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    made.cells += [nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells]
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)
    return path


FINISH = "from fusionlib import runs\nrun = runs.Run('t', output, {'n': n})\nrun.finish();"


def test_record_and_what_load_refuses(tmp_path):
    run = runs.Run("t", tmp_path, {"seed": 3})
    run.finish(pd.DataFrame({"value": [1.5]}), data={"x": "abc"})
    record = runs.load(tmp_path, {"seed": 3})
    assert (
        record["data"] == {"x": "abc"}
        and record["environment"]["packages"]["numpy"]
        and record["seconds"] >= 0
    )
    with pytest.raises(ValueError, match="expected a run with seed = 4, it has 3"):
        runs.load(tmp_path, {"seed": 4})
    (tmp_path / "results.csv").write_text("value\n2.5\n")
    with pytest.raises(ValueError, match="results.csv: expected the file that the run wrote"):
        runs.load(tmp_path)
    (tmp_path / "run.json").write_text('{"half')
    with pytest.raises(ValueError, match="damaged"):
        runs.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="finished run"):
        runs.load(tmp_path / "nowhere")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_records_all_its_parameters(path, tmp_path):
    given = runs.parameters_of(path) | {"output": str(tmp_path)}
    of_ipython = dict.fromkeys(("In", "Out", "exit", "quit", "get_ipython", "open", "_i1"))
    run = runs.start(path.stem, given | of_ipython | {"np": "something else of the notebook"})
    run.finish()
    assert runs.load(tmp_path)["parameters"].keys() == given.keys() - {"output"}


def test_a_parameter_that_an_import_hides_is_refused(tmp_path):
    given = runs.parameters_of(NOTEBOOKS[0]) | {"output": str(tmp_path), "seed": pd}
    with pytest.raises(ValueError, match="parameter seed: expected int like 0, got module"):
        runs.start(NOTEBOOKS[0].stem, given)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"images_used": "two"}, "parameter images_used: expected int like .*, got str 'two'"),
        ({"images_used": 2.0}, "parameter images_used: expected int like .*, got float 2.0"),
        ({"image_used": 4}, "no parameter named image_used, did you mean images_used"),
    ],
)
def test_what_papermill_hands_on_is_checked_by_the_first_cell(changes, sentence, tmp_path):
    path = NOTEBOOKS[1]
    given = runs.parameters_of(path) | {"output": str(tmp_path), "pd": pd, "In": [], "i": 3}
    assert runs.start(path.stem, given)
    with pytest.raises(ValueError, match=sentence):
        runs.start(path.stem, given | changes)


def test_starting_again_takes_the_old_record_away(tmp_path):
    runs.Run("t", tmp_path, {}).finish()
    runs.Run("t", tmp_path, {})
    with pytest.raises(FileNotFoundError):
        runs.load(tmp_path)


def test_a_changed_figure_is_no_figure_of_the_run(tmp_path):
    run = runs.Run("t", tmp_path, {})
    for name in ("a.png", "b.pdf"):
        images.write_text(tmp_path / "figures" / name, name)
    run.finish()
    assert set(runs.load(tmp_path)["files"]) == {"figures/a.png", "figures/b.pdf"}
    (tmp_path / "figures" / "b.pdf").write_text("another")
    with pytest.raises(ValueError, match="b.pdf: expected the file that the run wrote"):
        runs.load(tmp_path)


def test_a_run_does_not_hand_on_what_an_earlier_one_wrote(tmp_path):
    run = runs.Run("t", tmp_path, {})
    images.write_text(tmp_path / "figures" / "old.png", "old")
    (tmp_path / "notes.txt").write_text("of the user")
    run.finish(pd.DataFrame({"value": [1.5]}))
    runs.Run("t", tmp_path, {}).finish()
    assert runs.load(tmp_path)["files"] == {} and not (tmp_path / "figures/old.png").exists()
    assert (tmp_path / "notes.txt").read_text() == "of the user"


def test_parameters_are_checked_before_anything_runs(tmp_path):
    kinds = "output: str = ''\nn: int = 3\nrate: float = 0.5\nname: str = 'x'\n"
    kinds += "names: list = ['a']\nsizes: list = [[1, 2]]\nmany: list = []"
    path = notebook(tmp_path / "n.ipynb", FINISH, parameters=kinds)
    runs.check_parameters(path, {"n": 4, "rate": 1, "names": [], "sizes": [[3, 4], [5, 6]]})
    runs.check_parameters(path, {"many": [1, "b"]})
    for bad, words in [
        ({"m": 1}, "no parameter named m; there are output, n"),
        ({"n": "4"}, "expected int like 3, got str"),
        ({"n": True}, "expected int"),
        ({"name": 2}, "expected str"),
        ({"names": ["a", 2]}, r"expected list like \['a'\], got list \['a', 2\]"),
        ({"sizes": [[1, 2], [3.5, 4]]}, "expected list like"),
    ]:
        with pytest.raises(ValueError, match=words):
            runs.check_parameters(path, bad)
    with pytest.raises(FileNotFoundError, match="expected a notebook"):
        runs.check_parameters(tmp_path / "none.ipynb", {})


def test_a_notebook_runs_into_its_folder(tmp_path):
    path = notebook(tmp_path / "n.ipynb", "print('seen', n)", FINISH)
    runs.execute(path, tmp_path / "node", {"n": 7})
    assert runs.load(tmp_path / "node", {"n": 7})
    assert "seen 7" in (tmp_path / "node" / "log.txt").read_text()


def test_a_failing_cell_leaves_its_traceback_and_no_record(tmp_path):
    path = notebook(tmp_path / "n.ipynb", "1 / (n - n)", FINISH)
    with pytest.raises(RuntimeError, match="node: cell 3 of n.ipynb failed: ZeroDivisionError"):
        runs.execute(path, tmp_path / "node", {})
    log = (tmp_path / "node" / "log.txt").read_text()
    assert "Traceback" in log and log.strip().splitlines()[-1].endswith("division by zero")
    assert not (tmp_path / "node" / "run.json").exists() and "\x1b" not in log


def test_a_folder_is_held_by_one_and_let_go_when_killed(tmp_path):
    code = (
        "import time; from fusionlib import runs\n"
        f"with runs.lock({str(tmp_path)!r}, 'x'): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(
        RuntimeError, match=f"x: already being worked on by process {holder.pid}, since"
    ):
        with runs.lock(tmp_path, "x"):
            pass
    holder.kill()
    holder.wait()
    with runs.lock(tmp_path, "x"):
        pass


def test_child_ends_when_its_parent_is_killed(tmp_path):
    if sys.platform != "linux":
        pytest.skip("the parent-death signal is Linux only")
    child = (
        "import os, time; from fusionlib import runs; runs.end_with_parent(); print(os.getpid(),"
        " flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    started = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pid = int(started.stdout.readline())
    started.kill()
    started.wait()
    for _ in range(100):
        try:
            state = open(f"/proc/{pid}/stat").read().split()[2]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, 9)
    pytest.fail("the child outlived its parent by 5 s")


def test_library_hash_follows_imports(tmp_path, monkeypatch):
    package = tmp_path / "fusionlib"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "a": "from fusionlib import b",
        "b": "x = 1",
        "c": "y = 1",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.setattr(runs, "root", lambda: tmp_path)
    path = notebook(tmp_path / "n.ipynb", "%matplotlib inline\nfrom fusionlib.a import b")
    before = runs.library_hash(path)
    (package / "c.py").write_text("y = 2")
    assert runs.library_hash(path) == before, "c is not imported"
    (package / "b.py").write_text("x = 2")
    assert runs.library_hash(path) != before, "b is imported through a"


@pytest.mark.parametrize(
    "line",
    ["from .b import x", "from . import b", "from ..room.b import x", "from ..room import b"],
)
def test_library_hash_follows_relative_imports(tmp_path, monkeypatch, line):
    room = tmp_path / "fusionlib" / "room"
    room.mkdir(parents=True)
    for path, text in {
        room.parent / "__init__.py": "",
        room / "__init__.py": "",
        room / "a.py": line,
        room / "b.py": "x = 1",
    }.items():
        path.write_text(text)
    monkeypatch.setattr(runs, "root", lambda: tmp_path)
    path = notebook(tmp_path / "n.ipynb", "from fusionlib.room.a import x")
    hashes = [runs.library_hash(path)]
    for name in ("b", "__init__"):
        (room / f"{name}.py").write_text("x = 2")
        hashes.append(runs.library_hash(path))
    assert len(set(hashes)) == 3


def test_a_full_disk_is_one_sentence_also_in_the_log(tmp_path, monkeypatch):
    import papermill

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(papermill, "execute_notebook", full)
    sentence = "node: .*node: expected to write there, got: No space left on device"
    with pytest.raises(OSError, match=sentence):
        runs.execute(notebook(tmp_path / "n.ipynb", "x = 1"), tmp_path / "node", {})
    assert re.search(sentence, (tmp_path / "node" / "log.txt").read_text())


def test_read_only_output_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="output: the folder .* cannot be written"):
        runs.Run("t", tmp_path / "file" / "out", {})


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("device", "tpu", "device: expected auto or one of cpu.*, got 'tpu'"),
        ("weights", "nowhere", "weights: expected a folder, found none at nowhere"),
    ],
)
def test_a_device_or_folder_that_is_not_there_is_refused_first(name, value, sentence):
    notebook = runs.root() / "notebooks" / "25-table-1.ipynb"
    values = runs.parameters_of(notebook)
    with pytest.raises((ValueError, OSError), match=sentence):
        runs.start("25-table-1", values | {name: value})


def test_a_worker_that_starts_after_its_parent_died_ends_too(tmp_path):
    script = tmp_path / "late.py"
    script.write_text(
        "import multiprocessing, os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from fusionlib import workers\n"
        "def late(home):\n"
        "    (home / 'begun').write_text(str(os.getpid()))\n"
        "    while multiprocessing.parent_process().is_alive():\n"
        "        time.sleep(0.01)\n"
        "    workers.start()\n"
        "    (home / 'survived').touch()\n"
        "if __name__ == '__main__':\n"
        "    home = Path(sys.argv[1])\n"
        "    multiprocessing.get_context('spawn').Process(target=late, args=(home,)).start()\n"
        "    while not (home / 'begun').exists() or not (home / 'begun').read_text():\n"
        "        time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # its pipe closes when the last process that has it ends
    subprocess.run([sys.executable, script, tmp_path], capture_output=True, timeout=60)
    assert (tmp_path / "begun").exists() and not (tmp_path / "survived").exists()


def test_ctrl_c_does_not_wait_for_the_running_cell(tmp_path):
    """Neither for one that, like a training in its step, goes on at Ctrl-C."""
    ended = tmp_path / "ended"
    busy = f"""
        import pathlib, time
        stop = time.monotonic() + 20
        while time.monotonic() < stop:
            time.sleep(0.1)
        pathlib.Path({str(ended)!r}).touch()
    """
    path = notebook(tmp_path / "n.ipynb", "output = ''", busy)
    call = (
        f"from fusionlib import runs; runs.execute({str(path)!r}, {str(tmp_path / 'node')!r}, {{}})"
    )
    command = [sys.executable, "-c", call]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        while "cell 2" not in running.stderr.readline():
            assert running.poll() is None
        time.sleep(1)  # until the kernel has the cell
        running.send_signal(signal.SIGINT)
    assert running.returncode != 0 and not ended.exists()
