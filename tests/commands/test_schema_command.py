from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema

from nlpkit.cli.main import main

if TYPE_CHECKING:
    import pytest


def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {"name", "model", "train"} <= set(schema["properties"])
