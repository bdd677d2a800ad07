"""A Ray to work on: one that runs somewhere, or one of this machine alone, started and ended here.

One that is started here sends no usage statistics, has no dashboard, and lets nobody in without a token that no other
program has: its ports are open to the network, and dialogues are private.
"""

import importlib.metadata
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edge_sir.errors import ConfigError, ModelFileError

__all__ = ["LOCAL", "Pool", "connected"]

LOCAL = "local"
"""The address of a Ray that is started here."""

_MOST_CPUS = 8  # of an actor by default: beyond that, memory is the limit of one context more than arithmetic
_STORE_BYTES = 2**28  # of a Ray that is started here: requests and results are text
_ANSWER_S = 5.0  # of a port that is open
_CHECK_S = 120.0  # of a machine: it imports this package


@dataclass(frozen=True, slots=True)
class Pool:
    """Actors that the machines of a Ray have room for. n_cpus: of each, and its threads. n_machines: with any CPU."""

    n_actors: int
    n_cpus: int
    n_machines: int


@contextmanager
def connected(address: str = "", *, threads: int = 0, n_actors: int | None = None, model: str) -> Iterator[Pool]:
    """Connects to a Ray, and leaves it at the end.

    address: HOST:PORT, "auto" for one that runs on this machine, "local" for a new one that ends here too; "" for what
    RAY_ADDRESS says, else "local". threads: CPUs of an actor; 0 for all of the smallest machine, at most 8. n_actors:
    most of them; None for as many as there is room for. model: a name or path; a file must be on every machine.
    For "local" Ray must not have been imported before: it reads then who is let in. Raises ConfigError or
    ModelFileError for what the caller can mend.
    """
    address = address or os.environ.get("RAY_ADDRESS", "") or LOCAL
    _check_address(address)
    _init(address)
    import ray

    try:
        machines = [m for m in ray.nodes() if m["Alive"] and m["Resources"].get("CPU", 0) >= 1]
        pool = _pool(machines, threads, n_actors)
        _check_machines(machines, model)
        yield pool
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    if "://" in address:
        raise ConfigError(
            f"Ray Data does not work from outside of a cluster ({address}); run the command on one of its machines, "
            "or as a job (`ray job submit`), with --ray auto"
        )
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--ray takes HOST:PORT, auto or local, not '{address}'")
    try:  # Ray itself would try for two minutes, and then end the process
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"no Ray answers at {address} ({reason}); see `ray status` on its machine") from None


def _init(address: str) -> None:
    # Ray reads these when it is first imported.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it writes warnings past Python onto the terminal
    started: dict[str, Any] = {}
    if address == LOCAL:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once in a process
        started = {"include_dashboard": False, "object_store_memory": _STORE_BYTES, "_node_ip_address": "127.0.0.1"}
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(f"--ray needs Ray Data ({error}); run: pip install 'edge-sir[ray]'") from None
    of_kill = signal.getsignal(signal.SIGTERM)
    try:
        with _stderr_held():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **started)
    except (OSError, RuntimeError, ValueError) as error:
        where = "no Ray could be started here" if address == LOCAL else f"no Ray could be joined at {address}"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        remedy = "start one (`ray start --head`), give its HOST:PORT, or --ray local for one of this machine alone"
        raise ConfigError(f"{where}: {reason.rstrip('.')}; {remedy}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, of_kill)  # Ray takes it for itself


@contextmanager
def _stderr_held() -> Iterator[None]:
    """What comes on standard error meanwhile is shown at the end, but for a line that Ray writes about its log."""
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        own = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(own, 2)
            os.close(own)
            held.seek(0)
            os.write(2, b"".join(line for line in held if b"Set ray log level" not in line))


def _pool(machines: Sequence[Mapping[str, Any]], threads: int, n_actors: int | None) -> Pool:
    cpus = [int(machine["Resources"]["CPU"]) for machine in machines]
    if not cpus:
        raise ConfigError("no machine of this Ray has a CPU to give; start one with `ray start --address=HOST:PORT`")
    n_cpus = threads or min(_MOST_CPUS, *cpus)
    room = sum(n // n_cpus for n in cpus)
    if not room:
        raise ConfigError(f"--threads {threads} is more than any machine of this Ray has; give {max(cpus)} or fewer")
    return Pool(min(room, n_actors or room), n_cpus, len(cpus))


def _check_machines(machines: Sequence[Mapping[str, Any]], model: str) -> None:
    """Whether every machine has this package, the same of it, and the model's file."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def look(model: str) -> tuple[str, bool]:  # a function of its own, which needs no package to be read there
        try:
            import importlib.metadata
            from pathlib import Path

            from edge_sir.models import find_model

            found = find_model(model)
            return importlib.metadata.version("edge-sir"), not isinstance(found, Path) or found.is_file()
        except ImportError:
            return "", False

    task = ray.remote(num_cpus=0, max_retries=1)(look)
    where = [NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False) for machine in machines]
    looks = [task.options(scheduling_strategy=w).remote(model) for w in where]
    version = importlib.metadata.version("edge-sir")
    for machine, ref in zip(machines, looks, strict=True):
        name = machine["NodeManagerAddress"]
        try:
            found, has_model = ray.get(ref, timeout=_CHECK_S)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ConfigError(f"the machine {name} of this Ray does not answer: {reason}; see `ray status`") from None
        if found != version:
            has = f"edge-sir {found}" if found else "no edge-sir"
            raise ConfigError(f"the machine {name} has {has}, and this one {version}; install the same on all of them")
        if not has_model:
            raise ModelFileError(
                f"{model} is no file on the machine {name}; put it on storage that all machines share, at the same path"
            )
