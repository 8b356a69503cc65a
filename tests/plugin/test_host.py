"""The host finds every plugin, survives the broken ones, and says who is at fault."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from nlpkit.cli.main import CommandGroup
from nlpkit.cli.render import Terminal
from nlpkit.config.resolve import build
from nlpkit.config.schema import Component
from nlpkit.errors import PluginError
from nlpkit.plugin.host import Host, Origin, load
from nlpkit.plugin.records import KINDS, ModelRecord

BROKEN = {
    "import nowhere_at_all": "No module named 'nowhere_at_all' ({path}:2)",
    "def broken(:": "SyntaxError: invalid syntax ({path}:2)",
    "raise SystemExit(3)": "SystemExit: 3 ({path}:2)",
    "import asyncio\nraise asyncio.CancelledError": "CancelledError ({path}:3)",
    "raise GeneratorExit": "GeneratorExit ({path}:2)",
    "import pytest\npytest.importorskip('nowhere')": "Skipped: could not import 'nowhere'",
    """
    class Panic(BaseException):
        def __str__(self):
            raise SystemExit
    raise Panic
    """: "Panic ({path}:6)",
    "def nlpkit_models(): ...": "implements no hook; is @nlpkit.hookimpl missing?",
    """
    import nlpkit
    @nlpkit.hookimpl
    def nlpkit_modles(): yield
    """: "unknown hook 'nlpkit_modles'",
    """
    import nlpkit
    @nlpkit.hookimpl
    def nlpkit_models(terminal): yield
    """: "definition: nlpkit_models(terminal)",
    """
    import nlpkit
    @nlpkit.hookimpl
    def nlpkit_models():
        yield nlpkit.ModelRecord(name="first", target="a:b")
        raise KeyError("late")
    """: "KeyError: 'late' ({path}:7)",
    """
    import nlpkit
    @nlpkit.hookimpl
    def nlpkit_models(): return 5
    """: "nlpkit_models gives no records but 5",
    """
    import nlpkit
    @nlpkit.hookimpl
    def nlpkit_models(): yield nlpkit.TaskRecord(name="task", target="a:b")
    """: "nlpkit_models yields ModelRecords, not TaskRecord",
    """
    import nlpkit
    @nlpkit.hookimpl
    def nlpkit_models(): yield nlpkit.ModelRecord(name="two words", target="a:b")
    """: '"two words" is no name',
    """
    import nlpkit
    @nlpkit.hookimpl
    def nlpkit_models(): yield nlpkit.ModelRecord(name="bag", target="a.b")
    """: '"bag": target "a.b" is not of the form module:name',
    """
    import nlpkit
    @nlpkit.hookimpl
    def nlpkit_models(): yield nlpkit.ModelRecord(name="bag", target="a:b", config="a b:c")
    """: 'config "a b:c" is not of the form module:name',
    """
    import nlpkit
    @nlpkit.hookimpl
    def nlpkit_models(): yield nlpkit.ModelRecord(name="bag", target=print)
    """: "target is no str: <built-in function print>",
}


@pytest.mark.parametrize(("source", "message"), BROKEN.items())
def test_a_broken_plugin_is_a_named_failure_and_the_rest_works(install, source, message):
    path = install("bad", "\n" + source, version="2.5")

    host = Host.discover()

    (failure,) = (each for each in host.failures if each.origin.plugin == "bad")
    assert failure.origin == Origin("bad", "bad-dist", "2.5")
    assert message.format(path=path) in failure.message
    assert host.entry("model", "bert").origin.distribution == "nlpkit-sdk"
    assert [e.record.name for e in host.entries("model")] == ["bert", "transformer"]


def test_every_built_in_plugin_loads():
    host = Host.discover(strict=True, disabled=())

    assert {entry.record.kind for kind in KINDS for entry in host.entries(kind)} == set(KINDS)


def test_a_strangers_component_is_known_by_name(install, model_source):
    install("echo", model_source("echo"), version="3.1")

    entry = Host.discover().entry("model", "echo")

    assert str(entry.origin) == "echo (echo-dist 3.1)"


def test_an_unknown_name_gets_a_guess_the_known_names_and_the_broken_plugins(install):
    install("bad", "import nowhere_at_all")

    with pytest.raises(PluginError) as caught:
        Host.discover().entry("model", "berd")

    text = str(caught.value)
    assert 'no model is called "berd"; did you mean "bert"?' in text
    assert "known: bert, transformer" in text
    assert "broken plugin: bad (bad-dist 1.0): ModuleNotFoundError" in text


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("task", "translation", 'did you mean "seq2seq"?'),
        ("task", "text-classification", 'did you mean "sequence"?'),
        ("task", "NER", 'did you mean "token"?'),
        ("source", "pairs.csv", "files are named by their use, as in data: {train: pairs.csv}"),
    ],
)
def test_a_name_that_other_programs_use_gets_its_own_here(kind, name, said):
    with pytest.raises(PluginError) as caught:
        Host.discover().entry(kind, name)
    assert said in str(caught.value)
    with pytest.raises(PluginError) as caught:
        Host.discover().entry(kind, "--")
    assert "did you mean" not in str(caught.value)


def test_a_name_that_two_plugins_claim_is_an_error_that_names_both(install, model_source):
    install("echo", model_source("bert"), version="3.1")

    host = Host.discover()

    with pytest.raises(PluginError) as caught:
        host.entry("model", "bert")
    assert "bert (nlpkit-sdk 0.2.0) and echo (echo-dist 3.1)" in str(caught.value)
    assert host.entry("model", "transformer")
    rows = [row for row in host.listing() if row["name"] == "bert" and row["kind"] == "model"]
    assert [row["plugin"] for row in rows] == ["bert", "echo"]
    assert all("is claimed by" in row["error"] for row in rows)


@pytest.mark.parametrize("requires", ["nlpkit-sdk>=99", "NLPKIT_SDK >=99 ; python_version>'3'"])
def test_a_plugin_for_another_nlpkit_is_refused_before_its_import(install, requires):
    install("late", "raise SystemExit('imported')", requires=requires)

    (failure,) = Host.discover().failures

    assert "it needs nlpkit" in failure.message.lower()
    assert ">=99" in failure.message
    assert "this is 0.2.0" in failure.message


@pytest.mark.parametrize("requires", ["nlpkit-sdk[train]>=0.1", "nlpkit-sdk>=99; extra=='new'"])
def test_a_requirement_that_this_nlpkit_meets_is_no_hindrance(install, model_source, requires):
    install("echo", model_source("echo"), requires=requires)

    assert Host.discover().entry("model", "echo")


def test_metadata_that_is_not_utf8_costs_its_own_plugin_alone(install):
    install("latin", "raise SystemExit('imported')")
    folder = install("echo", "import nlpkit").parent
    (folder / "latin_dist-1.0.dist-info" / "METADATA").write_bytes(b"Name: caf\xe9\n")

    host = Host.discover()

    messages = {failure.origin.plugin: failure.message for failure in host.failures}
    assert messages["latin"] == f"its METADATA, in {folder}, is not UTF-8; install it anew"
    assert host.entry("model", "bert")
    assert all(
        failure.origin.plugin != "latin" for failure in Host.discover(disabled=["latin"]).failures
    )


@pytest.mark.parametrize("damage", [b"[nlpkit]\nb\xe9 = bad\n", b"[nlpkit]\nno value\n"])
def test_entry_points_that_cannot_be_read_cost_their_own_distribution_alone(
    install, model_source, damage
):
    folder = install("bad", "").parent
    install("echo", model_source("echo"))
    (folder / "bad_dist-1.0.dist-info" / "entry_points.txt").write_bytes(damage)

    host = Host.discover()

    (failure,) = host.failures
    assert str(failure) == (
        "bad-dist (bad-dist 1.0): its entry_points.txt cannot be read; reinstall it"
    )
    assert [each.record.name for each in host.entries("model")] == ["bert", "echo", "transformer"]


def test_a_library_that_fails_at_damaged_entry_points_is_not_accused(install, model_source):
    folder = install("bad", "").parent
    install("echo", model_source("echo", "echo_model:build"))
    (folder / "bad_dist-1.0.dist-info" / "entry_points.txt").write_text("[others]\nno value\n")
    source = "from importlib.metadata import entry_points\nentry_points(group='others')"
    (folder / "echo_model.py").write_text(source)
    host = Host.discover()
    record = host.entry("model", "echo").record
    reason = "bad-dist: its entry_points.txt cannot be read; reinstall it"

    with pytest.raises(PluginError, match=f"^{reason}$"):
        load(record, record.target)
    shown = CliRunner().invoke(CommandGroup(host), ["plugins", "--verify"], obj=Terminal())
    assert str(shown.exception).splitlines()[1:] == [
        "broken plugin bad-dist (bad-dist 1.0): its entry_points.txt cannot be read; reinstall it"
    ]


def test_a_distribution_without_a_name_is_called_none_by_nobody(install, model_source):
    folder = install("echo", model_source("echo")).parent / "echo_dist-1.0.dist-info"
    (folder / "METADATA").write_text("Metadata-Version: 2.1\n")
    assert Host.discover().entry("model", "echo").origin == Origin("echo")
    (folder / "entry_points.txt").write_text("[nlpkit]\nno value\n")
    assert [each.origin.plugin for each in Host.discover().failures] == [str(folder)]


def test_ctrl_c_is_the_users_whoevers_code_runs(install):
    install("slow", "raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        Host.discover()


def test_an_optional_hook_that_nlpkit_does_not_know_is_left_out(install):
    install(
        "next",
        """
        import nlpkit, pluggy

        @nlpkit.hookimpl(optionalhook=True)
        def nlpkit_dreams():
            yield 5

        @pluggy.HookimplMarker("nlpkit")(optionalhook=True)
        def nlpkit_visions():
            yield 5

        @nlpkit.hookimpl
        def nlpkit_models():
            yield nlpkit.ModelRecord(name="next", target="a:b")
        """,
    )

    host = Host.discover()

    assert host.failures == []
    assert host.entry("model", "next").origin.plugin == "next"


def test_what_a_plugin_prints_as_it_is_imported_is_no_result(install, model_source, capsys):
    path = install("loud", model_source("loud", "loud_model:build") + "    print('here I am')")
    path.with_name("loud_model.py").write_text("print('so am I')\nbuild = print")

    record = Host.discover().entry("model", "loud").record
    load(record, record.target)
    build(Component(name="loud"), "model", Host.discover())

    assert capsys.readouterr() == ("", "here I am\nso am I\nNone\n")


def test_a_disabled_plugin_is_not_even_imported(install, monkeypatch):
    install("loud", "raise SystemExit('imported')")
    monkeypatch.setenv("NLPKIT_DISABLED_PLUGINS", "loud, bert")

    host = Host.discover()

    assert host.failures == []
    with pytest.raises(PluginError, match="left out by NLPKIT_DISABLED_PLUGINS: loud, bert"):
        host.entry("model", "bert")


def test_strict_mode_makes_failures_and_conflicts_errors(install, model_source, monkeypatch):
    install("bad", "import nowhere_at_all")
    install("echo", model_source("bert"))
    monkeypatch.setenv("NLPKIT_STRICT_PLUGINS", "1")

    with pytest.raises(PluginError) as caught:
        Host.discover()

    assert "plugin bad (bad-dist 1.0): ModuleNotFoundError" in str(caught.value)
    assert 'model "bert" is claimed by' in str(caught.value)


def test_the_listing_holds_failures_too(install):
    install("bad", "import nowhere_at_all")

    last = Host.discover().listing()[-1]

    assert (last["kind"], last["name"], last["distribution"]) == ("failure", "bad", "bad-dist")
    assert "nowhere_at_all" in last["error"]


def test_load_names_the_extra_of_a_missing_package(install):
    install("lean", "import package_of_an_extra")
    record = ModelRecord(name="lean", target="lean_plugin:build", extra="train")

    with pytest.raises(PluginError) as caught:
        load(record, record.target)

    assert str(caught.value) == (
        'model "lean" needs package_of_an_extra, which is not installed: '
        "pip install 'nlpkit-sdk[train]'"
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import json.nowhere", "No module named 'json.nowhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero ({path}:1)"),
        ("from json import nowhere", "ImportError: cannot import name 'nowhere'"),
        ("raise SystemExit(0)", "SystemExit: 0 ({path}:1)"),
        ("", "lean_plugin has no build"),
    ],
)
def test_load_blames_the_plugin_for_its_own_bugs(install, source, message):
    path = install("lean", source)
    record = ModelRecord(name="lean", target="lean_plugin:build", extra="train")

    with pytest.raises(PluginError) as caught:
        load(record, record.target)

    assert message.format(path=path) in str(caught.value)
    assert "pip install" not in str(caught.value)


def test_load_says_that_a_target_does_not_exist():
    record = ModelRecord(name="gone", target="nlpkit.gone:build", extra="train")

    with pytest.raises(PluginError, match=r"there is no module nlpkit\.gone"):
        load(record, record.target)


def test_a_record_that_claims_two_kinds_of_name_does_not_clash(install):
    install(
        "both",
        """
        import nlpkit

        @nlpkit.hookimpl
        def nlpkit_models():
            yield nlpkit.ModelRecord(name="sequence", target="a:b")
        """,
    )

    host = Host.discover()

    assert host.entry("model", "sequence").origin.plugin == "both"
    assert host.entry("task", "sequence").origin.plugin == "tasks"
    assert "both_plugin" in sys.modules
