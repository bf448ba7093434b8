"""Defaults of the public functions: a changed one changes numbers without a word.

Those of the papers: 4 levels, 3 x 3, alphas 0.25, 0.25, 0.5 and table 1 of Abas and Baykan 2021;
alpha 10 of Cao et al. 2023. Those of the metrics are 8-bit images and the definitions in print.
"""

import importlib
import inspect

import pytest

# fusionlib.transforms, fusionlib.optimizers, fusionlib.metrics, fusionlib.losses,
# fusionlib.results, fusionlib.ranking, fusionlib.detectors, fusionlib.networks: imported by name
DEFAULTS = {
    "transforms.laplacian.LaplacianPyramid": {"levels": 4, "border": "toolbox"},
    "transforms.laplacian.LaplacianPyramid.fuse": {
        "rule": 3,
        "area": 3,
        "base": "average",
        "weight": 0.5,
    },
    "transforms.curvelet.Curvelet": {"angles": 16, "finest": "curvelets", "real": True},
    "transforms.curvelet.Curvelet.fuse": {"rule": 1, "area": 3, "base": "average", "weight": 0.5},
    "transforms.rules.select": {"rule": 3, "area": 3},
    "transforms.rules.base_weight": {"rule": "average", "weight": 0.5},
    "transforms.rules.base": {"rule": "average", "weight": 0.5},
    "transforms.rules.fuse": {"rule": 3, "area": 3, "base": "average", "weight": 0.5},
    "transforms.focus.sharper": {"sigma": 3.0},
    "optimizers.bat.bat": {
        "bounds": ((0, 1),),
        "population": 40,
        "iterations": 40,
        "seed": 0,
        "form": "repaired",
        "frequencies": (0.0, 2.0),
        "pulse_rate": 0.5,
        "loudness": 0.25,
        "alpha": 0.9,
        "gamma": 0.9,
    },
    "optimizers.particle_swarm.particle_swarm": {
        "bounds": ((0, 1),),
        "population": 40,
        "iterations": 40,
        "seed": 0,
        "form": "repaired",
        "inertia": 0.1,
        "c1": 2.0,
        "c2": 2.0,
    },
    "optimizers.objective.LowPassObjective": {"alphas": (0.25, 0.25, 0.5), "quantize": False},
    "metrics.gradient.spatial_frequency": {"white": 255.0, "divisor": "differences"},
    "metrics.gradient.qabf_xydeas": {"white": 255.0, "ties": "fused"},
    "metrics.fidelity.smooth": {"step": 1},
    "metrics.fidelity.ssim": {"window": "gaussian", "data_range": 255.0, "over": "mean"},
    "metrics.information.entropy": {"base": 2.0},
    "metrics.information.mutual_information": {"base": 2.0, "merge_top": False},
    "metrics.information.cross_entropy": {"disjoint": "undefined"},
    "metrics.gradient.artefacts": {"form": "kumar", "exchanged": False},
    "metrics.structure.exposure_fusion_ssim": {"scales": 3},
    "metrics.correlation.standard_deviation": {"arithmetic": "real", "ddof": 0},
    "metrics.reference.mse": {"white": 255.0, "error": "mean"},
    "metrics.reference.rmse": {"white": 255.0, "average": "squares", "error": "mean"},
    "metrics.reference.psnr": {"peak": 255.0, "white": 255.0, "error": "mean"},
    "losses.fusion_loss": {"reading": "paper", "alpha": 10.0},
    "ranking.friedman": {"level": 0.05},
    "ranking.critical_difference": {"level": 0.05},
    "results.interval": {"level": 0.95, "samples": 2000, "seed": 0},
    "results.Paired.verdict": {"level": 0.05},
    "results.paired": {"level": 0.95, "samples": 2000, "seed": 0},
    "detectors.evaluation.bootstrap": {"mode": "area", "samples": 1000, "level": 0.95, "seed": 0},
    "detectors.evaluation.resampled": {"mode": "area", "samples": 1000, "seed": 0},
    "detectors.evaluation.percentiles": {"level": 0.95},
    "networks.compared.auif.Step": {"at_once": True},
    "networks.compared.auif.AUIF": {"rule": "sum", "at_once": True},
    "networks.compared.densefuse.DenseFuse": {
        "flavour": "tensorflow",
        "strategy": "addition",
        "channels": 1,
    },
    "networks.compared.ifcnn.IFCNN": {"rule": "max", "imagenet": True},
    "networks.compared.rfn_nest.unit": {"kernel": 3},
    "networks.compared.rfn_nest.RFNNest": {"tile_above": 512},
    "networks.compared.swinfuse.SwinFuse": {"tile": 224},
    "networks.mixture.NoisyTopKGate": {"noise": True},
    "networks.mixture.MixtureOfExperts": {"inputs": 1, "combine": "sum", "border": "reflect"},
}


def public(name):
    """Return a function by the path of its module and its own name; a module may be named alike."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(["fusionlib", *parts[:count]]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            owner = getattr(owner, part)
        return owner
    raise AssertionError(f"{name}: no such module")


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults(name):
    owner = public(name)
    parameters = inspect.signature(owner).parameters
    assert {key: parameters[key].default for key in DEFAULTS[name]} == DEFAULTS[name]


def test_a_step_of_auif_starts_as_its_authors():
    from fusionlib.networks.compared.auif import AUIF, LAYERS, Step

    step = Step()
    assert step.eta.item() == step.theta.item() == pytest.approx(0.1)
    assert step.kernel.shape == (64, 1, 3, 3)
    assert step.kernel.std().item() == pytest.approx(1 / 24, rel=0.15)
    assert len(AUIF().base) == len(AUIF().detail) == LAYERS == 10
