// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/error.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <mpi.h>

namespace lox {

/// Throws Error(internal) with MPI's own words unless `result` is MPI_SUCCESS. `call` names the function.
void check_mpi(int result, const char* call);

/// MPI from here to the end of the scope. One in the program, made by main.
class MpiSession {
 public:
  MpiSession(int* argc, char*** argv);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
};

/// Throws Error(usage) when a launcher started several tasks but MPI sees a world of one: N copies would do
/// the same work, and write one output. Called once, before any command's work.
void refuse_launcher_mismatch();

/// A communicator by value; it does not own the handle. Methods marked collective must be called by all
/// ranks.
class Comm {
 public:
  static Comm world() { return Comm(MPI_COMM_WORLD); }
  explicit Comm(MPI_Comm handle);

  MPI_Comm get() const { return handle_; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_root() const { return rank_ == 0; }

  // All of these are collective.
  void barrier() const;
  /// One rank's text, on all ranks.
  std::string broadcast(std::string text, int from = 0) const;
  /// Texts by rank, on rank 0 only. Throws Error(internal), on all ranks, if they are longer than 2 GiB.
  std::vector<std::string> gather(const std::string& text) const;
  /// Sums over ranks, in place; of integers modulo 2^64.
  void sum(std::span<double> values) const;
  void sum(std::span<std::uint64_t> values) const;
  std::int64_t sum(std::int64_t value) const;
  double max(double value) const;

 private:
  MPI_Comm handle_;
  int rank_ = 0;
  int size_ = 1;
};

/// An Error that every rank has: all of them leave in good order, with the same exit code and one message.
class SharedError : public Error {
 public:
  using Error::Error;
};

/// If any rank comes with an error, all ranks throw the one of the lowest such rank as SharedError.
/// Collective.
void agree(const Comm& comm, const std::optional<Error>& mine);

/// Runs `action` on rank 0 and tells all ranks how it went: if it throws an Error, all ranks throw it as
/// SharedError. Collective.
void on_root(const Comm& comm, const std::function<void()>& action);

/// Runs `action`, which must not be collective itself, on every rank; if it throws on any, all ranks throw
/// the error of the lowest such rank as SharedError. What fails outside of it fails on one rank alone, and
/// main ends the others with MPI_Abort: they may be waiting for it. Collective.
void together(const Comm& comm, const std::function<void()>& action);

/// How the ranks of a communicator are spread over nodes.
struct NodeSpread {
  int nodes = 1;
  int ranks_here = 1;  ///< of this rank's node
};
/// Collective.
NodeSpread node_spread(const Comm& comm);

/// Name and version of the MPI: "Open MPI v4.1.4", "MPICH Version: 4.0.2".
std::string mpi_library_version();

}  // namespace lox
