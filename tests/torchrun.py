"""Ranks of one training, started as torchrun starts its workers."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def free_ports(count):
    """Ports that nobody listens on, all of them different."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in taken]
    for one in taken:
        one.close()
    return ports


def two_ranks(code, *arguments, **environment):
    """Run `code` twice, as rank 0 and 1; its arguments are the folder of the tests, the rank, and `arguments`.

    Returns (exit code, output, errors) of each.
    """
    common = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    common |= {"PL_TRAINER_STRATEGY": "ddp", "PL_TRAINER_DEVICES": "2", **environment}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parent), str(rank), *arguments],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=150) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [(rank.returncode, *output) for rank, output in zip(ranks, outputs, strict=True)]
