// SPDX-License-Identifier: MIT
#include "lox/run/landscape_steps.hpp"

#include "lox/base/error.hpp"
#include "lox/base/timer.hpp"
#include "lox/plan/landscape_plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lox {
namespace {

/// Rounds rows once to the dtype, and sums up what that made of the edit.
void round_rows(DType dtype, const RowMajorDoubles& aligned, const RowMajorDoubles& edit,
                std::span<const std::byte> before, std::span<std::byte> rows, EditSummary& summary) {
  const RowMajorDoubles wanted = aligned + edit;
  const auto count = static_cast<std::size_t>(wanted.size());
  from_double(dtype, wanted.data(), count, rows.data());
  RowMajorDoubles found(wanted.rows(), wanted.cols());
  to_double(dtype, rows.data(), count, found.data());
  EditSummary of_rows;
  of_rows.edit_squared = edit.squaredNorm();
  of_rows.realised_dot = (found - aligned).cwiseProduct(edit).sum();
  of_rows.finite = found.allFinite();
  const std::size_t width = element_bytes(dtype);
  for (std::size_t i = 0; i < rows.size(); i += width) {
    if (std::memcmp(rows.data() + i, before.data() + i, width) != 0) ++of_rows.changed;
  }
  summary.add(of_rows);
}

}  // namespace

template <class Use>
void LandscapeSteps::each_block(const Item& item, const PlaneRows& rows, Use use) const {
  const Index at_once = landscape_block(item.matrix.cols);
  for (Index first = 0; first < item.rows.count; first += at_once) {
    use(first, reader_.block(item, rows, first, std::min(at_once, item.rows.count - first)));
  }
}

std::uint64_t LandscapeSteps::memory(const Item& item) const {
  return landscape_cost(item, reader_.others(), targets_).memory;
}

void LandscapeSteps::read(Parcel& parcel) {
  const Item& item = parcel.item;
  const MatrixRef& matrix = item.matrix;
  const TensorInfo& tensor = reader_.tensor(item, 0);
  Record& record = parcel.record;
  record.key = {tensor.name, matrix.number, Action::edit, item.rows.count * matrix.cols, item.rows.first};
  PlaneRows rows = reader_.read(item);
  record.timing.bytes_read = rows.aligned.size();
  for (const Buffer& other : rows.others) record.timing.bytes_read += other.size();
  if (PlaneReader::has_factors(item)) {
    record.spectrum = rows.factors.spectrum;
    const auto first = static_cast<std::uint64_t>(item.rows.first * matrix.cols);
    record.aligned.add(rows.aligned.bytes(), element_bytes(item.dtype), static_cast<std::size_t>(matrix.cols),
                       first);
    // Of a matrix in stretches the sum of all is compared, when all are done.
    if (item.rows.count == matrix.rows) check_content(expected_, tensor.name, matrix.number, record.aligned);
  }
  parcel.rows.aligned = std::move(rows.aligned);
  parcel.rows.delta = std::move(rows.delta);
  parcel.solved = std::move(rows.factors);
  parcel.edited = std::move(rows.others);
}

bool LandscapeSteps::solve(Parcel& parcel) {
  const Timer start;
  PlaneRows rows{std::move(parcel.rows.aligned), std::move(parcel.edited), std::move(parcel.solved),
                 std::move(parcel.rows.delta)};
  parcel.edited.clear();
  parcel.solved = Solved();
  work(parcel, rows);
  parcel.record.timing.svd = start.seconds();
  return true;
}

void PlaneSteps::work(Parcel& parcel, const PlaneRows& rows) {
  std::vector<double>& sums = parcel.record.products;
  each_block(parcel.item, rows, [&](Index, const PlaneBlock& block) {
    const std::vector<double> products = plane_products(block);
    sums.resize(products.size(), 0.0);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += products[i];
  });
}

void PlaneSteps::commit(std::vector<Record>& records) {
  journal_.append(records);
}

void PointSteps::work(Parcel& parcel, const PlaneRows& rows) {
  const Item& item = parcel.item;
  const std::size_t width = element_bytes(item.dtype);
  std::vector<EditSummary> edits(points_.size());
  for (const Target* target : points_) {
    parcel.edited.emplace_back(rows.aligned.size(),
                               File::page_shift(target->position(item.matrix, item.rows.first)));
  }
  each_block(item, rows, [&](Index first, const PlaneBlock& block) {
    const auto from = static_cast<std::size_t>(first * item.matrix.cols) * width;
    const auto bytes = static_cast<std::size_t>(block.aligned.size()) * width;
    for (std::size_t t = 0; t < points_.size(); ++t) {
      RowMajorDoubles edit = shares_[t].second * block.direction;
      if (block.along.size() > 0) edit += shares_[t].first * block.along;
      round_rows(item.dtype, block.aligned, edit, rows.aligned.bytes().subspan(from, bytes),
                 parcel.edited[t].bytes().subspan(from, bytes), edits[t]);
    }
  });
  for (const EditSummary& edit : edits) {
    if (!edit.finite) {
      fail(ExitCode::bad_input,
           "tensor '{}': a point leaves the range of {}; take points nearer to the model",
           parcel.record.key.name, dtype_name(item.dtype));
    }
    add_edit(parcel.record, item.dtype, edit);
  }
}

void PointSteps::write(Parcel& parcel) {
  const auto read = [&](std::uint64_t first, std::span<std::byte> to) {
    reader_.read_bytes(parcel.item, first, to);
  };
  write_stretch(parcel, reader_.tensor(parcel.item, 0), read, points_);
}

/// Bytes to disk first, then the lines that vouch for them.
void PointSteps::commit(std::vector<Record>& records) {
  for (Target* target : points_) target->sync();
  journal_.append(records);
}

}  // namespace lox
