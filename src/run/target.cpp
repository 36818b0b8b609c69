// SPDX-License-Identifier: MIT
#include "lox/run/target.hpp"

#include "lox/base/checksum.hpp"
#include "lox/base/error.hpp"
#include "lox/base/timer.hpp"
#include "lox/io/pages.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lox {

const TensorInfo& Target::tensor(const MatrixRef& matrix) const {
  return table_.tensors[static_cast<std::size_t>(matrix.tensor(aligned_model))];
}

std::uint64_t Target::position(const MatrixRef& matrix, Index row) const {
  const TensorInfo& place = tensor(matrix);
  return place.extent.offset + row_offset(matrix, place.dtype, row);
}

EditSummary Target::apply(const Item& item, const Solved& solved, Index first, std::span<std::byte> rows,
                          std::span<const float> delta) const {
  if (solved.is_zero()) return {};
  if (solved.spectrum.method == Method::full) return extrapolate_full(item.dtype, rows, delta, blend_.coef);
  const Factors& f = solved.factors;
  const Index count = static_cast<Index>(rows.size() / element_bytes(item.dtype)) / item.matrix.cols;
  const Index all = f.u.cols();
  const Index k = blend_.k == full_rank ? all : std::min(blend_.k, all);
  if (k == all) return extrapolate(item.dtype, rows, f.u.middleRows(first, count), f.sigma, f.v, blend_.coef);
  const std::vector<double> sigma(f.sigma.begin(), f.sigma.begin() + k);
  return extrapolate(item.dtype, rows, f.u.middleRows(first, count).leftCols(k), sigma, f.v.leftCols(k),
                     blend_.coef);
}

/// Bytes of a tensor from `first` on. The bytes [from, to) of the tensor are written by this process alone.
void Target::put(int number, std::uint64_t from, std::uint64_t to, std::uint64_t first,
                 std::span<const std::byte> bytes, Record& record) {
  const Extent& whole = table_.tensors[static_cast<std::size_t>(number)].extent;
  const auto edge = [&](std::uint64_t at, std::span<const std::byte> part) {
    record.edges.push_back(
        {number_, number, from + at, part.size(), checksum(part), 0, 0, 0, {part.begin(), part.end()}});
  };
  write_own_pages(storage_, {whole.file, whole.offset + from, to - from}, first - from, bytes, edge);
  record.pieces.push_back({number_, number, first, bytes.size(), checksum(bytes)});
  record.timing.bytes_written += bytes.size();
  const std::lock_guard lock(mutex_);
  unsynced_.insert(whole.file);
}

void Target::write(const MatrixRef& matrix, RowRange mine, Index first, std::span<const std::byte> rows,
                   Record& record) {
  const DType dtype = tensor(matrix).dtype;
  put(matrix.tensor(aligned_model), row_offset(matrix, dtype, mine.first),
      row_offset(matrix, dtype, mine.first + mine.count), row_offset(matrix, dtype, first), rows, record);
}

void Target::copy(const Item& item, const ReadBytes& read, Record& record) {
  const TensorInfo& place = tensor(item.matrix);
  const std::uint64_t all = place.extent.bytes;
  const Timer start;
  double reading = 0;
  const auto timed_read = [&](std::uint64_t first, std::span<std::byte> to) {
    const Timer begin;
    read(first, to);
    reading += begin.seconds();
  };
  const auto write = [&](std::uint64_t first, std::span<const std::byte> bytes) {
    put(item.matrix.tensor(aligned_model), 0, all, first, bytes, record);
  };
  copy_bytes(timed_read, write, place.extent.offset, 0, all);
  record.timing.read += reading;
  record.timing.write += start.seconds() - reading;
  record.timing.bytes_read += all;
}

void Target::sync() {
  std::set<int> files;
  {
    const std::lock_guard lock(mutex_);
    files.swap(unsynced_);
  }
  for (const int file : files) storage_.sync(Extent{file, 0, 0});
}

void add_edit(Record& record, DType dtype, const EditSummary& edit) {
  if (!edit.finite) {
    fail(ExitCode::bad_input,
         "tensor '{}': the edit leaves the range of {}; use a smaller --coef, or --exclude it",
         record.key.name, dtype_name(dtype));
  }
  record.edits.push_back({std::sqrt(edit.edit_squared), edit.realised_dot, edit.changed});
}

}  // namespace lox
