"""The Python calls beside `train` and `load`, thin: what does the work is imported in the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlpkit.checks import check
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.contracts import Artifact

__all__ = ["check", "evaluate", "export", "plugins"]


def evaluate(
    run: str | Path,
    data: Any,
    *,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int = 64,
    trust_plugins: bool = False,
) -> dict[str, float]:
    """The loss and the metrics of a trained model on other rows.

    Args:
        run: A run folder or a bundle.
        data: A location that the run's source reads (a file or URL), or rows in memory: a list of
            mappings, a pandas DataFrame or a datasets.Dataset.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: "fp32", or "auto": bf16 where the device is fast at it.
        batch_size: Rows that go through the model together.
        trust_plugins: Whether plugins that a bundle brings are executed.

    Raises:
        BundleError: There is no whole bundle.
        DataError: A row cannot be used, or there are none.
    """
    from nlpkit.bundle.evaluate import evaluate

    return evaluate(
        run,
        data,
        device=device,
        precision=precision,
        batch_size=batch_size,
        trust_plugins=trust_plugins,
    )


def export(
    run: str | Path,
    format: str,
    *,
    out: str | Path | None = None,
    trust_plugins: bool = False,
    **options: Any,
) -> Artifact:
    """Writes a trained model in another format.

    Args:
        run: A run folder or a bundle.
        format: Name of an exporter.
        out: The folder; None: `<format>` in the bundle.
        trust_plugins: Whether plugins that a bundle brings are executed.
        options: Of the exporter.

    Raises:
        BundleError: There is no whole bundle.
        PluginError: There is no such format.
        InputError: `out` holds something that is no export, or an option is wrong.
    """
    from nlpkit.bundle.export import export
    from nlpkit.config.schema import Component

    return export(run, Component(name=format, **options), out, trust_plugins=trust_plugins)


def plugins() -> list[dict[str, str]]:
    """Every component with its kind, plugin, distribution and version; broken plugins too."""
    return Host.discover().listing()
