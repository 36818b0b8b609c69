// SPDX-License-Identifier: MIT
#include "lox/run/target.hpp"

#include "lox/base/checksum.hpp"
#include "lox/base/error.hpp"
#include "lox/base/timer.hpp"

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

Piece Target::write(const MatrixRef& matrix, Index first, std::span<const std::byte> rows) {
  const TensorInfo& place = tensor(matrix);
  const std::uint64_t offset = row_offset(matrix, place.dtype, first);
  storage_.write(place.extent, offset, rows);
  const std::lock_guard lock(mutex_);
  unsynced_.insert(place.extent.file);
  return {number_, matrix.tensor(aligned_model), offset, rows.size(), checksum(rows)};
}

void Target::copy(const Item& item, const ReadBytes& read, Record& record) {
  const TensorInfo& place = tensor(item.matrix);
  const Timer start;
  double reading = 0;
  const auto timed_read = [&](std::uint64_t first, std::span<std::byte> to) {
    const Timer begin;
    read(first, to);
    reading += begin.seconds();
  };
  const auto written = [&](std::uint64_t first, std::span<const std::byte> bytes) {
    record.pieces.push_back(
        {number_, item.matrix.tensor(aligned_model), first, bytes.size(), checksum(bytes)});
  };
  copy_bytes(timed_read, storage_, place.extent, 0, place.extent.bytes, written);
  record.timing.read += reading;
  record.timing.write += start.seconds() - reading;
  record.timing.bytes_read += place.extent.bytes;
  record.timing.bytes_written += place.extent.bytes;
  const std::lock_guard lock(mutex_);
  unsynced_.insert(place.extent.file);
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
