from __future__ import annotations

import pytest

from nlpkit.plugin.host import Host


@pytest.fixture
def host() -> Host:
    return Host.discover()
