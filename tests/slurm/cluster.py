"""A SLURM cluster of this machine alone, for tests: its own daemons, ports, keys and files, all in one folder.

``python -m tests.slurm.cluster FOLDER`` keeps one up until Ctrl-C, to try things by hand.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# What has to be there, and the Debian package that has it.
PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmdbd": "slurmdbd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
}
NODES = 2
CORES = 2  # of a node, whatever this machine has
PATIENCE = 60.0  # seconds until a daemon must answer
_SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def missing_packages() -> list[str]:
    """The Debian packages that would have to be installed."""
    return sorted({package for program, package in PROGRAMS.items() if not shutil.which(program, path=_SYSTEM_PATH)})


@contextmanager
def running_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster of two nodes, and end it with all that runs on it.

    There are the partitions ``normal`` and, whose jobs put those of the first one back into the queue, ``urgent``;
    ``patient`` is as the first, but warns its jobs some seconds before.

    Args:
        folder: empty, or not there yet; its path must be short, as those of sockets have to be.

    Yields:
        the environment in which SLURM's commands speak to this cluster, and to no other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    database, controller, accounting, *nodes = _free_ports(3 + NODES)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _SYSTEM_PATH}
    for name in [name for name in environment if name.startswith(("SLURM_", "SBATCH_", "SRUN_", "SACCT_", "SQUEUE_"))]:
        if name != "SLURM_CONF":
            del environment[name]  # of a cluster's job that these tests may run in

    def told(*command: str) -> bool:
        return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False).returncode == 0

    with ExitStack() as stack:
        start = _starter(folder, environment, stack)
        stack.callback(_end_what_is_left, environment["SLURM_CONF"])

        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        quiet = [f"--{kind}-file={folder / f'munge.{kind}'}" for kind in ("pid", "seed")]
        start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder / 'munge.socket'}", *quiet)
        _wait(lambda: told("munge", "--no-input", f"--socket={folder / 'munge.socket'}"), "munged", folder)

        _make_database(folder, environment)
        start("mariadbd", *_database_options(folder), f"--port={database}", "--bind-address=127.0.0.1")
        root = ["mariadb", "--no-defaults", f"--socket={folder / 'db.socket'}", f"--user={getpass.getuser()}", "-e"]
        _wait(lambda: told(*root, "select 1"), "mariadbd", folder)
        word = secrets.token_hex(16)
        access = f"grant all on slurm.* to slurm@'127.0.0.1' identified by '{word}'"
        subprocess.run([*root, access], env=environment, check=True, capture_output=True, timeout=30)

        _write(folder / "slurmdbd.conf", _accounting_conf(folder, accounting, database, word))
        _write(folder / "slurm.conf", _cluster_conf(folder, controller, accounting, nodes))
        devices = "\n".join(f"NodeName=node{n} Name=gpu File=/dev/null" for n in range(NODES))
        _write(folder / "gres.conf", devices)
        for name in ("state", *(f"spool.node{n}" for n in range(NODES))):
            (folder / name).mkdir()

        start("slurmdbd", "-D")
        _wait(
            lambda: _listening(accounting), "slurmdbd", folder
        )  # sacctmgr would wait half a minute if it is too early
        told("sacctmgr", "--immediate", "add", "cluster", "testing")
        start("slurmctld", "-D")
        for n in range(NODES):
            start("slurmd", "-D", "-N", f"node{n}")
        _wait(lambda: _idle(environment) == NODES, "slurmctld", folder)
        try:
            yield environment
        finally:
            told("scancel", "--partition=normal,urgent,patient", "--signal=KILL", "--full")
            told("scancel", f"--user={getpass.getuser()}")
            _wait_quietly(lambda: not _queue(environment), 15.0)


def _idle(environment: dict[str, str]) -> int:
    command = ["sinfo", "--noheader", "--Node", "--partition=normal", "--states=idle"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    return len(done.stdout.splitlines()) if done.returncode == 0 else 0


def _queue(environment: dict[str, str]) -> str:
    command = ["squeue", "--noheader"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False).stdout


def _free_ports(number: int) -> list[int]:
    """Ports of the loopback interface that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _listening(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _starter(folder: Path, environment: dict[str, str], stack: ExitStack) -> Callable[..., None]:
    """Start daemons in the foreground, to be ended in the reverse order; they also end if this process is killed."""
    libc = ctypes.CDLL(None)

    def start(program: str, *options: str) -> None:
        path = shutil.which(program, path=_SYSTEM_PATH)
        assert path is not None, f"{program} is not installed"
        number = len(list(folder.glob(f"{program}*.out")))
        with open(folder / f"{program}{number}.out", "wb") as output:
            process = subprocess.Popen(
                [path, *options],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(_DIE_WITH_PARENT, signal.SIGTERM),
            )
        stack.callback(_end, process)

    return start


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_what_is_left(slurm_conf: str) -> None:
    """Kill what the nodes started and did not end: processes of jobs of this cluster, by their environment."""
    for entry in Path("/proc").iterdir():
        try:
            own = dict(line.partition(b"=")[::2] for line in (entry / "environ").read_bytes().split(b"\0"))
            of_a_job = b"SLURM_JOB_ID" in own or (entry / "comm").read_text().strip() == "slurmstepd"
            if own.get(b"SLURM_CONF") == slurm_conf.encode() and of_a_job:
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:  # no process, one that has ended, or somebody else's
            continue


def _wait(ready: Callable[[], bool], program: str, folder: Path) -> None:
    if not _wait_quietly(ready, PATIENCE):
        said = "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(folder.glob(f"{program}*.out")))
        raise RuntimeError(f"{program} did not answer within {PATIENCE:g} s. It said:\n{said}")


def _wait_quietly(ready: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _database_options(folder: Path) -> list[str]:
    return [
        "--no-defaults",
        f"--datadir={folder / 'db'}",
        f"--socket={folder / 'db.socket'}",
        f"--pid-file={folder / 'db.pid'}",
        f"--user={getpass.getuser()}",
        "--innodb-buffer-pool-size=16M",
        "--innodb-log-file-size=8M",
        "--innodb-flush-log-at-trx-commit=0",
        "--skip-name-resolve",
    ]


def _make_database(folder: Path, environment: dict[str, str]) -> None:
    options = ["--auth-root-authentication-method=socket", f"--auth-root-socket-user={getpass.getuser()}"]
    subprocess.run(
        ["mariadb-install-db", *_database_options(folder), "--skip-test-db", *options],
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )


def _accounting_conf(folder: Path, port: int, database: int, word: str) -> str:
    return f"""
        AuthType=auth/munge
        AuthInfo=socket={folder}/munge.socket
        DbdHost=localhost
        DbdAddr=127.0.0.1
        DbdPort={port}
        SlurmUser={getpass.getuser()}
        PidFile={folder}/slurmdbd.pid
        StorageType=accounting_storage/mysql
        StorageHost=127.0.0.1
        StoragePort={database}
        StorageUser=slurm
        StoragePass={word}
        StorageLoc=slurm
        """


def _cluster_conf(folder: Path, port: int, accounting: int, nodes: list[int]) -> str:
    host = socket.gethostname().split(".")[0]
    lines = f"""
        ClusterName=testing
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={port}
        SlurmUser={getpass.getuser()}
        SlurmdUser={getpass.getuser()}
        AuthType=auth/munge
        AuthInfo=socket={folder}/munge.socket
        CredType=cred/munge
        StateSaveLocation={folder}/state
        SlurmdSpoolDir={folder}/spool.%n
        SlurmctldPidFile={folder}/slurmctld.pid
        SlurmdPidFile={folder}/slurmd.%n.pid
        PlugStackConfig={folder}/no_plugins.conf
        MpiDefault=none
        ProctrackType=proctrack/linuxproc
        TaskPlugin=task/affinity
        JobAcctGatherType=jobacct_gather/none
        SchedulerType=sched/backfill
        SchedulerParameters=batch_sched_delay=1,sched_interval=2,requeue_delay=1
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core
        GresTypes=gpu
        SlurmdParameters=config_overrides
        PreemptType=preempt/partition_prio
        PreemptMode=REQUEUE
        JobRequeue=1
        KillWait=5
        MinJobAge=300
        ReturnToService=2
        InactiveLimit=0
        AccountingStorageType=accounting_storage/slurmdbd
        AccountingStorageHost=127.0.0.1
        AccountingStoragePort={accounting}
        AccountingStoragePass={folder}/munge.socket
        """
    names = f"node[0-{NODES - 1}]"
    each = f"NodeHostname={host} NodeAddr=127.0.0.1 CPUs={CORES} RealMemory=100000 Gres=gpu:1"
    lines += "\n".join(f"NodeName=node{n} Port={node_port} {each}" for n, node_port in enumerate(nodes))
    lines += f"""
        PartitionName=normal Nodes={names} Default=YES MaxTime=INFINITE PriorityTier=1
        PartitionName=patient Nodes={names} MaxTime=INFINITE PriorityTier=1 GraceTime=20
        PartitionName=urgent Nodes={names} MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
        """
    return lines


def _write(path: Path, text: str) -> None:
    path.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")
    path.chmod(0o600)


def main() -> None:
    """Keep a cluster up for use by hand."""
    if missing := missing_packages():
        sys.exit(f"These Debian packages are missing: apt-get install {' '.join(missing)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with running_cluster(Path(sys.argv[1]).resolve()) as environment:
        print(f"export SLURM_CONF={environment['SLURM_CONF']}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("Ending the cluster.")


if __name__ == "__main__":
    main()
