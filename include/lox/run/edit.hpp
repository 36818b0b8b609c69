// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/buffer.hpp"
#include "lox/run/record.hpp"

namespace lox {

/// The bytes of one matrix in both checkpoints, as read.
struct MatrixPair {
  std::string name;  ///< of the tensor, for errors and the random start
  std::int64_t matrix = 0;
  Index rows = 0;
  Index cols = 0;
  DType aligned_dtype = DType::BF16;
  DType base_dtype = DType::BF16;
  Buffer aligned;
  Buffer base;
};

/// Hardens one matrix by this rank alone: afterwards `pair.aligned` holds the hardened bytes, `pair.base` is given
/// back. Throws Error(bad_input) for NaN, Inf or overflow, naming tensor and index; Error(not_certified) if even the
/// exact method's certificate is above the tolerance.
TensorRecord edit_matrix(MatrixPair& pair, const Job& job, Method method);

/// The error of Delta_k, as |.|_F, below which the rounding of the output hides nearly all of it.
double wanted_delta_error(const Job& job, DType dtype, double entries, double aligned_norm, double delta_norm);

/// Throws the Error(bad_input) for a delta that is not finite: which model, which index. `first_index` is the index in
/// the tensor of the first element given.
[[noreturn]] void fail_non_finite(const std::string& name, DType aligned_type, std::span<const std::byte> aligned,
                                  DType base_type, std::span<const std::byte> base, std::int64_t first_index);

/// Fills the numbers of a record that do not depend on where the item was solved.
void fill_numbers(TensorRecord& record, const Job& job, const SvdResult& svd, double scale);

}  // namespace lox
