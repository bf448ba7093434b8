"""Metrics of a batch on a torch device, equal to those of numpy image by image."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.vectors import triplets
from test_metrics_properties import image, images

from fusionlib import metrics
from fusionlib.metrics.batch import EIGHT, _square_root

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def agree(triples, convention: str, device: str) -> None:
    """Check a batch of triples against numpy, to 1e-9."""
    stacked = [torch.from_numpy(np.stack(x)).to(device) for x in zip(*triples, strict=True)]
    got = metrics.evaluate_batch(*stacked, convention=convention)
    assert tuple(got) == EIGHT
    assert all(x.dtype == torch.float64 and x.shape == (len(triples),) for x in got.values())
    for k, triple in enumerate(triples):
        for name, wanted in metrics.evaluate(*triple, EIGHT, convention).items():
            value = got[name][k].item()
            assert (math.isnan(value) and math.isnan(wanted)) or value == pytest.approx(
                wanted, abs=1e-9, rel=1e-9
            ), (name, k)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("convention", ["moe-fusion", "standard"])
@pytest.mark.parametrize("vector", triplets())
def test_a_batch_has_the_values_of_its_images(vector, convention, device):
    a, b, fused = triplets()[vector]
    mirrored = [np.ascontiguousarray(x[:, ::-1]) for x in (b, fused, a)]
    agree([(fused, a, b), tuple(mirrored), (a, a, b)], convention, device)


@settings(max_examples=20, deadline=None)
@given(images(sides=(1, 60)), st.sampled_from(["moe-fusion", "standard"]))
def test_any_size_and_content(triple, convention):
    agree([tuple(triple)], convention, "cpu")


def test_names_and_what_is_refused():
    rng = np.random.default_rng(0)
    f, a, b = (torch.from_numpy(image(rng, (50, 60), "noise"))[None] for _ in range(3))
    assert list(metrics.evaluate_batch(f, a, b, ["SD", "EN"])) == ["SD", "EN"]
    for arguments, words in (
        ((f, a, b, "CC"), "expected one of EN, SF"),
        ((f, a, b, None, "vifb"), "moe-fusion or standard for batches"),
        ((f, a, b[:, 1:]), "b: expected"),
        ((f[0], a[0], b[0]), "(B, H, W)"),
    ):
        with pytest.raises(ValueError) as caught:
            metrics.evaluate_batch(*arguments)
        assert words in str(caught.value)
    with pytest.raises(TypeError, match="a: expected uint8"):
        metrics.evaluate_batch(f, a.float(), b)


def test_square_roots_are_those_of_numpy():
    """Ties of Qabf hang on the last bit, which torch's square root misses on some processors."""
    x = torch.from_numpy(np.random.default_rng(0).random((3, 40, 50)) * 8)
    assert np.array_equal(_square_root(x).numpy(), np.sqrt(x.numpy()))
