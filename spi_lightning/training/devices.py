"""Devices of a training: which ones Lightning is given, and several that share each batch of a fold.

Lightning would start the processes for several devices itself, by the command line of this one: with ``-m`` each of
them would be a sweep of its own. So :mod:`~spi_lightning.training.side_by_side` starts them, and each takes its place
here.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import CheckpointIO
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import distributed, nn

from spi_lightning.errors import SpiError
from spi_lightning.training.losses import CrossEntropy, Focal

LOOPBACK = ("lo", "lo0")  # on Linux, on macOS
INTERFACE = "GLOO_SOCKET_IFNAME"


def check_devices(devices: int, device: str, folds_at_once: int | None = None) -> None:
    """Find out whether there are so many.

    Args:
        devices: that share a batch.
        device: cpu, cuda or cuda:N.
        folds_at_once: that are wanted.

    Raises:
        SpiError: there are fewer, or what else is asked for does not go with several.
    """
    kind, _, index = device.partition(":")
    if devices == 1 or kind == "cpu":
        return
    if index:
        raise SpiError(
            f"device is {device} and trainer.devices is {devices}: one GPU was named, several are asked for. Set "
            "device=cuda for the first ones (CUDA_VISIBLE_DEVICES says which are seen), or trainer.devices=1."
        )
    if devices > torch.cuda.device_count():
        raise SpiError(
            f"trainer.devices is {devices}, but torch finds {torch.cuda.device_count()} GPUs. Ask for as many as there "
            "are, or set device=cpu for as many processes."
        )
    if folds_at_once is not None and folds_at_once > 1:
        raise SpiError(
            f"folds_at_once is {folds_at_once} and trainer.devices is {devices}: on GPUs all of them train one fold "
            "after the other. Set folds_at_once=null, or trainer.devices=1."
        )


def lightning_devices(device: str, devices: int = 1, *plugins: CheckpointIO) -> dict[str, Any]:
    """What a Lightning Trainer has to be told of the devices, and of its plugins, one of which is about them.

    It would look for SLURM, torchrun and the like, take their processes for its own, and have SLURM start the job again
    besides whoever submitted it: it is told that there is none of them.

    Args:
        device: cpu, cuda or cuda:N.
        devices: that share a batch. Where there are several, this process must have :func:`joined` them.
        plugins: others.
    """
    kind, _, index = device.partition(":")
    told: dict[str, Any] = {
        "accelerator": {"cpu": "cpu", "cuda": "gpu"}[kind],
        "devices": [int(index)] if index else devices,
        "plugins": [LightningEnvironment(), *plugins],
    }
    if devices > 1:
        # A batch norm then sees the whole batch, as on one device; torch has it for GPUs alone.
        told |= {"strategy": "ddp", "sync_batchnorm": kind == "cuda"}
    return told


@contextmanager
def joined(rank: int, world: int, meeting: Path, device: str) -> Iterator[None]:
    """Let this process, which is made for it, be one of those that train a fold together.

    They meet by a file: a port that is free now may be taken by the time it is listened at, and is open to others.

    Args:
        rank: of this process, from 0.
        world: number of processes.
        meeting: a file of this fold alone, which the first one makes.
        device: cpu or cuda; of the GPUs, each process has the one of its rank.
    """
    # Lightning asks for these, and leaves the threads as they are where the last one is set.
    places = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": world}
    os.environ.update({name: str(place) for name, place in places.items()})
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    local = next((name for _, name in socket.if_nameindex() if name in LOOPBACK), None)
    if local is not None:
        os.environ.setdefault(INTERFACE, local)  # else gloo listens where the machine's name leads, if anywhere
    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=distributed.FileStore(str(meeting), world),
        rank=rank,
        world_size=world,
        device_id=torch.device("cuda", rank) if on_gpu else None,
    )
    yield
    # Not after an error: the others may never come to it.
    distributed.destroy_process_group()


class OwnSignals(pl.Callback):
    """Have SIGTERM do what it did before the training.

    Lightning's handler first talks to the other devices, which are at another place of their work by then: all of them
    would wait for each other until they are killed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put the handler back, which Lightning has replaced by now."""
        signal.signal(signal.SIGTERM, self._before)


def share_of_weights(loss: nn.Module, labels: torch.Tensor) -> torch.Tensor | float:
    """Factor on the loss of this device's part of a batch, such that the devices' mean is the loss of the whole batch.

    A weighted cross-entropy is divided by the weights that it met, of which one part of the batch has more than
    another.

    Args:
        loss: of this package; any other one is taken for a plain mean over the patterns.
        labels: int64 ``(n,)`` of this device's part.
    """
    if not isinstance(loss, CrossEntropy | Focal) or loss.weights is None:
        return 1.0
    own = loss.weights[labels].sum()
    mean = own.clone()
    distributed.all_reduce(mean)
    return own * distributed.get_world_size() / mean


def share_buffers(network: nn.Module) -> None:
    """Give all devices the first one's running means of batch norms, which are those that checkpoints keep."""
    for buffer in network.buffers():
        distributed.broadcast(buffer, 0)
