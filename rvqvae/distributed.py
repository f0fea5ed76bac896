"""Several processes as one, as torchrun starts them: each rank works on its share of the samples.

`joined` opens the group, `current` is the `World` that training, prior, features and scoring ask for their
share; without torchrun it has size 1 and costs nothing. In a program of one's own all ranks do the same:

    with joined():
        RobustVQVAE().fit(images)

The commands are led instead (`lead`): rank 0 runs the command as ever, and the other ranks join in only for
what it does `together` with them, so that one process reads, writes and prints.

Ours: gradients are summed by `rvqvae.optimization.Loop`, not by DistributedDataParallel, which averages over
ranks. That is the gradient of the batch only if all parts of it are equally large; it would also need the
codebooks' counts summed beside it and a module of another name. One sum a step, of gradients weighted by each
part's share and of the counts, in one tensor, is exact for any split and any module. It cannot overlap with
the backward pass, which matters little to networks of some 100,000 parameters.

What ranks tell one another goes through pickle, on the network that torchrun was given: keep it your own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rvqvae.errors import InputError

T = TypeVar("T")
PATIENCE = timedelta(hours=1)
"""How long a rank waits for one that lives, as while rank 0 reads the images; a dead one is known at once."""


class LostRank(RuntimeError):
    """Another rank ended or does not answer, so that the job cannot go on; the message names who says so."""


class Part(NamedTuple):
    """What a rank has of a batch."""

    rows: slice
    """Of the batch; the first row, for want of one of its own, where `share` is 0."""
    share: float
    """Of the batch's rows; sums to 1 over ranks."""


@dataclass(frozen=True)
class World:
    """The processes of a job and the place of this one among them; a collective is called by all of them."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    """The GPU of this rank, if it has one."""

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def part(self, n: int) -> Part:
        """Every ``size``-th row of a batch of ``n``: parts of any first rows are then alike in size too.

        A rank without a row goes through the motions with the first one, counted zero times, so that
        random numbers and collectives stay in step.
        """
        own = len(range(self.rank, n, self.size))
        return Part(slice(self.rank, n, self.size), own / n) if own else Part(slice(0, 1), 0.0)

    def span(self, n: int, batch: int) -> tuple[int, int]:
        """Begin and end of this rank's own among ``n`` samples: whole batches, as one process would form."""
        batches = -(-n // batch)
        ends = [min(n, batch * (batches * rank // self.size)) for rank in (self.rank, self.rank + 1)]
        return ends[0], ends[1]

    def sum(self, tensor: Tensor) -> Tensor:
        """``tensor``, of the same shape everywhere, summed over ranks in place."""
        if self.size > 1:
            with self._hearing():
                dist.all_reduce(tensor)
        return tensor

    def same(self, module: nn.Module) -> None:
        """Give every rank the tensors of rank 0's ``module``."""
        if self.size > 1:
            with self._hearing():
                for tensor in module.state_dict().values():
                    dist.broadcast(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor, 0)

    def told(self, work: Callable[[], T]) -> T:
        """What ``work`` gives on rank 0, which does it alone; its InputError is raised on every rank."""
        if self.size == 1:
            return work()
        result: list[Any] = [None, None]
        if self.is_first:
            with _world(World()):
                try:
                    result[0] = work()
                except InputError as error:
                    result[1] = error
        with self._hearing():
            dist.broadcast_object_list(result, 0)
        if result[1] is not None:
            raise result[1]
        return result[0]

    def mapped(self, n: int, batch: int, work: Callable[[slice], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """``work`` on ``n`` samples, each on one rank alone: the tensors of all, by sample, on every rank.

        ``work`` takes the rows of a batch and gives tensors with a row for each; they are kept on the CPU.
        """
        begin, end = self.span(n, batch)
        own: tuple[Tensor, ...] = ()
        for start in range(begin, end, batch):
            rows = slice(start, min(start + batch, end))
            parts = work(rows)
            # In one place from the start: joined at the end they would take twice as much, and small parts
            # kept between large passing ones leave memory in holes, of 30,000 images 1.3 GiB.
            own = own or tuple(part.new_empty(end - begin, *part.shape[1:], device="cpu") for part in parts)
            for whole, part in zip(own, parts, strict=True):
                whole[rows.start - begin : rows.stop - begin] = part
        if self.size == 1:
            return own
        forms: list[Any] = [None] * self.size
        with self._hearing():
            dist.all_gather_object(forms, [(tensor.shape, tensor.dtype) for tensor in own])
            busy = [rank for rank, form in enumerate(forms) if form]
            columns = range(len(forms[busy[0]]))
            return tuple(
                torch.cat([self._shown(rank, own[i : i + 1], *forms[rank][i]) for rank in busy])
                for i in columns
            )

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.sum(torch.zeros(1))

    def _shown(self, rank: int, own: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """The tensor of ``rank``, of that shape and dtype, which is ``own`` on that rank."""
        tensor = own[0].contiguous() if rank == self.rank else torch.empty(shape, dtype=dtype)
        dist.broadcast(tensor, rank)
        return tensor

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # Whichever of torch's many.
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise LostRank(
                f"rank {self.rank} of {self.size} has lost another rank, see its message above ({reason}); "
                "the same command continues"
            ) from error


ALONE = World()
_current = ALONE
_led: World | None = None


def current() -> World:
    """The world that this process works in now."""
    return _current


@contextmanager
def _world(world: World) -> Iterator[World]:
    global _current
    before, _current = _current, world
    try:
        yield world
    finally:
        _current = before


@contextmanager
def joined(patience: timedelta = PATIENCE) -> Iterator[World]:
    """Work with the other processes that torchrun started; alone, where it did not start any.

    gloo between CPUs; nccl between GPUs, one for each process, which ``"cuda"`` then means. InputError for an
    environment that torchrun did not set, LostRank where the others do not come or are lost.
    """
    place = _place()
    if place is None:
        yield _current
        return
    rank, size, local, neighbours = place
    world, backend = World(rank, size), "gloo"
    if gpus := torch.cuda.device_count():
        torch.cuda.set_device(local % gpus)
        world = World(rank, size, f"cuda:{local % gpus}")
        # nccl refuses two processes on one GPU; gloo carries them, by way of the CPU.
        backend = "cpu:gloo,cuda:nccl" if neighbours <= gpus else "gloo"
    with world._hearing():
        dist.init_process_group(backend, timeout=patience)
    try:
        with _world(world):
            yield world
        # Without it gloo has aborted at exit, after a right result.
        world.barrier()
    finally:
        dist.destroy_process_group()


def _place() -> tuple[int, int, int, int] | None:
    """Rank, size, and both among the processes of this machine; None for a process of its own."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in names if name not in os.environ]:
        raise InputError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']!r} but {missing[0]} is not set: start the processes with "
            "torchrun, or unset WORLD_SIZE"
        )
    try:
        rank, size, local, neighbours = (int(os.environ[name]) for name in names[:4])
        if not 0 <= rank < size or not 0 <= local < neighbours:
            raise ValueError
    except ValueError:
        values = ", ".join(f"{name}={os.environ[name]!r}" for name in names[:4])
        raise InputError(f"{values} are no ranks and sizes: start the processes with torchrun") from None
    return rank, size, local, neighbours


def lead(command: Callable[[], int]) -> int:
    """Run ``command`` on rank 0, alone but for what it does `together` with the others; the exit status.

    Other ranks print nothing but errors, which name the rank.
    """
    global _led
    status, rank = 0, os.environ.get("RANK", "0")
    try:
        with joined() as world:
            if not world.is_first:
                _follow(world)
                return 0
            _led = world
            with _world(ALONE):
                status = command()
            if _led is None:
                raise LostRank(f"rank 0 of {world.size} left the others in the middle of a job")
            world.told(lambda: None)
    except LostRank as error:
        status = status or _fail(str(error), 1)
    except InputError as error:
        status = status or _fail(f"rank {rank}: {error}", 2)
    except KeyboardInterrupt:
        status = status or 130
    finally:
        _led = None
    return status


def together(work: Callable[..., T], *arguments: Any, **here: Any) -> T:
    """``work(*arguments)`` on every rank of a command that is led, with ``here`` too on rank 0.

    ``work`` is a function of a module; ``arguments`` can be pickled. In a process that leads none, a call.
    """
    global _led
    if _led is None:
        return work(*arguments, **here)
    world = _led
    world.told(lambda: (work, arguments))
    try:
        with _world(world):
            return work(*arguments, **here)
    except BaseException:
        # The others are somewhere in the middle of it: they end by losing this rank, not by being told.
        _led = None
        raise


def _follow(world: World) -> None:
    """Take part in whatever rank 0 does together, until it has done."""
    while job := world.told(lambda: None):
        work, arguments = job
        work(*arguments)


def _fail(message: str, status: int) -> int:
    print("rvqvae:", " ".join(message.split()), file=sys.stderr)
    return status
