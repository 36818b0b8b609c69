// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace lox {

/// Runs `work` in a child process and returns its text, or throws the Error it threw. If the child crashes,
/// takes more than `seconds` of processor time, or needs more than `bytes` of memory, throws Error(bad_input)
/// beginning with `what`. For foreign code that was never meant for damaged files. The child must not use
/// MPI.
std::string run_apart(const std::function<std::string()>& work, std::uint64_t seconds, std::uint64_t bytes,
                      const std::string& what);

}  // namespace lox
