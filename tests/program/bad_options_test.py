# SPDX-License-Identifier: MIT
"""Bad input: words and places that make no sense. See support/bad_input.py."""
import os
import shutil
import unittest

from bad_input import BAD_INPUT, IO, NOT_CERTIFIED, SHARDS, USAGE, BadInputTest, add_tests, case, harden_with


# ---- paths

@case("nowhere", "no such", arguments=harden_with(base="nowhere"))
def missing_base(_):
    pass


@case("nowhere", "no such", ranks=2, arguments=harden_with(aligned="nowhere"))
def missing_aligned_with_2_ranks(_):
    pass


@case("aligned", "no *.safetensors")
def empty_directory(directory):
    shutil.rmtree(directory / "aligned")
    (directory / "aligned").mkdir()


@case("aligned", "no *.safetensors")
def other_weights_only(directory):
    shutil.rmtree(directory / "aligned")
    (directory / "aligned").mkdir()
    (directory / "aligned" / "pytorch_model.bin").write_bytes(b"PK")


@case("out", "exists")
def output_exists(directory):
    (directory / "out").mkdir()
    (directory / "out" / "mine.txt").write_text("keep")


@case("out", "exists", ranks=2)
def output_exists_with_2_ranks(directory):
    (directory / "out").write_text("keep")


@case("out", "--overwrite", more=("--overwrite",))
def overwrite_spares_what_is_no_model(directory):
    (directory / "out").mkdir()
    (directory / "out" / "thesis.tex").write_text("keep")


@case("aligned/out", "inside", arguments=harden_with(output="aligned/out"))
def output_inside_an_input(_):
    pass


@case("base", "same", arguments=harden_with(output="base"),
      more=("--overwrite",))
def output_is_an_input(_):
    pass


@case("models", "inside", arguments=harden_with(base="models/base", output="models"),
      more=("--overwrite",))
def output_around_an_input(directory):
    (directory / "models").mkdir()
    shutil.move(directory / "base", directory / "models")


@case("link/out", "inside", arguments=harden_with(output="link/out"))
def output_inside_an_input_by_a_link(directory):
    (directory / "link").symlink_to("aligned")


@case("deep/out", "does not exist", arguments=harden_with(output="deep/out"))
def output_in_no_directory(_):
    pass


@case("shorter", arguments=harden_with(output="n" * 245))
def output_whose_report_has_too_long_a_name(_):
    pass


@case("shorter", arguments=harden_with(output="n" * 300), more=("--report", "r.json"))
def output_with_too_long_a_name(_):
    pass


# ---- options

@case("--bogus", code=USAGE, more=("--bogus",))
def unknown_option(_):
    pass


@case("--bogus", code=USAGE, more=("--bogus", "1"), ranks=2)
def unknown_option_with_2_ranks(_):
    pass


@case("--cof", code=USAGE, more=("--cof", "1"))
def misspelt_option(_):
    pass


@case("is an argument too many", code=USAGE, more=("stray",))
def stray_word(_):
    pass


@case("--include", "[", code=USAGE, more=("--include", "["))
def bad_regex(_):
    pass


@case("--exclude", "(", code=USAGE, more=("--exclude", "("), ranks=2)
def bad_regex_with_2_ranks(_):
    pass


@case("--include", "1000 times", code=USAGE, more=("--include", "(q){1,77777777777777777777}"))
def endless_repeat(_):
    pass


@case("--k", "-1", code=USAGE, more=("--k=-1",))
def negative_k(_):
    pass


@case("k", "six", code=USAGE, more=("--k", "six"))
def k_is_no_number(_):
    pass


@case("--coef", "-1", code=USAGE, more=("--coef=-1",))
def negative_coef(_):
    pass


@case("--coef", "nan", code=USAGE, more=("--coef", "nan"))
def coef_is_nan(_):
    pass


@case("--coef", "inf", code=USAGE, more=("--coef", "inf"))
def coef_is_infinite(_):
    pass


@case("--svd", "magic", code=USAGE, more=("--svd", "magic"))
def unknown_method(_):
    pass


@case("--tolerance", "0", code=USAGE, more=("--tolerance", "0"))
def tolerance_is_zero(_):
    pass


@case("--memory", "lots", code=USAGE, more=("--memory", "lots"))
def memory_is_no_size(_):
    pass


@case("--base", "missing", code=USAGE, arguments=("harden", "--aligned", "aligned", "--output", "out"))
def no_base(_):
    pass


@case("--output", "missing", code=USAGE, arguments=("harden", "--base", "base", "--aligned", "aligned"))
def no_output(_):
    pass


@case("job.ini", "rank", code=USAGE, more=("--config", "job.ini"))
def unknown_key_in_the_job_file(directory):
    (directory / "job.ini").write_text("k = 6\nrank = 4\n")


@case("job.ini", code=BAD_INPUT, more=("--config", "job.ini"))
def missing_job_file(_):
    pass


@case("job.ini", code=BAD_INPUT, more=("--config", "job.ini"), ranks=2)
def missing_job_file_with_2_ranks(_):
    pass


@case("residual", "tolerance", code=NOT_CERTIFIED, more=("--tolerance", "1e-17"))
def tolerance_beyond_double_precision(_):
    pass


# ---- places to write


@case("out", "permission", user=True)
def directory_without_write_permission(directory):
    os.chmod(directory, 0o555)


@case(SHARDS[0], "may not be read", user=True)
def shard_without_read_permission(directory):
    os.chmod(directory / "aligned" / SHARDS[0], 0o000)


@case("elsewhere", more=("--report", "elsewhere/report.json"))
def report_in_no_directory(_):
    pass


@case("out", code=IO, file_limit=500)
def file_cannot_grow(_):
    pass


class BadInput(BadInputTest):
    pass


add_tests(BadInput)


if __name__ == "__main__":
    unittest.main()
