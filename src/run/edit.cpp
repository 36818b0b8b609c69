// SPDX-License-Identifier: MIT
#include "lox/run/edit.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "lox/base/error.hpp"
#include "lox/base/random.hpp"
#include "lox/linalg/delta.hpp"
#include "lox/linalg/extrapolate.hpp"

namespace lox {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void finish_numbers(TensorRecord& record, const EditSummary& edit, const MatrixPair& pair) {
  if (!edit.finite) {
    fail(ExitCode::bad_input, "tensor '{}': the edit leaves the range of {}; use a smaller --coef, or --exclude it",
         printable(pair.name), dtype_name(pair.aligned_dtype));
  }
  record.edit_norm = std::sqrt(edit.edit_squared);
  record.realised_dot = edit.realised_dot;
  record.changed = edit.changed;
}

}  // namespace

void fail_non_finite(const std::string& name, DType aligned_type, std::span<const std::byte> aligned, DType base_type,
                     std::span<const std::byte> base, std::int64_t first_index) {
  const auto look = [&](const char* model, DType dtype, std::span<const std::byte> bytes) {
    const std::size_t count = bytes.size() * 8 / static_cast<std::size_t>(dtype_bits(dtype));
    const auto found = find_non_finite(dtype, bytes.data(), count);
    if (!found) return;
    double value = 0;
    const std::size_t width = static_cast<std::size_t>(dtype_bits(dtype)) / 8;
    to_double(dtype, bytes.data() + *found * width, 1, &value);
    fail(ExitCode::bad_input, "tensor '{}' of the {} model holds {} at index {}; repair it, or leave it out with --exclude",
         printable(name), model, std::isnan(value) ? "NaN" : "Inf", first_index + static_cast<std::int64_t>(*found));
  };
  look("aligned", aligned_type, aligned);
  look("base", base_type, base);
  fail(ExitCode::bad_input, "tensor '{}': the difference of the two models overflows; leave it out with --exclude",
       printable(name));
}

double wanted_delta_error(const Job& job, DType dtype, double entries, double aligned_norm, double delta_norm) {
  // An output entry differs from the exact one's rounding with a chance of about 2 |error| / ulp. At an rms error of
  // 1/2000 of the typical ulp, under one entry in a thousand does.
  const double typical = ulp(dtype, aligned_norm / std::sqrt(entries));
  const double error = typical / 2000 / std::max(job.coef, 1e-3) * std::sqrt(entries);
  return std::clamp(error, 2e-6 * delta_norm, 1e-3 * delta_norm);
}

void fill_numbers(TensorRecord& record, const Job& job, const SvdResult& svd, double scale) {
  record.method = svd.method;
  record.certificate = svd.certificate;
  record.iterations = svd.iterations;
  record.sigma = svd.factors.sigma;
  for (double& sigma : record.sigma) sigma *= scale;
  record.sigma.resize(static_cast<std::size_t>(record.k), 0.0);
  if (!(svd.certificate <= job.tolerance)) {
    fail(ExitCode::not_certified,
         "tensor '{}': residual {:.2e} of the singular triplets is above the tolerance {:.2e}, by the {} method; raise "
         "--tolerance",
         printable(record.name), svd.certificate, job.tolerance, method_name(svd.method));
  }
}

TensorRecord edit_matrix(MatrixPair& pair, const Job& job, Method method) {
  const auto start = std::chrono::steady_clock::now();
  TensorRecord record;
  record.name = pair.name;
  record.matrix = pair.matrix;
  record.action = Action::edit;
  record.entries = pair.rows * pair.cols;
  record.k = std::min<std::int64_t>(job.k == 0 ? record.entries : job.k, std::min(pair.rows, pair.cols));

  Buffer delta(static_cast<std::size_t>(record.entries) * sizeof(float));
  const DeltaSummary summary =
      subtract(pair.aligned_dtype, pair.aligned.data(), pair.base_dtype, pair.base.data(), delta.floats());
  if (!summary.finite) {
    fail_non_finite(pair.name, pair.aligned_dtype, pair.aligned.bytes(), pair.base_dtype, pair.base.bytes(),
                    pair.matrix * record.entries);
  }
  pair.base = Buffer();
  record.delta_norm = std::sqrt(summary.norm_squared);
  if (summary.largest == 0) {
    record.action = Action::copy;
  } else if (method == Method::full) {
    record.method = Method::full;
    finish_numbers(record, extrapolate_full(pair.aligned_dtype, pair.aligned.bytes(), delta.floats(), job.coef), pair);
  } else {
    const double scale = rescale(delta.floats(), summary.largest);
    SvdOptions options;
    options.k = record.k;
    options.method = method;
    options.tolerance = job.tolerance;
    options.delta_error = wanted_delta_error(job, pair.aligned_dtype, static_cast<double>(record.entries),
                                             std::sqrt(summary.aligned_norm_squared), record.delta_norm) /
                          scale;
    // Keyed by the shape, not the name: equal matrices (tied embeddings stored twice) get equal edits.
    options.key = stream_key(job.seed, fmt::format("{} x {}", pair.rows, pair.cols));
    SvdResult svd = truncated_svd(RowMajorView(delta.floats().data(), pair.rows, pair.cols), options);
    delta = Buffer();
    fill_numbers(record, job, svd, scale);
    svd.factors.sigma.assign(record.sigma.begin(), record.sigma.begin() + svd.factors.u.cols());
    finish_numbers(record,
                   extrapolate(pair.aligned_dtype, pair.aligned.bytes(), svd.factors.u, svd.factors.sigma,
                               svd.factors.v, job.coef),
                   pair);
  }
  record.seconds_svd = seconds_since(start);
  return record;
}

}  // namespace lox
