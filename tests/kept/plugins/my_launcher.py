"""The launcher `subprocess`: trains in a process of its own."""

import subprocess
import sys
import time

import nlpkit


class Subprocess:
    def __init__(self, options):
        pass

    def launch(self, run_dir, ranks, stop):
        if ranks > 1:
            raise nlpkit.InputError("launch: subprocess starts one process; use strategy: single")
        worker = subprocess.Popen([sys.executable, "-m", "nlpkit.worker", str(run_dir)])
        stopping = False
        while worker.poll() is None:
            if stop() and not stopping:
                stopping = True
                worker.terminate()  # it saves, and leaves with 143
            time.sleep(0.1)
        if worker.returncode not in (0, 143):
            raise nlpkit.RunError(f"{run_dir}: the process ended with {worker.returncode}")
        return worker.returncode == 0


@nlpkit.hookimpl
def nlpkit_launchers():
    yield nlpkit.LauncherRecord(name="subprocess", target="my_launcher:Subprocess")
