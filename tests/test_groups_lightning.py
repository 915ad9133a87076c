"""Ranks that train together with Lightning: the right ones, or an error that says why not."""

import pytest

from .torchrun import free_ports, two_ranks

pytest.importorskip("torch")

# (arguments of the Trainer, TORCHELASTIC_RUN_ID of each of two ranks, what each says)
CASES = [
    ("{}", ("one", "one"), "trained on 2"),
    ("{}", ("one", "two"), "StudyError the process group holds ranks of 2 trainings"),
    ("dict(devices=2, strategy='ddp_find_unused_parameters_true')", ("one", "one"), "trained on 2"),
    ("dict(devices=1, strategy='auto')", ("one", "one"), "leave out devices=, num_nodes= and strategy= of the Trainer"),
    ("dict(strategy=SingleDeviceStrategy('cpu'))", ("one", "one"), "(SingleDeviceStrategy, devices=1, num_nodes=1)"),
    ("dict(devices=1)", ("one", "one"), "You set `devices=1`"),  # an error of Lightning's own
]
RANK = """
import os, sys, torch, lightning as L
from pathlib import Path
from lightning.pytorch.strategies import SingleDeviceStrategy
sys.path.insert(0, sys.argv[1])
import test_callback_lightning as here
from hyppo import StudyError
rank = int(sys.argv[2])
for port, (arguments, tokens, _) in zip(sys.argv[4:], CASES):
    os.environ |= {"MASTER_PORT": port, "TORCHELASTIC_RUN_ID": tokens[rank]}
    callback = here.HyppoCallback(here.replica(Path(sys.argv[3]), rank=rank, world_size=2))
    try:
        trainer = L.Trainer(max_epochs=1, callbacks=[callback], logger=False, accelerator="cpu",
                            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                            **eval(arguments))
        trainer.fit(here.Net(), here.data(27), here.data(27, 2))
        print("says: trained on", trainer.world_size)
    except (StudyError, ValueError) as error:
        print("says:", type(error).__name__, error)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_ranks_meet_their_own_or_say_why_not(tmp_path):
    code = RANK.replace("CASES", repr(CASES))
    for _, out, errors in two_ranks(code, str(tmp_path), *free_ports(len(CASES)), PL_TRAINER_NUM_NODES="1"):
        said = [line for line in out.splitlines() if line.startswith("says: ")]
        assert len(said) == len(CASES), errors
        for (_, _, words), line in zip(CASES, said, strict=True):
            assert words in line
