# SPDX-License-Identifier: MIT
"""The commands of README and docs, as a test can run them: lox is the real one on models of two megabytes, which appear where a page
names one; launchers and Slurm start what they are given here and now; what builds or installs is looked at, not done.

Called with the name of the command and its words, in a directory where docs, jobs, slurm and tests are those of the source tree."""
import atexit
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOX = os.environ["REAL_LOX"]
ROLES = {"--base": "base", "--aligned": "aligned"}
TUNED = "--tuned"  # another one of the aligned kind
NO_ROOM = 5


def fail(*words):
    print("page:", *words, file=sys.stderr)
    sys.exit(99)


def run(*words):
    code = subprocess.run([str(word) for word in words], check=False).returncode
    if code:
        sys.exit(code)


def make_model(path, role, seed=0):
    if not Path(path).exists():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        run(LOX, "synth", path, "--shape", "tiny", "--layers", 1, "--role", role, "--seed", seed, "--quiet")


def make_adapter(path):
    if not Path(path).exists():
        for role in ROLES.values():
            make_model(f"of-adapter/{role}", role)
        run(LOX, "factor", "--quiet", "--base", "of-adapter/base", "--aligned", "of-adapter/aligned", "--output", "of-adapter/store")
        run(LOX, "adapter", "--quiet", "--factors", "of-adapter/store", "--coef", "1", "--output", path)


def with_inputs(words):
    """The words of a command of lox, small where a page is large, after its models were made."""
    words = list(words)
    for i, word in enumerate(words[:-1]):
        if word in ROLES:
            make_adapter(words[i + 1]) if "adapter" in words[i + 1] else make_model(words[i + 1], ROLES[word])
        if word == TUNED:
            make_model(words[i + 1], "aligned", seed=1)
        if word == "--shape" and "--headers-only" not in words:
            words[i + 1] = "tiny"
    made = words[1] if words[0] == "synth" else dict(zip(words, words[1:])).get("--output", "") if words[0] == "factor" else ""
    if made and Path(made).exists():  # by another block of the page
        words.append("--overwrite")
    return words


def make_hardened(path):
    """For a report alone: a later command of the page may make it otherwise."""
    for role in ROLES.values():
        make_model(role, role)
    run(LOX, "harden", "--quiet", "--base", "base", "--aligned", "aligned", "--output", path)
    atexit.register(shutil.rmtree, path)


def lox(words):
    words = with_inputs(words)
    if words[0] == "report":
        for word in words[1:]:
            if re.fullmatch(r"\w+", word) and not Path(word).exists():
                make_hardened(word)
        if "--html" in words:  # a build without npm has no pages, and says so
            done = subprocess.run([LOX, *words], stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode and "built without pages" not in done.stderr:
                fail(done.stderr)
            return
    if words[0] == "plan":  # of a model that this machine's disk may have no room for
        code = subprocess.run([LOX, *words], check=False).returncode
        sys.exit(code if code != NO_ROOM else 0)
    run(LOX, *words)


def mpirun(words):
    if words[0] != "-n" or not words[1].isdigit() or words[2] != "lox":
        fail("mpirun", *words)
    run(os.environ["MPIEXEC"], "-n", 2, LOX, *with_inputs(words[3:]))


def after_options(words):
    return words[next(i for i, word in enumerate(words) if not word.startswith("-")):]


def srun(words):
    run(*after_options(words))


def sbatch(words):
    """Does at once what the job would do, and says its number."""
    script, *rest = after_options(words)
    numbers = Path("job-number")
    number = int(numbers.read_text()) + 1 if numbers.exists() else 4713
    numbers.write_text(str(number))
    print(number if "--parsable" in words else f"Submitted batch job {number}", flush=True)
    name = Path(script).name
    if name in ("harden.sbatch", "run.sbatch") and not Path(script).is_file():
        fail(script, "is not there")
    sys.stdout = sys.stderr
    os.dup2(2, 1)  # a job's words go to its log
    if name == "run.sbatch":
        lox(rest)
    elif name == "harden.sbatch":
        task = rest.pop(0) if rest[0] in ("factor", "apply") else "harden"
        lox([task, "--config", *rest])


def vi(words):
    """Fills in the three paths."""
    text = Path(words[0]).read_text()
    for key, value in json.loads(os.environ["JOB_PATHS"]).items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        if count != 1:
            fail(words[0], "has no", key)
        if f"--{key}" in ROLES:
            make_model(value, key)
    Path(words[0]).write_text(text)


def presets(kind):
    return {preset["name"] for preset in json.loads((ROOT / "CMakePresets.json").read_text())[kind] if not preset.get("hidden")}


def cmake(words):
    kind = "buildPresets" if "--build" in words else "configurePresets"
    for option, value in zip(words, words[1:]):
        if option == "--preset" and value not in presets(kind):
            fail("no preset", value)
        if option == "--target" and value != "lox":
            fail("no target", value)
    for word in words:
        if word.startswith("-D") and word[2:].split("=")[0] not in (ROOT / "CMakeLists.txt").read_text():
            fail("no option", word)


def ctest(words):
    if words[0] != "--preset" or words[1] not in presets("testPresets"):
        fail("ctest", *words)


def bash(words):
    """Scripts that build, install or take long: their options must be in their own words."""
    if not words or not re.fullmatch(r"(jobs|tests)/[\w.]+\.sh", words[0]):
        os.execv("/bin/bash", ["bash", *words])
    text = (ROOT / words[0]).read_text()
    for word in words[1:] if words[0] != "tests/run.sh" else ():
        if (word.startswith("-") or words[0] == "jobs/bench.sh") and word not in text:
            fail(words[0], "does not know", word)


def nothing(_words):
    pass


COMMANDS = {"lox": lox, "mpirun": mpirun, "srun": srun, "sbatch": sbatch, "vi": vi, "cmake": cmake, "ctest": ctest, "bash": bash,
            "module": nothing, "tail": nothing, "lfs": nothing}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](sys.argv[2:])
