// SPDX-License-Identifier: MIT
#include "lox/run/solve.hpp"

#include "lox/base/error.hpp"
#include "lox/base/random.hpp"
#include "lox/base/units.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

/// Factors are solved without knowing what they will be multiplied with: exact enough for twice the usual
/// coef, and nearly so for ten times as much.
constexpr double usual_coef = 2.5;

/// The error of Delta_k, as |.|_F, below which the rounding of the output hides nearly all of it.
double wanted_delta_error(DType dtype, double entries, const DeltaSummary& summary) {
  if (summary.sampled == 0) return 0;
  // The delta of F64 models is float: it has no more digits than one of F32.
  const double unit = dtype == DType::F64 ? 0x1p29 : 1;
  // An output entry differs from the exact one's rounding with a chance of about 2 |error| / ulp. At an rms
  // error of 1/4000 of the harmonic mean of all ulps, under one entry in a thousand does.
  const double typical = unit * summary.sampled / summary.inverse_ulps;
  const double error = typical / 4000 / usual_coef * std::sqrt(entries);
  return std::min(error, 1e-3 * std::sqrt(summary.norm_squared));
}

}  // namespace

Solved begin_solved(const Item& item, const std::string& tensor, const DeltaSummary& summary) {
  // Beside larger ones, differences that vanish are nothing; alone, they would be lost without a word.
  if (summary.vanished && summary.largest < 0x1p-100F) {
    fail(ExitCode::bad_input,
         "tensor '{}': its F64 values differ from the base model's by less than float can carry (at most "
         "{:.1e}); --exclude it",
         tensor, summary.largest);
  }
  const Index least = std::min(item.matrix.rows, item.matrix.cols);
  Solved solved;
  solved.factors.u = Small(item.matrix.rows, 0);
  solved.factors.v = Small(item.matrix.cols, 0);
  solved.spectrum.where = item.where;
  solved.spectrum.method = item.method;
  solved.spectrum.k = item.k == full_rank ? least : std::min(item.k, least);
  solved.spectrum.delta_norm = std::sqrt(summary.norm_squared);
  if (item.quantised || item.base_quantised)
    solved.spectrum.quantisation_noise = std::sqrt(summary.noise_squared);
  solved.largest = summary.largest;
  return solved;
}

SvdOptions svd_options(const Item& item, const SolveOptions& asked, const DeltaSummary& summary,
                       const PairContent& content, double scale) {
  const auto entries = static_cast<double>(item.matrix.rows * item.matrix.cols);
  SvdOptions options;
  options.k = std::min({asked.k, item.matrix.rows, item.matrix.cols});
  options.method = item.method;
  options.tolerance = asked.tolerance;
  options.delta_error = wanted_delta_error(item.dtype, entries, summary) / scale;
  options.norm_squared = summary.norm_squared / scale / scale;
  options.proof = asked.proof;
  options.wide = dtype_bits(item.dtype) > 16;
  options.every_k = asked.every_k ? EveryK::named : EveryK::ignored;
  // By what the matrices hold, so that nobody knows the start before the delta is fixed; not by their name:
  // equal ones (tied embeddings stored twice) get equal edits.
  options.key = asked.seed;
  for (const Content* side : {&content.aligned, &content.base}) {
    for (const std::uint64_t part : side->sums) options.key = mix64(options.key ^ part);
  }
  return options;
}

void take_svd(Solved& solved, const Item& item, const std::string& tensor, SvdResult svd, double scale,
              double tolerance) {
  for (double& sigma : svd.factors.sigma) sigma *= scale;
  Spectrum& spectrum = solved.spectrum;
  spectrum.method = svd.method;
  spectrum.certificate = svd.certificate;
  spectrum.missed = svd.missed;
  spectrum.settled = svd.settled;
  spectrum.iterations = svd.iterations;
  spectrum.sigma = svd.factors.sigma;
  spectrum.residuals = std::move(svd.residuals);
  for (const Unsettled& open : svd.unsettled) {
    if (open.k < spectrum.k) spectrum.open.push_back(open);
  }
  spectrum.sigma.resize(static_cast<std::size_t>(spectrum.k), 0.0);
  if (!svd.certificate.holds(tolerance)) {
    fail(ExitCode::not_certified,
         "tensor '{}': residual {:.2e} or orthogonality {:.2e} of the singular triplets is above the "
         "tolerance {:.2e}, "
         "by the {} method; raise --tolerance",
         tensor, svd.certificate.residual, svd.certificate.orthogonality, tolerance, method_name(svd.method));
  }
  solved.factors = std::move(svd.factors);
  const Index extra = item.matrix.rows - item.matrix.paired({0, item.matrix.rows});
  if (extra > 0) solved.factors.u.bottomRows(extra).setZero();  // they are that, but for arithmetic
  round_factors(solved.factors, dtype_bits(item.dtype) > 16);
  if (!std::all_of(solved.factors.sigma.begin(), solved.factors.sigma.end(),
                   [](double sigma) { return std::isfinite(sigma); })) {
    fail(ExitCode::bad_input, "tensor '{}': the singular values of its Delta are beyond float; --exclude it",
         tensor);
  }
}

std::string no_memory_for_exact(const std::string& tensor, std::uint64_t needed, std::uint64_t there) {
  return to_line(
      "tensor '{}': the Krylov method did not reach what --tolerance and --proof ask for, and the exact one "
      "needs "
      "{} a rank, but a rank has {}; use more ranks, give each more (--memory), raise --tolerance, or "
      "--exclude it",
      tensor, format_bytes(static_cast<double>(needed)), format_bytes(static_cast<double>(there)));
}

std::optional<Solved> solve(Item& item, const std::string& tensor, RowSlab& rows,
                            const SolveOptions& options) {
  Solved solved = begin_solved(item, tensor, rows.summary);
  solved.content = rows.content;
  if (item.method == Method::full && !solved.is_zero()) return solved;
  if (!solved.is_zero()) {
    const double scale = rescale(rows.delta.floats(), rows.summary.largest);
    SvdOptions asked = svd_options(item, options, rows.summary, rows.content, scale);
    const Cost cost = local_cost(item);
    asked.fall_back = cost.exact_memory <= cost.memory;
    SvdResult svd =
        truncated_svd(RowMajorView(rows.delta.floats().data(), item.matrix.rows, item.matrix.cols), asked);
    if (svd.failed) {
      item.tried = svd.iterations;
      return std::nullopt;
    }
    svd.iterations += item.tried;
    take_svd(solved, item, tensor, std::move(svd), scale, options.tolerance);
  }
  rows.delta = Buffer();
  return solved;
}

}  // namespace lox
