"""Pages of measurements: each benchmark writes a section of its own and leaves the others alone."""

from __future__ import annotations

import platform
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def put(heading: str, text: str, *, path: Path = PAGE) -> None:
    """Replaces what stands under a heading of the second level, or adds it at the end."""
    page = path.read_text(encoding="utf-8")
    section = f"## {heading}\n\n{text.strip()}\n"
    found = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    if found:
        after = page[found.end() :]
        page = page[: found.start()] + section + ("\n" if after else "") + after
    else:
        page = f"{page.rstrip()}\n\n{section}"
    path.write_text(page, encoding="utf-8")


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def processor() -> str:
    """The CPU's name, and whether it has bf16 instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    bf16 = any("avx512_bf16" in line or "amx_bf16" in line for line in lines)
    return f"{names[0] if names else platform.machine()}, {'with' if bf16 else 'no'} bf16"
