"""Campaign: thousands of valid, odd and damaged inputs, drawn by a seed, each held against what it
means.

    python -m benchmarks.campaign SEED [--factor 1] [--only KIND ...] [--case KIND:NUMBER]

A table says, of each kind of input, what the library made of it. The last five columns are faults;
each is named with what draws it again. Exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import case, labelled, pictures, profiles, records, served, weights

KINDS: dict[str, tuple[int, Callable[[np.random.Generator, Path], case.Case]]] = {
    "images": (4000, pictures.case),
    "labels": (1000, labelled.case),
    "checkpoints": (400, weights.case),
    "results": (300, records.case),
    "profiles": (150, profiles.case),
    "downloads": (100, served.case),
}
PROGRESS = 100  # cases between two signs of life


def draw(kind: str, seed: int, number: int, folder: Path) -> case.Case:
    """Return a case by its kind, seed and number."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
    return KINDS[kind][1](rng, folder)


def judge(kind: str, seed: int, number: int) -> tuple[str, str, str]:
    """Draw a case in a folder of its own, judge it, and return recipe, outcome, what came."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        return case.run(functools.partial(draw, kind, seed, number, Path(folder)))


def run(
    seed: int,
    counts: dict[str, int],
    say: Callable[[str], object] = print,
    tell_refused: bool = False,
) -> dict[str, Counter]:
    """Judge so many cases of each kind; ``say`` gets a line for each fault, and with
    ``tell_refused`` for each valid input that was refused.

    Returns
    -------
    dict of str to Counter
        Cases by outcome, of each kind.
    """
    served.server()  # before the first process is split off
    outcomes: dict[str, Counter] = {kind: Counter() for kind in counts}
    for kind, count in counts.items():
        for number in range(count):
            recipe, outcome, came = judge(kind, seed, number)
            outcomes[kind][outcome] += 1
            if outcome in case.FAULTS or (outcome == case.VALID_REFUSED and tell_refused):
                say(f"{kind}:{number}: {outcome}: {recipe}: {came.splitlines()[-1:]}")
            if sys.stderr.isatty() and not number % PROGRESS:
                print(f"\r{kind} {number} of {count}", end="", file=sys.stderr)
    return outcomes


def table(outcomes: dict[str, Counter]) -> str:
    """Return the outcomes as a table in Markdown."""
    lines = [f"| kind | tried | {' | '.join(case.OUTCOMES)} |", "|---" * 12 + "|"]
    for kind, counts in outcomes.items():
        cells = [str(counts[outcome] or "") for outcome in case.OUTCOMES]
        lines.append(f"| {kind} | {counts.total()} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("--factor", type=float, default=1.0, help="of the number of cases")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--refused", action="store_true", help="tell what is valid and refused")
    parser.add_argument("--case", default="", help="KIND:NUMBER, this one alone, told whole")
    options = parser.parse_args()
    if options.case:
        served.server()
        kind, _, number = options.case.partition(":")
        print(*judge(kind, options.seed, int(number)), sep="\n")
        return 0
    counts = {kind: max(1, round(KINDS[kind][0] * options.factor)) for kind in options.only}
    outcomes = run(options.seed, counts, tell_refused=options.refused)
    print(f"\nseed {options.seed}\n{table(outcomes)}")
    return any(counts[fault] for counts in outcomes.values() for fault in case.FAULTS)


if __name__ == "__main__":
    sys.exit(main())
