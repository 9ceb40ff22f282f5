"""Two processes that share their gradients train by hand as they do by autograd."""

from __future__ import annotations

import socket
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import manual_bp


def _train(rank: int, port: int, manual: bool, path: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    model = DistributedDataParallel(net.double())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    own = torch.Generator().manual_seed(rank)
    for _ in range(5):
        x = torch.randn(6, 4, dtype=torch.float64, generator=own)
        with manual_bp.by_hand() if manual else nullcontext():
            loss = model(x).square().mean()
        assert manual_bp.audit(loss).all_by_hand == manual
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if rank == 0:
        torch.save(net.state_dict(), path)
    torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    states = []
    for manual in (False, True):
        path = tmp_path / f"{manual}.pt"
        torch.multiprocessing.spawn(_train, (_free_port(), manual, str(path)), nprocs=2)
        states.append(torch.load(path, weights_only=True))
    torch.testing.assert_close(states[1], states[0], rtol=1e-12, atol=1e-14)
