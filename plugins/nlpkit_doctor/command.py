"""`nlpkit doctor`: looks at the machine, and says what it found."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nlpkit_doctor.facts import GB
from nlpkit_doctor.judge import judge
from nlpkit_doctor.machine import look

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal
    from nlpkit_doctor.facts import Facts, Finding


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Say what is wrong with this machine, and what to do about it.

    Exit code 1 where something must be done.
    """
    terminal: Terminal = context.obj
    if not as_json:
        terminal.note("looking at the machine and timing it …")
    facts = look()
    findings = judge(facts)
    failures = sum(finding.state == "failure" for finding in findings)
    if as_json:
        report = {"facts": asdict(facts), "findings": list(map(asdict, findings))}
        terminal.json({**report, "failures": failures}, indent=2)
    else:
        _show(facts, findings, terminal)
    context.exit(1 if failures else 0)


def _show(facts: Facts, findings: list[Finding], terminal: Terminal) -> None:
    for name, value in _five(facts).items():
        terminal.say(f"{f'{name}:':<16}{value}")
    terminal.say()
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        terminal.say(f"{finding.state:<8} {finding.topic:<{width}}  {finding.value}")
        for line in filter(None, (finding.meaning, finding.remedy and f"→ {finding.remedy}")):
            terminal.say(f"{'':<8} {'':<{width}}  {line}")
    counts = {
        state: sum(finding.state == state for finding in findings)
        for state in ("failure", "warning")
    }
    said = [f"{n} {state}{'s' * (n > 1)}" for state, n in counts.items() if n]
    terminal.say()
    terminal.say(", ".join(said) or "all is well")


def _five(facts: Facts) -> dict[str, str]:
    """What everybody asks first."""
    torch = facts.torch
    if torch is None or not torch.available:
        count = len(facts.driver.gpus) if facts.driver else 0
        unknown = dict.fromkeys(("Current GPU", "GPU name", "GPU memory"), "none")
        return {"CUDA available": "no", "GPU count": str(count), **unknown}
    current = torch.gpus[torch.current or 0]
    return {
        "CUDA available": "yes",
        "GPU count": str(len(torch.gpus)),
        "Current GPU": str(torch.current),
        "GPU name": current.name,
        "GPU memory": f"{current.memory / GB:.1f} GB",
    }
