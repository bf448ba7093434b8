"""The page under a reader's hands: sorted, filtered, slid, zoomed and enlarged in a browser; and a
leaderboard of folders and tables of one's own.
"""

import json
import re

import browser
import numpy as np
import pandas as pd
import pytest
from test_cli import fusionlib
from test_report import METRICS, multi_focus_rows, node, scores, text_of

from fusionlib import images, published, report
from fusionlib.report import layout, leaderboard, rows, shelf

rng = np.random.default_rng(0)


def fused(home, names=("one", "two"), level=0):
    for name in names:
        noise = np.random.default_rng(len(name)).integers(0, 200, (48, 64))
        images.write(home / f"{name}.png", np.uint8(noise + level))
    return home


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "smoke"
    folder.mkdir()
    rows_of_ours = scores("scenes", ["MoE-Fusion", "average"], lambda *_: float(rng.uniform(0, 9)))
    plan = [
        node(folder, "comparison", ["table-1"], rows_of_ours, ["ranks"]),
        node(folder, "gallery", ["figure-1"], drawn=["figure-1"]),
    ]
    for level, name in enumerate(("visible", "average", "infrared")):
        fused(folder / "comparison" / "fused" / name / "gray", level=level)
    (folder / "nodes.json").write_text(json.dumps(plan))
    record = folder / "comparison" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"answer": ["Yes.", "Of 3."]}))
    return report.write(folder)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    if browser.PROGRAM is None:
        pytest.skip("no Chromium on this machine: apt install chromium")
    pytest.importorskip("websocket")
    opened = browser.Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture
def shown(window, page):
    window.console.clear()
    window.requests.clear()
    window.open(page)
    yield window
    asked = {url for url in window.requests if not url.startswith("data:")}
    assert asked == {page.resolve().as_uri()}, "the page asks for nothing else"
    assert window.console == []


TABLE = 'table[aria-label^="Table 1"]'
VISIBLE = f"[...document.querySelectorAll('{TABLE} tbody tr')].filter(row => !row.hidden)"


def choose(window, selector, value):
    window.run(
        f"(() => {{ const field = document.querySelector({json.dumps(selector)});"
        f" field.value = {json.dumps(value)};"
        " for (const name of ['input', 'change'])"
        " field.dispatchEvent(new Event(name, {bubbles: true})); })()"
    )


def column(window, number):
    return window.run(f"{VISIBLE}.map(row => row.cells[{number}].dataset.value)")


def test_a_click_on_a_head_sorts_best_first_and_a_second_one_turns_it(shown):
    head = f"{TABLE} th:nth-child(5)"
    shown.click(f"{head} button")
    best_first = [float(value) for value in column(shown, 4)]
    assert len(best_first) == 32 and best_first == sorted(best_first, reverse=True)
    assert shown.run(f"document.querySelector('{head}').ariaSort") == "descending"
    shown.run(f"document.querySelector('{head} button').focus()")
    shown.key("Enter", "\r")
    assert [float(value) for value in column(shown, 4)] == best_first[::-1]


def test_fields_filter_the_rows_and_say_how_many_are_left(shown):
    shown.type('input[aria-label*="Table 1"]', "densefuse")
    names = shown.run(f"{VISIBLE}.map(row => row.cells[0].textContent)")
    assert names == ["DenseFuse"] * 3
    count = "document.querySelector('#table-1 .tools output').textContent"
    assert shown.run(count) == "3 of 32 rows"
    choose(shown, '#table-1 select[data-column="1"]', "ours")
    assert shown.run(count) == "0 of 32 rows"


def transform(window):
    return window.run(
        "[...document.querySelectorAll('.comparer .view img')].map(one => one.style.transform + "
        "one.style.transformOrigin)"
    )


def test_the_comparer_slides_by_hand_and_key_and_zooms_all_images_alike(shown):
    cut = "parseFloat(document.querySelector('.stage').style.getPropertyValue('--cut'))"
    assert shown.run(cut) == 50
    shown.drag(".stage", 200)
    assert shown.run(cut) > 60
    shown.run("document.querySelector('[data-part=\"views\"]').focus()")
    before = shown.run(cut)
    shown.key("ArrowLeft")
    assert shown.run(cut) == pytest.approx(before - 2)
    shown.click('[data-part="in"]')
    assert set(transform(shown)) == {"scale(1.5)50% 50%"} and len(transform(shown)) == 2
    shown.drag(".stage", -60)
    (moved,) = set(transform(shown))
    assert moved.startswith("scale(1.5)") and not moved.endswith("50% 50%")
    choose(shown, '[data-part="view"]', "all")
    assert transform(shown) == [moved] * 3, "sources and methods, at the same place"
    named = "[...document.querySelectorAll('.all figcaption')].map(one => one.textContent)"
    assert shown.run(named) == ["infrared", "visible", "average"]
    shown.click('[data-part="reset"]')
    assert set(transform(shown)) == {"scale(1)50% 50%"}


def test_a_figure_is_enlarged_by_click_and_left_by_key(shown):
    shown.click("#gallery-figure-1 button.enlarge")
    assert shown.run("document.getElementById('enlarged').open")
    width = "document.querySelector('dialog img').getBoundingClientRect().width"
    assert shown.run(width) > shown.run(
        "document.querySelector('#gallery-figure-1 img').getBoundingClientRect().width"
    )
    assert shown.run("document.querySelector('dialog p').textContent").startswith("caption of")
    shown.click("dialog button")
    assert not shown.run("document.getElementById('enlarged').open")


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_the_page_never_scrolls_sideways(window, page, width):
    window.open(page, width)
    assert window.run("document.documentElement.scrollWidth") == width
    boxes = (
        "[...document.querySelectorAll('.scroll')].map(box => box.getBoundingClientRect().right)"
    )
    assert all(right <= width for right in window.run(boxes))


def test_pictures_and_fields_have_names(shown):
    nameless = shown.run(
        "[...document.querySelectorAll('img, input, select, button')].filter(one =>"
        " !one.closest('dialog') && !(one.alt || one.labels?.length || one.ariaLabel ||"
        " one.textContent.trim())).map(one => one.outerHTML)"
    )
    assert nameless == []


def test_the_answer_of_a_notebook_stands_above_its_table(page):
    text = page.read_text()
    section = text[text.index('<section id="table-1">') : text.index('<section id="compare">')]
    assert "comparison: Yes. Of 3." in text_of(section[: section.index("<table")])


# --- A leaderboard of one's own -------------------------------------------------------------------


def test_three_folders_become_a_leaderboard_on_the_images_that_all_have(tmp_path):
    sources = [fused(tmp_path / "ir"), fused(tmp_path / "vi", level=50)]
    mine = [fused(tmp_path / "mine" / name, level=9 * k) for k, name in enumerate("abc")]
    (mine[2] / "two.png").unlink()
    made = fusionlib(
        "report", *mine, "--sources", *sources, "--output", tmp_path / "board", "--jobs", 1
    )
    assert made.returncode == 0, made.stderr
    assert "c lacks 1 of 2 images (two)" in made.stderr
    page = (tmp_path / "board" / "index.html").read_text()
    text = text_of(page)
    assert "3 methods · 1 images" in text and "c lacks 1 of 2 images (two); all are ranked" in text
    (told,) = re.findall(r'<script type="application/json">(.*)</script>', page)
    (compared,) = json.loads(told)["sets"]
    assert list(compared["images"][0]["shown"]) == ["infrared", "visible", "a", "b", "c"]
    again = fusionlib("report", *mine)
    assert again.returncode == 1 and "expected --sources A B" in again.stderr


def test_tables_of_score_are_enough(tmp_path):
    frame = pd.DataFrame({"image": ["1", "2"] * 2, "metric": ["EN", "EN", "MSE", "MSE"]})
    frame = frame.assign(convention="standard", against="sources", reason="")
    (tmp_path / "tables").mkdir()
    for name, values in {"low": [1, 3, 0.1, 0.3], "high": [5, 7, 0.5, np.inf]}.items():
        path = tmp_path / "tables" / f"{name}.csv"
        frame.assign(value=values).to_csv(path, index=False)
    listed = leaderboard.entries([tmp_path / "tables"])
    assert [entry.name for entry in listed] == ["high", "low"]
    assert not leaderboard.is_run(tmp_path / "tables")
    (table,) = leaderboard.tables({e.name: leaderboard.read_scores(e.scores) for e in listed})
    lines = {line["name"]: line for line in table["lines"]}
    assert lines["high"]["cells"][0] == {"text": "6.0000", "rank": 1}
    assert lines["high"]["cells"][1] == {"text": "0.5000 over 1", "rank": 2}, "smaller is better"
    assert [line["rank"] for line in table["lines"]] == [1.5, 1.5]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("a,b\n1,2\n", "columns image, metric"), ("", "expected a table of fusionlib score")],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, sentence):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        leaderboard.read_scores(tmp_path / "x.csv")


def test_two_methods_of_one_name_and_methods_without_common_images_are_refused(tmp_path):
    folders = [fused(tmp_path / side / "same") for side in "ab"]
    with pytest.raises(ValueError, match="got two of same"):
        leaderboard.entries(folders)
    frames = {name: pd.DataFrame({"image": [name]}) for name in "ab"}
    with pytest.raises(ValueError, match="none in common: a 1, b 1"):
        leaderboard.common_images(frames)


# --- What the tables say --------------------------------------------------------------------------


def test_the_paragraph_above_a_table_says_what_agrees_and_names_what_is_furthest_off():
    printed = published.table("moe-fusion", 1)
    same = printed[printed["dataset"] == "LLVIP"].drop(columns=["printed", "rank"])
    same = same.assign(status="")
    off = (same["method"] == "TarDAL") & (same["metric"] == METRICS[0])
    same.loc[off, "value"] *= 2
    (section,) = rows.sections([layout.table("table-1", same)])
    assert section.sentences[0] == (
        "Of 80 printed numbers on the paper's own images 79 agree to every printed decimal,"
        " 1 differ by more."
    )
    assert section.sentences[1].startswith(f"Furthest off: LLVIP TarDAL {METRICS[0]} ")
    (cell,) = [
        row.cells[0]
        for row in section.rows
        if (row.method, row.images, row.whose) == ("TarDAL", "LLVIP", "ours")
    ]
    assert cell["partner"].verdict == "differs" and row_count(section) == {"ours": 10, "print": 30}


def test_what_three_printed_tables_stand_beside_is_one_row_and_not_three():
    keys = ("table-A-1", "table-A-2", "table-A-3")
    (section,) = rows.sections([layout.table(key, multi_focus_rows()) for key in keys])
    assert section.keys == list(keys)
    ours = [(row.method, row.images, row.n) for row in section.rows if row.whose == "ours"]
    assert ours == [("LP+PSO", "built-in", 6)]
    below = [(row.images, row.n) for row in section.rows[1:4]]
    assert below == [("lab", 1), ("leopard", 1), ("all", 93)], "print, in the rows under it"


def row_count(section):
    return pd.Series([row.whose for row in section.rows]).value_counts().to_dict()


def test_each_picture_is_on_the_shelf_once_and_linked_beyond_the_budget(tmp_path):
    fused(tmp_path / "a")
    fused(tmp_path / "b")
    rich = shelf.Shelf(tmp_path, 10**6)
    places = {rich.number(tmp_path / side / "one.png") for side in "ab"}
    assert places == {0} and len(rich.sources) == 1
    poor = shelf.Shelf(tmp_path, 10)
    poor.number(tmp_path / "a" / "one.png")
    assert poor.sources == ["a/one.png"]
