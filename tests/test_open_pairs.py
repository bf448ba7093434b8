"""``open_pairs``, the one way to infrared-visible pairs: generated, of a folder, or of a published
data set, and in one sentence why there are none.
"""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from published_copies import LAYOUTS, SIZE, TEST, TRAIN, copy, write

from fusionlib import images
from fusionlib.datasets import catalog, checking, infrared_visible, open_pairs
from fusionlib.datasets.scenes import scene, write_scenes


def test_importing_it_does_not_import_torch():
    code = "import sys; from fusionlib.datasets import open_pairs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_generated_scenes_are_those_that_no_training_sees():
    pairs = open_pairs(limit=2)
    assert pairs.names == ["scene-1000", "scene-1001"] and len(open_pairs()) == 8
    made = scene(1001, (96, 128))
    assert np.array_equal(pairs[1].visible, made.visible) and pairs[1].labels == made.labels
    assert np.array_equal(pairs["scene-1001"].boxes, made.boxes)
    assert pairs.record["layout"] == "generated scenes" and pairs.record["seed"] == 1000
    chosen = open_pairs(limit=1, seed=2, scene_size=(40, 48), classes=("car",))
    assert chosen.names == ["scene-02"] and chosen[0].infrared.shape == (40, 48)
    assert set(chosen[0].labels) <= {"car"} and len(chosen[0].boxes) == len(chosen[0].labels)
    assert open_pairs(limit=1, size=(32, 40))[0].infrared.shape == (32, 40)


def test_a_real_folder_is_recorded_by_its_name_and_only_scenes_as_scenes(tmp_path, monkeypatch):
    write_scenes(tmp_path / "yard", range(2), (32, 32))
    assert open_pairs(tmp_path / "yard").record["dataset"] == "yard"
    assert open_pairs(tmp_path / "yard", "Mine").record["dataset"] == "Mine"
    monkeypatch.chdir(tmp_path / "yard")
    assert open_pairs(".").record["dataset"] == "yard"
    assert open_pairs(limit=1).record["dataset"] == "scenes"
    with pytest.raises(ValueError, match="expected a folder in data, or .*, got no .* 'Mine'"):
        open_pairs("", "Mine")


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_published_layouts(dataset, tmp_path):
    copy(tmp_path, dataset)
    assert checking.check(dataset, tmp_path).problems == []
    train, test = (open_pairs(tmp_path, dataset.lower(), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (TRAIN, TEST) and not set(train.names) & set(test.names)
    assert all(pair.infrared.shape == SIZE and pair.boxes is not None for pair in train)
    both = open_pairs(tmp_path, dataset)
    assert sorted(train.names + test.names) == both.names
    assert (test.record["dataset"], test.record["split"]) == (dataset, "test")
    assert test.record["pairs"] == TEST and test.record["folder"] == str(tmp_path)
    assert test.record["names_sha256"] != train.record["names_sha256"]
    with pytest.raises(ValueError, match="split: .*'nothing'"):
        open_pairs(tmp_path, dataset, "nothing")


def test_limit_takes_the_first_or_evenly(tmp_path):
    write_scenes(tmp_path, range(6), (32, 32))
    names = open_pairs(tmp_path).names
    assert open_pairs(tmp_path, limit=3).names == names[:3]
    assert open_pairs(tmp_path, limit=3, evenly=True).names == names[::2]
    assert open_pairs(tmp_path, limit=9).names == names
    assert [pair.name for pair in open_pairs(tmp_path)[1:3]] == names[1:3]


def test_none_is_an_error_of_one_sentence(tmp_path):
    (tmp_path / "ir").mkdir(), (tmp_path / "vi").mkdir()
    cases = [
        ((tmp_path,), "expected infrared-visible pairs, found none"),
        ((tmp_path, "LLVIP"), "expected LLVIP as .*, found none of these"),
        ((tmp_path / "nowhere",), "expected a folder with ir and vi, found none there"),
        (("", "M3FD"), "data: expected the folder of M3FD, it is in none of"),
        (("", "scenes", "test"), "split: generated scenes have none, got 'test'"),
        ((tmp_path, "MFIFB"), "expected infrared-visible pairs, got MFIFB, multi-focus"),
    ]
    for arguments, message in cases:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            open_pairs(*arguments)
    write_scenes(tmp_path, range(2), (32, 32), evaluation=0)
    (tmp_path / "splits.json").write_text('{"val": []}')
    with pytest.raises(ValueError, match="expected infrared-visible pairs in split 'val', found"):
        open_pairs(tmp_path, split="val")


def test_what_was_read_is_kept_up_to_a_bound(tmp_path, monkeypatch):
    reads, read = [], images.read
    monkeypatch.setattr(images, "read", lambda path: reads.append(path) or read(path))
    pairs = open_pairs(write_scenes(tmp_path, range(3), (32, 32)))
    assert [pair.name for pair in pairs] == [pair.name for pair in pairs] and len(reads) == 6
    sent = pickle.loads(pickle.dumps(pairs))
    assert len(pickle.dumps(pairs)) < 4000, "a worker process is sent names, no images"
    assert np.array_equal(sent[0].visible, pairs[0].visible) and len(reads) == 8
    monkeypatch.setattr(infrared_visible, "KEPT_BYTES", 32 * 32 * 4 * 2)  # of two pairs
    pairs = open_pairs(tmp_path)
    list(pairs), reads.clear()
    assert list(pairs)[2].name == pairs.names[2] and len(reads) == 2, "the third is read again"


MINE = """
Mine:
  pairs: 2
  classes: {Walker: person}
  drawn: {train: 1, test: 1}
  layouts:
    - {called: mine, infrared: "thermal_{name}.*", visible: "colour_{name}.*", labels: "{name}.xml"}
"""


def test_a_data_set_of_ones_own(tmp_path):
    from fusionlib.training.config import catalogued

    for number in range(2):
        made = scene(number, (32, 40))
        images.write(tmp_path / f"thermal_{number}.png", made.infrared)
        images.write(tmp_path / f"colour_{number}.png", made.visible)
        box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        text = f"<annotation><object><name>Walker</name>{box}</object></annotation>"
        write(tmp_path, f"{number}.xml", text)
    with pytest.raises(FileNotFoundError, match="expected one folder of infrared images"):
        open_pairs(tmp_path, "mine")
    write(tmp_path, "dataset.yaml", MINE)
    pairs = open_pairs(tmp_path, "mine")
    assert pairs.names == ["0", "1"] and pairs[0].labels == ["person"]
    assert len(open_pairs(tmp_path, "mine", "test")) == 1
    assert checking.check("mine", tmp_path).problems == []
    expected = {"data.dataset": "Mine", "data.classes": ("person",)}
    assert catalogued("mine", tmp_path) == expected
    with pytest.raises(ValueError, match="name: expected one of"):
        catalog.entry("mine")  # another folder does not know it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected NAME: .*, got something else"),
        ("Mine: {pairs: 2", "expected YAML, got a damaged file"),
        ("Mine: {layouts: []}", "expected of Mine .*pairs, and layouts with"),
        (
            "Mine: {pairs: 2, layouts: [], kind: x}",
            "expected of Mine a kind out of infrared-visible, multi",
        ),
        (
            "Mine: {pairs: 2, layouts: [{called: x, infrared: a}]}",
            "expected of Mine .*called, infrared, visible each",
        ),
    ],
)
def test_a_file_that_describes_none_is_refused(text, message, tmp_path):
    write(tmp_path, "dataset.yaml", text)
    with pytest.raises(ValueError, match=f"dataset.yaml: {message}"):
        open_pairs(tmp_path, "mine")
