"""Run records (``run.json``), folder locks, and notebook execution by one strict papermill call.

A node's folder holds ``run.json`` (written last, so its presence means success), ``results.csv``,
``figures/``, the executed ``notebook.ipynb`` and ``log.txt``.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import filelock

from fusionlib import __version__, images, places
from fusionlib.text_files import read_json
from fusionlib.workers import end_with_parent as end_with_parent

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-image",
    "torch",
    "torchvision",
    "papermill",
    "snakemake",
)

# What a run record holds at least, and of which type; "status" and "problems" may be missing.
RECORD: dict[str, type | tuple[type, ...]] = {
    **{"parameters": dict, "files": dict, "environment": dict, "seconds": (int, float)},
    **{"status": dict, "problems": list},
}

# How each line of a parameter cell, and of no other cell of ours, begins.
PARAMETER = re.compile(r"\w+: (str|int|float|bool|list|dict) = ")


def root() -> Path:
    """Return the folder that holds the package: the top of the checkout, or site-packages."""
    return places.PACKAGE.parent


def git_revision() -> str:
    """Return the commit of the checkout, "+" appended where files differ from it; "unknown" outside
    git, and for a wheel, whatever repository its environment lies in.
    """
    if places.checkout() is None:
        return "unknown"

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root()), *words], capture_output=True, text=True, check=True
        ).stdout

    try:
        # Generated outputs are ignored and notebooks are re-executed in place; only library and
        # workflow count.
        dirty = git(
            "status", "--porcelain", "--untracked-files=no", "fusionlib", "workflow"
        ).strip()
        return git("rev-parse", "HEAD").strip() + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def device_name(device: str = "auto") -> str:
    """Resolve ``auto`` to ``cuda`` where there is a GPU, else ``cpu``.

    Raises
    ------
    ValueError
        A device that this machine has not.
    """
    import torch

    available = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    if device == "auto":
        return available[-1]
    if device.split(":")[0] not in available:
        raise ValueError(
            f"device: expected auto or one of {', '.join(available)} on this machine, got"
            f" {device!r}"
        )
    return device


def environment() -> dict:
    """Return what a number may depend on: versions, revision, machine."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    torch = sys.modules.get("torch")  # a notebook without it runs on the processor
    has_gpu = torch is not None and torch.cuda.is_available()
    return {
        "fusionlib": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "git": git_revision(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch and has_gpu else "",
    }


def peak_memory() -> float:
    """Return the most memory that this process has held, GB; 0 where the system is not Linux."""
    # Not getrusage: that begins with the peak of whatever started the process.
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.is_file() else "")
    return round(int(peak[1]) * 1024e-9, 2) if peak else 0.0


class Run:
    """One execution of a notebook, recorded::

        run = start("32-multi-focus-tables", globals())
        run.folder / "fused"
        run.finish(results)

    Parameters
    ----------
    name : str
        The notebook's name; without ``output`` the folder is ``local/NAME`` of
        :func:`fusionlib.places.reports`.
    output : path or ""
    parameters : dict
        The notebook's parameters as they are; written to ``run.json``.
    """

    def __init__(self, name: str, output: str | Path, parameters: dict):
        self.name, self.parameters = name, parameters
        self.folder = Path(output) if str(output) else places.reports() / "local" / name
        self.started = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            images.sweep(self.folder, self.folder / "figures")
            with contextlib.suppress(FileNotFoundError, ValueError):
                # what the earlier run wrote must not pass for this one's
                for name in load(self.folder)["files"]:
                    (self.folder / name).unlink()
            (self.folder / "run.json").unlink(missing_ok=True)
        except OSError as error:
            raise OSError(
                f"output: the folder {self.folder} cannot be written ({error.strerror})"
            ) from None

    def finish(self, results=None, **record) -> Path:
        """Write ``results.csv`` (a frame in the schema of :mod:`fusionlib.results`), then
        ``run.json`` with the SHA-256 of it and of every figure.

        Parameters
        ----------
        results : pandas.DataFrame or None
        **record
            Anything else worth keeping: data checksums, statuses, notes.
        """
        written = sorted((self.folder / "figures").glob("[!.]*"))
        if results is not None:
            written.append(
                images.write_text(self.folder / "results.csv", results.to_csv(index=False))
            )
        checksums = {
            path.relative_to(self.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in written
        }
        content = {
            "name": self.name,
            "parameters": self.parameters,
            **record,
            "environment": environment(),
            "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.started, 2),
            "gigabytes": peak_memory(),
            "files": checksums,
        }
        return self._write(content)

    def answer(self, *sentences: str) -> None:
        """Print the answer to the notebook's question, and keep it in ``run.json``, from where the
        results page and notebook 91 take it.

        Parameters
        ----------
        *sentences : str
            Computed from the results of this very run; the last says what would change them.
        """
        record = load(self.folder)
        print(
            "\n".join(
                textwrap.fill(sentence, 100, break_on_hyphens=False) for sentence in sentences
            )
        )
        self._write(record | {"answer": list(sentences)})

    def _write(self, record: dict) -> Path:
        text = json.dumps(record, indent=1, default=str)
        return images.write_text(self.folder / "run.json", text)


def start(notebook: str, namespace: Mapping) -> Run:
    """Begin the record of a notebook of this project, with all parameters of its parameter cell.

    Parameters
    ----------
    notebook : str
        Its name without suffix, such as "25-table-1".
    namespace : mapping
        The notebook's ``globals()``: where the values of the parameters are.

    Raises
    ------
    FileNotFoundError
        The notebook is neither in a checkout nor in the working folder nor run cell by cell in
        this kernel; the folder of the weights is none.
    ValueError
        A parameter has the type of something else, such as a module imported under its name; the
        machine has no such device; or papermill, which only warns of it, was given a name that is
        nearly a parameter's.
    """
    path = _notebook(f"{notebook}.ipynb", namespace.get("In") or [])
    values = {name: namespace[name] for name in parameters_of(path)}
    check_parameters(path, values | _misspelt(path, namespace))
    places.check_named("weights", values.get("weights"))
    if "device" in values:
        device_name(values["device"])
    output = values.pop("output")
    return Run(notebook, output, values)


def _notebook(name: str, cells: Sequence[str]) -> Path:
    """Return a notebook's file: the checkout's, else the one in the working folder, else one of the
    ``cells`` that this kernel has run (Colab and Kaggle keep the notebook elsewhere).
    """
    home = places.checkout() or Path.cwd()
    for path in (home / "notebooks" / name, Path(name)):
        if path.is_file():
            return path
    is_first = [bool(PARAMETER.match(cell)) for cell in cells]
    if any(is_first):
        content = [
            {"cell_type": "code", "metadata": {"tags": ["parameters"] * first}, "source": cell}
            for first, cell in zip(is_first, cells, strict=True)
        ]
        path = Path(tempfile.mkdtemp()) / name
        return images.write_text(path, json.dumps({"cells": content}))
    raise FileNotFoundError(
        f"{name}: expected the notebook in the working folder {Path.cwd()}, found none; notebooks"
        " are in the repository, not in the package"
    )


# radon C: each way in which a record is none has its own sentence
def load(path: str | Path, expect: dict | None = None) -> dict:
    """Read a ``run.json`` (or the one of a folder) and refuse it where it is not what was asked
    for.

    Parameters
    ----------
    expect : dict, optional
        Parameter values the run must have had.

    Raises
    ------
    FileNotFoundError
        No run was finished there.
    ValueError
        Not a run record, a parameter differs, or a result file is not the one that the run wrote.
    """
    path = Path(path)
    path = path / "run.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected the record of a finished run, found nothing there"
        )
    try:
        content = read_json(path)
    except ValueError:
        content = {}
    defaults: dict = {"status": {}, "problems": []}
    is_record = all(isinstance((defaults | content).get(key), kind) for key, kind in RECORD.items())
    files = map(Path, content["files"]) if is_record else ()
    if not is_record or any(file.is_absolute() or ".." in file.parts for file in files):
        raise ValueError(
            f"{path}: expected a run record (JSON with {', '.join(RECORD)}), it is damaged"
        )
    parameters, files = content["parameters"], content["files"]
    for name, value in (expect or {}).items():
        if parameters.get(name) != value:
            raise ValueError(
                f"{path}: expected a run with {name} = {value!r}, it has {parameters.get(name)!r}"
            )
    for name, checksum in files.items():
        file = path.parent / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != checksum:
            raise ValueError(
                f"{file}: expected the file that the run wrote, it is missing or was changed since"
            )
    return content


# ---- locks ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(folder: str | Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this process; the operating system lets go when the process ends, however
    it ends. ``.lock-holder`` beside the lock says who and since when.

    Parameters
    ----------
    folder : path
        Made where it is not there.
    what : str
        What it is called in the sentences.
    wait : bool
        Wait for whoever holds it instead of refusing.

    Raises
    ------
    OSError
        The folder cannot be written.
    RuntimeError
        Somebody else holds it and ``wait`` is False; the sentence says who and since when.
    """
    folder = Path(folder)
    held, holder = filelock.FileLock(folder / ".lock"), folder / ".lock-holder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(blocking=False)
        except filelock.Timeout:
            who = holder.read_text().strip() if holder.is_file() else "another process"
            if not wait:
                raise RuntimeError(
                    f"{what}: already being worked on by {who}; wait for it or stop it"
                ) from None
            waiting = f"{what}: waiting for {who}, left over from an earlier run"
            print(waiting, file=sys.stderr, flush=True)
            held.acquire()
        since = datetime.now().isoformat(sep=" ", timespec="seconds")
        images.write_text(holder, f"process {os.getpid()}, since {since}\n")
    except OSError as error:
        held.release()
        raise OSError(f"{folder}: the folder cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        held.release()


# ---- notebooks -----------------------------------------------------------------------------------


def code_of(notebook: str | Path) -> str:
    """Return the code of a notebook as one text, magics left out."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    lines = [
        line
        for cell in cells
        if cell["cell_type"] == "code"
        for line in "".join(cell["source"]).splitlines()
    ]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


# radon C: both forms of import, each prefix of a dotted name
def _imports(source: str, home: str) -> set[str]:
    """Return the dotted names of this package that ``source``, a module of the package ``home``,
    may import.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # "from ." is the package itself
            start = home.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names]
    return {
        ".".join(words[: n + 1])
        for words in parts
        if words[0] == "fusionlib"
        for n in range(len(words))
    }


def library_hash(notebook: str | Path) -> str:
    """Return a hash of all library files that ``notebook`` imports, directly or not.

    Snakemake sees a changed parameter, not a changed module: with this hash as a parameter it sees
    both.
    """
    seen = {}
    waiting = [(code_of(notebook), "")]
    while waiting:
        for name in _imports(*waiting.pop()):
            base = root() / Path(*name.split("."))
            for path in (base.with_suffix(".py"), base / "__init__.py"):
                if path.is_file() and path not in seen:
                    seen[path] = path.read_bytes()
                    waiting.append(
                        (seen[path].decode(), ".".join(path.relative_to(root()).parent.parts))
                    )
    digest = hashlib.sha256()
    for path in sorted(seen):
        digest.update(path.relative_to(root()).as_posix().encode() + b"\0" + seen[path])
    return digest.hexdigest()[:16]


def parameters_of(notebook: str | Path) -> dict:
    """Return the parameters of a notebook with their defaults.

    Raises
    ------
    ValueError
        It has no cell tagged "parameters", or that cell holds something else than assignments.
    """
    for cell in json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]:
        if "parameters" not in cell["metadata"].get("tags", []):
            continue
        parameters = {}
        for statement in ast.parse("".join(cell["source"])).body:
            if isinstance(statement, ast.Assign):
                target, value = statement.targets[0], statement.value
            elif isinstance(statement, ast.AnnAssign) and statement.value:
                target, value = statement.target, statement.value
            else:
                raise ValueError(
                    f"{notebook}: parameters: expected assignments, got {ast.unparse(statement)}"
                )
            parameters[ast.unparse(target)] = ast.literal_eval(value)
        return parameters
    raise ValueError(f"{notebook}: expected a cell tagged parameters, found none")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the words that offer the known name nearest to an unknown one, "" where none is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {close[0]}" if close else ""


def check_parameters(notebook: str | Path, parameters: dict) -> None:
    """Raise ValueError unless every parameter is one of the notebook's and has the type of its
    default.

    papermill itself only warns and would run with the default.
    """
    if not Path(notebook).is_file():
        raise FileNotFoundError(f"{notebook}: expected a notebook, found nothing there")
    known = parameters_of(notebook)
    for name in sorted(set(parameters) - set(known)):
        raise ValueError(
            f"{notebook}: no parameter named {name}{nearest(name, known)}; there are"
            f" {', '.join(known)}"
        )
    for name, value in parameters.items():
        default = known[name]
        if not _fits(value, default):
            raise ValueError(
                f"{notebook}: parameter {name}: expected {type(default).__name__} like {default!r},"
                f" got {type(value).__name__} {value!r:.200}"
            )


def _fits(value: object, default: object) -> bool:
    """Return whether a value has the type of a default, and so has each item of a list; a whole
    number will do for any.
    """
    if isinstance(default, list) and isinstance(value, list) and default:
        return all(any(_fits(item, sample) for sample in default) for item in value)
    if isinstance(default, float) and type(value) is int:
        return True
    is_same = isinstance(value, bool) == isinstance(default, bool)
    return isinstance(value, type(default)) and is_same


def _misspelt(notebook: Path, namespace: Mapping) -> dict:
    """Return the variables that no cell of a notebook names, and that are nearly a parameter's."""
    content, known = json.loads(notebook.read_text(encoding="utf-8")), parameters_of(notebook)
    cells = (cell for cell in content["cells"] if cell["cell_type"] == "code")
    words = set(re.findall(r"\w+", "\n".join("".join(cell["source"]) for cell in cells)))
    return {
        name: value
        for name, value in namespace.items()
        if name not in words and re.match("[a-z]", name) and nearest(name, known)
    }


@contextlib.contextmanager
def local_kernel(name: str = "python3") -> Iterator:
    """Yield a manager for one kernel over local sockets: unlike TCP ports, several may start at
    once without a race.
    """
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync

    # An absolute, short path: the kernel runs in another folder, and socket names may have about
    # 100 characters.
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        # A client of the blocking kind would hold up this process until the running cell ends.
        manager = AsyncKernelManager(kernel_name=name, transport="ipc", ip=str(Path(folder) / "k"))
        try:
            yield manager
        finally:
            # a client that did not start the manager leaves its kernel running
            if manager.has_kernel:
                run_sync(manager.shutdown_kernel)(now=True)


@contextlib.contextmanager
def _logged(stream: TextIO) -> Iterator[None]:
    """Send what papermill and the notebook say to ``stream`` and nowhere else."""
    import logging

    class Handler(logging.StreamHandler):
        def handleError(self, record: logging.LogRecord) -> None:
            pass  # a full disk: the node's own error says it once

    handler = Handler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("papermill")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _unformatted(path: Path) -> str:
    """Return a path that papermill, which fills parameters into paths by str.format, leaves as it
    is.
    """
    return str(path).replace("{", "{{").replace("}", "}}")


def _register_engine(node: str) -> None:
    """Register papermill's engine "local": :func:`local_kernel`, and a line per cell on stderr."""
    import logging

    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine, papermill_engines

    class LocalEngine(Engine):
        @classmethod
        def execute_managed_notebook(
            cls, nb_man, kernel_name, log_output=False, start_timeout=60, **_
        ):
            total = sum(cell.cell_type == "code" for cell in nb_man.nb.cells)
            done = 0
            start_cell = nb_man.cell_start

            def cell_start(cell, index, **kwargs):
                nonlocal done
                if cell.cell_type == "code":
                    done += 1
                    print(f"[{node}] cell {done} of {total}", file=sys.stderr, flush=True)
                return start_cell(cell, index, **kwargs)

            nb_man.cell_start = cell_start
            with local_kernel(kernel_name) as manager:
                return PapermillNotebookClient(
                    nb_man,
                    km=manager,
                    kernel_name=kernel_name,
                    log_output=log_output,
                    startup_timeout=start_timeout,
                    log=logging.getLogger("papermill"),
                ).execute()

    papermill_engines.register("local", LocalEngine)


def execute(notebook: str | Path, folder: str | Path, parameters: dict, threads: int = 1) -> None:
    """Run one notebook by papermill into ``folder``: a line per cell on stderr, all output in
    ``log.txt``.

    Parameters
    ----------
    notebook : path
    folder : path
        Held by :func:`lock` meanwhile; made where it is not there.
    parameters : dict
        For the cell tagged "parameters"; ``output`` is set to ``folder``.
    threads : int
        Of the numeric libraries in the kernel.

    Raises
    ------
    ValueError
        Not the parameters of this notebook.
    RuntimeError
        A cell failed; the sentence holds its error, ``log.txt`` the traceback.
    OSError
        The folder cannot be written.
    """
    notebook, folder = Path(notebook), Path(folder).resolve()
    parameters = {**parameters, "output": str(folder)}
    check_parameters(notebook, parameters)
    _register_engine(folder.name)
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    with lock(folder, folder.name, wait=True):
        (folder / "run.json").unlink(missing_ok=True)
        with open(folder / "log.txt", "w", encoding="utf-8") as log, _logged(log):
            _run_papermill(notebook, folder, parameters, log)
        if not (folder / "run.json").is_file():
            raise RuntimeError(
                f"{folder.name}: {notebook.name} ran to its end without writing run.json in"
                f" {folder}"
            )


def _run_papermill(notebook: Path, folder: Path, parameters: dict, log: TextIO) -> None:
    """Execute a notebook; an error becomes one sentence, which ``log`` gets too.

    Parameters
    ----------
    notebook, folder, parameters
        As for :func:`execute`.
    log : file
        Open for writing.

    Raises
    ------
    RuntimeError
        A cell failed.
    OSError
        The folder cannot be written.
    """
    import papermill

    node = folder.name
    try:
        # The language is named too: papermill refuses a notebook whose metadata lacks it.
        papermill.execute_notebook(
            _unformatted(notebook),
            _unformatted(folder / "notebook.ipynb"),
            parameters,
            engine_name="local",
            kernel_name="python3",
            language="python",
            log_output=True,
            progress_bar=False,
        )
    except papermill.PapermillExecutionError as error:
        sentence = (
            f"{node}: cell {error.exec_count} of {notebook.name} failed: {error.ename}:"
            f" {error.evalue}"
        )
        traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
        log.write(f"\n{traceback}\n\n{sentence}\n")
        raise RuntimeError(sentence) from None
    except OSError as error:
        sentence = f"{node}: {folder}: expected to write there, got: {error.strerror or error}"
        # what has no room for a notebook may have some for a line
        with contextlib.suppress(OSError):
            log.write(f"{sentence}\n")
            log.flush()
        raise OSError(sentence) from None
