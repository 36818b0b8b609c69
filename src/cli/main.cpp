// SPDX-License-Identifier: MIT
#include "lox/base/mpi.hpp"
#include "lox/base/stop.hpp"
#include "lox/cli/command.hpp"
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
  const int share = processors() / ranks_of_node(comm);
  set_threads(std::max(1, std::min(allowed, share)));
}

/// Runs the command; failures become one line and an exit code.
ExitCode run(const Command& command, const Arguments& arguments) {
  std::optional<MpiSession> mpi;
  int ranks = command.parallel ? 0 : 1;  // 0: not known yet
  int rank = 0;
  try {
    if (command.parallel) {
      catch_stop_signals();  // before MPI starts, which takes a while: a signal then must not kill
      mpi.emplace(nullptr, nullptr);
      const Comm comm = Comm::world();
      ranks = comm.size();
      rank = comm.rank();
      choose_threads(comm);
    }
    return command.run(arguments);
  } catch (const SharedError& error) {
    if (rank == 0) fmt::print(stderr, "lox: error: {}\n", error.what());
    return error.code();
  } catch (const std::exception& error) {
    const auto* known = dynamic_cast<const Error*>(&error);
    const ExitCode code = known != nullptr ? known->code() : ExitCode::internal;
    if (ranks == 1 || code == ExitCode::usage) {  // all ranks parse the same words
      if (rank == 0) fmt::print(stderr, "lox: error: {}\n", error.what());
      return code;
    }
    fmt::print(stderr, "lox: error{}: {}\n", ranks == 0 ? "" : fmt::format(" on rank {}", rank),
               error.what());
    std::fflush(stderr);
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
    return code;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (const auto code = run_if_sandboxed_reader(argc, argv)) return *code;
  restart_with_blas_kernels(argv);
  const Arguments words(argv + 1, argv + argc);
  if (words.empty() || words[0] == "--help" || words[0] == "-h") {
    fmt::print("{}", program_help());
    return static_cast<int>(words.empty() ? ExitCode::usage : ExitCode::done);
  }
  if (words[0] == "--version") {
    fmt::print("{}", program_version());
    return 0;
  }
  const auto command = std::find_if(commands().begin(), commands().end(),
                                    [&](const Command& known) { return words[0] == known.name; });
  if (command == commands().end()) {
    fmt::print(stderr, "{}", to_line("lox: error: '{}' is not a command; see 'lox --help'\n", words[0]));
    return static_cast<int>(ExitCode::usage);
  }
  return static_cast<int>(run(*command, Arguments(words.begin() + 1, words.end())));
}
