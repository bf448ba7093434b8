"""A small share of the campaign (``make campaign SEED=n``), and that its judge sees every fault."""

import time

import numpy as np
import pytest

from benchmarks.campaign import __main__ as campaign
from benchmarks.campaign import case
from fusionlib import images

SHARE = {"images": 80, "labels": 40, "checkpoints": 30}
SHARE |= {"results": 4, "profiles": 24, "downloads": 10}


@pytest.mark.parametrize("kind", SHARE)
def test_a_share_of_the_campaign_has_no_fault(kind):
    told = []
    counts = campaign.run(28, {kind: SHARE[kind]}, told.append)[kind]
    assert not told
    assert counts.total() == SHARE[kind] and counts[case.RIGHT] > 0


def wait():
    time.sleep(60)


def slip():
    return {}["nothing"]


JUDGED = {
    case.RIGHT: case.Case("", lambda: np.arange(3), [], np.arange(3)),
    case.WRONG: case.Case("", lambda: np.arange(3), [], np.arange(4)),
    case.TAKEN: case.Case("", lambda: 5, []),
    case.UNDETECTABLE: case.Case("", lambda: 5, [], 6, is_damaged=True, is_checked=False),
    case.OWN_SENTENCE: case.Case("", lambda: images.read("x.png"), ["x.png"], case.REFUSE),
    case.VALID_REFUSED: case.Case("", lambda: images.read("x.png"), ["x.png"], 3),
    case.TRACEBACK: case.Case("", slip, ["nothing"], case.REFUSE),
    case.FOREIGN: case.Case("", lambda: int("x.png"), ["x.png"], case.REFUSE),
    case.LARGE: case.Case("", lambda: bytearray(3 * 2**30).count(1), [], 0),
    case.SLOW: case.Case("", wait, []),
}


@pytest.mark.parametrize("outcome", JUDGED)
def test_the_judge_sees(outcome, monkeypatch):
    monkeypatch.setattr(case, "WAIT", 2.0 if outcome == case.SLOW else 60.0)
    assert case.run(lambda: JUDGED[outcome])[1] == outcome


def test_what_must_be_refused_is_a_fault_where_it_is_taken():
    taken = case.Case("", lambda: 5, [], case.REFUSE)
    assert case.judge(taken)[0] == case.WRONG
    nameless = case.Case("", lambda: images.read("x.png"), ["y.png"], case.REFUSE)
    assert case.judge(nameless)[0] == case.FOREIGN, "a sentence that does not name the file"


def test_a_seed_draws_the_same_cases_again(tmp_path):
    recipes = []
    for attempt in ("one", "two"):
        (tmp_path / attempt).mkdir()
        recipes.append(campaign.draw("images", 1, 5, tmp_path / attempt).recipe)
    assert recipes[0] == recipes[1]
