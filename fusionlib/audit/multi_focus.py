"""Claims of Abas and Baykan 2021 (multi-focus) against their equations and tables 1 and A-1 to
A-3.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

import numpy as np
import pandas as pd

from fusionlib import published
from fusionlib.audit.grids import (
    Answers,
    Claims,
    cells,
    entropy_deviation,
    listed,
    of,
    span,
    spoken,
    spread,
    yes,
)

SINGLE, AVERAGES = ("A-1", "A-2"), "A-3"
RESULTS = (*SINGLE, AVERAGES)
TRANSFORMS = ("CvT", "LP")
OPTIMISERS = ("PSO", "BA")
QUALITY = ("MI", "Qabf", "EN", "CC", "SSIM", "RMSE", "PSNR")
# ASSUMPTION: no photograph has more than 1e9 pixels, so a PSNR above one wrong gray level in as
# many is impossible.
MOST_PIXELS = 1e9
ROUNDING_NOISE = 1 / 12  # variance of rounding to whole gray levels


def results(rows: pd.DataFrame) -> pd.DataFrame:
    """Tables A-1 to A-3 as one grid, ``half METRIC``: how far rounding may have moved the printed
    number.
    """
    grid, text = cells(rows, RESULTS), cells(rows, RESULTS, values="printed")
    return grid.assign(
        **{f"half {m}": text[m].map(published.half_unit) for m in ("CC", "RMSE", "EN", "PSNR")},
        single=grid.index.get_level_values("dataset") != "all",
    )


def contradictions(rows: pd.DataFrame) -> list[tuple[str, list[str], pd.Index]]:
    """Claim, metrics and (dataset, method) of the numbers that cannot stand beside others of their
    row.
    """
    if AVERAGES not in set(rows["table"]):
        return []
    equation, bounds = psnr_by_equation(rows), deviation_bounds(rows)
    return [
        ("mf-psnr-equation", ["PSNR"], equation.index[equation["contradicts"]]),
        ("mf-cc-rmse-entropy", ["CC", "RMSE", "EN"], bounds.index[bounds["contradicts"]]),
    ]


def psnr_of(rmse):
    # Eq. (20), Abas and Baykan 2021, with log10 and L = 256
    return 10 * np.log10(255**2 / rmse**2)


def rmse_of(psnr_):
    # Eq. (20) solved for RMSE
    return 255 / 10 ** (psnr_ / 20)


def psnr_by_equation(rows: pd.DataFrame) -> pd.DataFrame:
    """RMSE, PSNR, ``equation`` = eq. (20), ``impossible`` for 8 bits, ``contradicts``, per
    (dataset, method).

    A mean of eq. (20) is at least eq. (20) of the mean RMSE, so an average contradicts only where
    it is impossible.
    """
    grid = results(rows)
    grid["equation"] = psnr_of(grid["RMSE"])
    slack = grid["half PSNR"] + psnr_of(grid["RMSE"] - grid["half RMSE"]) - grid["equation"]
    grid["impossible"] = grid["PSNR"] > psnr_of(1 / np.sqrt(MOST_PIXELS))
    grid["contradicts"] = grid["impossible"] | (
        grid["single"] & ((grid["PSNR"] - grid["equation"]).abs() > slack)
    )
    return grid[["RMSE", "PSNR", "equation", "impossible", "contradicts"]]


def psnr(rows: pd.DataFrame, claims: Claims) -> Answers:
    grid = psnr_by_equation(rows)
    printed, equation, against = grid["PSNR"], grid["equation"], grid["contradicts"].sum()
    values = "; ".join(
        f"{name} {' '.join(f'{value:.2f}' for value in equation[name])}"
        for name in grid.index.unique("dataset")
    )
    yield (
        "mf-psnr-equation",
        of(len(grid) - against, len(grid)),
        (
            f"Eq. (20) from RMSE, rows in print order: {values}. Printed: {span(printed)};"
            f" {against} of {len(grid)} contradict."
        ),
    )
    ratio = printed / equation
    yield (
        "mf-psnr-factor",
        yes(ratio.max() < 1.001 * ratio.min()),
        (
            f"Printed over eq. (20) is {span(ratio)}, where a factor would leave one number;"
            f" natural logarithms would give {span(equation * np.log(10), 0)}."
        ),
    )
    top, low = printed["lab", "LP"], printed.min()
    yield (
        "mf-psnr-attainable",
        of(int((~grid["impossible"]).sum()), len(grid)),
        (
            f"{top:.2f} dB means an RMSE of {rmse_of(top):.0e}. One gray level wrong in one pixel"
            f" of 520 x 520 is {psnr_of(1 / 520):.1f} dB; the smallest printed value, {low:.2f},"
            f" needs {rmse_of(low) ** -2:.0e} pixels."
        ),
    )
    total, broken = rising_with_rmse(grid)
    old, new = grid.loc[("all", "LP")], grid.loc[("all", "LP+BA")]
    yield (
        "mf-psnr-monotone",
        of(total - len(broken), total),
        (
            f"{len(broken)} of {total} pairs break it (RMSE / PSNR):"
            f" {'; '.join(broken) or 'none'}. Average LP to LP+BA: RMSE"
            f" {new['RMSE'] / old['RMSE'] - 1:+.0%}, PSNR {new['PSNR'] - old['PSNR']:+.2f}."
        ),
    )


def rising_with_rmse(grid: pd.DataFrame) -> tuple[int, list[str]]:
    """Number of pairs of rows that differ in RMSE, and those whose PSNR does not fall with it."""
    pairs = [
        (nearer, farther)
        for _, part in grid.groupby("dataset", sort=False)
        for nearer, farther in permutations(part.itertuples(), 2)
        if nearer.RMSE < farther.RMSE
    ]
    return len(pairs), [
        f"{spoken(nearer.Index)} {nearer.RMSE} / {nearer.PSNR} against"
        f" {farther.Index[1]} {farther.RMSE} / {farther.PSNR}"
        for nearer, farther in pairs
        if nearer.PSNR <= farther.PSNR
    ]


def deviation_bounds(rows: pd.DataFrame) -> pd.DataFrame:
    """``most`` and ``least`` deviation of the fused image, at the kindest end of the rounding, and
    ``contradicts``.

    RMSE^2 >= sR^2 + sF^2 - 2 CC sR sF >= sF^2 (1 - CC^2), whatever the reference's sR, bounds sF
    from above; entropy bounds it from below. Averages are not called contradicting: a mean of
    bounds is not the bound of the means.
    """
    grid = results(rows)
    correlation = np.minimum(grid["CC"] + grid["half CC"], 1)
    with np.errstate(divide="ignore"):  # CC printed as 1 gives no bound
        grid["most"] = (grid["RMSE"] + grid["half RMSE"]) / np.sqrt(1 - correlation**2)
    grid["least"] = entropy_deviation(grid["EN"] - grid["half EN"])
    grid["gap"] = grid["most"] < grid["least"]
    return grid.assign(contradicts=grid["gap"] & grid["single"])


def consistency(rows: pd.DataFrame, claims: Claims) -> Answers:
    grid = deviation_bounds(rows)
    bounds = "; ".join(
        f"{spoken(row.Index)} at most {row.most:.1f} and at least {row.least:.1f}"
        for row in grid[grid["gap"]].itertuples()
    )
    lab = grid.loc[("lab", "LP")]
    limit = lab["RMSE"] / np.sqrt(1 - lab["CC"] ** 2)
    needed = np.sqrt(1 - (grid["RMSE"][grid["contradicts"]] / limit) ** 2)
    yield (
        "mf-cc-rmse-entropy",
        of(int((grid["single"] & ~grid["gap"]).sum()), int(grid["single"].sum())),
        (
            f"Deviation of the fused image, rows in conflict ({grid['contradicts'].sum()} single,"
            f" {(grid['gap'] & ~grid['single']).sum()} average): {bounds or 'none'}. At {limit:.0f}"
            " gray levels, the limit of the Lab LP row, these RMSE mean CC:"
            f" {listed(needed, '.4f')}. {np.isinf(grid['most']).sum()} rows with CC printed as 1"
            " give no bound."
        ),
    )


def mutual_information(rows: pd.DataFrame, claims: Claims) -> Answers:
    grid = results(rows)
    bits = 2 * grid["EN"]  # I(A;F) + I(B;F) <= 2 H(F)
    nats = bits * np.log(2)
    over = grid["MI"] > nats
    excess = "; ".join(
        f"{spoken(row)} {grid['MI'][row]:g} over {nats[row]:.2f}" for row in over.index[over]
    )
    yield (
        "mf-mi-nats",
        yes(not over.any()),
        (
            f"MI exceeds 2 H ln 2 in {over.sum()} of {len(grid)} rows: {excess or 'none'}. With"
            f" base 2, {(grid['MI'] > bits).sum()} rows exceed 2 H (at most {bits.max():.2f})."
        ),
    )


def averages(rows: pd.DataFrame, claims: Claims) -> Answers:
    grid = cells(rows, AVERAGES).droplevel("dataset")
    counts = grid["Qabf"].value_counts()
    most = counts.idxmax()
    yield (
        "mf-avg-qabf-distinct",
        yes(counts.max() == 1),
        (
            f"{most:g} stands in {counts.max()} of {len(grid)} rows: "
            f"{', '.join(grid.index[grid['Qabf'] == most])}."
        ),
    )
    moved = {t: (grid.loc[f"{t}+BA"] / grid.loc[t] - 1)[["Qabf", "SSIM"]] for t in TRANSFORMS}
    # An unchanged value may have moved by half a unit of the fourth decimal.
    apart = moved["CvT"].abs() > 10 * moved["LP"].abs().clip(lower=0.00005)
    changes = [
        f"{t} {m} {grid.loc[t, m]:g} to {grid.loc[f'{t}+BA', m]:g} ({moved[t][m]:+.1%})"
        for t in TRANSFORMS
        for m in moved[t].index
    ]
    yield ("mf-avg-cvt-jump", yes(not apart.any()), f"{'; '.join(changes)}.")
    entropy = grid["EN"]
    steps = (("+PSO", ""), ("+BA", ""), ("+BA", "+PSO"))
    pairs = [(t + new, t + old) for t in TRANSFORMS for new, old in steps]
    falls = [
        f"{new} {entropy[new]:.4f} under {old} {entropy[old]:.4f}"
        for new, old in pairs
        if entropy[new] <= entropy[old]
    ]
    yield (
        "mf-avg-entropy",
        of(len(pairs) - len(falls), len(pairs)),
        (
            f"Rises in {len(pairs) - len(falls)} of {len(pairs)} comparisons; not:"
            f" {', '.join(falls) or 'none'}."
        ),
    )


def comparison(
    rows: pd.DataFrame, tables: Iterable[str], pairs: Iterable[tuple[str, str]]
) -> tuple[str, str]:
    """Verdict and evidence on: the first method of each pair is better than the second on every
    metric.
    """
    parts, better, total = [], 0, 0
    for name, part in cells(rows, tables)[list(QUALITY)].groupby("dataset", sort=False):
        for new, old in pairs:
            gain = part.loc[(name, new)] - part.loc[(name, old)]
            gain["RMSE"] *= -1  # the only metric where smaller is better
            n_better = int((gain > 0).sum())
            sentence = f"{name} {new} over {old} {n_better} of {len(gain)}"
            for word, which in (("equal", gain == 0), ("worse", gain < 0)):
                if which.any():
                    sentence += f", {word} {' '.join(gain.index[which])}"
            parts.append(sentence)
            better, total = better + n_better, total + len(gain)
    return of(better, total), f"Better: {'; '.join(parts)}."


def bat_over_pso(rows: pd.DataFrame, claims: Claims) -> Answers:
    for id_, claim in claims.items():
        yield (
            id_,
            *comparison(
                rows, claim["tables"].split(), [(f"{t}+BA", f"{t}+PSO") for t in TRANSFORMS]
            ),
        )


def over_plain(rows: pd.DataFrame, claims: Claims) -> Answers:
    pairs = [(f"{t}+{o}", t) for t in TRANSFORMS for o in OPTIMISERS]
    yield "mf-optimised-better", *comparison(rows, RESULTS, pairs)
    verdict, evidence = comparison(rows, [AVERAGES], [("LP+BA", "LP")])
    average = cells(rows, AVERAGES).loc["all"]
    yield (
        "mf-ba-lp-average",
        verdict,
        (
            f"{evidence} Changes:"
            f" {listed((average.loc['LP+BA'] - average.loc['LP'])[list(QUALITY)], '+.4f')}."
        ),
    )
    ssim = cells(rows, SINGLE).loc["leopard"]["SSIM"]
    falls = [
        f"{new} {ssim[new]:g} under {old} {ssim[old]:g}"
        for new, old in pairs
        if ssim[new] < ssim[old]
    ]
    yield (
        "mf-leopard-ssim",
        of(len(pairs) - len(falls), len(pairs)),
        f"Lower: {', '.join(falls) or 'none'}.",
    )


def parabola(rows: pd.DataFrame, claims: Claims) -> Answers:
    """MSE(w) = MSE(0) + b w + a w^2; a is the mean square of the low-band difference, as F = P + w
    D by eq. (13).
    """
    grid, curvature, above = cells(rows, SINGLE), {}, {}
    for name in grid.index.unique("dataset"):
        for t in TRANSFORMS:
            three = grid.loc[[(name, t), *((name, f"{t}+{o}") for o in OPTIMISERS)]].sort_values(
                "w1"
            )
            w, mse = three["w1"].to_numpy(), three["RMSE"].to_numpy() ** 2
            curvature[name, t] = np.polyfit(w, mse, 2)[0]
            # middle point above the chord
            above[name, t] = mse[1] - np.interp(w[1], w[[0, 2]], mse[[0, 2]])
    curvature, above = pd.Series(curvature), pd.Series(above)
    concave = above[above > 0]
    yield (
        "mf-rmse-convex",
        "true" if concave.empty else "partly" if concave.max() <= ROUNDING_NOISE else "false",
        (
            f"Coefficient of w^2: {listed(curvature, '.1f')}. Middle weight above the chord:"
            f" {listed(concave, '.3f')} gray^2; rounding noise is {ROUNDING_NOISE:.3f}."
        ),
    )
    lab = np.sqrt(curvature["lab"].clip(lower=0))
    yield (
        "mf-low-band-difference",
        yes(lab.max() < 2 * lab.min()),
        (
            "Implied root mean square difference of the low bands of the same pair:"
            f" {listed(lab, '.2f')} gray levels."
        ),
    )


def weights(rows: pd.DataFrame, claims: Claims) -> Answers:
    grid, average = cells(rows, SINGLE), cells(rows, AVERAGES)
    sums_to_one = np.isclose(grid["w1"] + grid["w2"], 1, rtol=0, atol=1e-9)
    plain = grid.loc[grid.index.isin(TRANSFORMS, level="method"), "w1"] == 0.5
    given = sum(name in average for name in ("w1", "w2"))
    yield (
        "mf-weights-sum",
        of(int(sums_to_one.sum()), len(sums_to_one)),
        f"w1 + w2 = 1 in {sums_to_one.sum()} of {len(sums_to_one)} rows.",
    )
    yield (
        "mf-two-dimensional",
        yes(not sums_to_one.all()),
        f"{sums_to_one.sum()} of {len(sums_to_one)} pairs of weights lie on one line.",
    )
    yield (
        "mf-plain-half",
        of(int(plain.sum()), len(plain)),
        f"w1 = 0.5 in {plain.sum()} of {len(plain)} plain rows.",
    )
    yield (
        "mf-avg-weights",
        of(given, 2),
        f"{given} of 2 weights among the columns {', '.join(average.columns)}.",
    )


def seconds(rows: pd.DataFrame, claims: Claims) -> Answers:
    setting = cells(rows, "1").droplevel("dataset")
    time = cells(rows, RESULTS)["seconds"].unstack("dataset")
    steps = setting["population"] * setting["iterations"]
    cost = pd.concat(
        {f"{t}+{o}": time.loc[f"{t}+{o}"] / time.loc[t] for t in TRANSFORMS for o in OPTIMISERS},
        axis=1,
    )
    shorter = pd.concat({name: steps[name.partition("+")[2]] / cost[name] for name in cost}, axis=1)
    times = ", ".join(
        f"{t} {time.loc[f'{t}+PSO', 'lab'] / steps['PSO']:.2f} s against {time.loc[t, 'lab']:.2f} s"
        for t in TRANSFORMS
    )
    factors = ", ".join(
        f"{o} {span(shorter[[f'{t}+{o}' for t in TRANSFORMS]].stack(), 1)}" for o in OPTIMISERS
    )
    yield (
        "mf-time-evaluation",
        yes((shorter <= 1).all(axis=None)),
        (
            f"An evaluation is shorter than one plain fusion by a factor of: {factors}. Lab with"
            f" PSO: {times}."
        ),
    )
    yield (
        "mf-time-cost",
        yes((shorter <= 1).all(axis=None)),
        (
            f"{listed(steps, '.0f')} evaluations by table 1, at the cost of {span(cost.stack(), 0)}"
            " plain fusions."
        ),
    )
    ratio = pd.concat([time.loc[f"{t}+BA"] / time.loc[f"{t}+PSO"] for t in TRANSFORMS])
    yield (
        "mf-time-ba",
        of(int((ratio < 1).all()) + int(steps["BA"] < steps["PSO"]), 2),
        (
            f"BA takes {span(ratio)} of PSO's time, less in {(ratio < 1).sum()} of {len(ratio)}"
            f" cases; evaluations by table 1: {listed(steps, '.0f')}."
        ),
    )
    larger = time["lab"] / time["leopard"]
    yield (
        "mf-time-size",
        "not checkable",
        (
            f"Lab takes {span(larger)} times as long as Leopard, longer in {(larger > 1).sum()} of"
            f" {len(larger)} rows, but the sizes of the images are not printed."
        ),
    )


def objective(rows: pd.DataFrame, claims: Claims) -> Answers:
    grid = cells(rows, RESULTS)
    alpha = {name: float(v) for name, v in claims["mf-objective-shares"].items()}
    # Eq. (17), Abas and Baykan 2021: the three terms, from the printed metrics
    terms = pd.DataFrame(
        {
            "CC": alpha["CC"] * grid["CC"],
            "EN": alpha["EN"] * grid["EN"],
            "1/RMSE": alpha["RMSE"] / grid["RMSE"],
        }
    )
    largest, share = terms.idxmax(axis=1), 100 * terms["EN"] / terms.sum(axis=1)
    yield (
        "mf-objective-shares",
        of(int((largest == "1/RMSE").sum()), len(grid)),
        (
            f"Terms of f: {'; '.join(f'{name} {span(terms[name])}' for name in terms)}. EN is the"
            f" largest in {(largest == 'EN').sum()} of {len(grid)} rows, with"
            f" {span(share, 0, ' %')} of f."
        ),
    )


def parameters(rows: pd.DataFrame, claims: Claims) -> Answers:
    given = rows[rows["table"] == "1"].groupby("method")["metric"].agg(set)
    for id_, needed in claims.items():
        missing = [
            f"{name} of {method}"
            for method, names in needed.items()
            for name in names.split()
            if name not in given.get(method, ())
        ]
        yield id_, yes(not missing), f"Missing: {', '.join(missing) or 'none'}."


def printing(rows: pd.DataFrame, claims: Claims) -> Answers:
    part = rows[rows["table"].isin(RESULTS) & rows["metric"].isin(QUALITY)]
    for id_, claim in claims.items():
        longer = part[part["printed"].map(published.decimals) > int(claim["decimals"])]
        names = ", ".join(
            longer["dataset"]
            + " "
            + longer["method"]
            + " "
            + longer["metric"]
            + " "
            + longer["printed"]
        )
        yield (
            id_,
            yes(longer.empty),
            f"{len(longer)} of {len(part)} have more than {claim['decimals']}: {names or 'none'}.",
        )


CHECKS = {
    check.__name__: check
    for check in (
        psnr,
        consistency,
        mutual_information,
        averages,
        bat_over_pso,
        over_plain,
        parabola,
        weights,
        spread,
        seconds,
        objective,
        parameters,
        printing,
    )
}
