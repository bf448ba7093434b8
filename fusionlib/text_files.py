"""Text, JSON and YAML files as programs of others write them, or one sentence that names the file.

Every other module may use this one.
"""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import Any

import yaml


def read_text(path: str | os.PathLike, errors: str = "strict") -> str:
    """Return the text of a file in UTF-8, or in UTF-16 if a byte order mark says so, without the
    mark; ``errors`` as for bytes.decode.
    """
    content = Path(path).read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors)


def read_json(path: str | os.PathLike) -> dict:
    """Read a JSON object; ValueError with one sentence for anything else."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: expected a JSON file, it cannot be read ({error})") from None
    except RecursionError:
        raise ValueError(
            f"{path}: expected a JSON object, got brackets nested too deeply"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_yaml(path: str | os.PathLike) -> Any:
    """Read a YAML file; ValueError with one sentence for anything else."""
    try:
        return yaml.safe_load(read_text(path))
    except RecursionError:
        raise ValueError(f"{path}: expected YAML, got brackets nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError, OSError) as error:  # a date that is none
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected YAML, got a damaged file ({reason})") from None
