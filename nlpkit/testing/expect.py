"""The one way in which a contract check says no."""

from __future__ import annotations

from nlpkit.errors import PluginError


def expect(name: str, holds: object, otherwise: str) -> None:
    """Raises PluginError, in the name of what is checked, unless something holds."""
    if not holds:
        raise PluginError(f"{name}: {otherwise}")
