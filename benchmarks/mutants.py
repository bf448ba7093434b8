"""Mutation test: single-token changes of the library, drawn by a seed, that some test must notice.

    python benchmarks/mutants.py SEED [--count 60] [--jobs 1] [--room ROOM...] [--tests FILE...]

Each mutant changes one comparison, operator, boolean or number on a line drawn from the
executable lines of :data:`ROOMS`, in a temporary copy of the tree, and runs the tests that reach
this line. Which tests reach which line is recorded once per test file by coverage.py and kept
until the test file or a library file it reaches changes. Where no recorded test notices the mutant,
all tests of the files that hold them run. Texts of errors, docstrings and type hints are left out.
Equivalent mutants stand in ``mutants_equivalent.csv``, each with a sentence of proof; "*" is every
mutant of the line.

The file is also the pytest plugin of its own runs (``-p mutants``).
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import importlib.util
import io
import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(tempfile.gettempdir()) / f"fusionlib-mutants-{os.getuid()}"
ROOMS = (
    *("networks", "losses", "metrics", "optimizers", "results", "ranking", "training"),
    *("detectors", "transforms"),
)
# These need a GPU, or run whole notebooks.
LEFT_OUT = {"test_gpu.py", "test_notebooks.py", "test_workflow.py"}
OPERATORS = {
    **{"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="},
    **{"in": "not in", "not in": "in", "is": "is not", "is not": "is"},
    **{"+": "-", "-": "+", "*": "/", "/": "*", "//": "/", "%": "*", "**": "*", "@": "*"},
    **{"&": "|", "|": "&", "^": "&", "<<": ">>", ">>": "<<", "and": "or", "or": "and"},
}
SILENT_CALLS = {"print", "warn", "tqdm", "set_postfix", "describe"}  # their arguments are messages
SPARE_SECONDS, SLOWER = 60, 10  # a mutant may take 10 times the recorded seconds, and 60 more


@dataclass(frozen=True)
class Mutant:
    """One token of ``file`` changed; ``span`` holds the lines of its statement, ``at_import``
    whether it runs when the module is imported.
    """

    file: str
    line: int
    column: int
    old: str
    new: str
    span: tuple[int, int]
    at_import: bool

    def apply(self, text: str) -> str:
        lines = text.splitlines(keepends=True)
        lines[self.line - 1] = self.change(lines[self.line - 1])
        return "".join(lines)

    def change(self, line: str) -> str:
        rest = line[self.column :]
        if not rest.startswith(self.old):
            raise ValueError(f"{self.file}:{self.line}: expected {self.old!r}, got {rest!r}")
        return line[: self.column] + self.new + rest[len(self.old) :]


# ---- the mutants of a file -----------------------------------------------------------------------


class Sites(ast.NodeVisitor):
    """Collects the mutants of a file in ``mutants``."""

    def __init__(self, file: str, text: str):
        self.file, self.lines = file, text.splitlines()
        self.mutants: list[Mutant] = []
        self.tokens = [
            token
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type in (tokenize.OP, tokenize.NAME, tokenize.NUMBER)
        ]
        self.span, self.depth = (1, 1), 0
        self.visit(ast.parse(text))

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            self.span = (node.lineno, max(node.lineno, last))
        super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
            if part is not None:
                self.visit(part)
        self.depth += 1
        for statement in node.body:
            self.visit(statement)
        self.depth -= 1

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_keyword(self, node: ast.keyword) -> None:
        # zip(..., strict=True) guards against a slip of the programmer; pairs are the same without
        if node.arg != "strict":
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name not in SILENT_CALLS:
            self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, right in zip(operands, operands[1:], strict=False):
            self.operator(left, right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.operator(left, right)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.operator(node.left, node.right)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.operator(node.target, node.value)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        line, column = self.start(node)
        if isinstance(node.op, ast.Not):
            self.add(line, column, "not ", "")
        elif isinstance(node.op, ast.USub):
            self.add(line, column, "-", "+")
        elif isinstance(node.op, ast.Invert):
            self.add(line, column, "~", "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        line, column = self.start(node)
        value = node.value
        if isinstance(value, bool):
            self.add(line, column, str(value), str(not value))
        elif isinstance(value, int | float):
            old = self.lines[line - 1][column : self.end(node)[1]]
            other = (value + 1, value - 1) if isinstance(value, int) else (value * 1.1 + 0.001,)
            for new in other:
                self.add(line, column, old, repr(new) if new >= 0 else f"({new})")

    def operator(self, left: ast.expr, right: ast.expr) -> None:
        """Add the operator that stands between two operands."""
        begin, end = self.end(left), self.start(right)
        between = [t for t in self.tokens if begin <= t.start and t.end <= end]
        words = [t for t in between if t.string not in "()"]
        old = " ".join(t.string for t in words)
        plain = old.removesuffix("=") if old not in OPERATORS else old
        if words and plain in OPERATORS and words[0].start[0] == words[-1].end[0]:
            self.add(*words[0].start, old, OPERATORS[plain] + old[len(plain) :])

    def add(self, line: int, column: int, old: str, new: str) -> None:
        if self.lines[line - 1].startswith(old, column):
            mutant = Mutant(self.file, line, column, old, new, self.span, self.depth == 0)
            self.mutants.append(mutant)

    def start(self, node: ast.expr) -> tuple[int, int]:
        return node.lineno, self._characters(node.lineno, node.col_offset)

    def end(self, node: ast.expr) -> tuple[int, int]:
        line, offset = node.end_lineno or node.lineno, node.end_col_offset or 0
        return line, self._characters(line, offset)

    def _characters(self, line: int, offset: int) -> int:
        return len(self.lines[line - 1].encode()[:offset].decode())


def library_files(rooms: list[str]) -> list[Path]:
    files = []
    for room in rooms:
        folder = ROOT / "fusionlib" / room
        files += sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    return files


def draw(seed: int, count: int, rooms: list[str]) -> list[Mutant]:
    """Draw ``count`` lines that can be changed, and for each line one change."""
    lines: dict[tuple[str, int], list[Mutant]] = {}
    for path in library_files(rooms):
        name = path.relative_to(ROOT).as_posix()
        for mutant in Sites(name, path.read_text()).mutants:
            lines.setdefault((name, mutant.line), []).append(mutant)
    generator = random.Random(seed)
    chosen = generator.sample(sorted(lines), min(count, len(lines)))
    return [generator.choice(lines[line]) for line in chosen]


# ---- which tests reach which line ----------------------------------------------------------------


def tests_of(room: str) -> list[Path]:
    """The test files that import a room."""
    pattern = re.compile(rf"fusionlib\.{room}\b|from fusionlib import [^\n]*\b{room}\b")
    files = sorted((ROOT / "tests").glob("test_*.py"))
    return [
        path for path in files if path.name not in LEFT_OUT and pattern.search(path.read_text())
    ]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def recorded(test_file: Path, copy: Path) -> dict:
    """Return seconds and reached lines of each passing test of a file; run it where this is not
    known.

    Parameters
    ----------
    test_file : Path
        In the working tree.
    copy : Path
        The copy of the tree in which it runs.

    Returns
    -------
    dict
        ``{test: {"seconds": float, "lines": {library file: [line, ...]}}}``
    """
    real = [os.environ.get(name, "") for name in ("FUSION_DATA", "FUSION_WEIGHTS")]
    shared = [digest(test_file), digest(ROOT / "tests" / "conftest.py"), *real]
    key = hashlib.sha256(json.dumps([str(test_file), *shared]).encode()).hexdigest()[:20]
    kept = CACHE / f"{test_file.stem}-{key}.json"
    if kept.exists():
        record = json.loads(kept.read_text())
        if all(digest(ROOT / name) == old for name, old in record["files"].items()):
            return record["tests"]
    print(f"recording {test_file.name}", file=sys.stderr, flush=True)
    target = copy / "record.json"
    target.unlink(missing_ok=True)
    run_tests(copy, [test_file.relative_to(ROOT).as_posix()], 3600, {"MUTANTS_RECORD": str(target)})
    tests = json.loads(target.read_text()) if target.exists() else {}
    files = {name for test in tests.values() for name in test["lines"]}
    record = {"files": {name: digest(ROOT / name) for name in sorted(files)}, "tests": tests}
    CACHE.mkdir(exist_ok=True)
    kept.write_text(json.dumps(record))
    return tests


def record_room(name: str, only: list[str] | None, copy: Path) -> dict:
    """Return the records of the tests of a room (a folder or file of the library) together."""
    tests: dict[str, dict] = {}
    for file in tests_of(name.removesuffix(".py")):
        if not only or file.stem in only:
            tests |= recorded(file, copy)
    return tests


def choose_tests(mutant: Mutant, tests: dict) -> tuple[list[str], list[str]]:
    """Return the tests that reach a mutant's statement (where it runs at import: the file), and the
    other tests of their files (where it runs at import: also of those that name the module).
    """
    first, last = mutant.span
    reaching = set()
    for name, test in tests.items():
        lines = test["lines"].get(mutant.file, [])
        if any(mutant.at_import or first <= line <= last for line in lines):
            reaching.add(name)
    files = {name.split("::")[0] for name in reaching or tests}
    if mutant.at_import:  # defaults and constants are also read without running a line of the file
        path = Path(mutant.file)
        module = path.parent.name if path.stem == "__init__" else path.stem
        named = {name.split("::")[0] for name in tests} - files
        word = re.compile(rf"\b{module}\b")
        files |= {file for file in named if word.search((ROOT / file).read_text())}
    others = [name for name in tests if name not in reaching and name.split("::")[0] in files]
    return sorted(reaching), others


# ---- running -------------------------------------------------------------------------------------


def copy_tree(target: Path) -> Path:
    listed = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def run_tests(
    copy: Path, names: list[str], limit: float, environment: dict[str, str]
) -> tuple[int | None, str]:
    """Run pytest in a copy until the first failure.

    Parameters
    ----------
    copy : Path
    names : list of str
        Test files.
    limit : float
        Seconds; everything that the run started ends then.
    environment : dict
        Further variables.

    Returns
    -------
    tuple
        exit code, None where the limit was reached; the last line that names a failed test
    """
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no", "-p", "mutants"]
    if "MUTANTS_RECORD" not in environment:
        command.append("-x")
    path = os.pathsep.join([str(copy), str(copy / "benchmarks")])
    process = subprocess.Popen(
        [*command, *names],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, "time limit"
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return process.returncode, failed[-1] if failed else output[-300:]


def try_mutant(mutant: Mutant, tests: dict, copy: Path) -> tuple[bool, str]:
    """Return whether a test noticed the mutant, and a word on which tests ran."""
    path, text = copy / mutant.file, (ROOT / mutant.file).read_text()
    compiled = Path(importlib.util.cache_from_source(str(path)))
    reaching, others = choose_tests(mutant, tests)
    try:
        path.write_text(mutant.apply(text))
        for names in (reaching, others):
            if not names:
                continue
            compiled.unlink(missing_ok=True)
            chosen = copy / "chosen.json"
            seconds = {name: tests[name]["seconds"] for name in names}
            chosen.write_text(json.dumps(seconds))
            files = sorted({name.split("::")[0] for name in names})
            limit = SPARE_SECONDS + SLOWER * sum(seconds.values())
            code, why = run_tests(copy, files, limit, {"MUTANTS_CHOSEN": str(chosen)})
            if code != 0:
                return True, f"{why} [{len(names)} tests]"
    finally:
        path.write_text(text)
        compiled.unlink(missing_ok=True)
    files = sorted({Path(name.split("::")[0]).stem for name in [*reaching, *others]})
    return False, f"{len(reaching)} + {len(others)} tests of {', '.join(files) or 'no file'}"


def proofs() -> dict[tuple[str, str, str], str]:
    path = ROOT / "benchmarks" / "mutants_equivalent.csv"
    with path.open(newline="") as file:
        return {
            (row["file"], row["line"], row["mutant"]): row["proof"] for row in csv.DictReader(file)
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int, default=60, help="lines to draw")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--room", nargs="+", default=list(ROOMS), choices=ROOMS)
    parser.add_argument("--tests", nargs="+", help="these test files alone, by their stems")
    parser.add_argument("--allowed", type=int, default=2, help="survivors that are no failure")
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    given = parser.parse_args()
    mutants, equivalent = draw(given.seed, given.count, given.room), proofs()
    lines = {name: (ROOT / name).read_text().splitlines() for name in {m.file for m in mutants}}
    counts = {"killed": 0, "equivalent": 0, "SURVIVED": 0}
    with tempfile.TemporaryDirectory() as temporary:
        copies: queue.Queue[Path] = queue.Queue()
        for i in range(given.jobs):
            copies.put(copy_tree(Path(temporary) / str(i)))
        records: dict[str, dict] = {}

        def attempt(mutant: Mutant) -> tuple[str, str]:
            line = lines[mutant.file][mutant.line - 1]
            of_line = (mutant.file, line.strip())
            changed = mutant.change(line).strip()
            proof = equivalent.get((*of_line, changed)) or equivalent.get((*of_line, "*"))
            if proof or given.list:
                return "equivalent", proof or "not run"
            copy = copies.get()
            try:
                killed, why = try_mutant(mutant, records[mutant.file.split("/")[1]], copy)
            finally:
                copies.put(copy)
            return "killed" if killed else "SURVIVED", why

        if not given.list:
            names = {mutant.file.split("/")[1] for mutant in mutants}
            records = {name: record_room(name, given.tests, copies.queue[0]) for name in names}
        with ThreadPoolExecutor(given.jobs) as pool:
            for mutant, (outcome, why) in zip(mutants, pool.map(attempt, mutants), strict=True):
                counts[outcome] += 1
                line = lines[mutant.file][mutant.line - 1]
                print(f"{outcome:10} {mutant.file}:{mutant.line} {mutant.old!r} -> {mutant.new!r}")
                print(f"           {line.strip()}\n        -> {mutant.change(line).strip()}")
                print(f"           {why}", flush=True)
    print(f"seed {given.seed}: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    return int(counts["SURVIVED"] > given.allowed)


# ---- the pytest plugin ---------------------------------------------------------------------------


class Recorder:
    """Records the library lines that each test reaches."""

    def __init__(self, root: Path, target: Path):
        import coverage

        self.root, self.target, self.tests = root, target, {}
        source = [str(root / "fusionlib")]
        self.coverage = coverage.Coverage(data_file=None, config_file=False, source=source)

    def pytest_runtest_protocol(self, item, nextitem):
        self.coverage.erase()
        self.began = time.perf_counter()
        self.coverage.start()

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.tests[report.nodeid] = {}
        if report.when == "teardown":
            self.coverage.stop()
            if report.nodeid in self.tests:
                data = self.coverage.get_data()
                reached = {
                    str(Path(name).relative_to(self.root)): sorted(data.lines(name) or [])
                    for name in data.measured_files()
                }
                seconds = time.perf_counter() - self.began
                self.tests[report.nodeid] = {"seconds": seconds, "lines": reached}

    def pytest_sessionfinish(self, session):
        self.target.write_text(json.dumps(self.tests))


class Chooser:
    """Keeps the chosen tests, quick files and quick tests first."""

    def __init__(self, seconds: dict[str, float]):
        self.seconds = seconds

    def pytest_collection_modifyitems(self, config, items):
        kept = [item for item in items if item.nodeid in self.seconds]
        of_file: dict[str, float] = {}
        for item in kept:
            file = item.nodeid.split("::")[0]
            of_file[file] = of_file.get(file, 0.0) + self.seconds[item.nodeid]
        kept.sort(key=lambda item: (of_file[item.nodeid.split("::")[0]], self.seconds[item.nodeid]))
        items[:] = kept


def pytest_configure(config) -> None:
    import fusionlib

    root = Path(config.rootpath)
    if not str(fusionlib.__file__).startswith(str(root)):
        raise RuntimeError(f"fusionlib: expected the copy in {root}, got {fusionlib.__file__}")
    if os.environ.get("MUTANTS_RECORD"):
        recorder = Recorder(root, Path(os.environ["MUTANTS_RECORD"]))
        config.pluginmanager.register(recorder)
    if os.environ.get("MUTANTS_CHOSEN"):
        chosen = json.loads(Path(os.environ["MUTANTS_CHOSEN"]).read_text())
        config.pluginmanager.register(Chooser(chosen))


if __name__ == "__main__":
    sys.exit(main())
