"""The mutation benchmark: what it changes, what it leaves alone, and its proofs of equivalence."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mutants():
    specification = importlib.util.spec_from_file_location(
        "mutants", ROOT / "benchmarks" / "mutants.py"
    )
    module = importlib.util.module_from_spec(specification)
    sys.modules["mutants"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["mutants"]


TEXT = '''"""A number 3 in a docstring."""

LIMIT = 0.5


def f(x: "a < b", y: int = 2) -> int | None:
    if not (x) < y and x is not None:
        raise ValueError(f"{x + 1}: expected 3")
    y += x
    print(y * 2)
    return -x if True else f"{x * 2}"
'''


def test_each_token_is_changed_and_texts_are_left_alone(mutants):
    made = [(m.line, m.old, m.new) for m in mutants.Sites("f.py", TEXT).mutants]
    expected = [
        (3, "0.5", "0.551"),
        (6, "2", "3"),
        (6, "2", "1"),
        (7, "and", "or"),
        (7, "not ", ""),
        (7, "<", "<="),
        (7, "is not", "is"),
        (9, "+=", "-="),
        (11, "True", "False"),
        (11, "-", "+"),
    ]
    assert sorted(made) == sorted(expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_draws_lines_of_all_rooms_and_every_mutant_is_another_program(mutants, seed):
    drawn = mutants.draw(seed, 60, list(mutants.ROOMS))
    assert drawn == mutants.draw(seed, 60, list(mutants.ROOMS))
    assert len({(m.file, m.line) for m in drawn}) == 60
    for mutant in drawn:
        text = (ROOT / mutant.file).read_text()
        changed = mutant.apply(text)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))
        assert len(changed.splitlines()) == len(text.splitlines())


def test_tests_that_reach_the_line_come_before_the_others_of_their_files(mutants):
    tests = {
        "tests/test_a.py::x": {"seconds": 1, "lines": {"f.py": [4, 5]}},
        "tests/test_a.py::y": {"seconds": 1, "lines": {"f.py": [9]}},
        "tests/test_b.py::z": {"seconds": 1, "lines": {"g.py": [4]}},
    }
    mutant = mutants.Mutant("f.py", 5, 0, "1", "2", (4, 6), False)
    assert mutants.choose_tests(mutant, tests) == (["tests/test_a.py::x"], ["tests/test_a.py::y"])
    unreached = mutants.Mutant("f.py", 20, 0, "1", "2", (20, 20), False)
    assert mutants.choose_tests(unreached, tests) == ([], list(tests))


def test_every_proof_is_of_a_mutant_that_can_be_drawn(mutants):
    possible = set()
    for path in mutants.library_files(list(mutants.ROOMS)):
        text, name = path.read_text(), path.relative_to(ROOT).as_posix()
        lines = text.splitlines()
        for mutant in mutants.Sites(name, text).mutants:
            line = lines[mutant.line - 1]
            possible.add((name, line.strip(), mutant.change(line).strip()))
            possible.add((name, line.strip(), "*"))
    proofs = mutants.proofs()
    assert set(proofs) <= possible, sorted(set(proofs) - possible)
    assert all(len(proof) > 20 for proof in proofs.values())
