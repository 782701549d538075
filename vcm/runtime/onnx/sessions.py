"""Models at work: one onnxruntime session for each network, made when it is first called."""

from __future__ import annotations

import ctypes
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from vcm.errors import MissingDependencyError, WeightsError
from vcm.runtime.networks import Array
from vcm.runtime.onnx.graph import Model
from vcm.runtime.onnx.integer import IntegerNetwork

__all__ = ["Network", "OnnxNetworks", "available_cores", "default_threads", "onnxruntime_module"]

OLDEST = (1, 18)
"""The oldest onnxruntime that this is tested with."""
_MOST_THREADS = 8

Network = Model | IntegerNetwork
_Run = Callable[..., tuple[Array, ...]]


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Threads where nothing else is asked for: one for each core that this process may use, at most 8."""
    return min(_MOST_THREADS, available_cores())


class OnnxNetworks:
    """See :class:`vcm.runtime.networks.Networks`.

    A network is built at its first call, so that a program pays for what it uses. An integer network is compared with
    numpy's result at inputs of full range before it is used, and run by numpy if they differ.

    Safe to share between threads. A child forked from a process that has used it builds sessions of its own: threads of
    the parent's do not exist there.

    Args:
        networks: functions that make a network, by the names of :mod:`vcm.runtime.networks`.
        threads: threads of each network; by default one for each core that the process may use, and at most 8. They
            sleep when idle.

    Attributes:
        threads: of each network.

    Raises:
        MissingDependencyError: onnxruntime is not installed, or too old.
    """

    def __init__(self, networks: Mapping[str, Callable[[], Network]], *, threads: int | None = None) -> None:
        onnxruntime_module()
        self._networks = dict(networks)
        self.threads = threads or default_threads()
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        _ALIVE.add(self)

    def with_threads(self, threads: int) -> OnnxNetworks:
        """The same networks, with so many threads each; itself if it has as many."""
        return self if threads == self.threads else OnnxNetworks(self._networks, threads=threads)

    def run(self, name: str, /, *arrays: Array) -> tuple[Array, ...]:
        """See :meth:`vcm.runtime.networks.Networks.run`.

        Raises:
            KeyError: there is none of that name.
            WeightsError: its weights are damaged, or onnxruntime refuses them.
        """
        run = self._runs.get(name)
        if run is None:
            with self._lock:
                run = self._runs.get(name) or self._build(name)
                self._runs[name] = run
        return run(*arrays)

    def _build(self, name: str) -> _Run:
        network = self._networks[name]()
        if isinstance(network, Model):
            return _Session(network, self.threads)
        session = _Session(network.model(), self.threads)
        if network.self_test(session):
            return session
        warnings.warn(f"onnxruntime is not exact for {name} on this machine; numpy runs it, slower", stacklevel=4)
        return network.reference

    def _forget(self) -> None:
        """Leave sessions of a parent process alone: their threads are not here, and to end them would wait for ever."""
        for run in self._runs.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(run))  # never collected
        self._runs, self._lock = {}, threading.Lock()


class _Session:
    """One network: positional arrays in, all its outputs out."""

    def __init__(self, model: Model, threads: int) -> None:
        ort = onnxruntime_module()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # what goes wrong is raised
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Waiting threads sleep: they would take the cores of everybody else on the machine, at each operator.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Plans of memory are kept for each size that was seen, and pictures have many.
        options.enable_mem_pattern = False
        if _ARENA.shared():
            options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            values = {name: ort.OrtValue.ortvalue_from_numpy(tensor) for name, tensor in model.tensors.items()}
            if values:
                options.add_external_initializers(list(values), list(values.values()))
            self._session: Any = ort.InferenceSession(model.proto, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a dozen classes, all directly under Exception
            what = f"onnxruntime cannot run the network {model.name}"
            raise WeightsError(what, found=str(error).partition("\n")[0]) from error
        self._tensors = model.tensors  # onnxruntime reads some of them where they are
        self._inputs = [part.name for part in self._session.get_inputs()]

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        return tuple(self._session.run(None, dict(zip(self._inputs, arrays, strict=True))))


class _Arena:
    """The memory that all sessions of this process share, so that networks that run in turn take the most of one, not
    the sum of all. Where an application has registered its own, or in a forked child, where the parent's may be locked
    by a thread that is not there, each session has one for itself."""

    def __init__(self) -> None:
        self._shared: bool | None = None
        self._lock = threading.Lock()

    def shared(self) -> bool:
        with self._lock:
            if self._shared is None:
                self._shared = self._register()
            return self._shared

    @staticmethod
    def _register() -> bool:
        ort = onnxruntime_module()
        try:
            info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
            ort.create_and_register_allocator(info, None)
        except Exception:  # as above; there is one already
            return False
        return True

    def forget(self) -> None:
        self._shared, self._lock = False, threading.Lock()


_ARENA = _Arena()
_ALIVE: weakref.WeakSet[OnnxNetworks] = weakref.WeakSet()


def _after_fork() -> None:
    _ARENA.forget()
    for networks in list(_ALIVE):
        networks._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def onnxruntime_module(what: str = "running networks without torch") -> Any:
    """The module ``onnxruntime``; imported late, for it takes 60 ms.

    Its telemetry is turned off unless ``ORT_DISABLE_TELEMETRY`` is set to something else: from version 1.29 on it would
    send what is run to its makers, and its thread, which a forked child has not, would keep that child from ending.

    Args:
        what: needs it, for the message of the error.

    Raises:
        MissingDependencyError: it is not installed, or too old.
    """
    need = ".".join(map(str, OLDEST))
    how = f"pip install 'onnxruntime>={need}'"
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"{what} needs onnxruntime: {how}") from error
    version = onnxruntime.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise MissingDependencyError(f"onnxruntime is too old: {how}", expected=f"{need} or later", found=version)
    return onnxruntime
