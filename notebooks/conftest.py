"""nbval with numbers compared by tolerance, and text that a machine may change left out.

Only cells tagged ``nbval-check-output`` are compared (``--nbval-lax``); the words between the
numbers must agree.
"""

import math
import os
import re

import pytest

NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?")
RTOL, ATOL = 2e-3, 2e-4


def skeleton(text: str) -> tuple[str, list[str]]:
    """Split text into its words, blanks collapsed (pandas pads by the widest number), and its
    numbers.
    """
    return " ".join(NUMBER.sub(" # ", text).split()), NUMBER.findall(text)


def unit(number: str) -> float:
    """Return one unit of the last printed decimal: values that differ by nothing may be rounded to
    either side of it.
    """
    decimals = re.fullmatch(r"[-+]?\d*\.(\d+)", number)
    return 10.0 ** -len(decimals[1]) if decimals else 0.0


def same(reference: str, test: str) -> bool:
    """Tell whether two outputs have the same words and the same numbers within the tolerance."""
    (words_a, numbers_a), (words_b, numbers_b) = skeleton(reference), skeleton(test)
    return words_a == words_b and all(
        math.isclose(float(x), float(y), rel_tol=RTOL, abs_tol=max(ATOL, 1.001 * unit(x)))
        for x, y in zip(numbers_a, numbers_b, strict=True)
    )


@pytest.hookimpl(trylast=True)
def pytest_collectstart(collector):
    """Leave stderr (progress bars), pictures and rendered tables out; the plain text of a table is
    compared.
    """
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += (
            "stderr",
            "text/html",
            "image/png",
            "image/jpeg",
            "text/latex",
            "application/vnd.jupyter.widget-view+json",
        )


def pytest_configure(config):
    """Keep kernels to the processor, whose numbers are the reference, and from data and weights
    that lie on this machine; wrap nbval's comparison of one output.
    """
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "FUSION_DATA": "none", "FUSION_WEIGHTS": "none"}
    try:
        from nbval.plugin import IPyNbCell
    except ImportError:
        return
    original = IPyNbCell.compare_outputs

    def compare_outputs(self, test, ref, skip_compare=None):
        return original(self, adopt(ref, test), ref, skip_compare)

    IPyNbCell.compare_outputs = compare_outputs


def adopt(reference, test):
    """Return ``test`` with each text that is the same within the tolerance written as in
    ``reference``.
    """
    if isinstance(test, str) and isinstance(reference, str):
        return reference if same(reference, test) else test
    if isinstance(test, list) and isinstance(reference, list) and len(test) == len(reference):
        return [adopt(r, t) for r, t in zip(reference, test, strict=True)]
    if isinstance(test, dict) and isinstance(reference, dict):
        return type(test)(
            {
                key: adopt(reference[key], value) if key in reference else value
                for key, value in test.items()
            }
        )
    return test
