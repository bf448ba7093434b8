"""What each metric is, convention by convention: a table of data, no code of its own.

One name stands for several definitions in the literature. A convention fixes one definition for
every name::

    CONVENTIONS["moe-fusion"]["SD"]             # a sentence (a string)
    CONVENTIONS["moe-fusion"]["SD"].function    # standard_deviation
    CONVENTIONS["moe-fusion"]["SD"].larger_is_better
    CONVENTIONS["moe-fusion"]["SD"].options     # {"arithmetic": "uint8"}

The names of :data:`FURTHER` are computed when they are asked for by name, or by "all".

The conventions
---------------
standard
    The textbook: real arithmetic on 0..255, no merged bins, decibels and SSIM as defined.
moe-fusion
    The evaluator behind the tables of Cao et al. 2023 (its state before March 2023): 8-bit
    arithmetic in SD and VIF, images on [0, 1] in SF and Qabf.
multi-focus
    Tables 1 and A-1 to A-3 of Abas & Baykan 2021, and the terms of their objective.
cddfuse
    A widely copied Python evaluator, in float64.
vifb
    A benchmark of visible and infrared fusion in MATLAB; the one convention that takes colour, each
    channel of the fused image against the same channel of the sources.
toolbox
    A MATLAB toolbox of fusion metrics whose Qcb, Qcv, Qy and Qncie were copied into most others.

Variants that are no convention here, so that a reader recognises them
----------------------------------------------------------------------
"MI" about twice EN (13.5 where the mutual information is 4.3)
    A popular MATLAB toolbox takes entropies of image rows; it is no mutual information of pixels.
MI lower by the factor ln 2 = 0.693
    Natural logarithm: ``mutual_information(..., base=math.e)``.
VIFF above VIF summed over the sources, or equal to it
    Han et al. 2013 is VIFF in ``standard``; ``cddfuse`` prints the sum of two VIF under this name.
VIF of 0.46 where it should be 0.22 for one source
    Images on [0, 1] given to code for 0..255; the noise variance 2 then drowns everything.
SD of 10 in one paper and 45 in the next
    8-bit arithmetic: ``standard_deviation(..., arithmetic="uint8")``. SD from a sample: ``ddof=1``.
SF of 9 or 0.035
    Images on 0..255 or [0, 1] (``white``); both sums divided by all pixels lower it by 0.1 to 1 %
    (``divisor``).
SF of 9.4 where it should be 12
    A Python evaluator given uint8 arrays: differences and squares wrap modulo 256, without warning.
AG 27 % higher
    Forward differences; 0.4 to 3 % lower: the sum divided by all pixels.
Qabf that differs in the third digit between two environments
    On [0, 1] the order in which a convolution adds its taps decides ties, up to 0.02; Qabf of
    0.97479 at most: ties count 1; Qabf near 0.93 where others have 0.83: Petrovic's constants.
Qabf near 0
    Angles or gradients kept in uint8 arrays, where every fraction and sign is lost.
PSNR above 60 dB for ordinary images
    MSE of images on [0, 1] with peak 255: 48.13 dB too high. PSNR of 52 to 56 dB with RMSE below 1:
    the root of the summed squares divided by the pixel count.
SSIM of 1.07 where the sum over two sources is 1.52
    Data range 2, a library's default for floats; ``ssim(..., data_range=2)``. Below 1: 7 x 7
    uniform or 11 x 11 Gaussian window, downsampled or not, differ by 0.03.
SSIM of 0.89 where the sum over two sources is 1.16
    Images times 255 with L = 255, or images on 0..255 with L = 1: the constants vanish and flat
    areas are noise.
CE of 0, or below 0
    It sees only the levels that both histograms have: 0 also means "no level in common". CE near
    0.01: a torch port takes the binary cross entropy of sigmoid(gray level), which sees black only.
EI higher by a quarter or a half, or an eighth
    Zeros around the image, so that a constant image has edges; or Sobel's taps divided by 8.
Qcb, Qcv of 0..1 images
    Both stretch each image to 0..255 first; without that, or with the stretch of uint8 arrays, Qcb
    moves by 0.1 or in the fourth digit. Qcv in hundreds in one paper and in tens in the next:
    multiplied by 0.1 for the table.
Qy of 0.97 where it should be 0.73
    A port whose 7 x 7 window adds up to 7, and other constants. Qncie of 0.885 for 0.815: Pearson's
    correlation in the place of the histograms'.
Nabf of 0.03 for an average of the sources, which has no artefact
    Exchanged arguments, see ``moe-fusion``; two to four times as high: Petrovic's form for Kumar's
    (``artefacts(..., form="petrovic")``).
FMI of 0.4 or 0.9
    Another feature. "FMI_pixel" of the MATLAB evaluators is FMI-edge; their wavelet filter has 102
    taps and others' 62.
MS_SSIM of 0.8 where MS-SSIM is 0.4
    MEF-SSIM under that name, see ``moe-fusion``; or a sum over both sources, of images times 255.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from fusionlib.metrics.correlation import correlation, scd, standard_deviation
from fusionlib.metrics.features import feature_information
from fusionlib.metrics.fidelity import fusion_fidelity, ssim, vif
from fusionlib.metrics.gradient import (
    artefacts,
    average_gradient,
    edge_intensity,
    qabf_petrovic,
    qabf_xydeas,
    spatial_frequency,
)
from fusionlib.metrics.information import (
    cross_entropy,
    entropy,
    mutual_information,
    nonlinear_correlation,
)
from fusionlib.metrics.perception import contrast_preservation, perceived_difference
from fusionlib.metrics.reference import mse, psnr, rmse
from fusionlib.metrics.structure import chosen_similarity, exposure_fusion_ssim, multiscale_ssim

if TYPE_CHECKING:
    import pandas as pd

FIRST = ("EN", "SF", "SD", "MI", "VIF", "AG", "SCD", "Qabf", "CC", "MSE", "RMSE", "PSNR", "SSIM")
FURTHER = (
    *("EI", "CE", "Qcb", "Qcv", "Qy", "Qncie", "Nabf", "VIFF", "MS-SSIM", "MEF-SSIM"),
    *("FMI-pixel", "FMI-edge", "FMI-dct", "FMI-wavelet"),
)
NAMES = FIRST + FURTHER
IN_COLOUR = ("vifb",)  # conventions that take H x W x 3
GRAY_LEVELS = (spatial_frequency, standard_deviation, average_gradient, edge_intensity, rmse)
UNITS: dict[Callable[..., float], str] = {
    **dict.fromkeys((entropy, cross_entropy, mutual_information), "bits"),
    **dict.fromkeys(GRAY_LEVELS, "gray levels"),
    mse: "gray levels²",
    psnr: "dB",
}


class Metric(str):
    """One metric in one convention: a sentence that also carries the function and its options.

    Attributes
    ----------
    function : callable
        Called as ``function(fused, *images, **options)``.
    images : str
        What it is computed from beside the fused image: "none", "sources", "reference", or "either"
        of the last two.
    larger_is_better : bool
        Whether a larger value means a better image, by those who use the metric.
    channels : str
        What a convention that takes colour makes of three channels: their "mean", or one image of
        them "side by side".
    options : mapping
    unit : str
        "" where there is none, as on images on [0, 1] or in arithmetic that stops at 255.
    """

    function: Callable[..., float]
    images: str
    larger_is_better: bool
    channels: str
    options: Mapping[str, object]

    def __new__(
        cls,
        sentence: str,
        function: Callable[..., float],
        images: str,
        larger_is_better: bool = True,
        channels: str = "mean",
        **options: object,
    ) -> Metric:
        metric = super().__new__(cls, sentence)
        metric.function, metric.images = function, images
        metric.larger_is_better, metric.channels = larger_is_better, channels
        metric.options = MappingProxyType(options)
        return metric

    def __call__(self, fused, *images) -> float:
        return self.function(fused, *(images if self.images != "none" else ()), **self.options)

    @property
    def unit(self) -> str:
        if self.options.get("base"):
            return "nats"
        relative = self.options.get("white") == 1.0 or "arithmetic" in self.options
        unit = UNITS.get(self.function, "")
        return "" if relative and unit.startswith("gray") else unit

    def serves(self, images: str) -> bool:
        """Tell whether the metric can be computed from "sources", or from a "reference"."""
        return self.images in (images, "either") or (self.images == "none" and images == "sources")


_EN = Metric("Entropy of the fused image's 256-bin histogram, in bits.", entropy, "none")
_SF = Metric(
    "Root of the mean squared vertical plus the mean squared horizontal difference, gray levels"
    " 0..255.",
    spatial_frequency,
    "none",
)
_SD = Metric(
    "Population standard deviation of the fused image, gray levels 0..255.",
    standard_deviation,
    "none",
)
_MI = Metric(
    "Mutual information of the fused image with each source, 256 bins, in bits, summed over both"
    " sources.",
    mutual_information,
    "sources",
)
_MI_NATS = Metric(
    "Mutual information of the fused image with each source, 256 bins, in nats (0.693 of the value"
    " in bits), summed over both sources.",
    mutual_information,
    "sources",
    base=math.e,
)
_AG = Metric(
    "Mean gradient sqrt((gx^2 + gy^2) / 2) by central differences over all pixels, gray levels"
    " 0..255, the sum divided by (H-1)(W-1).",
    average_gradient,
    "none",
)
_SCD = Metric("Correlation of F - B with A plus correlation of F - A with B.", scd, "sources")
_QABF = Metric(
    "Xydeas and Petrovic's edge preservation with their constants of 2000 (0.9994, 15, 0.5; 0.9879,"
    " 22, 0.8), Sobel with zero padding on 0..255, equal gradients counted as the gradient itself,"
    " at most 0.9753.",
    qabf_xydeas,
    "sources",
)
_CC = Metric(
    "Pearson correlation of the fused image with each source, averaged over both sources.",
    correlation,
    "sources",
)
_EI = Metric(
    "Mean strength of the Sobel gradient, taps 1, 2, 1, gray levels 0..255, the edge pixel repeated"
    " around the image.",
    edge_intensity,
    "none",
)
_QCB = Metric(
    "Chen and Blum's preserved contrast, each image stretched to 0..255, with the contrast"
    " sensitivity and masking constants of the toolbox, zeros around the image.",
    contrast_preservation,
    "sources",
)
_QCV = Metric(
    "Chen and Varshney's perceived difference as the toolbox computes it, a black image included;"
    " smaller is better.",
    perceived_difference,
    "sources",
    larger_is_better=False,
    black="counted",
)


def _fmi(feature: str, words: str) -> Metric:
    return Metric(
        f"Feature mutual information of {words} in windows of 3 x 3 taken column by column,"
        " averaged over both sources.",
        feature_information,
        "sources",
        feature=feature,
    )


_FMI_PIXEL = _fmi("pixel", "gray levels")
_FMI_EDGE = _fmi("edge", 'thinned Sobel edges (what evaluators call "FMI_pixel")')
_FMI_DCT = _fmi("dct", "the cosine transform of the whole image")
_FMI_WAVELET = _fmi("wavelet", "one level of the discrete Meyer transform")
_MEF_SSIM = Metric(
    'Ma, Zeng and Wang\'s MEF-SSIM, three scales, K = 0.03, which evaluators print as "MS_SSIM".',
    exposure_fusion_ssim,
    "sources",
)

CONVENTIONS: dict[str, dict[str, Metric]] = {
    "moe-fusion": {
        "EN": _EN,
        "SF": Metric(
            "Root of the mean squared vertical plus the mean squared horizontal difference, gray"
            " levels on [0, 1].",
            spatial_frequency,
            "none",
            white=1.0,
        ),
        "SD": Metric(
            "Root mean square of F - mean in 8-bit arithmetic (negative differences count 0,"
            " squares stop at 255), an area fraction below 15.97 rather than a standard deviation.",
            standard_deviation,
            "none",
            arithmetic="uint8",
        ),
        "MI": Metric(
            "Mutual information in bits with gray levels 254 and 255 merged in the joint histogram"
            " only, summed over both sources.",
            mutual_information,
            "sources",
            merge_top=True,
        ),
        "VIF": Metric(
            "Pixel-domain visual information fidelity summed over both sources, with products that"
            " saturate at 255 on the first of four scales, which leaves about three.",
            vif,
            "sources",
            arithmetic="uint8",
        ),
        "AG": _AG,
        "SCD": _SCD,
        "Qabf": Metric(
            "Xydeas and Petrovic's edge preservation with their constants of 2000, Sobel with zero"
            " padding on [0, 1] in a fixed order of summation, equal gradients counted as the"
            " gradient itself, which punishes exact copying.",
            qabf_xydeas,
            "sources",
            white=1.0,
        ),
        "CC": _CC,
        "MSE": Metric(
            "Mean squared difference on [0, 1], averaged over both sources.",
            mse,
            "sources",
            larger_is_better=False,
            white=1.0,
        ),
        "PSNR": Metric(
            "20 log10(255 / sqrt(MSE)) with the MSE of images on [0, 1]: 48.13 dB above the true"
            " PSNR.",
            psnr,
            "sources",
            white=1.0,
        ),
        "Nabf": Metric(
            "Kumar's artefacts with exchanged arguments: the first source scored as if fused from"
            " the second and the fused image, which says nothing of artefacts in the fused image;"
            " smaller is better.",
            artefacts,
            "sources",
            larger_is_better=False,
            exchanged=True,
        ),
        "MEF-SSIM": _MEF_SSIM,
        "FMI-edge": _FMI_EDGE,
        "FMI-dct": _FMI_DCT,
        "FMI-wavelet": _FMI_WAVELET,
    },
    "standard": {
        "EN": _EN,
        "SF": _SF,
        "SD": _SD,
        "MI": _MI,
        "VIF": Metric(
            "Sheikh and Bovik's pixel-domain visual information fidelity, four scales on 0..255,"
            " summed over both sources; against a reference 1 for an identical image.",
            vif,
            "either",
        ),
        "AG": _AG,
        "SCD": _SCD,
        "Qabf": _QABF,
        "CC": Metric(
            "Pearson correlation with the reference, or averaged over both sources.",
            correlation,
            "either",
        ),
        "MSE": Metric(
            "Mean squared difference from the reference, or averaged over both sources, gray levels"
            " 0..255.",
            mse,
            "either",
            larger_is_better=False,
        ),
        # ASSUMPTION: over two sources the standard RMSE and PSNR come from the mean MSE, so that
        # the three agree.
        "RMSE": Metric(
            "Root of the MSE (over two sources: of their mean MSE), gray levels 0..255.",
            rmse,
            "either",
            larger_is_better=False,
        ),
        "PSNR": Metric(
            "10 log10(255^2 / MSE) in dB (over two sources: of their mean MSE).", psnr, "either"
        ),
        # ASSUMPTION: over two sources the standard SSIM is their mean, so that 1 stays the value of
        # identical images.
        "SSIM": Metric(
            "Wang's SSIM, 11 x 11 Gaussian window of sigma 1.5 inside the image, data range 255,"
            " not downsampled, with the reference or averaged over both sources.",
            ssim,
            "either",
        ),
        "EI": _EI,
        "CE": Metric(
            "Cross entropy of each source's histogram with the fused one in bits, over the levels"
            " that both have, averaged over both sources; smaller is better.",
            cross_entropy,
            "sources",
            larger_is_better=False,
        ),
        "Qcb": _QCB,
        "Qcv": Metric(
            "Chen and Varshney's perceived difference with the constants of the toolbox, undefined"
            " for constant images; the zeros around the images weigh their border most; smaller is"
            " better.",
            perceived_difference,
            "sources",
            larger_is_better=False,
        ),
        "Qy": Metric(
            "Yang's similarity to both sources where they agree, to the nearer one elsewhere,"
            " 7 x 7 Gaussian window, windows without variation having none.",
            chosen_similarity,
            "sources",
        ),
        "Qncie": Metric(
            "Nonlinear correlation information entropy of the three images, 256-bin histograms,"
            " undefined for constant images.",
            nonlinear_correlation,
            "sources",
        ),
        "Nabf": Metric(
            "Kumar's share of edge strength lost to artefacts, pixels where the fused gradient"
            " exceeds both sources'; smaller is better.",
            artefacts,
            "sources",
            larger_is_better=False,
        ),
        "VIFF": Metric(
            "Han's visual information fidelity for fusion, in each window to the source of smaller"
            " gain, noise 0.005 * 255^2, scales weighted (1, 0, 0.15, 1) / 2.15.",
            fusion_fidelity,
            "sources",
        ),
        # ASSUMPTION: over two sources the standard MS-SSIM is their mean, as for SSIM.
        "MS-SSIM": Metric(
            "Wang's SSIM on five scales, data range 255, with the reference or averaged over both"
            " sources.",
            multiscale_ssim,
            "either",
        ),
        "MEF-SSIM": _MEF_SSIM,
        "FMI-pixel": _FMI_PIXEL,
        "FMI-edge": _FMI_EDGE,
        "FMI-dct": _FMI_DCT,
        "FMI-wavelet": _FMI_WAVELET,
    },
    "multi-focus": {
        "EN": _EN,
        "MI": Metric(
            "Fusion factor, eq. (24): mutual information (256 bins, in bits) of the fused image"
            " with each source, summed over both sources.",
            mutual_information,
            "sources",
        ),
        "Qabf": Metric(
            "Eq. (23) with Petrovic's later constants (0.9999, 19, 0.5; 0.9995, 22, 0.5; weight"
            " g^1.5 from g = 2), Sobel / 8 with reflected borders.",
            qabf_petrovic,
            "sources",
        ),
        "CC": Metric(
            "Pearson correlation with the reference, eq. (19), or averaged over both sources as in"
            " the objective, eq. (14).",
            correlation,
            "either",
        ),
        "MSE": Metric(
            "Mean squared difference from the reference on 0..255, the square of eq. (18).",
            mse,
            "reference",
            larger_is_better=False,
        ),
        "RMSE": Metric(
            "Root mean squared difference from the reference, eq. (18), or the mean of its values"
            " for both sources as in the objective, eq. (16) with both roots, gray levels 0..255.",
            rmse,
            "either",
            larger_is_better=False,
            average="roots",
        ),
        # ASSUMPTION: eq. (20) of the multi-focus paper is read with log10 and L = 256; its PSNR
        # column fits no base.
        "PSNR": Metric(
            "10 log10((L - 1)^2 / RMSE^2) against the reference with L = 256, eq. (20), in dB.",
            psnr,
            "reference",
        ),
        # ASSUMPTION: the multi-focus paper names reference and sources for SSIM; the reference, eq.
        # (22), is taken.
        "SSIM": Metric(
            "Wang's SSIM with the reference, eq. (22): 11 x 11 Gaussian window of sigma 1.5 inside"
            " the image, data range 255.",
            ssim,
            "reference",
        ),
    },
    "cddfuse": {
        "EN": _EN,
        "SF": _SF,
        "SD": _SD,
        "MI": _MI_NATS,
        "VIF": Metric(
            "Pixel-domain visual information fidelity, four scales on 0..255, summed over both"
            " sources; a source for which it is 0 / 0 counts 1.",
            vif,
            "sources",
            undefined=1.0,
        ),
        "AG": Metric(
            "Mean gradient sqrt((gx^2 + gy^2) / 2) by central differences over all pixels, gray"
            " levels 0..255, the sum divided by H W.",
            average_gradient,
            "none",
            divisor="pixels",
        ),
        "SCD": _SCD,
        "Qabf": _QABF,
        "CC": _CC,
        "MSE": Metric(
            "Mean squared difference, averaged over both sources, gray levels 0..255.",
            mse,
            "sources",
            larger_is_better=False,
        ),
        "PSNR": Metric(
            "10 log10(max(F)^2 / MSE) in dB, the peak being the fused image's largest gray level.",
            psnr,
            "sources",
            peak="maximum",
        ),
        "SSIM": Metric(
            "SSIM with a 7 x 7 uniform window, sample covariances and data range 255, summed over"
            " both sources.",
            ssim,
            "sources",
            window="uniform",
            over="sum",
        ),
        "VIFF": Metric(
            "What its evaluator calls VIFF is the sum of two VIF, each 1 where it is 0 / 0; Han's"
            " VIFF is another metric.",
            vif,
            "sources",
            undefined=1.0,
        ),
    },
    "vifb": {
        "EN": _EN,
        "SF": Metric(
            "Root of the summed squared vertical and horizontal differences divided by H W, gray"
            " levels 0..255; three channels lie side by side.",
            spatial_frequency,
            "none",
            channels="side by side",
            divisor="pixels",
        ),
        "SD": Metric(
            "Population standard deviation of the fused image (called variance there), gray levels"
            " 0..255.",
            standard_deviation,
            "none",
        ),
        "MI": Metric(
            "Mutual information of the fused image with each source in nats, after a stretch to the"
            " full range that changes nothing for 8-bit images, summed over both sources.",
            mutual_information,
            "sources",
            base=math.e,
        ),
        "AG": _AG,
        "Qabf": _QABF,
        "RMSE": Metric(
            "Root of the summed squared differences divided by H W (below 1 for ordinary images),"
            " averaged over both sources.",
            rmse,
            "sources",
            larger_is_better=False,
            error="root",
        ),
        "PSNR": Metric(
            "10 log10(255^2 / e) in dB with e the root of the summed squared differences divided by"
            " H W, averaged over both sources: 52 to 56 dB for ordinary images.",
            psnr,
            "sources",
            error="root",
        ),
        "SSIM": Metric(
            "Wang's SSIM, 11 x 11 Gaussian window of sigma 1.5 inside the image, data range 255,"
            " summed over both sources.",
            ssim,
            "sources",
            over="sum",
        ),
        "EI": _EI,
        "CE": Metric(
            "Cross entropy of each source's histogram with the fused one in bits, over the levels"
            " that both have, 0 where there is none, averaged over both sources; smaller is"
            " better.",
            cross_entropy,
            "sources",
            larger_is_better=False,
            disjoint="zero",
        ),
        "Qcb": _QCB,
        "Qcv": _QCV,
    },
    "toolbox": {
        "Qcb": _QCB,
        "Qcv": _QCV,
        "Qy": Metric(
            "Yang's similarity as in standard, undefined where two images do not vary in one"
            " window, for its value there is rounding noise.",
            chosen_similarity,
            "sources",
            flat="undefined",
        ),
        "Qncie": Metric(
            "Nonlinear correlation information entropy of the three images, 256-bin histograms, a"
            " black image included.",
            nonlinear_correlation,
            "sources",
            black="counted",
        ),
    },
}


def describe() -> pd.DataFrame:
    """Return every sentence: one row a metric, one column a convention, empty where a convention
    has no such metric.
    """
    import pandas as pd

    rows = [[str(metrics.get(name, "")) for metrics in CONVENTIONS.values()] for name in NAMES]
    return pd.DataFrame(rows, index=pd.Index(NAMES, name="metric"), columns=list(CONVENTIONS))


def serving(convention: str, images: str, names: str | None = None) -> dict[str, Metric]:
    """Return the metrics of a convention from "sources" or a "reference": those of :data:`FIRST`
    (all where it has none of them), or "all".
    """
    known = CONVENTIONS[convention]
    served = {name: metric for name, metric in known.items() if metric.serves(images)}
    first = {name: metric for name, metric in served.items() if name in FIRST}
    return served if names == "all" or not set(FIRST) & set(known) else first


# radon C: each way to name what is not there, with the nearest that is
def choose(
    names: Iterable[str] | str | None, convention: str, images: str = "sources"
) -> dict[str, Metric]:
    """Return ``{name: metric}`` for ``names``, of those that "sources" or a "reference" allow.

    Parameters
    ----------
    names : str or iterable of str, optional
        None for the convention's part of :data:`FIRST` (for all where it has none of them), "all"
        for those of :data:`FURTHER` too.
    convention : str
        Key of :data:`CONVENTIONS`.
    images : "sources" or "reference"
        What a fused image is compared with.

    Raises
    ------
    ValueError
        An unknown convention, or a name that it does not have or not for these images: one sentence
        that lists what there is.
    """
    if not isinstance(convention, str) or convention not in CONVENTIONS:
        raise ValueError(
            f"convention: expected one of {', '.join(CONVENTIONS)}, got {convention!r}"
            f"{_near(convention, CONVENTIONS)}"
        )
    known, served = CONVENTIONS[convention], serving(convention, images, "all")
    where = "from the sources" if images == "sources" else "against a reference"
    if not served:
        able = [
            c
            for c, metrics in CONVENTIONS.items()
            if any(metric.serves(images) for metric in metrics.values())
        ]
        raise ValueError(
            f"convention: expected one with metrics {where} ({', '.join(able)}), got {convention!r}"
        )
    if names is None or names == "all":
        return serving(convention, images, names)
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name in served:
            continue
        if name in known:
            hint = (
                f"; {name} is there"
                f" {'against a reference' if images == 'sources' else 'from the sources'} only"
            )
        elif homes := [c for c, metrics in CONVENTIONS.items() if name in metrics]:
            hint = f"; {name} exists in {', '.join(homes)}"
        else:
            hint = _near(name, served)
        raise ValueError(
            f"metric: expected one of {', '.join(served)} ({where}, convention {convention!r}), "
            f"got {name!r}{hint}"
        )
    return {name: served[name] for name in names}


def _near(word: object, words: Iterable[str]) -> str:
    """Return a question for the one of ``words`` that ``word`` resembles, or nothing."""
    folded = {known.casefold(): known for known in words}
    close = difflib.get_close_matches(str(word).casefold(), folded, n=1, cutoff=0.5)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""
