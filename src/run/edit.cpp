// SPDX-License-Identifier: MIT
#include "lox/run/edit.hpp"

#include "lox/base/error.hpp"
#include "lox/base/random.hpp"
#include "lox/base/timer.hpp"
#include "lox/base/units.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

/// The error of Delta_k, as |.|_F, below which the rounding of the output hides nearly all of it.
double wanted_delta_error(const Job& job, DType dtype, double entries, const DeltaSummary& summary) {
  if (summary.sampled == 0) return 0;
  // The delta of F64 models is float: it has no more digits than one of F32.
  const double unit = dtype == DType::F64 ? 0x1p29 : 1;
  // An output entry differs from the exact one's rounding with a chance of about 2 |error| / ulp. At an rms
  // error of 1/4000 of the harmonic mean of all ulps, under one entry in a thousand does.
  const double typical = unit * summary.sampled / summary.inverse_ulps;
  const double error = typical / 4000 / std::max(job.coef, 1e-3) * std::sqrt(entries);
  return std::min(error, 1e-3 * std::sqrt(summary.norm_squared));
}

}  // namespace

TensorRecord start_record(const WorkItem& item, const TensorInfo& tensor, const Job& job,
                          const DeltaSummary& summary) {
  TensorRecord record;
  record.name = tensor.name;
  record.matrix = item.matrix;
  record.where = item.where;
  record.method = item.method;
  record.entries = item.rows * item.cols;
  const std::int64_t least = std::min(item.rows, item.cols);
  record.k = job.k == 0 ? least : std::min<std::int64_t>(job.k, least);
  add_delta(record, summary);
  return record;
}

void add_delta(TensorRecord& record, const DeltaSummary& summary) {
  // Beside larger ones, differences that vanish are nothing; alone, they would be lost without a word.
  if (summary.vanished && summary.largest < 0x1p-100F) {
    fail(ExitCode::bad_input,
         "tensor '{}': its F64 values differ from the base model's by less than float can carry (at most "
         "{:.1e}); --exclude it",
         record.name, summary.largest);
  }
  record.delta_norm = std::sqrt(summary.norm_squared);
  // Nothing to add: the aligned bytes stay.
  record.action = summary.largest == 0 ? Action::copy : Action::edit;
}

SvdOptions svd_options(const TensorRecord& record, const WorkItem& item, const TensorInfo& tensor,
                       const Job& job, const DeltaSummary& summary, const PairContent& content,
                       double scale) {
  SvdOptions options;
  options.k = record.k;
  options.method = item.method;
  options.tolerance = job.tolerance;
  options.delta_error =
      wanted_delta_error(job, tensor.dtype, static_cast<double>(record.entries), summary) / scale;
  options.norm_squared = summary.norm_squared / scale / scale;
  options.proof = job.proof;
  options.wide = dtype_bits(tensor.dtype) > 16;
  // By what the matrices hold, so that nobody knows the start before the delta is fixed; not by their name:
  // equal ones (tied embeddings stored twice) get equal edits.
  options.key = job.seed;
  for (const Content* side : {&content.aligned, &content.base}) {
    for (const std::uint64_t part : side->sums) options.key = mix64(options.key ^ part);
  }
  return options;
}

void add_svd(TensorRecord& record, const Job& job, SvdResult& svd, double scale) {
  for (double& sigma : svd.factors.sigma) sigma *= scale;
  record.method = svd.method;
  record.certificate = svd.certificate;
  record.missed = svd.missed;
  record.settled = svd.settled;
  record.iterations = svd.iterations;
  record.sigma = svd.factors.sigma;
  record.sigma.resize(static_cast<std::size_t>(record.k), 0.0);
  if (!svd.certificate.holds(job.tolerance)) {
    fail(ExitCode::not_certified,
         "tensor '{}': residual {:.2e} or orthogonality {:.2e} of the singular triplets is above the "
         "tolerance "
         "{:.2e}, by the {} method; raise --tolerance",
         record.name, svd.certificate.residual, svd.certificate.orthogonality, job.tolerance,
         method_name(svd.method));
  }
}

std::string no_memory_for_exact(const TensorInfo& tensor, std::uint64_t needed, std::uint64_t there) {
  return to_line(
      "tensor '{}': the Krylov method did not reach what --tolerance and --proof ask for, and the exact one "
      "needs "
      "{} a rank, but a rank has {}; use more ranks, give each more (--memory), raise --tolerance, or "
      "--exclude it",
      tensor.name, format_bytes(static_cast<double>(needed)), format_bytes(static_cast<double>(there)));
}

void add_edit(TensorRecord& record, const TensorInfo& tensor, const EditSummary& edit) {
  if (!edit.finite) {
    fail(ExitCode::bad_input,
         "tensor '{}': the edit leaves the range of {}; use a smaller --coef, or --exclude it", tensor.name,
         dtype_name(tensor.dtype));
  }
  record.edit_norm = std::sqrt(edit.edit_squared);
  record.realised_dot = edit.realised_dot;
  record.changed = edit.changed;
}

std::optional<TensorRecord> edit_matrix(WorkItem& item, const TensorInfo& tensor, RowSlab& slab,
                                        const Job& job) {
  const Timer start;
  TensorRecord record = start_record(item, tensor, job, slab.summary);
  if (record.action == Action::edit && item.method == Method::full) {
    add_edit(record, tensor,
             extrapolate_full(tensor.dtype, slab.aligned.bytes(), slab.delta.floats(), job.coef));
  } else if (record.action == Action::edit) {
    const double scale = rescale(slab.delta.floats(), slab.summary.largest);
    SvdOptions options = svd_options(record, item, tensor, job, slab.summary, slab.content, scale);
    const Cost cost = local_cost(item);
    options.fall_back = cost.exact_memory <= cost.memory;
    SvdResult svd = truncated_svd(RowMajorView(slab.delta.floats().data(), item.rows, item.cols), options);
    slab.delta = Buffer();
    if (svd.failed) {
      item.tried = svd.iterations;
      return std::nullopt;
    }
    svd.iterations += item.tried;
    add_svd(record, job, svd, scale);
    add_edit(record, tensor,
             extrapolate(tensor.dtype, slab.aligned.bytes(), svd.factors.u, svd.factors.sigma, svd.factors.v,
                         job.coef));
  }
  slab.delta = Buffer();
  record.seconds_svd = start.seconds();
  return record;
}

}  // namespace lox
