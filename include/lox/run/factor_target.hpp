// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/buffer.hpp"
#include "lox/io/factors.hpp"
#include "lox/run/solve.hpp"
#include "lox/run/tensor_writer.hpp"

#include <span>
#include <string>
#include <vector>

namespace lox {

/// A store of factors that is being made. Thread-safe.
class FactorTarget {
 public:
  /// `number`: which one of the task's targets.
  FactorTarget(int number, const Checkpoint& store, Storage& storage, Index k)
      : table_(store), writer_(number, store, storage), k_(k) {}

  /// The parts of a matrix as the store has them: rows of K floats. `delta`: where the store has it, else not
  /// looked at.
  std::vector<Buffer> parts(const std::string& tensor, const Solved& solved,
                            std::span<const float> delta) const;
  /// Does the store want Delta itself of this tensor?
  bool wants_delta(const std::string& tensor) const;
  void write(const std::string& tensor, std::int64_t matrix, const std::vector<Buffer>& parts,
             Record& record);
  void sync() { writer_.sync(); }

 private:
  FactorTable table_;
  TensorWriter writer_;
  Index k_;
};

}  // namespace lox
