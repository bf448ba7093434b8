"""A SLURM of one node on the loopback, and the run graph through it: `make test-cluster`.

Debian's packages slurmctld, slurmd, slurm-client and munge bring the programs. Nothing is installed
or configured: all of it lies in a temporary folder and ends with this script.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from test_runs import FINISH, notebook

from fusionlib import runs
from workflow import graph, slurm

PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])  # of daemons
DAEMONS = ("munged", "slurmctld", "slurmd")
SETTINGS = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={home}/munge.socket
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
PROFILE = """
jobs: 2
threads: 1
seed: 0
device: cpu
multi_focus: [builtin]
infrared_visible: [builtin]
"""
MEASURED = """profile,node,gigabytes,seconds
smoke,quick,0.3,1
smoke,slow,0.3,1
smoke,greedy,0.3,1
smoke,huge,9999,1
"""


def until(what, seconds=600):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{seconds} s passed")
        time.sleep(0.5)
    return found


@contextlib.contextmanager
def cluster(home):
    """Start the daemons, wait for an idle node, and end them."""
    with socket.socket() as one, socket.socket() as two:
        ports = []
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
            ports.append(each.getsockname()[1])
    memory = psutil.virtual_memory().total // 2 // 2**20
    user, host = psutil.Process().username(), socket.gethostname().split(".")[0]
    text = SETTINGS.format(home=home, ports=ports, memory=memory, user=user, host=host)
    (home / "slurm.conf").write_text(text)
    for name in ("state", "spool"):
        (home / name).mkdir()
    (home / "munge.key").write_bytes(os.urandom(1024))
    (home / "munge.key").chmod(0o400)
    os.environ["SLURM_CONF"] = str(home / "slurm.conf")
    kept = [f"--{word}={home}/munge.{end}" for word, end in (
        ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"),
        ("seed-file", "seed"))]  # fmt: skip
    commands = [["munged", "--force", "--foreground", *kept], ["slurmctld", "-D"], ["slurmd", "-D"]]
    with contextlib.ExitStack() as daemons:
        for command in commands:
            process = daemons.enter_context(
                subprocess.Popen(
                    command,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    preexec_fn=runs.end_with_parent,
                )
            )
            daemons.callback(process.terminate)
            if command[0] == "munged":
                until((home / "munge.socket").exists, 30)
        try:
            until(lambda: "idle" in said("sinfo", "--noheader"), 60)
            yield
        finally:
            said("scancel", f"--user={user}")
            until(lambda: not queue(), 60)


def said(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr


def queue(form="%i %j %T"):
    return said("squeue", "--noheader", f"--format={form}").splitlines()


def job_of(name, state="RUNNING"):
    """Return the numbers of the jobs of a node that are in a state."""
    return [line.split()[0] for line in queue() if line.split()[1:] == [name, state]]


class Small:
    """A workflow of small notebooks: quick; slow, which waits while a file stands; greedy, which
    takes more memory than it asks for; huge, which asks for more than there is.
    """

    def __init__(self, home):
        self.home, self.wait = home, home / "wait"
        (home / "workflow" / "profiles").mkdir(parents=True)
        (home / "workflow" / "profiles" / "smoke.yaml").write_text(PROFILE)
        (home / "workflow" / "measured.csv").write_text(MEASURED)
        names = ("quick", "slow", "greedy", "huge")
        lines = [f"{name}: {{notebook: {name}.ipynb, provides: [{name}]}}" for name in names]
        (home / "workflow" / "nodes.yaml").write_text("\n".join(lines))
        (home / "starts").touch()
        started = f"print(output, file=open({str(home / 'starts')!r}, 'a'))"
        waiting = "import time\nfrom pathlib import Path\n"
        waiting += f"while Path({str(self.wait)!r}).exists(): time.sleep(0.2)"
        filling = "import time\nfilled = bytearray(b'1') * 10**9\ntime.sleep(6)"
        for name, cells in zip(names, ([], [waiting], [filling], []), strict=True):
            notebook(home / "notebooks" / f"{name}.ipynb", started, *cells, FINISH)

    def start(self, only):
        """Start the command and return it; what it says is in ``said.txt``."""
        words = ["--reports", self.home / "reports", "--workflow", self.home / "workflow"]
        with open(self.home / "said.txt", "w") as file:
            return start("--only", only, *words, stdout=file, stderr=subprocess.STDOUT)

    def finished(self):
        """Return when each node was finished."""
        found = (self.home / "reports" / "smoke").glob("*/run.json")
        return {path.parent.name: path.stat().st_mtime_ns for path in found}

    def starts(self, name):
        lines = (self.home / "starts").read_text().splitlines()
        return sum(Path(line).name == name for line in lines)

    def text(self):
        return (self.home / "said.txt").read_text()


started = []  # commands, to end those that a failed step leaves


def start(*words, **options):
    command = [sys.executable, "-m", "workflow.reproduce", "--cluster", "slurm", *map(str, words)]
    options |= {"start_new_session": True, "preexec_fn": runs.end_with_parent}
    started.append(subprocess.Popen(command, cwd=runs.root(), **options))
    return started[-1]


def own_memory_and_time(home):
    """Two notebooks of smoke run with what they were measured to need, without accounting."""
    only, reports = "start audit", home / "reports"
    with open(home / "said.txt", "w") as file:
        run = start("--only", only, "--reports", reports, stdout=file, stderr=subprocess.STDOUT)
    asked = {}
    while run.poll() is None:
        rows = [line.split() for line in queue("%j %m %l")]
        asked |= {name: (memory, limit) for name, memory, limit in rows}
        time.sleep(0.5)
    assert run.returncode == 0, (home / "said.txt").read_text()[-3000:]
    nodes = {node.name: node for node in graph.expand("smoke", reports / "smoke", only.split())}
    assert set(asked) == set(only.split())
    for name, (memory, limit) in asked.items():
        hours, minutes, _ = ("0:" * (2 - limit.count(":")) + limit).split(":")
        assert memory == f"{nodes[name].megabytes}M", (name, memory)
        assert 60 * int(hours) + int(minutes) == nodes[name].minutes, (name, limit)
        used = json.loads((reports / "smoke" / name / "run.json").read_text())["gigabytes"]
        assert 1000 * used < nodes[name].megabytes
    return f"{asked}; sacct: {said('sacct').strip()}"


def cancelled_from_outside(home):
    """A job that is scancelled is sent again."""
    small = Small(home)
    small.wait.touch()
    run = small.start("slow")
    (first,) = until(lambda: job_of("slow"))
    until(lambda: small.starts("slow"))
    said("scancel", first)
    (second,) = until(lambda: set(job_of("slow")) - {first})
    small.wait.unlink()
    assert run.wait(600) == 0 and small.starts("slow") == 2, small.text()
    return f"job {first} cancelled, job {second} finished it"


def killed(home):
    """The command is killed with -9 twice and started again: nothing is done twice, neither what
    was still running nor what ended while no command was there.
    """
    small = Small(home)
    small.wait.touch()
    run = small.start("quick slow")
    until(lambda: "quick" in small.finished() and small.starts("slow"))
    (job,) = job_of("slow")
    kill(run)
    again = small.start("quick slow")
    until(lambda: f"job {job}: running" in small.text())
    kill(again)
    small.wait.unlink()
    until(lambda: not queue())
    third = small.start("quick slow")
    assert third.wait(600) == 0 and set(small.finished()) == {"quick", "slow"}
    assert small.starts("quick") == small.starts("slow") == 1, small.text()
    return f"job {job} went on meanwhile and was found again, then its end"


def kill(run):
    below = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.wait()
    left = psutil.wait_procs(below, timeout=60)[1]
    assert not left and job_of("slow"), left


def drained(home):
    """A job waits for a node that is drained, and runs when it is back."""
    host, small = socket.gethostname().split(".")[0], Small(home)
    said("scontrol", "update", f"NodeName={host}", "State=DRAIN", "Reason=test")
    run = small.start("quick")
    (job,) = until(lambda: job_of("quick", "PENDING"))
    time.sleep(5)
    assert run.poll() is None and job_of("quick", "PENDING") == [job]
    said("scontrol", "update", f"NodeName={host}", "State=RESUME")
    assert run.wait(600) == 0 and set(small.finished()) == {"quick"}, small.text()
    return f"job {job} waited"


def interrupted(home, number):
    """The command is asked to end: it ends, and so do its jobs."""
    small = Small(home)
    small.wait.touch()
    run = small.start("slow")
    until(lambda: small.starts("slow"))
    run.send_signal(number)
    assert run.wait(120) == 130, small.text()
    until(lambda: not queue(), 60)
    assert not small.finished() and "not finished: slow" in small.text()
    return "exit status 130, queue empty"


def too_small(home):
    """A job that takes more memory than it asked for is sent again with twice as much."""
    small = Small(home)
    run, asked = small.start("greedy"), []
    while run.poll() is None:
        asked += [line for line in queue("%m") if line not in asked]
        time.sleep(0.5)
    assert run.returncode == 0, small.text()
    assert asked == ["950M", "1900M"], asked
    return " then ".join(asked)


def refused(home):
    """What no node can hold is said at once, with what was asked for; the rest runs."""
    small = Small(home)
    run = small.start("huge quick")
    assert run.wait(600) == 1 and set(small.finished()) == {"quick"}, small.text()
    sentence = re.search("huge: 1 processors, .* were refused: .*", small.text())
    assert sentence, small.text()
    return sentence[0]


STEPS = {
    "own memory and time": own_memory_and_time,
    "scancel from outside": cancelled_from_outside,
    "kill -9 and again": killed,
    "node drained and back": drained,
    "Ctrl-C": lambda home: interrupted(home, signal.SIGINT),
    "SIGTERM": lambda home: interrupted(home, signal.SIGTERM),
    "asked for too little": too_small,
    "asked for too much": refused,
}


def main(wanted):
    os.environ["PATH"] = PATH
    os.environ["PYTHONPATH"] = str(runs.root())
    if lacking := [name for name in (*DAEMONS, *slurm.PROGRAMS) if shutil.which(name) is None]:
        print(f"skipped: SLURM's {', '.join(lacking)} not found; Debian: apt-get install"
              " slurmctld slurmd slurm-client munge")  # fmt: skip
        return 0
    failed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, cluster(Path(folder)):
        for name in wanted or STEPS:
            home, began = Path(folder, name.replace(" ", "-")), time.monotonic()
            home.mkdir()
            try:
                line = STEPS[name](home)
            except AssertionError as error:
                failed, line = failed + 1, f"FAILED: {error}"
            for run in started:
                run.terminate()  # nothing where it has ended
                run.wait()
            print(f"{name}: {line} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(wanted or STEPS) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
