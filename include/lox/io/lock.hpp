// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/file.hpp"
#include "lox/base/mpi.hpp"

#include <optional>
#include <string>

namespace lox {

/// Keeps two jobs from writing one output. The file says who holds it; kernel locks on it say whether they
/// still live, so that what a killed job left behind is no obstacle. Every rank of a job has a byte of the
/// file: a new job gets in when all of them are free. The kernel's locks reach other nodes where the file
/// system passes them on (NFS, Lustre mounted with flock).
///
///     byte      0        1        2       ...
///               rank 0   rank 1   rank 2
class OutputLock {
 public:
  /// For rank 0. Throws Error(bad_input) naming host, pid and Slurm job of the holder if any rank of another
  /// job still lives, or if the file is not one of lox's.
  explicit OutputLock(const fs::path& file);
  /// For another rank of the job whose rank 0 holds the lock and has written this `token` into it.
  OutputLock(const fs::path& file, int rank, const std::string& token);

  /// Drawn for this lock: ranks know by it that they see the file of their own job.
  const std::string& token() const { return token_; }
  /// Whether the path still leads to the locked file: if not, the lock keeps nobody out.
  bool stands() const;
  /// Removes the file, still locked: who waits for it finds out that it has gone.
  void remove();

  /// Who holds it now: one line for people, or nothing if nobody does. Needs no permission to write.
  static std::optional<std::string> holder(const fs::path& file);
  /// Throws what the first constructor would throw if somebody holds it.
  static void refuse_holder(const fs::path& file);

 private:
  File file_;
  std::string token_;
};

/// The lock for the ranks that do not hold it yet: as long as one of them lives, no other job gets in. On
/// rank 0 `held` is given and nothing is returned. Collective.
std::optional<OutputLock> join_lock(const Comm& comm, const fs::path& file, const OutputLock* held);

}  // namespace lox
