// SPDX-License-Identifier: MIT
#include "lox/run/analysis_steps.hpp"

#include "lox/base/error.hpp"
#include "lox/base/timer.hpp"
#include "lox/linalg/subspace.hpp"
#include "lox/linalg/thin_product.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace lox {
namespace {

RowMajorView view_of(const Buffer& delta, Index rows, Index cols) {
  return {delta.floats().data(), rows, cols};
}

}  // namespace

AnalysisSteps::AnalysisSteps(const Comm& comm, const std::vector<OpenModel>& models,
                             const AnalysisOptions& options, const StoredFactors* stored, Journal& journal,
                             const Log& log, std::uint64_t memory)
    : comm_(comm), options_(options), stored_(stored), journal_(journal), log_(log), memory_(memory) {
  pairs_.emplace_back(std::vector{models[aligned_model], models[base_model]});
  for (std::size_t t = tuned_model; t < models.size(); ++t) {
    pairs_.emplace_back(std::vector{models[t], models[base_model]});
  }
}

/// The item as one of that pair of models alone.
Item AnalysisSteps::of_pair(const Item& item, std::size_t pair) const {
  const std::size_t role = pair == 0 ? std::size_t{aligned_model} : tuned_model + pair - 1;
  Item one = item;
  one.tuned = 0;
  one.matrix.tensors = {item.matrix.tensors[role], item.matrix.tensors[base_model]};
  const TensorInfo& tensor = pairs_[pair].tensor(one.matrix, aligned_model);
  one.dtype = tensor.dtype;
  one.quantised = tensor.quantised != nullptr;
  return one;
}

RecordKey AnalysisSteps::key(const Item& item) const {
  const TensorInfo& tensor = pairs_.front().tensor(item.matrix, aligned_model);
  return {tensor.name, item.matrix.number, Action::analyse, item.matrix.rows * item.matrix.cols, 0};
}

std::uint64_t AnalysisSteps::memory(const Item& item) const {
  return local_cost(item).memory;
}

/// The factors of Delta from the store. Throws Error(bad_input) if they are not those of these two models.
Solved AnalysisSteps::read_factors(const Item& item, const std::string& name, const DeltaSummary& summary,
                                   const PairContent& content) const {
  check_content(stored_->contents, name, item.matrix.number, content.aligned);
  const double norm = std::sqrt(summary.norm_squared);
  const double known = stored_->delta_norms.at({name, item.matrix.number});
  if (!(std::abs(norm - known) <= 1e-6 * known)) {
    fail(ExitCode::bad_input,
         "tensor '{}' matrix {}: |aligned - base| is {:.6g}, but {:.6g} in {}, whose factors are of another "
         "base; factor this pair first",
         name, item.matrix.number, norm, known, stored_->table->path);
  }
  const FactorIndices parts = stored_->names.find(name);
  Item one = item;
  one.matrix.tensors = {item.matrix.tensor(aligned_model)};
  one.matrix.tensors.insert(one.matrix.tensors.end(), parts.begin(), parts.end());
  one.stored_k = stored_->k;
  Solved solved = stored_->reader.read(one);
  solved.spectrum.where = item.where;
  solved.spectrum.delta_norm = norm;
  solved.content = content;
  return solved;
}

/// `image`: (T - base)^T U.
TunedMatrix AnalysisSteps::measure(const Factors& aligned, const Small& image, const Solved& tuned) const {
  TunedMatrix found;
  found.delta_norm = tuned.spectrum.delta_norm;
  if (aligned.u.cols() == 0 || tuned.factors.u.cols() == 0) return found;
  const Small left = aligned.u.transpose() * tuned.factors.u;
  const Small right = aligned.v.transpose() * tuned.factors.v;
  for (const Index k : options_.k) {
    found.share.push_back(subspace_share(image, k, found.delta_norm));
    found.overlap_left.push_back(subspace_overlap(left, k));
    found.overlap_right.push_back(subspace_overlap(right, k));
    if (!options_.angles) continue;
    found.angles_left.push_back(principal_angles(aligned.u, tuned.factors.u, k));
    found.angles_right.push_back(principal_angles(aligned.v, tuned.factors.v, k));
  }
  return found;
}

void AnalysisSteps::read(Parcel& parcel) {
  const Item item = of_pair(parcel.item, 0);
  parcel.record.key = key(parcel.item);
  Buffer base = pairs_.front().read_base(item.matrix);
  parcel.rows = pairs_.front().read_beside(item.matrix, base.bytes());
  parcel.record.timing.bytes_read = parcel.rows.bytes_read + base.size();
  parcel.edited.push_back(std::move(base));
  if (pairs_.size() > 1) pairs_[1].will_read(of_pair(parcel.item, 1).matrix);
}

bool AnalysisSteps::solve(Parcel& parcel) {
  const Timer start;
  Record& record = parcel.record;
  const std::string& name = record.key.name;
  const Buffer base = std::move(parcel.edited.front());
  parcel.edited.clear();
  record.analysis = Analysis{std::sqrt(parcel.rows.aligned_squares), {}};
  std::optional<Solved> aligned;
  if (stored_ != nullptr) {
    aligned = read_factors(parcel.item, name, parcel.rows.summary, parcel.rows.content);
  } else {
    aligned = lox::solve(parcel.item, name, parcel.rows, options_.solve);
  }
  if (!aligned) return false;
  record.spectrum = aligned->spectrum;
  record.aligned = aligned->content.aligned;
  parcel.rows = RowSlab();
  for (std::size_t pair = 1; pair < pairs_.size(); ++pair) {
    Item item = of_pair(parcel.item, pair);
    const Timer reading;
    RowSlab rows = pairs_[pair].read_beside(item.matrix, base.bytes());
    record.timing.bytes_read += rows.bytes_read;
    record.timing.read += reading.seconds();
    if (pair + 1 < pairs_.size()) pairs_[pair + 1].will_read(of_pair(parcel.item, pair + 1).matrix);
    Small image(item.matrix.cols, aligned->factors.u.cols());
    if (image.cols() > 0) {
      multiply_adjoint(view_of(rows.delta, item.matrix.rows, item.matrix.cols), aligned->factors.u, image);
    }
    const std::optional<Solved> tuned = lox::solve(item, name, rows, options_.solve);
    if (!tuned) {
      parcel.item.tried = item.tried;
      return false;
    }
    record.analysis->tuned.push_back(measure(aligned->factors, image, *tuned));
  }
  record.timing.svd = start.seconds();
  return true;
}

void AnalysisSteps::write(Parcel&) {}

void AnalysisSteps::commit(std::vector<Record>& records) {
  journal_.append(records);
}

GridSolver& AnalysisSteps::grid(std::size_t pair) {
  grids_.resize(pairs_.size());
  if (!grids_[pair]) {
    grids_[pair] = std::make_unique<GridSolver>(comm_, pairs_[pair], options_.solve, log_, memory_);
  }
  return *grids_[pair];
}

/// Delta's factors, and what its rows tell.
Solved AnalysisSteps::aligned_together(const Item& item, Record& record) {
  std::array<double, 1> squares{};
  const auto add_squares = [&](const RowSlab& rows, Index) {
    squares[0] += sum_of_squares(held_dtype(item), rows.aligned.bytes());
  };
  Solved solved;
  if (stored_ == nullptr) {
    solved = grid(0).solve(item, record.timing, times_, add_squares);
  } else {
    const RowRange mine = grid(0).my_rows(item.matrix.rows);
    DeltaSummary found;
    PairContent content;
    together(comm_, [&] {
      const Timer reading;
      for (Index done = 0, at_once = GridSolver::rows_at_once(item); done < mine.count; done += at_once) {
        const RowSlab rows =
            pairs_.front().read(item.matrix, mine.first + done, std::min(at_once, mine.count - done));
        found.add(rows.summary);
        content.add(rows.content);
        add_squares(rows, 0);
        record.timing.bytes_read += rows.bytes_read;
      }
      record.timing.read += reading.seconds();
    });
    for (Content* side : {&content.aligned, &content.base}) comm_.sum(std::span(side->sums));
    const DeltaSummary all = grid(0).sum(found);
    together(comm_, [&] { solved = read_factors(item, record.key.name, all, content); });
  }
  comm_.sum(squares);
  record.analysis = Analysis{std::sqrt(squares[0]), {}};
  return solved;
}

TunedMatrix AnalysisSteps::tuned_together(const Item& item, std::size_t pair, const Factors& aligned,
                                          Timing& timing) {
  Small image = Small::Zero(item.matrix.cols, aligned.u.cols());
  const auto project = [&](const RowSlab& rows, Index first) {
    const Index count = static_cast<Index>(rows.delta.floats().size()) / item.matrix.cols;
    if (count == 0 || image.cols() == 0) return;
    Small part(image.rows(), image.cols());
    const Small u = aligned.u.middleRows(first, count);
    multiply_adjoint(view_of(rows.delta, count, item.matrix.cols), u, part);
    image += part;
  };
  const Solved tuned = grid(pair).solve(of_pair(item, pair), timing, times_, project);
  if (image.cols() > 0) sum_panel(comm_.get(), image);
  return measure(aligned, image, tuned);
}

Record AnalysisSteps::solve_together(const Item& item) {
  Record record;
  record.key = key(item);
  const Solved aligned = aligned_together(of_pair(item, 0), record);
  record.spectrum = aligned.spectrum;
  record.aligned = aligned.content.aligned;
  for (std::size_t pair = 1; pair < pairs_.size(); ++pair) {
    record.analysis->tuned.push_back(tuned_together(item, pair, aligned.factors, record.timing));
  }
  times_.solving += record.timing.svd;
  times_.reading += record.timing.read;
  std::array<double, 1> read{static_cast<double>(record.timing.bytes_read)};
  comm_.sum(read);
  record.timing.bytes_read = static_cast<std::uint64_t>(read[0]);
  return record;
}

}  // namespace lox
