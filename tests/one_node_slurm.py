"""A Slurm of this machine alone, for tests: a controller and a node in a folder of their own, on ports of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
_CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP
"""


def missing() -> str | None:
    """Why there can be no Slurm here, or None."""
    lacking = [name for name in _PROGRAMS if not shutil.which(name)]
    if lacking:
        return f"{', '.join(lacking)} not found (Debian: slurmctld, slurmd, slurm-client, munge)"
    return None if os.geteuid() == 0 else "slurmd and munged are started as root"


@contextlib.contextmanager
def running(folder: Path):
    """Yield the path of slurm.conf, for SLURM_CONF, while the controller and the node run."""
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    conf, places = folder / "slurm.conf", {"controller": _free_port(), "node": _free_port()}
    host = socket.gethostname().split(".")[0]
    conf.write_text(_CONF.format(host=host, folder=folder, cpus=os.cpu_count(), **places))
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    with contextlib.ExitStack() as stack:
        if subprocess.run(["munge", "-n"], capture_output=True).returncode:
            stack.enter_context(_munge())
        for program in ("slurmctld", "slurmd"):
            stack.enter_context(_process([program, "-D"], environment))
        until = time.time() + 60
        while "idle" not in subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, **_TEXT).stdout:
            if time.time() > until:
                raise RuntimeError(f"Slurm does not come up; its logs are in {folder}")
            time.sleep(0.5)
        yield conf


_TEXT = {"capture_output": True, "text": True}


@contextlib.contextmanager
def _munge():
    place = Path("/run/munge")
    place.mkdir(mode=0o755, exist_ok=True)
    shutil.chown(place, "munge")
    with _process(["runuser", "-u", "munge", "--", "munged", "--foreground"], None):
        until = time.time() + 20
        while subprocess.run(["munge", "-n"], capture_output=True).returncode and time.time() < until:
            time.sleep(0.2)
        yield


@contextlib.contextmanager
def _process(command: list[str], environment: dict | None):
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]
