"""Every hook is documented with an example, and the example works as a plugin."""

from __future__ import annotations

import inspect
import re
import textwrap

import pytest

from nlpkit.plugin import spec
from nlpkit.plugin.host import Host
from nlpkit.plugin.records import KINDS


def example(hook: str) -> str:
    """The code after `Example::` in a hook's docstring."""
    summary, _, code = (inspect.getdoc(getattr(spec, hook)) or "").partition("Example::")
    assert summary.strip(), f"{hook} says nothing about itself"
    return textwrap.dedent(code).strip()


def test_there_is_one_hook_for_each_kind_of_component():
    hooks = [name for name in vars(spec) if name.startswith("nlpkit_")]
    assert hooks == list(spec.HOOKS)
    assert list(spec.HOOKS.values()) == list(KINDS)


@pytest.mark.parametrize("hook", spec.HOOKS)
def test_the_example_of_a_hook_is_a_plugin(hook, tmp_path):
    code = example(hook)
    assert code.startswith("@nlpkit.hookimpl\ndef " + hook)
    (tmp_path / f"example_{hook}.py").write_text(f"import nlpkit\n\n{code}\n", "utf-8")
    host = Host.discover(disabled=(), strict=True)
    host.bring([f"./example_{hook}.py"], tmp_path)
    name = re.search(r'name="(\w+)"', code)
    assert name is not None
    kind = spec.HOOKS[hook]
    assert host.entry(kind, name[1]).record.kind == kind
