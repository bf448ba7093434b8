"""The run graph as a user meets it: failures, kills, two at once, wrong words."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from test_runs import FINISH, notebook

from fusionlib import published, report, runs
from workflow import graph

PROFILE = (
    "jobs: 2\nthreads: 1\nseed: 0\ndevice: cpu\nmulti_focus: [builtin]\ninfrared_visible:"
    " [builtin]\n"
)


@pytest.fixture
def tiny(tmp_path):
    """A workflow of three notebooks: good, bad (fails while a file stands), slow (waits while a
    file stands).
    """
    home = tmp_path / "workflow"
    (home / "profiles").mkdir(parents=True)
    (home / "profiles" / "smoke.yaml").write_text(PROFILE)
    (home / "nodes.yaml").write_text(
        "good: {notebook: good.ipynb, provides: [one]}\n"
        "bad: {notebook: bad.ipynb, provides: [two]}\n"
        "after: {notebook: after.ipynb, provides: [three],"
        " needs: {before: {node: good, take: same}}}\n"
    )
    books = tmp_path / "notebooks"
    notebook(books / "good.ipynb", FINISH)
    stop = f"assert not Path({str(tmp_path / 'break')!r}).exists(), 'on purpose'"
    notebook(books / "bad.ipynb", f"from pathlib import Path\n{stop}", FINISH)
    notebook(
        books / "after.ipynb",
        f"import time\nfrom pathlib import Path\nwhile Path({str(tmp_path / 'wait')!r}).exists():"
        " time.sleep(0.1)",
        FINISH,
        parameters="output: str = ''\nn: int = 3\nbefore: str = ''",
    )
    return tmp_path


def command(tiny, *words):
    return [
        sys.executable,
        "-m",
        "workflow.reproduce",
        "--reports",
        str(tiny / "reports"),
        "--workflow",
        str(tiny / "workflow"),
        *words,
    ]


def reproduce(tiny, *words, **options):
    return subprocess.run(
        command(tiny, *words),
        cwd=runs.root(),
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def times(tiny):
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in (tiny / "reports" / "smoke").glob("*/run.json")
    }


def test_a_failing_notebook_stops_nothing_else_and_only_it_runs_again(tiny):
    (tiny / "break").touch()
    first = reproduce(tiny)
    assert first.returncode not in (0, None)
    assert set(times(tiny)) == {"good", "after"}, first.stderr
    assert "AssertionError: on purpose" in first.stderr, "the traceback is shown"
    assert "[good] cell 1 of" in first.stderr, "progress is shown"
    page = (tiny / "reports" / "smoke" / "index.html").read_text()
    assert "bad failed." in page and "on purpose" in page
    before = times(tiny)
    (tiny / "break").unlink()
    second = reproduce(tiny)
    assert second.returncode == 0, second.stderr
    assert {name: when for name, when in times(tiny).items() if name in before} == before, (
        "finished nodes were run again"
    )
    assert "reason: Missing output files" in second.stdout + second.stderr
    assert "numbers equal the reference" in second.stdout.splitlines()[-1]


def _until(what):
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, "two minutes passed"
        time.sleep(0.2)


def make(tiny):
    """Return the command of README for the small workflow: the Makefile's own recipe, with this
    Python.
    """
    python = tiny / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/sh\n"
        + f'exec {shlex.join(command(tiny)[:1])} "$@" {shlex.join(command(tiny)[3:])}\n'
    )
    python.chmod(0o755)
    (tiny / "venv" / "installed").touch()
    return ["make", "reproduce", f"VENV={tiny / 'venv'}"]


@pytest.mark.parametrize("killed", ["all of it", "its first process alone", "make alone"])
def test_killed_and_started_again(tiny, killed):
    (tiny / "wait").touch()
    process = subprocess.Popen(
        make(tiny) if killed == "make alone" else command(tiny),
        cwd=runs.root(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    log = tiny / "reports" / "smoke" / "after" / "log.txt"
    _until(lambda: len(times(tiny)) == 2 and log.exists())
    before, below = times(tiny), psutil.Process(process.pid).children(recursive=True)
    first = below[0].pid if killed == "make alone" else process.pid
    second = reproduce(tiny)
    assert second.returncode == 2
    assert (
        f"already being worked on by process {first}" in second.stderr
        and second.stderr.count("\n") == 1
    )
    os.killpg(process.pid, signal.SIGKILL) if killed == "all of it" else process.kill()
    process.wait()
    left = psutil.wait_procs(below, timeout=30)[1]
    assert not left, f"left running: {left}"  # or it would go on beside the next start
    (tiny / "wait").unlink()
    third = reproduce(tiny)
    assert third.returncode == 0, third.stderr
    assert set(times(tiny)) == {"good", "bad", "after"}
    assert {name: times(tiny)[name] for name in before} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end_it_ends_with_its_notebooks_and_says_what_is_there(tiny, number):
    (tiny / "wait").touch()
    process = subprocess.Popen(
        command(tiny),
        cwd=runs.root(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # as a shell starts what ends with "&"
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    log = tiny / "reports" / "smoke" / "after" / "log.txt"
    _until(lambda: len(times(tiny)) == 2 and log.exists())
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    said, complaints = process.communicate(timeout=180)  # a busy machine
    assert process.returncode == 130, complaints
    assert not psutil.wait_procs(below, timeout=30)[1]
    assert "\nreport: " in said and "not finished: after" in complaints
    assert "after failed." in (tiny / "reports" / "smoke" / "index.html").read_text()


def test_a_run_of_its_own_outlives_the_shell_it_was_started_from(tiny):
    (tiny / "wait").touch()
    shell = subprocess.Popen(
        ["sh", "-c", f"{shlex.join(command(tiny))} > /dev/null 2>&1 & echo $!; read line"],
        cwd=runs.root(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    run = psutil.Process(int(shell.stdout.readline()))
    _until(lambda: len(times(tiny)) == 2)
    shell.communicate("go\n")
    (tiny / "wait").unlink()
    assert not psutil.wait_procs([run], timeout=120)[1]
    assert set(times(tiny)) == {"good", "bad", "after"}


def test_an_edited_notebook_runs_again_and_says_why(tiny):
    assert reproduce(tiny, "--only", "one").returncode == 0
    assert set(times(tiny)) == {"good"}
    before = times(tiny)
    assert reproduce(tiny, "--only", "one").returncode == 0
    assert times(tiny) == before
    notebook(tiny / "notebooks" / "good.ipynb", "print('edited')", FINISH)
    again = reproduce(tiny, "--only", "one")
    assert "Updated input files" in again.stdout + again.stderr
    assert times(tiny)["good"] > before["good"]


def test_lost_and_changed_results_are_made_again(tiny):
    assert reproduce(tiny).returncode == 0
    before = times(tiny)
    (tiny / "reports" / "smoke" / "bad" / "run.json").write_text('{"half')
    again = reproduce(tiny)
    assert again.returncode == 0 and "bad runs again: " in again.stdout
    assert {name for name, when in times(tiny).items() if when != before[name]} == {"bad"}
    assert runs.load(tiny / "reports" / "smoke" / "bad")


def test_a_data_set_that_is_not_there_is_said_and_the_results_of_others_stay(tiny):
    home, data = tiny / "workflow", tiny / "data"
    sets = "infrared_visible: [yard, wood]\n"
    (home / "profiles" / "smoke.yaml").write_text(re.sub("infrared_visible: .*\n", sets, PROFILE))
    (home / "nodes.yaml").write_text(
        "each: {notebook: each.ipynb, provides: [table-1], for_each: infrared_visible}\n"
        "gallery: {notebook: gallery.ipynb, provides: [figure-1, figure-5],"
        " for_all: infrared_visible, needs: {fused: {node: each, take: all}}}\n"
    )
    look = "from pathlib import Path\nfolders = [data] if isinstance(data, str) else data\n"
    look += "assert all(Path(folder).is_dir() for folder in folders)"
    draw = "import numpy as np\nfrom fusionlib import images, runs"
    draw += "\nrun = runs.Run('t', output, {})"
    picture = "images.write(run.folder / 'figures' / 'figure-1.png', np.zeros((4, 5), np.uint8))"
    end = f"{draw}\n{picture}\nrun.finish();"
    for name, kind in (("each", "str = ''"), ("gallery", "list = []\nfused: list = []")):
        words = f"output: str = ''\ndataset: {kind}\ndata: {kind.split(chr(10))[0]}"
        notebook(tiny / "notebooks" / f"{name}.ipynb", look, end, parameters=words)
    (data / "ivif" / "yard").mkdir(parents=True)
    done = reproduce(tiny, env=os.environ | {"FUSION_DATA": str(data)})
    assert done.returncode != 0 and "expected the data set wood at" in done.stderr
    assert set(times(tiny)) == {"each-yard", "gallery"}, done.stderr
    page = (tiny / "reports" / "smoke" / "index.html").read_text()
    assert "<strong>gallery left out:</strong> wood: finished without it, it is not there" in page
    assert "each-wood failed." in page
    reasons = {
        entry["word"]: entry["reason"]
        for entry in report.artefacts(report.nodes(tiny / "reports" / "smoke"), [])
    }
    assert reasons["figure-1"] == "wood: finished without it, it is not there"
    assert reasons["figure-5"] == f"gallery finished without it; {reasons['figure-1']}"


def test_the_last_node_runs_whatever_became_of_the_others(tiny):
    nodes = tiny / "workflow" / "nodes.yaml"
    nodes.write_text(
        nodes.read_text() + "page: {notebook: page.ipynb, provides: [four], finally: results}\n"
    )
    notebook(
        tiny / "notebooks" / "page.ipynb",
        "from pathlib import Path\n"
        "found = sorted(path.parent.name for path in Path(results).glob('*/run.json'))",
        "from fusionlib import runs\nrun = runs.Run('t', output, {'found': found})\nrun.finish();",
        parameters="output: str = ''\nresults: str = ''",
    )
    (tiny / "break").touch()
    assert reproduce(tiny).returncode not in (0, None), "a failure stays one"
    assert set(times(tiny)) == {"good", "after", "page"}
    assert runs.load(tiny / "reports" / "smoke" / "page")["parameters"] == {
        "found": ["after", "good"]
    }
    page = next(
        node
        for node in graph.expand("smoke", tiny, ["two"], here=tiny / "workflow")
        if node.is_final
    )
    assert not page.wanted and page.name == "page"


def test_a_dry_run_lists_jobs_and_hours_without_data(tiny):
    (tiny / "workflow" / "nodes.yaml").write_text(
        "train: {notebook: train.ipynb, provides: [training], for_each: infrared_visible}\n"
        "score: {notebook: score.ipynb, provides: [one], for_each: infrared_visible,"
        " needs: {model: {node: train, take: same}}}\n"
    )
    for name, more in (("train", ""), ("score", "\nmodel: str = ''")):
        notebook(
            tiny / "notebooks" / f"{name}.ipynb",
            FINISH,
            parameters=f"output: str = ''\nn: int = 1\ndata: str = ''\ndataset: str = ''{more}",
        )
    (tiny / "workflow" / "profiles" / "paper.yaml").write_text(
        PROFILE.replace("infrared_visible: [builtin]", "infrared_visible: [M, L]")
        + "pairs: {M: {all: 3600}, L: {all: 900}}\n"
        "costs: {training: {split: all, epochs: 10, times: 2, pairs_per_second: 4}}\n"
    )
    done = reproduce(
        tiny,
        "--profile",
        "paper",
        "--dry-run",
        env={k: v for k, v in os.environ.items() if k != "FUSION_DATA"},
    )
    assert done.returncode == 0, done.stderr
    table = {
        line.split()[0]: line.split()[1]
        for line in done.stdout[done.stdout.rindex("\njob ") :].splitlines()
        if line
    }
    assert table == {
        "job": "hours",  # of a processor, which the profile names
        "train-M": "5.00",
        "train-L": "1.25",
        "score-M": "-",
        "score-L": "-",
        "together": "6.25",
    }
    assert "rule train-M" in done.stdout + done.stderr or "train-M" in done.stderr
    folder = tiny / "reports" / "paper"
    assert not (folder / "nodes.json").exists() and not list(folder.glob("*/run.json")), (
        "nothing was run or planned"
    )
    nodes = {
        node.name: node for node in graph.expand("paper", folder, here=tiny / "workflow", dry=True)
    }
    assert nodes["score-L"].parameters["model"] == str(folder / "train-L"), (
        "each is scored with its own model"
    )
    assert (nodes["train-M"].minutes, nodes["score-M"].minutes) == (60 + 15 * 60, 60)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--cluster", "huge"], "--cluster: expected slurm, got 'huge'"),
        (["--profile", "huge"], "PROFILE: expected one of smoke, got 'huge'"),
        (
            ["--only", "table-9"],
            "ONLY: no table or figure named table-9; there are one, three, two",
        ),
    ],
)
def test_wrong_words(tiny, words, sentence):
    done = reproduce(tiny, *words)
    assert done.returncode == 2 and re.fullmatch(f"error: {sentence}", done.stderr.strip())


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("{goood: {n: 4}}", "no notebook named goood, did you mean good"),
        (
            "{after: {befor: x}}",
            ".*/after.ipynb: no parameter named befor, did you mean before; there are output,"
            " n, before",
        ),
        ("{good: {n: many}}", ".*/good.ipynb: parameter n: expected int like 3, got str 'many'"),
    ],
)
def test_a_profile_that_names_what_there_is_not_starts_nothing(tiny, options, given, sentence):
    path = tiny / "workflow" / "profiles" / "smoke.yaml"
    path.write_text(f"{PROFILE}parameters: {given}\n")
    done = reproduce(tiny, *options)
    expected = f"error: {re.escape(str(path))}: parameters: {sentence}"
    assert done.returncode == 2 and re.fullmatch(expected, done.stderr.strip()), done.stderr
    assert not (tiny / "reports").exists()


def test_profiles_are_checked(tmp_path):
    (tmp_path / "profiles").mkdir()
    for text, words in [
        (PROFILE + "colour: red\n", "'colour' was unexpected"),
        ("jobs: many\n", "jobs|required"),
        (PROFILE.replace("jobs: 2", "jobs: 0"), "jobs: 0 is less than the minimum"),
        (PROFILE.replace("multi_focus: [builtin]", "multi_focus: ['{x}']"), "does not match"),
        ("a: [", "damaged"),
    ]:
        (tmp_path / "profiles" / "x.yaml").write_text(text)
        with pytest.raises(ValueError, match=words):
            graph.load_profile("x", tmp_path)


def test_costs_must_be_of_something(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "nodes.yaml").write_text("{}")
    (tmp_path / "profiles" / "x.yaml").write_text(
        PROFILE + "costs: {training: {split: all, pairs_per_second: 4}}\n"
    )
    with pytest.raises(ValueError, match="profile x: costs: no node provides training"):
        graph.expand("x", tmp_path, here=tmp_path)
    (tmp_path / "profiles" / "x.yaml").write_text(
        PROFILE + "costs: {training: {split: all, pairs_per_second: 0}}\n"
    )
    with pytest.raises(
        ValueError, match="costs/training/pairs_per_second: 0 is less than or equal to the minimum"
    ):
        graph.load_profile("x", tmp_path)


def test_paper_profile_counts_the_pairs_of_the_paper():
    printed = published.table("moe-fusion", "text")
    printed = printed[printed["split"].isin(["training", "evaluation"])]
    stated = graph.load_profile("paper")["pairs"]
    assert {
        name: {k: int(v) for k, v in zip(part["split"], part["value"], strict=True)}
        for name, part in printed.groupby("dataset")
    } == stated


@pytest.mark.parametrize(
    ("profile", "jobs", "unit"),
    [
        ("flir", {"table-1-FLIR-aligned"}, "    hours"),
        (
            "flir-gpu",
            {f"{job}-FLIR-aligned" for job in ("training", "table-1", "table-2", "table-3")},
            "GPU hours",
        ),
    ],
)
def test_the_flir_profiles_run_their_tables_alone_and_say_the_hours(tmp_path, profile, jobs, unit):
    settings = graph.load_profile(profile)
    assert settings["pairs"]["FLIR-aligned"].items() <= (
        graph.load_profile("paper")["pairs"]["FLIR-aligned"].items()
    )
    nodes = graph.expand(profile, tmp_path, settings["only"], dry=True)
    asked = [node for node in nodes if node.wanted]
    assert {node.name for node in asked} == jobs and all(node.hours > 0 for node in asked)
    assert unit in graph.listing(nodes) and sum(node.hours for node in asked) < 24
    for node in asked:
        named = [node.parameters.get("split"), node.parameters.get("held_out")]
        named.append(node.parameters.get("changes", {}).get("data.held_out"))
        assert set(named) - {None} == {"FLIR-1013"}


@pytest.mark.parametrize("profile", graph.profiles())
def test_every_profile_can_be_listed_without_data(profile, tmp_path):
    nodes = graph.expand(profile, tmp_path, dry=True)
    text = graph.listing(nodes)
    assert all(re.search(rf"^{node.name} ", text, re.M) for node in nodes)
    assert len(text.splitlines()) == len(nodes) + 2


def test_real_data_must_be_there(tmp_path):
    with pytest.raises(
        ValueError, match="set gray_classic at .*, found nothing there; run: make data, or"
    ):
        graph.expand("sample", tmp_path)
    with pytest.raises(ValueError, match="M3FD at .*; run: make data SETS=M3FD, or"):
        graph.expand("paper", tmp_path, only=["infrared-visible-data"])
    with pytest.raises(ValueError, match="expected the data set gray_classic at .*, found nothing"):
        graph.expand("sample", tmp_path, data=str(tmp_path))


def test_smoke_ignores_the_real_data(tmp_path):
    passed = json.dumps(
        [
            node.parameters
            for node in graph.expand("smoke", tmp_path, data="DATA", weights="WEIGHTS")
        ]
    )
    assert "DATA" not in passed and "WEIGHTS" not in passed
    assert '"weights": "none"' in passed and '"weights": ""' not in passed


ODD = 'it\'s {n} #1: a "b" $HOME'


def test_paths_and_values_reach_the_notebook_as_they_are(tiny, tmp_path):
    checkout = tmp_path / ODD
    for name in ("fusionlib", "workflow"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(runs.root() / name, checkout / name, ignore=ignored)
    (tmp_path / "link").symlink_to(checkout)  # PYTHONPATH cannot hold a colon
    home = checkout / "small"
    shutil.copytree(tiny / "workflow", home / "workflow")
    (home / "workflow" / "nodes.yaml").write_text(
        "first: {notebook: first.ipynb, provides: [one], for_each: infrared_visible}\n"
        "page: {notebook: page.ipynb, provides: [two], finally: results}\n"
    )
    text = "{n} #2: 'c' \\ $(exit) {{m}}"
    (home / "workflow" / "profiles" / "smoke.yaml").write_text(
        PROFILE.replace("infrared_visible: [builtin]", "infrared_visible: [real]")
        + f"parameters: {json.dumps({'first': {'text': text}})}\n"
    )
    record = (
        "from fusionlib import runs\n"
        "run = runs.Run('t', output, {'seen': [output, text, data, results]})\nrun.finish();"
    )
    names = ("output", "text", "data", "dataset", "results")
    parameters = "\n".join(f"{name}: str = ''" for name in names)
    for name in ("first", "page"):
        notebook(home / "notebooks" / f"{name}.ipynb", record, parameters=parameters)
    data = tmp_path / ODD / "data"
    (data / "ivif" / "real").mkdir(parents=True)
    command = [sys.executable, "-m", "workflow.reproduce", "--workflow", home / "workflow"]
    command += ["--reports", home / ODD]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "link"), "FUSION_DATA": str(data)}
    options = {"cwd": tmp_path / "link", "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(command, timeout=300, **options)
    assert done.returncode == 0, done.stderr
    folder = home / ODD / "smoke"
    seen = runs.load(folder / "first-real")["parameters"]["seen"]
    assert seen == [str(folder / "first-real"), text, str(data / "ivif" / "real"), ""]
    assert runs.load(folder / "page")["parameters"]["seen"] == [
        str(folder / "page"),
        "",
        "",
        str(folder),
    ]
    before = (folder / "first-real" / "run.json").stat().st_mtime_ns
    again = subprocess.run([*command, "--only", "one"], timeout=300, **options)
    assert again.returncode == 0, again.stderr
    assert (folder / "first-real" / "run.json").stat().st_mtime_ns == before, "it ran again"
