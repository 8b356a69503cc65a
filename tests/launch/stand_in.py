"""Stands in for `nlpkit.worker`: `run(rank, stop, at)` of RUN_DIR/play.py, without torch."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from nlpkit.run.rank import serve

if __name__ == "__main__":
    run_dir, folder = map(Path, sys.argv[1:])
    play = runpy.run_path(str(run_dir / "play.py"))
    serve(lambda stop, at: play["run"](int(os.environ["RANK"]), stop, at), folder)
