"""`python -m tests.gpu.ranks_on_device OUT DEVICE` is one rank of laws 1 and 5 on such devices.

NCCL between GPUs, one for each rank; gloo on a CPU.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist

from nlpkit_strategies.ddp import Ddp
from tests.laws.evaluation_ranks import evaluations
from tests.laws.experiment import differences, leave_ranks


def join(kind: str) -> Ddp:
    rank = int(os.environ["RANK"])
    device = torch.device("cuda", rank) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        init_method=f"file://{os.environ['STORE']}",
        rank=rank,
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    return Ddp(device)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    own = join(sys.argv[2])
    found = {"differences": differences(own), "evaluations": evaluations(own)}
    leave_ranks(own, sys.argv[1], found)
