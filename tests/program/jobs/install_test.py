# SPDX-License-Identifier: MIT
"""What `cmake --install` puts in place works from there, and the packages name it rightly."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from program import LOX, run

ROOT = Path(__file__).resolve().parents[3]
PACKAGING = ROOT / "docs/packaging"
BUILD = os.environ.get("LOX_BUILD", "")


@unittest.skipUnless(BUILD or os.environ.get("CI") == "1", "LOX_BUILD does not name the build")
class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.prefix = cls.folder / "prefix"
        # Without --component: all of it. The program and its files need no second build.
        subprocess.run(["cmake", "--install", BUILD, "--prefix", cls.prefix], check=True, stdout=subprocess.DEVNULL)

    def test_files(self):
        """The program, its man page, the job file, every script, and nothing else that is lox's."""
        share = self.prefix / "share/lox"
        self.assertEqual(sorted(path.name for path in (self.prefix / "bin").iterdir()), ["lox"])
        self.assertEqual((self.prefix / "share/man/man1/lox.1").read_text(), run("help", "--man").out)
        self.assertEqual({path.name for path in (share / "jobs").iterdir()}, {path.name for path in ROOT.glob("jobs/*.ini")})
        self.assertEqual({path.name for path in (share / "slurm").iterdir()}, {path.name for path in ROOT.glob("slurm/*")})
        self.assertTrue(os.access(share / "slurm/pipeline.sh", os.X_OK))

    def test_runs_from_there(self):
        """The installed program hardens, by the installed job file that has its paths filled in."""
        program = self.prefix / "bin/lox"
        self.assertEqual(run("--version", program=program).out, run("--version").out)
        for role in ("base", "aligned"):
            made = run("synth", role, "--shape", "tiny", "--layers", 1, "--role", role, program=program, directory=self.folder)
            self.assertEqual(made.code, 0, made.err)
        text = (self.prefix / "share/lox/jobs/harden.ini").read_text()
        for key in ("base", "aligned", "output"):
            text = re.sub(rf"^{key} = .*$", f"{key} = {self.folder / key}", text, flags=re.MULTILINE)
        (self.folder / "job.ini").write_text(text)
        done = run("harden", "--config", "job.ini", program=program, directory=self.folder, ranks=2)
        self.assertEqual(done.code, 0, done.err)
        self.assertTrue((self.folder / "output/model.safetensors").is_file())

    def test_plan_finds_the_script(self):
        """The one beside the program; a program without one names it all the same."""
        alone = self.folder / "alone/bin/lox"
        alone.parent.mkdir(parents=True)
        shutil.copy(self.prefix / "bin/lox", alone)
        for role in ("base", "aligned"):
            run("synth", self.folder / f"plan-{role}", "--shape", "tiny", "--layers", 1, "--role", role, "--headers-only")
        for program, script in ((self.prefix / "bin/lox", self.prefix / "share/lox/slurm/harden.sbatch"), (alone, "harden.sbatch")):
            printed = run("plan", "--base", "plan-base", "--aligned", "plan-aligned", "--output", "o", "--sbatch",
                          program=program, directory=self.folder)
            self.assertIn(f" {script} harden.ini\n", printed.out, printed.err)

    def test_pipeline_uses_its_own_scripts(self):
        (self.folder / "p.ini").write_text("base = b\naligned = a\noutput = o\n")
        script = self.prefix / "share/lox/slurm/pipeline.sh"
        said = subprocess.run([script, "--dry-run", self.folder / "p.ini"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertIn(f"{script.parent}/harden.sbatch", said)


class Packages(unittest.TestCase):
    def test_spack(self):
        """The recipe is Python, and every library that CMake looks for is a dependency of it."""
        text = (PACKAGING / "spack/package.py").read_text()
        compile(text, "package.py", "exec")
        found = set(re.findall(r"^find_package\((\w+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE))
        names = {"MPI": "mpi", "BLAS": "blas", "LAPACK": "lapack", "Eigen3": "eigen", "HDF5": "hdf5", "Boost": "boost",
                 "fmt": "fmt", "nlohmann_json": "nlohmann-json", "OpenMP": None, "Threads": None}
        self.assertLessEqual(found, set(names), "a dependency that the packages do not know")
        wanted = [names[package] for package in found if names[package]] + ["scalapack", "xxhash", "cmake"]
        depends = re.findall(r'depends_on\("([a-z0-9-]+)', text)
        self.assertLessEqual(set(wanted), set(depends))
        self.assertIn(f'version("{self.version()}")', text)

    def test_container(self):
        """What the image installs to build with is what jobs/packages.txt lists."""
        text = (PACKAGING / "lox.def").read_text().replace("\\\n", " ")
        build = re.search(r"apt-get install [^\n]*", text).group()
        listed = (ROOT / "jobs/packages.txt").read_text().split()
        packages = [word for word in build.split() if re.fullmatch(r"[a-z][a-z0-9.+-]+", word)][2:]
        self.assertIn("libscalapack-openmpi-dev", packages)
        self.assertEqual([package for package in packages if package not in listed], [])

    def test_container_runs(self):
        """Every library that lox is linked to comes with a package of the image."""
        query = shutil.which("dpkg-query")
        if query is None or not Path("/etc/debian_version").read_text().startswith("12"):
            self.skipTest("the image is Debian 12, this is not")
        text = (PACKAGING / "lox.def").read_text().replace("\\\n", " ")
        final = re.findall(r"apt-get install [^\n]*", text)[1].split()
        program = shutil.which(LOX) or LOX
        needed = re.findall(r"NEEDED\s+(\S+)", subprocess.run(["objdump", "-p", program], stdout=subprocess.PIPE,
                                                              text=True, check=True).stdout)
        if not any(library.startswith("libmpi.so") for library in needed):
            self.skipTest("the image has Open MPI, this program another one")
        for library in needed:
            owners = subprocess.run([query, "-S", f"*/{library}"], stdout=subprocess.PIPE, text=True, check=False).stdout
            names = set(re.findall(r"^([a-z0-9.+-]+)(?::\w+)?:", owners, re.MULTILINE))
            base = {"libc6", "libstdc++6", "libgcc-s1"} | {"libopenmpi3"}  # with every image, and with openmpi-bin
            self.assertTrue(names & (base | set(final)) or not names, f"{library} of {names}")

    @staticmethod
    def version():
        return re.search(r"project\(lox VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1)


if __name__ == "__main__":
    unittest.main()
