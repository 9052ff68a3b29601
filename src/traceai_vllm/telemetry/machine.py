"""The memory of processes and GPUs, by psutil (a dependency of vLLM's) and nvidia-ml-py (the extra ``gpu``).

What is not installed, or not there, gives nothing: a machine without a GPU is no error.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(slots=True, frozen=True)
class ProcessMemory:
    """Resident memory of one process.

    Attributes:
        pid: its id.
        root: the process that it was asked for under: itself, or the engine core that started it.
        resident_bytes: its resident set, shared pages included.
    """

    pid: int
    root: int
    resident_bytes: int


@dataclass(slots=True, frozen=True)
class Gpu:
    """One NVIDIA GPU: its identity, and its memory in bytes, whoever uses it."""

    uuid: str
    name: str
    used: int
    total: int


def memory_of_processes(roots: Iterable[int]) -> list[ProcessMemory]:
    """Return the memory of this process, of the processes in ``roots`` and of all that those started.

    A process that has ended is left out. Empty without psutil.
    """
    try:
        import psutil
    except ImportError:
        return []
    found = {os.getpid(): ProcessMemory(os.getpid(), os.getpid(), psutil.Process().memory_info().rss)}
    for root in roots:
        try:
            for process in (parent := psutil.Process(root), *parent.children(recursive=True)):
                found.setdefault(process.pid, ProcessMemory(process.pid, root, process.memory_info().rss))
        except psutil.Error:
            continue
    return list(found.values())


def gpus(count: int) -> list[Gpu]:
    """Return the first ``count`` NVIDIA GPUs that this process may use (``CUDA_VISIBLE_DEVICES``).

    Empty without nvidia-ml-py, without NVIDIA's driver, or without a GPU.
    """
    try:
        import pynvml
    except ImportError:
        return []
    try:
        # vLLM does the same: a handle kept open does not survive a fork.
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [_handle(pynvml, device) for device in _visible(pynvml)[:count]]
        return [_gpu(pynvml, handle) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def _visible(pynvml: Any) -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
    devices = [device.strip() for device in visible.split(",")]
    # CUDA ignores what follows an entry that is none.
    end = next((at for at, device in enumerate(devices) if not device or device.startswith("-")), len(devices))
    return devices[:end]


def _handle(pynvml: Any, device: str) -> Any:
    if device.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(device))
    return pynvml.nvmlDeviceGetHandleByUUID(device)


def _gpu(pynvml: Any, handle: Any) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        used=memory.used,
        total=memory.total,
    )


def _text(value: str | bytes) -> str:
    # Bytes in nvidia-ml-py before 11.
    return value.decode() if isinstance(value, bytes) else value
