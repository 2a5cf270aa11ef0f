"""The report as a page with slots: the quality stage writes all but these, the publish stage fills them in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from models.errors import DigitizeError, ReasonCode

SLOTS = ("title", "verdict", "key_figures", "gates", "figures", "settings")
"""What is known only when the asset is judged."""


def slot(name: str) -> str:
    """What stands in the page in place of a slot."""
    return f"<!-- slot: {name} -->"


def fill(page: str, parts: Mapping[str, str]) -> str:
    """The page with its slots filled in. Raises DigitizeError(unsupported_format) where it lacks one."""
    for name in SLOTS:
        if page.count(slot(name)) != 1:
            message = f"expected one slot '{name}' in the page of figures, found {page.count(slot(name))}"
            raise DigitizeError(ReasonCode.UNSUPPORTED_FORMAT, message)
        page = page.replace(slot(name), parts[name])
    return page


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts or options as (dotted name, text); long lists by their length."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and len(value) > 6:
            rows.append((f"{prefix}{name}", f"{len(value)} entries"))
        elif isinstance(value, float):
            rows.append((f"{prefix}{name}", f"{value:.6g}"))
        else:
            rows.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)))
    return rows
