// SPDX-License-Identifier: MIT
#include "lox/run/row_reader.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

constexpr std::size_t bytes_at_once = std::size_t{512} << 10;  // of the base; all of a piece stays in a cache

/// `first_index` is the index in the tensor of the first element given.
[[noreturn]] void fail_non_finite(const Checkpoint& aligned_table, const TensorInfo& aligned,
                                  std::span<const std::byte> ours, const Checkpoint& base_table,
                                  const TensorInfo& base, std::span<const std::byte> theirs,
                                  std::int64_t first_index) {
  const auto complain = [&](const Checkpoint& model, const char* name, const TensorInfo& tensor,
                            std::span<const std::byte> bytes) {
    const DType dtype = tensor.dtype;
    const std::size_t width = element_bytes(dtype);
    const auto found = find_non_finite(dtype, bytes.data(), bytes.size() / width);
    if (!found) return;
    double value = 0;
    to_double(dtype, bytes.data() + *found * width, 1, &value);
    fail(ExitCode::bad_input,
         "{}: tensor '{}' of the {} model holds {} at index {}; repair it, or use --exclude",
         model.files[static_cast<std::size_t>(tensor.extent.file)], tensor.name, name,
         std::isnan(value) ? "NaN" : "Inf", first_index + static_cast<std::int64_t>(*found));
  };
  complain(aligned_table, "aligned", aligned, ours);
  complain(base_table, "base", base, theirs);
  fail(ExitCode::bad_input,
       "{}: tensor '{}' differs so much from the base model's that float overflows; use --exclude",
       aligned_table.path, aligned.name);
}

}  // namespace

void PairContent::add(const PairContent& other) {
  aligned.add(other.aligned);
  base.add(other.base);
}

std::uint64_t row_offset(const MatrixRef& matrix, DType dtype, Index row) {
  return static_cast<std::uint64_t>((matrix.number * matrix.rows + row) * matrix.cols) * element_bytes(dtype);
}

const TensorInfo& RowReader::tensor(const MatrixRef& matrix, Role role) const {
  return models_[role].table->tensors[static_cast<std::size_t>(matrix.tensor(role))];
}

void RowReader::read_bytes(const MatrixRef& matrix, std::uint64_t first, std::span<std::byte> to) const {
  models_[aligned_model].storage->read(tensor(matrix, aligned_model), first, to);
}

Buffer RowReader::read_aligned(const MatrixRef& matrix, Index first, Index count,
                               std::uint64_t target) const {
  const DType dtype = tensor(matrix, aligned_model).dtype;
  Buffer rows(static_cast<std::size_t>(count * matrix.cols) * element_bytes(dtype), File::page_shift(target));
  read_bytes(matrix, row_offset(matrix, dtype, first), rows.bytes());
  return rows;
}

RowSlab RowReader::read(const MatrixRef& matrix, Index first, Index count, std::uint64_t target) const {
  const TensorInfo& aligned = tensor(matrix, aligned_model);
  const TensorInfo& base = tensor(matrix, base_model);
  Storage& base_bytes = *models_[base_model].storage;
  const std::size_t width = element_bytes(aligned.dtype);
  const std::size_t base_width = element_bytes(base.dtype);
  // The disk brings the base while the aligned rows are read, and goes on while pieces are worked on.
  const auto first_element = static_cast<std::uint64_t>((matrix.number * matrix.rows + first) * matrix.cols);
  const auto elements = static_cast<std::size_t>(count * matrix.cols);
  base_bytes.will_read(base, first_element * base_width, elements * base_width);
  RowSlab slab;
  slab.aligned = read_aligned(matrix, first, count, target);
  slab.delta = Buffer(elements * sizeof(float));
  // Whole rows at once, or whole segments of a long one.
  const auto cols = static_cast<std::size_t>(matrix.cols);
  const std::size_t fitting = bytes_at_once / base_width;
  const std::size_t at_once = std::min(elements, cols <= fitting ? fitting / cols * cols : fitting);
  Buffer piece(at_once * base_width);
  std::size_t n = 0;
  for (std::size_t done = 0; done < elements; done += n) {
    n = std::min(at_once, cols <= fitting ? elements - done : cols - done % cols);
    const std::span<std::byte> theirs = piece.bytes().first(n * base_width);
    const std::span<const std::byte> ours = slab.aligned.bytes().subspan(done * width, n * width);
    base_bytes.read(base, (first_element + done) * base_width, theirs);
    const DeltaSummary found =
        subtract(aligned.dtype, ours.data(), base.dtype, theirs.data(), slab.delta.floats().subspan(done, n));
    if (!found.finite) {
      fail_non_finite(*models_[aligned_model].table, aligned, ours, *models_[base_model].table, base, theirs,
                      static_cast<std::int64_t>(first_element + done));
    }
    slab.summary.add(found);
    const std::uint64_t number = static_cast<std::uint64_t>(first) * cols + done;  // in the matrix
    sample_ulps(aligned.dtype, ours.data(), slab.delta.floats().subspan(done, n), number, slab.summary);
    slab.content.aligned.add(ours, width, cols, number);
    slab.content.base.add(theirs, base_width, cols, number);
  }
  slab.bytes_read = slab.aligned.size() + elements * base_width;
  return slab;
}

}  // namespace lox
