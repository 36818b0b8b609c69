// SPDX-License-Identifier: MIT
#include "lox/run/apply_steps.hpp"

#include "lox/base/error.hpp"
#include "lox/base/timer.hpp"
#include "lox/linalg/delta.hpp"
#include "lox/plan/apply_plan.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace lox {

void check_content(const ExpectedContents& expected, const std::string& tensor, std::int64_t matrix,
                   const Content& found) {
  const auto known = expected.find({tensor, matrix});
  if (known != expected.end() && known->second == found) return;
  fail(ExitCode::bad_input,
       "tensor '{}' matrix {} is not the one that the factors are of; give the model that was factored, or "
       "factor this one first",
       tensor, matrix);
}

/// Entries [first, first + count) of the matrix' part, in its dtype.
Buffer FactorReader::entries(const Item& item, FactorPart part, std::uint64_t first,
                             std::uint64_t count) const {
  const int index = item.matrix.tensors[first_factor + static_cast<std::size_t>(part)];
  const TensorInfo& tensor = store_.tensors[static_cast<std::size_t>(index)];
  const std::size_t width = element_bytes(tensor.dtype);
  Buffer buffer(count * width);
  storage_.read(tensor, first * width, buffer.bytes());
  if (const auto bad = find_non_finite(tensor.dtype, buffer.data(), count)) {
    double value = 0;
    to_double(tensor.dtype, buffer.data() + *bad * width, 1, &value);
    fail(ExitCode::bad_input,
         "{}: tensor '{}' holds {} at index {}; the store is damaged, factor the models again", store_.path,
         tensor.name, std::isnan(value) ? "NaN" : "Inf", first + *bad);
  }
  return buffer;
}

/// Rows of a part that has K columns, the first item.k of them; what F32 rounded away is added.
Small FactorReader::columns(const Item& item, FactorPart part, RowRange rows, Index all_rows) const {
  const int index = item.matrix.tensors[first_factor + static_cast<std::size_t>(part)];
  const Index all = store_.tensors[static_cast<std::size_t>(index)].shape.back();
  const auto first = static_cast<std::uint64_t>((item.matrix.number * all_rows + rows.first) * all);
  const auto count = static_cast<std::uint64_t>(rows.count * all);
  const auto read = [&](FactorPart which) -> Small {
    const Buffer buffer = entries(item, which, first, count);
    RowMajorDoubles values(rows.count, all);
    to_double(factor_dtype(which), buffer.data(), count, values.data());
    return values.leftCols(std::min(item.k, all));
  };
  Small values = read(part);
  const auto low = static_cast<FactorPart>(static_cast<std::size_t>(part) + 3);
  if (item.matrix.tensors[first_factor + static_cast<std::size_t>(low)] >= 0) values += read(low);
  return values;
}

std::vector<double> FactorReader::read_sigma(const Item& item) const {
  const Small sigma = columns(item, FactorPart::s, {0, 1}, 1);
  const double* const end = sigma.data() + sigma.size();
  const double* const wrong = std::adjacent_find(sigma.data(), end, std::less<>());
  if (wrong != end || (sigma.size() > 0 && sigma.minCoeff() < 0)) {
    const int index = item.matrix.tensors[first_factor + static_cast<std::size_t>(FactorPart::s)];
    fail(ExitCode::bad_input,
         "{}: tensor '{}' matrix {} holds no singular values, which fall and are not below 0; the store is "
         "damaged",
         store_.path, store_.tensors[static_cast<std::size_t>(index)].name, item.matrix.number);
  }
  return {sigma.data(), std::find_if_not(sigma.data(), end, [](double s) { return s > 0; })};
}

Solved FactorReader::read(const Item& item) const {
  const MatrixRef& matrix = item.matrix;
  Solved solved;
  solved.factors.sigma = read_sigma(item);
  const auto count = static_cast<Index>(solved.factors.sigma.size());
  solved.factors.u = columns(item, FactorPart::u, item.rows, matrix.rows).leftCols(count);
  solved.factors.v = columns(item, FactorPart::v, {0, matrix.cols}, matrix.cols).leftCols(count);
  solved.spectrum.k = std::min({item.k, matrix.rows, matrix.cols});
  solved.spectrum.sigma = solved.factors.sigma;
  solved.spectrum.sigma.resize(static_cast<std::size_t>(solved.spectrum.k), 0.0);
  solved.largest = count > 0 ? 1 : 0;
  return solved;
}

Buffer FactorReader::read_delta(const Item& item) const {
  const MatrixRef& matrix = item.matrix;
  if (matrix.tensors[first_factor + static_cast<std::size_t>(FactorPart::delta)] < 0) return {};
  if (item.k < std::min(matrix.rows, matrix.cols)) return {};
  const auto first =
      static_cast<std::uint64_t>((matrix.number * matrix.rows + item.rows.first) * matrix.cols);
  return entries(item, FactorPart::delta, first, static_cast<std::uint64_t>(item.rows.count * matrix.cols));
}

ApplySteps::ApplySteps(const RowReader& aligned, const FactorSource& factors,
                       const ExpectedContents* expected, std::vector<Target*> targets, Journal& journal)
    : aligned_(aligned),
      factors_(factors),
      expected_(expected),
      targets_(std::move(targets)),
      journal_(journal) {}

std::uint64_t ApplySteps::memory(const Item& item) const {
  if (item.action == Action::edit && item.method == Method::lora) return local_cost(item).memory;
  return apply_cost(item, targets_.size()).memory;
}

void ApplySteps::read(Parcel& parcel) {
  const Item& item = parcel.item;
  const MatrixRef& matrix = item.matrix;
  const TensorInfo& tensor = aligned_.tensor(matrix, aligned_model);
  Record& record = parcel.record;
  record.key = {tensor.name, matrix.number, Action::edit, item.rows.count * matrix.cols, item.rows.first};
  parcel.rows.aligned = aligned_.read_aligned(matrix, item.rows.first, item.rows.count,
                                              targets_.front()->position(matrix, item.rows.first));
  if (expected_ != nullptr) {
    const auto first = static_cast<std::uint64_t>(item.rows.first * matrix.cols);
    record.aligned.add(parcel.rows.aligned.bytes(), element_bytes(held_dtype(item)),
                       static_cast<std::size_t>(matrix.cols), first);
    // Of a matrix in stretches the sum of all is compared, when all are done.
    if (item.rows.count == matrix.rows) check_content(*expected_, tensor.name, matrix.number, record.aligned);
  }
  parcel.solved = factors_.read(item);
  parcel.rows.delta = factors_.read_delta(item);
  record.timing.bytes_read = stored_bytes(item);
}

bool ApplySteps::solve(Parcel& parcel) {
  const Timer start;
  parcel.record.spectrum = parcel.solved.spectrum;
  if (parcel.solved.is_zero() || parcel.item.merge_only) parcel.record.key.action = Action::copy;
  edit_rows(parcel, parcel.solved, targets_);
  parcel.solved = Solved();
  parcel.record.timing.svd = start.seconds();
  return true;
}

void ApplySteps::write(Parcel& parcel) {
  const MatrixRef& matrix = parcel.item.matrix;
  const auto read = [&](std::uint64_t first, std::span<std::byte> to) {
    aligned_.read_bytes(matrix, first, to);
  };
  write_stretch(parcel, aligned_.tensor(matrix, aligned_model), read, targets_);
}

/// Bytes to disk first, then the lines that vouch for them.
void ApplySteps::commit(std::vector<Record>& records) {
  for (Target* target : targets_) target->sync();
  journal_.append(records);
}

}  // namespace lox
