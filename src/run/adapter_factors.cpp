// SPDX-License-Identifier: MIT
#include "lox/run/adapter_factors.hpp"

#include "lox/base/error.hpp"
#include "lox/base/timer.hpp"
#include "lox/linalg/extrapolate.hpp"
#include "lox/linalg/product_svd.hpp"
#include "lox/plan/apply_plan.hpp"
#include "lox/plan/cost.hpp"
#include "lox/run/target.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

/// What a k' <= k leaves open: equal singular values have any vectors.
std::vector<Unsettled> ties_of(const std::vector<double>& sigma, Index k) {
  std::vector<Unsettled> ties;
  const Index count = std::min<Index>(k, static_cast<Index>(sigma.size()) - 1);
  for (Index i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const double gap = 1 - sigma[at + 1] / sigma[at];
    if (gap < arithmetic<double>.direction) ties.push_back({i + 1, gap, Unsettled::Why::tie});
  }
  return ties;
}

}  // namespace

RowMajorDoubles AdapterFactors::entries(int index, Index first_row, Index rows) const {
  const TensorInfo& tensor = model_.adapter.table.tensors[static_cast<std::size_t>(index)];
  const Index cols = tensor.shape.back();
  const auto count = static_cast<std::size_t>(rows * cols);
  const std::size_t width = element_bytes(tensor.dtype);
  Buffer bytes(count * width);
  storage_.read(tensor, static_cast<std::uint64_t>(first_row * cols) * width, bytes.bytes());
  if (find_non_finite(tensor.dtype, bytes.data(), count)) {
    fail(ExitCode::bad_input, "{}: tensor '{}' holds NaN or Inf", model_.adapter.table.path, tensor.name);
  }
  RowMajorDoubles values(rows, cols);
  to_double(tensor.dtype, bytes.data(), count, values.data());
  return values;
}

std::shared_ptr<const RowMajorDoubles> AdapterFactors::whole(int index) const {
  const std::lock_guard lock(mutex_);
  if (last_tensor_ != index) {
    last_.reset();
    const Index rows = model_.adapter.table.tensors[static_cast<std::size_t>(index)].shape.front();
    last_ = std::make_shared<const RowMajorDoubles>(entries(index, 0, rows));
    last_tensor_ = index;
  }
  return last_;
}

Solved AdapterFactors::read(const Item& item) const {
  const LoraUpdate& update = model_.updates.at(item.matrix.tensor(aligned_model));
  Small b;
  Small a;
  if (update.is_bias()) {
    b = Small::Ones(1, 1);
    a = entries(update.b, 0, 1).transpose();
  } else {
    const Index e = item.matrix.number;
    a = entries(update.a, e * update.r, update.r).transpose();
    if (update.experts == 1) {
      b = entries(update.b, 0,
                  model_.adapter.table.tensors[static_cast<std::size_t>(update.b)].shape.front());
    } else {
      const auto all = whole(update.b);
      b.resize(all->rows(), update.r);
      for (Index j = 0; j < update.r; ++j) b.col(j) = all->col(j * update.experts + e);
    }
  }
  if (update.turned) std::swap(a, b);
  ProductSvd svd = product_svd(b, a, update.scale);
  Solved solved;
  Spectrum& s = solved.spectrum;
  s.method = Method::lora;
  s.k = item.merge_only ? 0 : item.k == full_rank ? update.r : std::min<Index>(item.k, update.r);
  s.certificate = svd.certificate;
  s.delta_norm = Eigen::Map<const Eigen::VectorXd>(svd.factors.sigma.data(),
                                                   static_cast<Index>(svd.factors.sigma.size()))
                     .norm();
  s.sigma = svd.factors.sigma;
  s.sigma.resize(static_cast<std::size_t>(s.k), 0.0);
  s.residuals = std::move(svd.residuals);
  s.residuals.resize(std::min(s.residuals.size(), static_cast<std::size_t>(s.k)));
  s.open = ties_of(svd.factors.sigma, s.k);
  if (!s.open.empty() && s.open.back().k == s.k) {
    s.settled = false;
    s.open.pop_back();
  }
  solved.largest = svd.factors.sigma.empty() ? 0 : 1;
  solved.factors = std::move(svd.factors);
  if (item.rows.count < item.matrix.rows) {
    solved.factors.u = solved.factors.u.middleRows(item.rows.first, item.rows.count).eval();
  }
  return solved;
}

bool AdapterUpdate::changes(const MatrixRef& matrix) const {
  return model_.updates.contains(matrix.tensor(aligned_model));
}

void AdapterUpdate::apply(const MatrixRef& matrix, Index first, std::span<std::byte> rows) const {
  const std::pair asked(matrix.tensor(aligned_model), matrix.number);
  if (last_matrix_ != asked) {
    Item item;
    item.matrix = matrix;
    item.rows = {0, matrix.rows};
    item.merge_only = true;
    last_ = factors_.read(item).factors;
    last_matrix_ = asked;
  }
  const TensorInfo& tensor = model_.table.tensors[static_cast<std::size_t>(asked.first)];
  const EntryTypes types(tensor.value_dtype(), tensor.dtype);
  const auto count =
      static_cast<Index>(rows.size() / element_bytes(types.held)) / std::max<Index>(1, matrix.cols);
  const EditSummary edit =
      extrapolate(types, rows, last_.u.middleRows(first, count), last_.sigma, last_.v, 1);
  if (!edit.finite) {
    fail(ExitCode::bad_input, "tensor '{}': with its Delta it leaves the range of {}", tensor.name,
         dtype_name(tensor.dtype));
  }
}

AdapterFactorSteps::AdapterFactorSteps(const RowReader& base, const AdapterFactors& factors,
                                       FactorTarget& target, Journal& journal)
    : StoreSteps(target, journal), base_(base), factors_(factors) {}

std::uint64_t AdapterFactorSteps::memory(const Item& item) const {
  return local_cost(item).memory;
}

void AdapterFactorSteps::read(Parcel& parcel) {
  const Item& item = parcel.item;
  const MatrixRef& matrix = item.matrix;
  Record& record = parcel.record;
  record.key = {base_.tensor(matrix, aligned_model).name, matrix.number, Action::factor,
                matrix.rows * matrix.cols, 0};
  parcel.solved = factors_.read(item);
  const Factors& f = parcel.solved.factors;
  record.timing.bytes_read = stored_bytes(item);
  for (const RowRange& rows : stretches(item.dtype, matrix.rows, matrix.cols)) {
    Buffer merged = base_.read_aligned(matrix, rows.first, rows.count);
    const EditSummary edit = extrapolate({held_dtype(item), item.dtype}, merged.bytes(),
                                         f.u.middleRows(rows.first, rows.count), f.sigma, f.v, 1);
    if (!edit.finite) {
      fail(ExitCode::bad_input, "tensor '{}': with its Delta it leaves the range of {}", record.key.name,
           dtype_name(item.dtype));
    }
    record.aligned.add(as_written(item, merged.bytes()), element_bytes(item.dtype),
                       static_cast<std::size_t>(matrix.cols),
                       static_cast<std::uint64_t>(rows.first * matrix.cols));
  }
}

bool AdapterFactorSteps::solve(Parcel& parcel) {
  const Timer start;
  Record& record = parcel.record;
  Factors& f = parcel.solved.factors;
  record.spectrum = parcel.solved.spectrum;
  RowMajorMatrix delta;
  if (target_.wants_delta(record.key.name)) {
    const Eigen::Map<const Eigen::VectorXd> sigma(f.sigma.data(), f.u.cols());
    delta = (f.u * sigma.asDiagonal() * f.v.transpose()).cast<float>();
  }
  const auto count = std::min(f.u.cols(), static_cast<Index>(record.spectrum.k));
  f.u = f.u.leftCols(count).eval();
  f.v = f.v.leftCols(count).eval();
  f.sigma.resize(static_cast<std::size_t>(count));
  parcel.edited =
      target_.parts(record.key.name, parcel.solved, {delta.data(), static_cast<std::size_t>(delta.size())});
  parcel.solved = Solved();
  record.timing.svd = start.seconds();
  return true;
}

}  // namespace lox
