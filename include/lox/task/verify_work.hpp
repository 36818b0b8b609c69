// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/progress.hpp"
#include "lox/task/verify_tables.hpp"

#include <vector>

namespace lox {

/// Whether the result's format has a place for the files that harden carries over.
bool has_place_for_files(const Checkpoint& hardened);

/// The other files of the aligned model that harden carries over.
std::vector<OtherFile> files_of_harden(const Checkpoint& aligned);

/// What is to be done, in this order; ranks take turns.
struct VerifyWork {
  std::vector<Item> checked;
  std::vector<Item> compared;
  std::vector<OtherFile> files;

  std::uint64_t compared_bytes() const;  ///< of tensors and files, in one model
  Counts counts() const;                 ///< bytes of all models that are read
  static std::uint64_t bytes_of(const Item& item);
  static std::uint64_t bytes_of(const OtherFile& file) { return 2 * file.extent.bytes; }
};
VerifyWork work_of(const VerifyJob& asked, const VerifyTables& opened);

}  // namespace lox
