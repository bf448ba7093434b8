"""Parts of images that are computed one after the other: tiles of networks, strips of metrics."""

from types import SimpleNamespace

import pytest
import torch

from fusionlib.metrics.arrays import strips
from fusionlib.networks import MoEFusion, inference
from fusionlib.networks.tiles import Area, tiles


@pytest.mark.parametrize(("size", "tile"), [((7, 10), (3, 4)), ((6, 8), (3, 4)), ((2, 3), (9, 9))])
def test_tiles_cover_every_pixel_once_and_start_at_their_multiples(size, tile):
    visits = torch.zeros(1, 1, *size)
    for area in tiles(size, tile):
        assert area.top % tile[0] == 0 and area.left % tile[1] == 0
        area.of(visits).add_(1)
        assert area.bottom == min(area.top + tile[0], size[0])
        assert area.right == min(area.left + tile[1], size[1])
    assert (visits == 1).all()


def test_a_halo_ends_at_the_image_and_areas_are_read_within_areas():
    size, area = (20, 30), Area(5, 9, 12, 18)
    around = area.grown(3, size)
    assert around == (2, 12, 9, 21)
    assert area.grown(6, size) == (0, 15, 6, 24)
    assert area.grown(50, size) == (0, 20, 0, 30)
    image = torch.arange(600.0).reshape(1, 1, 20, 30)
    assert torch.equal(area.of(image), image[..., 5:9, 12:18])
    assert torch.equal(area.of(around.of(image), around), image[..., 5:9, 12:18])


@pytest.mark.parametrize(
    ("length", "width", "window"),
    [(100_000, 1, 1), (3000, 33, 11), (90, 640, 3), (90, 1999, 3), (90, 40_000, 17), (17, 9, 17)],
)
def test_strips_start_even_and_hold_every_window_once(length, width, window):
    step = max(16, 32_000 // width - 32_000 // width % 2)
    expected = 0
    for strip in strips(length, width, window):
        assert strip.start == expected and strip.start % 2 == 0
        windows = min(step, length - window + 1 - strip.start)
        assert strip.stop == strip.start + windows + window - 1
        expected += windows
    assert expected == length - window + 1


@pytest.fixture
def pair():
    """A small network and a pair of 120 x 200 pixels."""
    model = MoEFusion(width=4, gate_grid=((6, 8), (3, 4))).eval()
    generator = torch.Generator().manual_seed(0)
    return model, [torch.rand(1, c, 120, 200, generator=generator) for c in (1, 1, 2)]


@pytest.mark.parametrize(
    ("rows_that_fit", "rows"), [(1, 8), (8.5, 8), (9.5, 9), (23.5, 23), (300, 96)]
)
def test_rows_of_a_tile_follow_from_the_memory(pair, monkeypatch, rows_that_fit, rows):
    """The numbers that the estimate counts: 4 bytes, 60 maps of C channels, 160 columns a row."""
    model, images = pair
    held = 0.5e9
    used, made = [], inference.tiles
    monkeypatch.setattr(inference, "tiles", lambda size, t: used.append(t) or made(size, t))
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=held))
    monkeypatch.setattr(inference.psutil, "Process", lambda: process)
    whole_image = 16 * 120 * 200
    gates = 16 * 20 * 4 * (6 * 8 + 3 * 4)
    spare = rows_that_fit * 4 * 60 * 4 * 160
    memory = (held + whole_image + gates + spare) / 1e9
    out = inference.fuse(model, *images, memory=memory)
    assert set(used) == {(rows, 160)}
    torch.testing.assert_close(out.fused, model(*images).fused, rtol=1e-4, atol=1e-5)


def test_two_gigabytes_or_half_of_what_is_free_by_default(monkeypatch):
    for free, spare in ((16e9, 2e9), (3e9, 1.5e9)):
        state = SimpleNamespace(available=free)
        monkeypatch.setattr(inference.psutil, "virtual_memory", lambda state=state: state)
        assert inference.spare_bytes(None) == spare
