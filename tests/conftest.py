"""Shared by the tests: where the real data is, if it is."""

import os
from pathlib import Path

import pytest


def _folder(name: str) -> Path:
    value = os.environ.get(name)
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
def figures_closed():
    """Draw without a window, and leave no figure behind."""
    import matplotlib
    import matplotlib.pyplot as plt

    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    yield
    plt.close("all")
    matplotlib.use(backend)
