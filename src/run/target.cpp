// SPDX-License-Identifier: MIT
#include "lox/run/target.hpp"

#include "lox/base/error.hpp"
#include "lox/base/timer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace lox {

const TensorInfo& Target::tensor(const MatrixRef& matrix) const {
  return writer_.tensor(matrix.tensor(aligned_model));
}

std::uint64_t Target::position(const MatrixRef& matrix, Index row) const {
  const TensorInfo& place = tensor(matrix);
  return place.extent.offset + row_offset(matrix, place.dtype, row);
}

EditSummary Target::apply(const Item& item, const Solved& solved, Index first, std::span<std::byte> rows,
                          std::span<const float> delta) const {
  if (solved.is_zero()) return {};
  const EntryTypes types(held_dtype(item), item.dtype);
  const std::size_t row_bytes = static_cast<std::size_t>(item.matrix.cols) * element_bytes(types.held);
  const Index count =
      item.matrix.paired({item.rows.first + first, static_cast<Index>(rows.size() / row_bytes)});
  if (count == 0) return {};
  rows = rows.first(static_cast<std::size_t>(count) * row_bytes);
  if (!delta.empty()) delta = delta.first(static_cast<std::size_t>(count * item.matrix.cols));
  const Index least = std::min(item.matrix.rows, item.matrix.cols);
  const bool whole = blend_.k != full_rank && blend_.k >= least && !delta.empty();
  if (whole || solved.spectrum.method == Method::full) {
    return extrapolate_full(types, rows, delta, blend_.coef);
  }
  const Factors& f = solved.factors;
  const Index all = f.u.cols();
  if (item.method == Method::lora) {
    // The rows are the base's: Delta is added, and coef times its first k triplets once more.
    const double coef = item.merge_only ? 0 : blend_.coef;
    const Index more = item.k == full_rank ? all : std::min(item.k, all);
    std::vector<double> sigma = f.sigma;
    for (Index i = 0; i < more; ++i) sigma[static_cast<std::size_t>(i)] *= 1 + coef;
    return extrapolate(types, rows, f.u.middleRows(first, count), sigma, f.v, 1);
  }
  const Index k = blend_.k == full_rank ? all : std::min(blend_.k, all);
  if (k == all) return extrapolate(types, rows, f.u.middleRows(first, count), f.sigma, f.v, blend_.coef);
  const std::vector<double> sigma(f.sigma.begin(), f.sigma.begin() + k);
  return extrapolate(types, rows, f.u.middleRows(first, count).leftCols(k), sigma, f.v.leftCols(k),
                     blend_.coef);
}

std::span<std::byte> as_written(const Item& item, std::span<std::byte> rows) {
  const DType held = held_dtype(item);
  if (held == item.dtype) return rows;
  constexpr std::size_t at_once = 4096;
  const std::size_t width = element_bytes(item.dtype);
  const std::size_t count = rows.size() / element_bytes(held);
  std::array<float, at_once> piece;
  for (std::size_t first = 0; first < count; first += at_once) {
    const std::size_t n = std::min(at_once, count - first);
    std::memcpy(piece.data(), rows.data() + first * sizeof(float), n * sizeof(float));
    from_float(item.dtype, piece.data(), n, rows.data() + first * width);
  }
  return rows.first(count * width);
}

std::span<const std::byte> edited_rows(const Item& item, const Buffer& rows) {
  return rows.bytes().first(rows.size() / element_bytes(held_dtype(item)) * element_bytes(item.dtype));
}

void Target::write(const MatrixRef& matrix, RowRange mine, Index first, std::span<const std::byte> rows,
                   Record& record) {
  const DType dtype = tensor(matrix).dtype;
  writer_.put(matrix.tensor(aligned_model), row_offset(matrix, dtype, mine.first),
              row_offset(matrix, dtype, mine.first + mine.count), row_offset(matrix, dtype, first), rows,
              record);
}

namespace {

void check_range(const Record& record, DType dtype, const EditSummary& edit) {
  if (edit.finite) return;
  fail(ExitCode::bad_input,
       "tensor '{}': the edit leaves the range of {}; use a smaller --coef, or --exclude it", record.key.name,
       dtype_name(dtype));
}

}  // namespace

void edit_rows(Parcel& parcel, const Solved& solved, std::span<Target* const> targets) {
  const Item& item = parcel.item;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    Buffer rows;
    if (t + 1 == targets.size()) {
      rows = std::move(parcel.rows.aligned);
    } else {
      const std::uint64_t position = targets[t]->position(item.matrix, item.rows.first);
      rows = Buffer(parcel.rows.aligned.size(), File::page_shift(position));
      std::memcpy(rows.data(), parcel.rows.aligned.data(), rows.size());
    }
    const EditSummary edit = targets[t]->apply(item, solved, 0, rows.bytes(), parcel.rows.delta.floats());
    if (parcel.record.key.action == Action::edit) {
      add_edit(parcel.record, item.dtype, edit);
    } else {
      check_range(parcel.record, item.dtype, edit);
    }
    (void)as_written(item, rows.bytes());
    parcel.edited.push_back(std::move(rows));
  }
}

void copy_tensor(const Item& item, const ReadBytes& read, std::span<Target* const> targets, Record& record) {
  const Timer start;
  double reading = 0;
  const auto timed_read = [&](std::uint64_t first, std::span<std::byte> to) {
    const Timer begin;
    read(first, to);
    reading += begin.seconds();
  };
  const Extent& place = targets.front()->tensor(item.matrix).extent;
  const auto write = [&](std::uint64_t first, std::span<const std::byte> bytes) {
    for (Target* target : targets) {
      target->writer_.put(item.matrix.tensor(aligned_model), 0, place.bytes, first, bytes, record);
    }
  };
  copy_bytes(timed_read, write, place.offset, 0, place.bytes);
  record.timing.read += reading;
  record.timing.write += start.seconds() - reading;
  record.timing.bytes_read += item.quantised ? place.bytes / element_bytes(item.dtype) : place.bytes;
}

void write_stretch(Parcel& parcel, const TensorInfo& tensor, const ReadBytes& read,
                   std::span<Target* const> targets) {
  const Item& item = parcel.item;
  Record& record = parcel.record;
  if (item.action == Action::copy) {
    record.key = {tensor.name, 0, Action::copy, tensor.elements(), 0};
    copy_tensor(item, read, targets, record);
    return;
  }
  const Timer start;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    targets[t]->write(item.matrix, item.rows, item.rows.first, edited_rows(item, parcel.edited[t]), record);
  }
  record.timing.write = start.seconds();
}

void add_edit(Record& record, DType dtype, const EditSummary& edit) {
  check_range(record, dtype, edit);
  record.edits.push_back({std::sqrt(edit.edit_squared), edit.realised_dot, edit.changed});
}

}  // namespace lox
