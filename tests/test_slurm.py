"""What a job asks for and what its end means; `make test-cluster` runs real ones."""

import csv
import json

import pytest

from workflow import graph, slurm

NODE = {"name": "one", "notebook": "one.ipynb", "needs": ["two"], "parameters": {"n": 3}}
NODE |= {"library": "a", "threads": 2, "gpu": 1, "megabytes": 950, "minutes": 16}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder that a job starts in, with what node "one" reads."""
    for path in ("state/notebooks/one.ipynb", "two/run.json"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("as it was")
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "state")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("JobId=7 JobName=one JobState=RUNNING Reason=None ExitCode=0:0", "RUNNING"),
        ("JobId=7 JobState=COMPLETED DerivedExitCode=1:0 ExitCode=0:0", "COMPLETED"),
        ("JobId=7 JobState=FAILED Reason=NonZeroExitCode ExitCode=1:0", "FAILED"),
        ("JobId=7 JobState=FAILED Reason=RaisedSignal:9 ExitCode=0:9", "KILLED"),
        ("JobId=7 JobState=FAILED Reason=NonZeroExitCode ExitCode=143:0", "KILLED"),
        (RuntimeError("scontrol: slurm_load_jobs error: Invalid job id specified"), "LOST"),
        (RuntimeError("scontrol: Unable to contact slurm controller"), "UNKNOWN"),
    ],
)
def test_what_the_controller_says(here, monkeypatch, said, meant):
    def ask(*_):
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(slurm, "ask", ask)
    assert slurm.state("7", "one") == meant
    (here / "one" / "run.json").touch()
    assert slurm.state("7", "one") == ("COMPLETED" if meant == "LOST" else meant)


@pytest.mark.parametrize(
    ("ends", "asked", "status"),
    [
        (["COMPLETED"], [(950, 16)], 0),
        (["FAILED"], [(950, 16)], 1),
        (["CANCELLED", "NODE_FAIL", "COMPLETED"], [(950, 16)] * 3, 0),
        (["TIMEOUT", "OUT_OF_MEMORY", "KILLED"], [(950, 16), (1900, 32), (3800, 64)], 1),
    ],
)
def test_what_the_cluster_ended_is_sent_again(here, monkeypatch, ends, asked, status):
    sent, left = [], iter(ends)

    def ask(program, *options, script=None):
        if program == "sbatch":
            given = dict(option.split("=", 1) for option in options if "=" in option)
            sent.append((int(given["--mem"].rstrip("M")), int(given["--time"])))
            assert (given["--cpus-per-task"], given["--gres"]) == ("2", "gpu:1")
            return "7"
        return f"JobId=7 JobState={next(left)} ExitCode=0:0" if program == "scontrol" else ""

    monkeypatch.setattr(slurm, "ask", ask)
    assert slurm.run(NODE) == status and sent == asked


def test_an_end_that_nobody_saw_counts_while_nothing_has_changed(here, monkeypatch):
    slurm.finished(NODE).write_text("done")
    monkeypatch.setattr(slurm, "ask", lambda *_, **__: pytest.fail("no job is needed"))
    assert slurm.run(NODE) == 0 and (here / "one" / "run.json").read_text() == "done"
    before = slurm.mark(NODE)
    assert slurm.mark(NODE | {"library": "b"}) != before != slurm.mark(NODE | {"parameters": {}})
    (here / "two" / "run.json").write_text("made again")
    assert slurm.mark(NODE) != before
    slurm.forget(here / "one")
    assert [path.name for path in (here / "one").iterdir()] == ["run.json"]


def test_measured_nodes_are_nodes_and_ask_for_more_than_they_took(tmp_path):
    with open(graph.HERE / "measured.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for profile in {row["profile"] for row in rows}:
        nodes = {node.name: node for node in graph.expand(profile, tmp_path, dry=True)}
        mine = [row for row in rows if row["profile"] == profile]
        assert {row["node"] for row in mine} <= set(nodes)
        for row in mine:
            node = nodes[row["node"]]
            assert 60 * node.minutes > 2 * float(row["seconds"])
            assert node.megabytes > 1300 * float(row["gigabytes"] or 5)
    smoke = {row["node"] for row in rows if row["profile"] == "smoke" and row["gigabytes"]}
    assert smoke == {node.name for node in graph.expand("smoke", tmp_path, dry=True)}


def test_a_record_says_its_peak_of_memory(tmp_path):
    from fusionlib import runs

    held = bytearray(b"1") * 300_000_000
    runs.Run("t", tmp_path, {}).finish()
    record = json.loads((tmp_path / "run.json").read_text())
    assert len(held) < 1e9 * record["gigabytes"] < 24e9
