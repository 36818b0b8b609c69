// SPDX-License-Identifier: MIT
#include "lox/base/mpi.hpp"

#include "lox/base/error.hpp"
#include "lox/base/file.hpp"
#include "lox/base/site.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

namespace lox {

void check_mpi(int result, const char* call) {
  if (result == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(result, text.data(), &length);
  std::string words(text.data(), static_cast<std::size_t>(length));
  std::ranges::replace(words, '\n', ' ');  // MPICH adds its stack of calls, a line each
  fail(ExitCode::internal, "{}: {}", call, words);
}

MpiSession::MpiSession(int* argc, char*** argv) {
  int provided = 0;
  check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

MpiSession::~MpiSession() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0) MPI_Finalize();
}

void refuse_launcher_mismatch() {
  const int processes = launched_processes();
  if (Comm::world().size() > 1 || processes == 1) return;
  const bool by_srun = slurm().step_tasks == processes;
  fail(ExitCode::usage,
       "{} started {} tasks but MPI sees a world of 1: launcher and MPI do not match, and {} copies "
       "would do the same work; use {}",
       by_srun ? "srun" : "the launcher", processes, processes,
       by_srun ? "srun --mpi=pmix, or mpirun" : "the mpirun or mpiexec of " + mpi_library_version());
}

Comm::Comm(MPI_Comm handle) : handle_(handle) {
  check_mpi(MPI_Comm_rank(handle, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(handle, &size_), "MPI_Comm_size");
}

void Comm::barrier() const {
  check_mpi(MPI_Barrier(handle_), "MPI_Barrier");
}

std::string Comm::broadcast(std::string text, int from) const {
  auto length = static_cast<std::uint64_t>(text.size());
  check_mpi(MPI_Bcast(&length, 1, MPI_UINT64_T, from, handle_), "MPI_Bcast");
  text.resize(length);
  for (std::uint64_t done = 0; done < length; done += File::piece) {
    const auto n = static_cast<int>(std::min<std::uint64_t>(File::piece, length - done));
    check_mpi(MPI_Bcast(text.data() + done, n, MPI_CHAR, from, handle_), "MPI_Bcast");
  }
  return text;
}

std::vector<std::string> Comm::gather(const std::string& text) const {
  const std::int64_t total = sum(static_cast<std::int64_t>(text.size()));
  if (total > INT32_MAX)
    fail(ExitCode::internal, "MPI_Gatherv of {} bytes is more than its counts can say", total);
  const auto length = static_cast<int>(text.size());
  std::vector<int> lengths(static_cast<std::size_t>(size_));
  check_mpi(MPI_Gather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, 0, handle_), "MPI_Gather");
  std::vector<int> starts(lengths.size());
  std::exclusive_scan(lengths.begin(), lengths.end(), starts.begin(), 0);
  std::string all(is_root() ? static_cast<std::size_t>(total) : 0, '\0');
  check_mpi(MPI_Gatherv(text.data(), length, MPI_CHAR, all.data(), lengths.data(), starts.data(), MPI_CHAR, 0,
                        handle_),
            "MPI_Gatherv");
  std::vector<std::string> texts;
  if (!is_root()) return texts;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    texts.push_back(all.substr(static_cast<std::size_t>(starts[i]), static_cast<std::size_t>(lengths[i])));
  }
  return texts;
}

void Comm::sum(std::span<double> values) const {
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE, MPI_SUM,
                          handle_),
            "MPI_Allreduce");
}

void Comm::sum(std::span<std::uint64_t> values) const {
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_UINT64_T, MPI_SUM,
                          handle_),
            "MPI_Allreduce");
}

double Comm::max(double value) const {
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_DOUBLE, MPI_MAX, handle_), "MPI_Allreduce");
  return value;
}

std::int64_t Comm::sum(std::int64_t value) const {
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT64_T, MPI_SUM, handle_), "MPI_Allreduce");
  return value;
}

void agree(const Comm& comm, const std::optional<Error>& mine) {
  int first = mine ? comm.rank() : comm.size();
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, comm.get()), "MPI_Allreduce");
  if (first == comm.size()) return;
  const std::string text = comm.broadcast(
      comm.rank() == first ? fmt::format("{} {}", static_cast<int>(mine->code()), mine->what()) : "", first);
  throw SharedError(static_cast<ExitCode>(std::atoi(text.c_str())), text.substr(text.find(' ') + 1));
}

void together(const Comm& comm, const std::function<void()>& action) {
  std::optional<Error> failure;
  try {
    action();
  } catch (const Error& error) {
    failure = error;
  } catch (const std::exception& error) {
    failure = Error(ExitCode::internal, error.what());
  }
  agree(comm, failure);
}

void on_root(const Comm& comm, const std::function<void()>& action) {
  together(comm, [&] {
    if (comm.is_root()) action();
  });
}

NodeSpread node_spread(const Comm& comm) {
  MPI_Comm node = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm.get(), MPI_COMM_TYPE_SHARED, comm.rank(), MPI_INFO_NULL, &node),
            "MPI_Comm_split_type");
  const Comm here(node);
  const std::int64_t nodes = comm.sum(std::int64_t{here.is_root() ? 1 : 0});
  check_mpi(MPI_Comm_free(&node), "MPI_Comm_free");
  return {static_cast<int>(nodes), here.size()};
}

std::string mpi_library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  check_mpi(MPI_Get_library_version(text.data(), &length), "MPI_Get_library_version");
  const std::string version(text.data(), static_cast<std::size_t>(length));
  std::string name = version.substr(0, version.find_first_of(",\n"));  // MPICH goes on for many lines
  std::ranges::replace(name, '\t', ' ');
  return name;
}

}  // namespace lox
