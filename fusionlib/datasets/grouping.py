r"""Which pairs of a data set belong together: frames of one camera, drive or stretch of video.

The rule of a set is its key ``group`` in ``catalog.yaml`` (or in a ``dataset.yaml``):

    group: {called: camera, name: '(\d\d)\d{4}'}  # "190001" -> "19"
    group: {called: block of 100 frame numbers, name: 'FLIR_(\d+)', block: 100}  # FLIR_08863: "88"

Where it has none nobody has said, and its frames can only be taken as independent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Rule(NamedTuple):
    """How a pair's group is read off its name.

    Attributes
    ----------
    called : str
        What a group is, in the singular.
    name : str
        Regular expression for the whole name; what its parentheses hold is the group.
    block : int
        Captured numbers are divided by it, whole; 0: they stand as they are.
    """

    called: str
    name: str
    block: int = 0

    def group(self, name: str) -> str:
        """Return the group of the pair ``name``, "" where the rule does not fit the name."""
        fitting = re.fullmatch(self.name, name)
        if not fitting:
            return ""
        return " ".join(self._part_name(part) for part in fitting.groups() if part)

    def _part_name(self, part: str) -> str:
        return str(int(part) // self.block) if self.block and part.isdigit() else part


# A generated scene and a multi-focus pair share nothing with the next one.
SCENE = Rule("scene", "(.+)")


def rule(facts: Mapping) -> Rule | None:
    """Return the rule of a data set's entry; None where nobody knows which pairs belong
    together.

    Raises
    ------
    ValueError
        A key ``group`` of another form; one sentence.
    """
    stated = facts.get("group")
    if stated is None:
        return SCENE if facts.get("kind") == "multi-focus" else None
    try:
        stated_rule = Rule(**stated)
        captures = re.compile(stated_rule.name).groups
    except (TypeError, re.error):
        captures = 0
    if not captures or type(stated_rule.block) is not int:
        raise ValueError(
            "group: expected {called: WORDS, name: PATTERN with (...)} and perhaps block: NUMBER,"
            f" got {stated}"
        )
    return stated_rule
