# SPDX-License-Identifier: MIT
from spack.package import *


class Lox(CMakePackage):
    """Low-rank extrapolation of very large checkpoints: hardens aligned language models against the loss of safety under
    later fine-tuning, as a resumable MPI job."""

    maintainers("lox")
    license("MIT")

    # From a checkout: spack develop --path /path/to/lox lox@0.2.0, or spack dev-build in it.
    version("0.2.0")

    variant("tests", default=False, description="Build the test suite")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.22:", type="build")
    depends_on("ninja", type="build")
    depends_on("mpi")
    depends_on("scalapack")
    depends_on("blas")
    depends_on("lapack")
    depends_on("eigen@3.3:3")
    depends_on("hdf5@1.10:")
    depends_on("boost@1.71: +program_options")
    depends_on("fmt@9:")
    depends_on("nlohmann-json@3:")
    depends_on("xxhash")
    depends_on("re2")
    depends_on("googletest +gmock", when="+tests")
    depends_on("benchmark", when="+tests")
    depends_on("python@3.9:", type="build", when="+tests")
    depends_on("py-numpy", type="build", when="+tests")
    depends_on("py-h5py", type="build", when="+tests")

    generator("ninja")
    conflicts("%gcc@:11", msg="lox is C++20")

    sanity_check_is_file = [
        "bin/lox",
        "share/man/man1/lox.1",
        "share/lox/jobs/harden.ini",
        "share/lox/slurm/harden.sbatch",
    ]

    def cmake_args(self):
        return [
            self.define_from_variant("BUILD_TESTING", "tests"),
            self.define("LOX_SCALAPACK", self.spec["scalapack"].libs),
        ]

    def test_harden(self):
        """hardens a small synthetic model and checks the result"""
        lox = which(self.prefix.bin.lox)
        for role in ("base", "aligned"):
            lox("synth", role, "--shape", "tiny", "--role", role)
        lox("harden", "--base", "base", "--aligned", "aligned", "--output", "hardened")
        lox("verify", "--base", "base", "--aligned", "aligned", "--hardened", "hardened")
