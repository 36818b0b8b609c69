// SPDX-License-Identifier: MIT
#include "lox/run/row_reader.hpp"

#include "lox/base/error.hpp"
#include "lox/io/quantised.hpp"
#include "lox/plan/apply_plan.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

constexpr std::size_t bytes_at_once = std::size_t{512} << 10;  // of the base; all of a piece stays in a cache
/// Of a base that is read transposed: the more at once, the longer the runs that are read of its rows.
constexpr std::size_t transposed_bytes_at_once = std::size_t{4} << 20;

std::size_t piece_bytes(const TensorInfo& base) {
  return base.view && base.view->transposed ? transposed_bytes_at_once : bytes_at_once;
}

std::string_view name_of(const OpenModel& model, Role role) {
  if (!model.name.empty()) return model.name;
  return role == aligned_model ? "aligned" : "base";
}

/// `first_index` is the index in the tensor of the first element given.
void refuse_non_finite(const OpenModel& model, Role role, const TensorInfo& tensor,
                       std::span<const std::byte> bytes, std::int64_t first_index) {
  const DType dtype = tensor.value_dtype();
  const std::size_t width = element_bytes(dtype);
  const auto found = find_non_finite(dtype, bytes.data(), bytes.size() / width);
  if (!found) return;
  double value = 0;
  to_double(dtype, bytes.data() + *found * width, 1, &value);
  fail(ExitCode::bad_input,
       "{}: tensor '{}' of the {} model holds {} at index {}; repair it, or use --exclude",
       model.table->files[static_cast<std::size_t>(tensor.extent.file)], tensor.name, name_of(model, role),
       std::isnan(value) ? "NaN" : "Inf", first_index + static_cast<std::int64_t>(*found));
}

/// Calls work(first, count) for pieces of `elements` entries in rows of `cols`: whole rows at once, or whole
/// segments of a long one, as many as `bytes` hold of those of `width`.
template <class Work>
void for_pieces(std::size_t elements, std::size_t cols, std::size_t width, std::size_t bytes, Work work) {
  const std::size_t fitting = bytes / width;
  const std::size_t at_once = std::min(elements, cols <= fitting ? fitting / cols * cols : fitting);
  for (std::size_t done = 0, n = 0; done < elements; done += n) {
    n = std::min(at_once, cols <= fitting ? elements - done : cols - done % cols);
    work(done, n);
  }
}

}  // namespace

std::uint64_t stored_bytes(const TensorInfo& tensor, std::uint64_t entries) {
  return entries * element_bytes(tensor.quantised ? tensor.quantised->codes.dtype : tensor.dtype);
}

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

bool RowReader::is_updated(const MatrixRef& matrix) const {
  const RowUpdate* const update = models_[aligned_model].update;
  return update != nullptr && update->changes(matrix);
}

void RowReader::read_bytes(const MatrixRef& matrix, std::uint64_t first, std::span<std::byte> to) const {
  models_[aligned_model].storage->read(tensor(matrix, aligned_model), first, to);
}

/// Entries of a matrix from number `first` on, in the value_dtype() of its tensor. Adds to `noise` what
/// rounding to codes has done to them.
void RowReader::read_entries(const MatrixRef& matrix, Role role, std::uint64_t first, std::span<std::byte> to,
                             double& noise) const {
  const TensorInfo& info = tensor(matrix, role);
  Storage& storage = *models_[role].storage;
  const std::uint64_t number = static_cast<std::uint64_t>(matrix.number * matrix.rows * matrix.cols) + first;
  if (!info.quantised) return storage.read(info, number * element_bytes(info.dtype), to);
  const std::span<float> values(reinterpret_cast<float*>(to.data()), to.size() / sizeof(float));
  read_values(storage, models_[role].table->files, info, number, values, &noise);
}

Buffer RowReader::read_aligned(const MatrixRef& matrix, Index first, Index count,
                               std::uint64_t target) const {
  double noise = 0;
  return read_aligned(matrix, first, count, target, noise);
}

Buffer RowReader::read_aligned(const MatrixRef& matrix, Index first, Index count, std::uint64_t target,
                               double& noise) const {
  const DType dtype = tensor(matrix, aligned_model).value_dtype();
  Buffer rows(static_cast<std::size_t>(count * matrix.cols) * element_bytes(dtype), File::page_shift(target));
  read_entries(matrix, aligned_model, static_cast<std::uint64_t>(first * matrix.cols), rows.bytes(), noise);
  if (is_updated(matrix)) models_[aligned_model].update->apply(matrix, first, rows.bytes());
  return rows;
}

/// The delta of entries from `number` on, in the matrix, and what is found of it.
void RowReader::subtract_piece(const MatrixRef& matrix, std::uint64_t number, std::span<const std::byte> ours,
                               std::span<const std::byte> theirs, std::span<float> delta,
                               RowSlab& slab) const {
  const TensorInfo& aligned = tensor(matrix, aligned_model);
  const TensorInfo& base = tensor(matrix, base_model);
  const DType type = aligned.value_dtype();
  const DType base_type = base.value_dtype();
  const DeltaSummary found = subtract(type, ours.data(), base_type, theirs.data(), delta);
  if (!found.finite) {
    const auto index = matrix.number * matrix.rows * matrix.cols + static_cast<std::int64_t>(number);
    refuse_non_finite(models_[aligned_model], aligned_model, aligned, ours, index);
    refuse_non_finite(models_[base_model], base_model, base, theirs, index);
    fail(ExitCode::bad_input,
         "{}: tensor '{}' differs so much from the base model's that float overflows; use --exclude",
         models_[aligned_model].table->path, aligned.name);
  }
  slab.summary.add(found);
  sample_ulps(aligned.dtype, type, ours.data(), delta, number, slab.summary);
  const auto cols = static_cast<std::size_t>(matrix.cols);
  slab.content.aligned.add(ours, element_bytes(type), cols, number);
  slab.content.base.add(theirs, element_bytes(base_type), cols, number);
}

RowSlab RowReader::read(const MatrixRef& matrix, Index first, Index count, std::uint64_t target) const {
  const TensorInfo& aligned = tensor(matrix, aligned_model);
  const TensorInfo& base = tensor(matrix, base_model);
  const std::size_t width = element_bytes(aligned.value_dtype());
  const std::size_t base_width = element_bytes(base.value_dtype());
  // The disk brings the base while the aligned rows are read, and goes on while pieces are worked on.
  const auto all = static_cast<std::size_t>(count * matrix.cols);
  const auto elements = static_cast<std::size_t>(matrix.paired({first, count}) * matrix.cols);
  models_[base_model].storage->will_read(base, row_offset(matrix, base.dtype, first),
                                         elements * element_bytes(base.dtype));
  RowSlab slab;
  double& noise = slab.summary.noise_squared;
  slab.aligned = read_aligned(matrix, first, count, target, noise);
  slab.delta = Buffer(all * sizeof(float));
  const std::size_t at_once = piece_bytes(base);
  Buffer piece(std::min(at_once, elements * base_width));
  for_pieces(elements, static_cast<std::size_t>(matrix.cols), base_width, at_once,
             [&](std::size_t done, std::size_t n) {
               const std::span<std::byte> theirs = piece.bytes().first(n * base_width);
               const std::uint64_t number = static_cast<std::uint64_t>(first * matrix.cols) + done;
               read_entries(matrix, base_model, number, theirs, noise);
               subtract_piece(matrix, number, slab.aligned.bytes().subspan(done * width, n * width), theirs,
                              slab.delta.floats().subspan(done, n), slab);
             });
  if (elements < all) {  // rows that the base has not: nothing is subtracted, and nothing will be added
    refuse_non_finite(
        models_[aligned_model], aligned_model, aligned, slab.aligned.bytes().subspan(elements * width),
        (matrix.number * matrix.rows + first) * matrix.cols + static_cast<std::int64_t>(elements));
    std::ranges::fill(slab.delta.floats().subspan(elements), 0.0F);
    slab.content.aligned.add(slab.aligned.bytes().subspan(elements * width), width,
                             static_cast<std::size_t>(matrix.cols),
                             static_cast<std::uint64_t>(first * matrix.cols) + elements);
  }
  slab.bytes_read = stored_bytes(aligned, all) + stored_bytes(base, elements);
  return slab;
}

RowSlab RowReader::read_beside(const MatrixRef& matrix, std::span<const std::byte> base) const {
  const TensorInfo& aligned = tensor(matrix, aligned_model);
  const DType type = aligned.value_dtype();
  const std::size_t width = element_bytes(type);
  const std::size_t base_width = element_bytes(tensor(matrix, base_model).value_dtype());
  const auto elements = static_cast<std::size_t>(matrix.rows * matrix.cols);
  RowSlab slab;
  slab.delta = Buffer(elements * sizeof(float));
  const auto take = [&](std::size_t done, std::span<const std::byte> ours) {
    const std::size_t n = ours.size() / width;
    subtract_piece(matrix, done, ours, base.subspan(done * base_width, n * base_width),
                   slab.delta.floats().subspan(done, n), slab);
    slab.aligned_squares += sum_of_squares(type, ours);
  };
  if (is_updated(matrix)) {
    for (const RowRange& rows : stretches(type, matrix.rows, matrix.cols, bytes_at_once)) {
      take(static_cast<std::size_t>(rows.first * matrix.cols),
           read_aligned(matrix, rows.first, rows.count).bytes());
    }
  } else {
    Buffer piece(std::min(bytes_at_once / base_width, elements) * width);
    for_pieces(elements, static_cast<std::size_t>(matrix.cols), base_width, bytes_at_once,
               [&](std::size_t done, std::size_t n) {
                 const std::span<std::byte> ours = piece.bytes().first(n * width);
                 read_entries(matrix, aligned_model, done, ours, slab.summary.noise_squared);
                 take(done, ours);
               });
  }
  slab.bytes_read = stored_bytes(aligned, elements);
  return slab;
}

Buffer RowReader::read_base(const MatrixRef& matrix) const {
  const DType dtype = tensor(matrix, base_model).value_dtype();
  Buffer rows(static_cast<std::size_t>(matrix.rows * matrix.cols) * element_bytes(dtype));
  double noise = 0;
  read_entries(matrix, base_model, 0, rows.bytes(), noise);
  return rows;
}

void RowReader::will_read(const MatrixRef& matrix) const {
  const TensorInfo& aligned = tensor(matrix, aligned_model);
  const std::uint64_t bytes =
      row_offset(matrix, aligned.dtype, matrix.rows) - row_offset(matrix, aligned.dtype, 0);
  models_[aligned_model].storage->will_read(aligned, row_offset(matrix, aligned.dtype, 0), bytes);
}

}  // namespace lox
