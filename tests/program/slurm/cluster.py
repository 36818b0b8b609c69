# SPDX-License-Identifier: MIT
"""A Slurm cluster of two nodes on this machine, in a temporary folder: munged, slurmctld, two slurmd.

    with Cluster() as cluster:
        job = cluster.submit("script.sh")

It needs no root and touches nothing outside its folder. A janitor stops every process of the cluster, by process id, when
the folder's owner says so or dies.

    python3 cluster.py COMMAND [ARGUMENT]...     runs a command inside such a cluster; tests/support on PYTHONPATH
"""
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from program import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
NODES = ("n1", "n2")
SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for its credential to expire: 120 s unless told otherwise.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
TmpFS={folder}/tmp-%n
KillWait=4
ReturnToService=2
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] CPUs=2 RealMemory=4000
PartitionName=normal Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing():
    """Programs that a cluster needs and this machine has not."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]


def free_ports(count):
    """A run of ports that nobody listens on."""
    for first in range(20000 + os.getpid() % 10000, 60000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for taken in sockets:
                taken.close()
    raise OSError("no free ports")


def processes(folder):
    """Ids of the processes of the cluster in `folder`, each with its environment: all inherited SLURM_CONF."""
    mark = f"SLURM_CONF={folder}/slurm.conf".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark in variables:
                found[int(entry.name)] = dict(v.decode(errors="replace").split("=", 1) for v in variables if b"=" in v)
    return found


def kill(pid, number):
    """Whether there was such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def stop_all(folder):
    """Ends every process of the cluster, the controller first so that nothing is started again."""
    pids = []
    for name in ("slurmctld", *(f"slurmd-{node}" for node in NODES)):
        try:
            pids.append(int((Path(folder) / f"{name}.pid").read_text()))
        except (OSError, ValueError):
            pass
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 10)):
        for pid in [pid for pid in pids if pid in processes(folder)] + sorted(processes(folder)):
            kill(pid, number)
        try:
            wait_for(lambda: not processes(folder), "the end of the cluster", patience)
            return
        except TimeoutError:
            continue


class Cluster:
    """Started on entry, gone on exit."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lox-slurm-"))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        self.environment.update({
            "PATH": SEARCH_PATH,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            # The two nodes are one host, and its only network is the loopback: no shared memory between nodes.
            "OMPI_MCA_btl": "self,tcp",
            "OMPI_MCA_btl_tcp_if_include": "lo",
            "OMPI_MCA_oob_tcp_if_include": "lo",
            "OMPI_MCA_hwloc_base_binding_policy": "none",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        })
        self._janitor = None

    def __enter__(self):
        self._janitor = subprocess.Popen([sys.executable, "-B", __file__, "--janitor", str(self.folder)],
                                         stdin=subprocess.PIPE, start_new_session=True)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._janitor.stdin.close()
        self._janitor.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self):
        ports = free_ports(3)
        (self.folder / "state").mkdir()
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(
            folder=self.folder, host=socket.gethostname().split(".")[0], user=pwd.getpwuid(os.getuid()).pw_name,
            controller_port=ports, first_port=ports + 1, last_port=ports + 2))
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        here = self.folder
        self._daemon("munged", "--force", f"--socket={here}/munge.socket", f"--key-file={key}",
                     f"--pid-file={here}/munged.pid", f"--log-file={here}/munged.log", f"--seed-file={here}/munged.seed",
                     "--num-threads=2")
        self._daemon("slurmctld", "-c")
        for node in NODES:
            self.start_node(node)
        self.wait_for_nodes()

    def _daemon(self, *command):
        done = subprocess.run(command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{self.logs()}")

    def start_node(self, node):
        """A node as it comes up, with nothing left from before."""
        for kind in ("spool", "tmp"):
            shutil.rmtree(self.folder / f"{kind}-{node}", ignore_errors=True)
            (self.folder / f"{kind}-{node}").mkdir()
        self._daemon("slurmd", "-N", node)

    def fail_node(self, node):
        """What a power failure does: the node's daemon and all that it started are gone at once. The controller is told, not
        left to find out after SlurmdTimeout."""
        kill(int((self.folder / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
        everything = processes(self.folder)
        for pid in everything:
            if self._is_step_of(pid, node):
                kill(pid, signal.SIGKILL)
        for pid, variables in everything.items():
            if variables.get("SLURMD_NODENAME") == node:
                kill(pid, signal.SIGKILL)
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=power")

    @staticmethod
    def _is_step_of(pid, node):
        """Whether this is a slurmstepd of the node: those of both nodes look alike, but for the log they write."""
        try:
            return "slurmstepd" in Path(f"/proc/{pid}/comm").read_text() and any(
                os.readlink(entry).endswith(f"slurmd-{node}.log") for entry in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return False

    def wait_for_nodes(self):
        def up():
            states = re.findall(r"NodeName=(\S+).*? State=(\S+)", self.run("scontrol", "-o", "show", "nodes"))
            return len(states) == len(NODES) and all(re.fullmatch(r"IDLE|MIXED|ALLOCATED", state) for _, state in states)
        try:
            wait_for(up, "the start of the nodes", 60)
        except TimeoutError as late:
            raise RuntimeError(f"{late}\n{self.logs()}") from late

    def logs(self):
        """The last lines of the daemons' logs, for the message of a failure."""
        text = ""
        for log in sorted(self.folder.glob("*.log")):
            text += f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]) + "\n"
        return text

    def run(self, *command, check=True, timeout=60, **options):
        """Runs a command inside the cluster and returns what it printed."""
        options.setdefault("env", self.environment)
        done = subprocess.run([str(word) for word in command], text=True, stdin=subprocess.DEVNULL, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}{self.logs()}")
        return done.stdout if check else done

    def job(self, number):
        return Job(self, number)

    def submit(self, *words, variables=None, **options):
        """sbatch; returns the job."""
        environment = dict(self.environment, **(variables or {}))
        return self.job(int(self.run("sbatch", "--parsable", *words, env=environment, **options).split(";")[0]))


class Job:
    """A job of the cluster, by its id."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.number = number

    def facts(self):
        """What `scontrol show job` says, by name."""
        text = self.cluster.run("scontrol", "-o", "show", "job", self.number)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    @property
    def state(self):
        return self.facts()["JobState"]

    @property
    def restarts(self):
        return int(self.facts()["Restarts"])

    @property
    def exit_code(self):
        return int(self.facts()["ExitCode"].split(":")[0])

    def log(self):
        """What it has printed so far."""
        path = Path(self.facts()["StdOut"])
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, *states, seconds=90):
        """Waits until the job is in one of the states; any other final state is an error."""
        final = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL"}

        def there():
            state = self.state
            if state not in states and state in final:
                raise AssertionError(f"job {self.number} is {state}:\n{self.log()}\n{self.cluster.logs()}")
            return state in states
        try:
            wait_for(there, f"{' or '.join(states)} of job {self.number}", seconds)
        except TimeoutError as late:
            raise AssertionError(f"{late}: {self.facts()}\n{self.log()}\n{self.cluster.logs()}") from late

    def tasks(self, program):
        """Process ids of the job's tasks that run a program of this name."""
        found = []
        for pid, variables in processes(self.cluster.folder).items():
            if variables.get("SLURM_JOB_ID") == str(self.number):
                try:
                    if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                        found.append(pid)
                except OSError:
                    continue
        return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--janitor"]:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdin.buffer.read()  # until its owner closes the pipe, or is no more
        stop_all(sys.argv[2])
        shutil.rmtree(sys.argv[2], ignore_errors=True)
    else:
        with Cluster() as made:
            sys.exit(subprocess.run(sys.argv[1:], env=made.environment, check=False).returncode)
