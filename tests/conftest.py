"""Shared by the tests: where the real data is, if it is; nothing else looks for it there."""

import os
import signal
from pathlib import Path

import pytest

from fusionlib import places

# Results must not depend on what lies on the machine: the library, and programs that tests start,
# look nowhere. Processes of pytest-xdist inherit that, so what was set stands under another name.
REAL = {
    name: os.environ.setdefault(f"TESTS_{name}", os.environ.get(name, ""))
    for name in ("FUSION_DATA", "FUSION_WEIGHTS")
}
os.environ |= dict.fromkeys(REAL, places.NOWHERE)

# Tests send Ctrl-C to programs that they start: these must not inherit that it is ignored, as it is
# where a shell started the tests with "&".
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _folder(name: str) -> Path:
    value = REAL[name]
    if not value:
        pytest.skip(
            f"{name} is not set: this test needs real data that the project does not contain"
        )
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{name}: expected a folder, found nothing at {path}")
    return path


@pytest.fixture(scope="session")
def fusion_data() -> Path:
    return _folder("FUSION_DATA")


@pytest.fixture(scope="session")
def fusion_weights() -> Path:
    return _folder("FUSION_WEIGHTS")


@pytest.fixture(scope="session")
def oracles(fusion_data) -> Path:
    path = fusion_data.parent / "oracles"
    if not path.is_dir():
        pytest.skip(f"no folder of reference numbers at {path}")
    return path


@pytest.fixture(scope="module")
def one_thread():
    """Sums in one order, whatever the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def synced(monkeypatch):
    """No file gets its name here before its content is on the disk; the names that were given."""
    on_disk, named = set(), []
    sync, replace = os.fsync, os.replace

    def noted(handle):
        sync(handle)
        on_disk.add(os.fstat(handle).st_ino)

    def checked(source, target, **options):
        files = [path for path in (Path(source), *Path(source).rglob("*")) if path.is_file()]
        assert {path.stat().st_ino for path in files} <= on_disk, f"{target} is not on the disk"
        replace(source, target, **options)
        named.append(Path(target))

    monkeypatch.setattr(os, "fsync", noted)
    for rename in ("replace", "rename"):
        monkeypatch.setattr(os, rename, checked)
    return named


@pytest.fixture
def figures_closed():
    """Draw without a window, and leave no figure behind."""
    import matplotlib
    import matplotlib.pyplot as plt

    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    yield
    plt.close("all")
    matplotlib.use(backend)
