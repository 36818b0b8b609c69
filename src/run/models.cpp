// SPDX-License-Identifier: MIT
#include "lox/run/models.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

constexpr std::size_t bytes_at_once = std::size_t{512} << 10;  // of the base; all of a piece stays in a cache

/// `first_index` is the index in the tensor of the first element given.
[[noreturn]] void fail_non_finite(const Models& models, const TensorInfo& aligned,
                                  std::span<const std::byte> ours, const TensorInfo& base,
                                  std::span<const std::byte> theirs, std::int64_t first_index) {
  const auto look = [&](const Checkpoint& model, const TensorInfo& tensor, std::span<const std::byte> bytes) {
    const DType dtype = tensor.dtype;
    const std::size_t width = static_cast<std::size_t>(dtype_bits(dtype)) / 8;
    const auto found = find_non_finite(dtype, bytes.data(), bytes.size() / width);
    if (!found) return;
    double value = 0;
    to_double(dtype, bytes.data() + *found * width, 1, &value);
    fail(ExitCode::bad_input,
         "{}: tensor '{}' of the {} model holds {} at index {}; repair it, or use --exclude",
         model.files[static_cast<std::size_t>(tensor.extent.file)], tensor.name,
         &model == &models.base ? "base" : "aligned", std::isnan(value) ? "NaN" : "Inf",
         first_index + static_cast<std::int64_t>(*found));
  };
  look(models.aligned, aligned, ours);
  look(models.base, base, theirs);
  fail(ExitCode::bad_input,
       "{}: tensor '{}' differs so much from the base model's that float overflows; use --exclude",
       models.aligned.path, aligned.name);
}

std::size_t width_of(const TensorInfo& tensor) {
  return static_cast<std::size_t>(dtype_bits(tensor.dtype)) / 8;
}

std::uint64_t matrix_bytes(const WorkItem& item, const TensorInfo& tensor) {
  return static_cast<std::uint64_t>(item.rows * item.cols) * width_of(tensor);
}

}  // namespace

void PairContent::add(const PairContent& other) {
  aligned.add(other.aligned);
  base.add(other.base);
}

ModelFiles::ModelFiles(const Models& models, const Plan& plan)
    : models_(models),
      plan_(plan),
      base_(models.base, FileStorage::Access::read),
      aligned_(models.aligned, FileStorage::Access::read),
      output_(models.output, FileStorage::Access::write) {}

const TensorInfo& ModelFiles::base_of(const WorkItem& item) const {
  return models_.base.tensors[static_cast<std::size_t>(plan_.base_of[static_cast<std::size_t>(item.tensor)])];
}
const TensorInfo& ModelFiles::aligned_of(const WorkItem& item) const {
  return models_.aligned.tensors[static_cast<std::size_t>(item.tensor)];
}
const TensorInfo& ModelFiles::output_of(const WorkItem& item) const {
  return models_.output.tensors[static_cast<std::size_t>(item.tensor)];
}

std::uint64_t ModelFiles::row_offset(const WorkItem& item, Index row) const {
  const auto element = static_cast<std::uint64_t>((item.matrix * item.rows + row) * item.cols);
  return element * width_of(output_of(item));
}

Buffer ModelFiles::read_aligned(const WorkItem& item, Index first, Index count) {
  // They become the output's rows.
  const std::uint64_t target = output_of(item).extent.offset + row_offset(item, first);
  Buffer rows(static_cast<std::size_t>(count * item.cols) * width_of(aligned_of(item)),
              File::page_shift(target));
  aligned_.read(aligned_of(item), row_offset(item, first), rows.bytes());
  return rows;
}

RowSlab ModelFiles::read_rows(const WorkItem& item, Index first, Index count) {
  const TensorInfo& aligned = aligned_of(item);
  const TensorInfo& base = base_of(item);
  // The disk brings the base while the aligned rows are read, and goes on while pieces are worked on.
  const auto first_element = static_cast<std::uint64_t>((item.matrix * item.rows + first) * item.cols);
  const auto elements = static_cast<std::size_t>(count * item.cols);
  base_.will_read(base, first_element * width_of(base), elements * width_of(base));
  RowSlab slab;
  slab.aligned = read_aligned(item, first, count);
  slab.delta = Buffer(elements * sizeof(float));
  // Whole rows at once, or whole segments of a long one.
  const auto cols = static_cast<std::size_t>(item.cols);
  const std::size_t fitting = bytes_at_once / width_of(base);
  const std::size_t at_once = std::min(elements, cols <= fitting ? fitting / cols * cols : fitting);
  Buffer piece(at_once * width_of(base));
  std::size_t n = 0;
  for (std::size_t done = 0; done < elements; done += n) {
    n = std::min(at_once, cols <= fitting ? elements - done : cols - done % cols);
    const std::span<std::byte> theirs = piece.bytes().first(n * width_of(base));
    const std::span<const std::byte> ours =
        slab.aligned.bytes().subspan(done * width_of(aligned), n * width_of(aligned));
    base_.read(base, (first_element + done) * width_of(base), theirs);
    const DeltaSummary found =
        subtract(aligned.dtype, ours.data(), base.dtype, theirs.data(), slab.delta.floats().subspan(done, n));
    if (!found.finite) {
      fail_non_finite(models_, aligned, ours, base, theirs, static_cast<std::int64_t>(first_element + done));
    }
    slab.summary.add(found);
    const std::uint64_t number = static_cast<std::uint64_t>(first) * cols + done;  // in the matrix
    sample_ulps(aligned.dtype, ours.data(), slab.delta.floats().subspan(done, n), number, slab.summary);
    slab.content.aligned.add(ours, width_of(aligned), cols, number);
    slab.content.base.add(theirs, width_of(base), cols, number);
  }
  slab.bytes_read = slab.aligned.size() + elements * width_of(base);
  return slab;
}

void ModelFiles::write_rows(const WorkItem& item, Index first, std::span<const std::byte> rows) {
  output_.write(output_of(item).extent, row_offset(item, first), rows);
}

std::uint64_t item_bytes(const Models& models, const Plan& plan, const WorkItem& item) {
  const auto t = static_cast<std::size_t>(item.tensor);
  const TensorInfo& aligned = models.aligned.tensors[t];
  if (item.action == Action::copy) return 2 * aligned.extent.bytes;
  return 2 * matrix_bytes(item, aligned) +
         matrix_bytes(item, models.base.tensors[static_cast<std::size_t>(plan.base_of[t])]);
}

}  // namespace lox
