"""A SLURM of one node on the loopback, and the run graph through it: `make test-cluster`.

Every step runs without accounting, then with it. Debian's packages slurmctld, slurmd, slurm-client
and munge bring the programs, slurmdbd and mariadb-server those of the accounting. Nothing is
installed or configured: all of it lies in a temporary folder and ends with this script.
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
PROGRAMS = ("munged", "slurmctld", "slurmd", *slurm.PROGRAMS)
OF_ACCOUNTING = ("slurmdbd", "sacctmgr", "sacct", "mariadb-install-db", "mariadbd")
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
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[2]}
AccountingStoragePass=socket={home}/munge.socket
AccountingStorageEnforce=associations
"""
DATABASE = """
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[2]}
SlurmUser={user}
AuthInfo=socket={home}/munge.socket
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
PidFile={home}/slurmdbd.pid
LogFile={home}/slurmdbd.log
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
    while not (value := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{seconds} s passed")
        time.sleep(0.5)
    return value


@contextlib.contextmanager
def daemon(*command):
    """Run a daemon, which ends with the block and with this script."""
    options = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    options |= {"start_new_session": True, "preexec_fn": runs.end_with_parent}  # Ctrl-C is ours
    process = subprocess.Popen(command, **options)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def free_ports(number):
    """Return ports of the loopback that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
        return [stack.enter_context(each).getsockname()[1] for each in sockets]


@contextlib.contextmanager
def cluster(home, accounting):
    """Start the daemons, wait for an idle node, and end them."""
    memory = psutil.virtual_memory().total // 2 // 2**20
    user, host = psutil.Process().username(), socket.gethostname().split(".")[0]
    given = {"home": home, "ports": free_ports(3), "memory": memory, "user": user, "host": host}
    text = SETTINGS + accounting * ACCOUNTING
    (home / "slurm.conf").write_text(text.format(**given))
    (home / "slurmdbd.conf").touch(0o600)  # slurmdbd refuses a file that others may read
    (home / "slurmdbd.conf").write_text(DATABASE.format(**given))
    for name in ("state", "spool"):
        (home / name).mkdir()
    (home / "munge.key").write_bytes(os.urandom(1024))
    (home / "munge.key").chmod(0o400)
    os.environ["SLURM_CONF"] = str(home / "slurm.conf")
    kept = [f"--{word}={home}/munge.{end}" for word, end in (
        ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"),
        ("seed-file", "seed"))]  # fmt: skip
    with contextlib.ExitStack() as daemons:
        daemons.enter_context(daemon("munged", "--force", "--foreground", *kept))
        until((home / "munge.socket").exists, 30)
        if accounting:
            daemons.enter_context(database(home, user))
        daemons.enter_context(daemon("slurmctld", "-D"))
        daemons.enter_context(daemon("slurmd", "-D"))
        try:
            until(lambda: "idle" in said("sinfo", "--noheader"), 60)
            yield
        finally:
            said("scancel", f"--user={user}")
            until(lambda: not queue(), 60)


@contextlib.contextmanager
def database(home, user):
    """Start MariaDB, on a socket alone, and slurmdbd, with the cluster, an account and a user."""
    own = ["--no-defaults", f"--user={user}", f"--datadir={home}/database"]
    subprocess.run(["mariadb-install-db", *own], check=True, stdout=subprocess.DEVNULL)
    own += [f"--socket={home}/database.socket", f"--pid-file={home}/database.pid"]
    os.environ["MYSQL_UNIX_PORT"] = f"{home}/database.socket"  # where slurmdbd looks for it
    with contextlib.ExitStack() as daemons:
        daemons.enter_context(daemon("mariadbd", *own, "--skip-networking", "--skip-grant-tables"))
        until((home / "database.socket").exists, 120)
        daemons.enter_context(daemon("slurmdbd", "-D"))
        add = ["sacctmgr", "--immediate", "add"]
        for words in ("cluster loopback", "account lab", f"user {user} account=lab"):
            until(lambda words=words: succeeds(*add, *words.split()), 120)
        os.environ["SBATCH_ACCOUNT"] = "lab"
        yield


def succeeds(*command):
    return subprocess.run(command, capture_output=True).returncode == 0


def said(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr


def queue(form="%i %j %T"):
    return said("squeue", "--noheader", f"--format={form}").splitlines()


def known():
    """Return what the accounting knows: the state of each job by its number."""
    form = ["--allocations", "--noheader", "--parsable2", "--format=JobID,State"]
    jobs = ["--accounts=lab", "--starttime=now-1days"]
    return dict(re.findall(r"^(\d+)\|(\w+)", said("sacct", *jobs, *form), re.MULTILINE))


def check_known(before, ends):
    """Wait until the accounting knows these ends of new jobs and no others."""

    def new():
        return sorted(state for job, state in known().items() if job not in before)

    with contextlib.suppress(AssertionError):
        until(lambda: new() == ends, 60)
    assert new() == ends, f"sacct: {new()}, expected {ends}"


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
        records = (self.home / "reports" / "smoke").glob("*/run.json")
        return {path.parent.name: path.stat().st_mtime_ns for path in records}

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
    """Two notebooks of smoke run with what they were measured to need."""
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
    return str(asked)


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


# With how the jobs of each end, in the order of the alphabet; SLURM counts a refused job as failed.
STEPS = {
    "own memory and time": (own_memory_and_time, "COMPLETED COMPLETED"),
    "scancel from outside": (cancelled_from_outside, "CANCELLED COMPLETED"),
    "kill -9 and again": (killed, "COMPLETED COMPLETED"),
    "node drained and back": (drained, "COMPLETED"),
    "Ctrl-C": (lambda home: interrupted(home, signal.SIGINT), "CANCELLED"),
    "SIGTERM": (lambda home: interrupted(home, signal.SIGTERM), "CANCELLED"),
    "asked for too little": (too_small, "COMPLETED FAILED"),
    "asked for too much": (refused, "COMPLETED FAILED"),
}


def lacking(programs, packages):
    """Return the sentence that names what is not installed, or nothing."""
    names = [name for name in programs if shutil.which(name) is None]
    missing = f"skipped, because {', '.join(names)} is missing; Debian: apt-get install {packages}"
    return missing if names else ""


def attempt(name, home, accounting):
    """Run a step, print its line and return whether it failed."""
    began, failed, (step, ends) = time.monotonic(), False, STEPS[name]
    home.mkdir()
    try:
        before = known() if accounting else {}
        line = step(home)
        if accounting:
            check_known(before, ends.split())
            line += f"; sacct: {ends}"
    except AssertionError as error:
        failed, line = True, f"FAILED: {error}"
    finally:
        for run in started:
            run.terminate()  # nothing where it has ended
            run.wait()
    print(f"{name}: {line} ({time.monotonic() - began:.0f} s)", flush=True)
    return failed


def main(wanted):
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["PATH"] = PATH
    os.environ["PYTHONPATH"] = str(runs.root())
    if sentence := lacking(PROGRAMS, "slurmctld slurmd slurm-client munge"):
        print(sentence)
        return 0
    failed = []
    for accounting in (False, True):
        print(f"{'with' if accounting else 'without'} accounting:", flush=True)
        if accounting and (sentence := lacking(OF_ACCOUNTING, "slurmdbd mariadb-server")):
            print(sentence)
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            home = Path(folder)
            with cluster(home, accounting):
                for name in wanted or STEPS:
                    failed.append(attempt(name, home / name.replace(" ", "-"), accounting))
    print(f"{failed.count(False)} passed, {failed.count(True)} failed")
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
