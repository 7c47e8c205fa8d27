"""Batches for training and validation, each a pure function of its number.

No state is kept that a checkpoint would have to hold: batch `step` is found by arithmetic, so a
resumed run sees exactly what an undisturbed one would, and no random generator is read or moved.
The tokens lie on the GPU when they fit there (a batch is then one gather on the device), else in
RAM, else in memory-mapped files, of which the system keeps in memory the parts in use and lets go
of the rest: the quarter-by-quarter loading of a large set, done a page at a time.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import torch

from pipeline.options.config import Config
from pipeline.tokens.batches import DeviceBatches, HostBatches, Loader
from pipeline.tokens.order import Indices, training_order, validation_order
from pipeline.tokens.token_set import GPU_SHARE, RAM_SHARE, TokenSet, open_tokens
from pipeline.tokens.windows import Windows
from utils.errors import UsageError
from utils.hardware import machine
from utils.units import human_bytes, human_count

Placement: TypeAlias = Literal["device", "RAM", "memory-map"]

_log = logging.getLogger(__name__)


class Info(msgspec.Struct, frozen=True):
    """What the loaders read: sizes in tokens and windows, and where the tokens lie."""

    folder: str
    fingerprint: str
    tokenizer: str
    vocab_size: int
    window: int
    stride: int
    train_windows: int
    train_tokens: int
    val_windows: int
    val_tokens: int
    train_bytes_per_token: float
    val_bytes_per_token: float
    steps_per_epoch: int
    val_batches: int
    placement: Placement
    bytes: int


def create_simple_train_val_dataloaders(
    batch_size: int,
    val_split: float,
    shuffle_train: bool = True,
    test_mode: bool = False,
    verbose: bool = True,
    seed: int = 42,
    *,
    config: Config | None = None,
    data: Path | None = None,
    device: str | torch.device = "cpu",
    window: int | None = None,
    stride: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    placement: Placement | None = None,
) -> tuple[Loader, Loader, Info]:
    """The loaders of a token set: `data`, or by `config.source` and `test_mode`.

    `seed` orders the training windows; which documents are held out depends on `val_split` alone.
    Validation batches come in one fixed order, so that the first k are a fair sample; rows beyond
    the last window have only targets of -100, so every batch has the same shape: sum the losses
    and divide by the scored targets, over all batches. `verbose` reports through `logging`.
    `placement` overrides the choice of where the tokens lie.

    Raises:
        UsageError: no token set, or one too small for the window, split or options.
        RefusedError: it is incomplete or damaged.
    """
    config = config or Config()
    folder = data or config.tokens_dir(config.source, test=test_mode)
    return train_val_loaders(
        open_tokens(folder, window=window, stride=stride, val_split=val_split),
        batch_size,
        shuffle_train=shuffle_train,
        verbose=verbose,
        seed=seed,
        device=device,
        rank=rank,
        world_size=world_size,
        placement=placement,
    )


def train_val_loaders(
    tokens: TokenSet,
    batch_size: int,
    *,
    shuffle_train: bool = True,
    verbose: bool = True,
    seed: int = 42,
    device: str | torch.device = "cpu",
    rank: int = 0,
    world_size: int = 1,
    placement: Placement | None = None,
) -> tuple[Loader, Loader, Info]:
    """The loaders of an open token set; see `create_simple_train_val_dataloaders`."""
    if batch_size < 1 or not 0 <= rank < world_size:
        raise UsageError(
            "A batch of at least 1 window and a rank below the world size are needed.",
            found=f"batch size {batch_size}, rank {rank} of {world_size}",
        )
    device = torch.device(device)
    placement = placement or _choose(tokens.bytes, device, world_size)
    if placement == "RAM":
        tokens.into_memory()
    flat = DeviceBatches.upload(tokens.shards, device) if placement == "device" else None

    def loader(windows: Windows, order: Callable[[Indices], Indices], **more: Any) -> Loader:
        ahead = placement == "memory-map" or (placement == "RAM" and device.type == "cuda")
        fetch = HostBatches(windows, device) if flat is None else DeviceBatches(windows, flat)
        ranks = {"rank": rank, "world_size": world_size}
        return Loader(windows, fetch, order, batch_size=batch_size, prefetch=ahead, **ranks, **more)

    train = loader(
        tokens.train, training_order(len(tokens.train), shuffle=shuffle_train, seed=seed)
    )
    batches = -(-len(tokens.val) // (batch_size * world_size))
    val = loader(tokens.val, validation_order(len(tokens.val)), limit=batches)
    info = _info(tokens, train, val, placement)
    if verbose:
        _report(info)
    return train, val, info


def _choose(size: int, device: torch.device, world_size: int) -> Placement:
    """Where `size` bytes of tokens are best kept; each process of a machine holds its own copy."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if size <= GPU_SHARE * free:
            return "device"
    if size * world_size <= RAM_SHARE * machine().memory_available:
        return "RAM"
    return "memory-map"


def _info(tokens: TokenSet, train: Loader, val: Loader, placement: Placement) -> Info:
    return Info(
        folder=str(tokens.folder),
        fingerprint=tokens.fingerprint,
        tokenizer=tokens.metadata.tokenizer.fingerprint,
        vocab_size=tokens.metadata.tokenizer.vocab_size,
        window=tokens.train.window,
        stride=tokens.train.stride,
        train_windows=len(tokens.train),
        train_tokens=tokens.train.tokens,
        val_windows=len(tokens.val),
        val_tokens=tokens.val.tokens,
        train_bytes_per_token=tokens.train.bytes_per_token,
        val_bytes_per_token=tokens.val.bytes_per_token,
        steps_per_epoch=train.steps_per_epoch,
        val_batches=len(val),
        placement=placement,
        bytes=tokens.bytes,
    )


def _report(info: Info) -> None:
    _log.info(
        "%s: %s training tokens in %d windows of %d, %s validation tokens in %d; %s in %s",
        info.folder,
        human_count(info.train_tokens),
        info.train_windows,
        info.window,
        human_count(info.val_tokens),
        info.val_windows,
        human_bytes(info.bytes),
        {"device": "GPU memory", "RAM": "RAM", "memory-map": "memory-mapped files"}[info.placement],
    )
