// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/factors.hpp"
#include "lox/io/storage.hpp"
#include "lox/plan/item.hpp"
#include "lox/task/reference_edit.hpp"

#include <string>

namespace lox {

/// The factors of one matrix, read from a store by code that `apply` has no part in.
class FactorsOfStore {
 public:
  explicit FactorsOfStore(const Checkpoint& store);
  bool has(const std::string& tensor) const;
  /// Of an m x n matrix, the `number`-th of the tensor's batch.
  StoredFactors read(const std::string& tensor, std::int64_t number, Index m, Index n);

 private:
  RowMajorDoubles part(const std::string& name, std::int64_t number, Index rows, Index cols);
  const Checkpoint& store_;
  FileStorage storage_;
  FactorTable table_;
};

/// Holds stored factors against Delta and its singular values, found by a dense method in double. Says what
/// is wrong; empty: nothing. `tolerance`: of the job that made the store; `exact`: Delta is a difference of
/// two numbers an entry, which the store holds to the last bit.
std::string judge_factors(const RowMajorMatrix& delta, const StoredFactors& factors, double tolerance,
                          bool exact = true);

}  // namespace lox
