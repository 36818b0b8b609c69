// SPDX-License-Identifier: MIT
#include "lox/base/mpi.hpp"
#include "lox/base/site.hpp"
#include "lox/base/stop.hpp"
#include "lox/cli/command.hpp"
#include "lox/cli/start.hpp"
#include "lox/io/hdf5_sandbox.hpp"
#include "lox/linalg/libraries.hpp"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <sched.h>

#include <fmt/format.h>

namespace {

using namespace lox;

/// Threads of a rank: what OMP_NUM_THREADS says, else this rank's share of the processors it may run on.
void choose_threads(const Comm& comm) {
  if (std::getenv("OMP_NUM_THREADS") != nullptr) {
    set_threads(max_threads());
    return;
  }
  cpu_set_t mask;
  CPU_ZERO(&mask);
  const int allowed = sched_getaffinity(0, sizeof(mask), &mask) == 0 ? CPU_COUNT(&mask) : 1;
  const int share = processors() / node_spread(comm).ranks_here;
  set_threads(std::max(1, std::min(allowed, share)));
}

/// A failure of this process alone, as a line and an exit code.
ExitCode tell(const Error& error) {
  fmt::print(stderr, "lox: error: {}\n", error.what());
  return error.code();
}

/// What is thrown now, as an Error.
Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    return {ExitCode::internal, error.what()};
  }
}

/// What the words ask of many ranks, or why that is not known.
struct Asked {
  Request request;
  std::optional<Error> failure;
};

Asked read(const Arguments& words) {
  Asked asked;
  try {
    asked.request = find_command(words[0]).read(Arguments(words.begin() + 1, words.end()));
  } catch (...) {
    asked.failure = current_error();
  }
  return asked;
}

/// Does on all ranks what they were asked; a failure becomes one line and an exit code. Ranks that can only
/// fail or print help start MPI, too: the others wait for them.
ExitCode run_on_ranks(const Asked& asked) {
  const MpiSession mpi(nullptr, nullptr);
  std::optional<Comm> comm;
  try {
    comm = Comm::world();
    agree_on_start(*comm, asked.request.asked, asked.failure);
    if (!asked.request.help.empty()) {
      if (comm->is_root()) fmt::print("{}", asked.request.help);
      return ExitCode::done;
    }
    refuse_launcher_mismatch();
    choose_threads(*comm);
    return asked.request.work(*comm);
  } catch (const SharedError& error) {
    return comm->is_root() ? tell(error) : error.code();
  } catch (...) {
    const Error error = current_error();
    if (comm && comm->size() == 1) return tell(error);
    fmt::print(stderr, "lox: error{}: {}\n", comm ? fmt::format(" on rank {}", comm->rank()) : "",
               error.what());
    std::fflush(stderr);
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(error.code()));
    return error.code();
  }
}

ExitCode run(const Arguments& words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h") {
    fmt::print("{}", program_help());
    return words.empty() ? ExitCode::usage : ExitCode::done;
  }
  if (words[0] == "--version") {
    fmt::print("{}", program_version());
    return ExitCode::done;
  }
  const auto known = std::ranges::find(commands(), words[0], &Command::name);
  if (known != commands().end() && known->run != nullptr) {
    return known->run(Arguments(words.begin() + 1, words.end()));
  }
  catch_stop_signals();  // before MPI starts, which takes a while: a signal then must not kill
  const Asked asked = read(words);
  if (launched_processes() == 1) {
    if (asked.failure) return tell(*asked.failure);
    if (!asked.request.help.empty()) {
      fmt::print("{}", asked.request.help);
      return ExitCode::done;
    }
  }
  return run_on_ranks(asked);
}

}  // namespace

int main(int argc, char** argv) {
  if (const auto code = run_if_sandboxed_reader(argc, argv)) return *code;
  restart_with_blas_kernels(argv);
  raise_open_file_limit();
  try {
    return static_cast<int>(run(Arguments(argv + 1, argv + argc)));
  } catch (...) {  // before MPI starts, or in a command that starts none
    return static_cast<int>(tell(current_error()));
  }
}
