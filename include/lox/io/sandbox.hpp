// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <sys/types.h>

namespace lox {

// A process of its own for code that was never meant for damaged files. It is this program once more, started
// with a first word that its main knows: a fork without exec is not safe once MPI has started.

struct SandboxLimits {
  std::uint64_t seconds = 0;  ///< of processor time
  std::uint64_t bytes = 0;    ///< of address space, beside what the program takes from its start
};

/// Bytes that a file really has on disk, at most its size; none for a file that cannot be seen.
std::uint64_t bytes_on_disk(const fs::path& file);

/// For work on a file with so many bytes on disk: its apparent size (truncate -s 1T) costs nothing, so it
/// counts for nothing. At most 10 minutes and 16 GiB.
SandboxLimits sandbox_limits(std::uint64_t bytes);

/// Starts this program with `word` and `argument` (any bytes) and returns the text that it answers, or throws
/// the Error that it answers. If it ends without an answer, throws Error(bad_input) with the text `broken`.
/// The process has the environment of this one and none of its open files, and dies with the calling thread.
std::string run_in_sandbox(const std::string& word, const std::string& argument, const std::string& broken);

/// What run_in_sandbox asks of the process that it starts.
struct SandboxCall {
  pid_t parent = 0;
  std::string argument;
};

/// The call, if `word` is the first word of this program. To be asked at the very beginning of main.
std::optional<SandboxCall> sandbox_call(const std::string& word, int argc, const char* const* argv);

/// Answers a call by what `work` returns or throws, within the limits. Returns the program's exit code.
int answer_sandbox_call(const SandboxCall& call, const SandboxLimits& limits,
                        const std::function<std::string()>& work);

}  // namespace lox
