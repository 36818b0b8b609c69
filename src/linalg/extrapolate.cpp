// SPDX-License-Identifier: MIT
#include "lox/linalg/extrapolate.hpp"

#include "lox/base/simd.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace lox {
namespace {

constexpr std::size_t strip = 1024;
constexpr std::size_t lanes = 16;

struct Sums {
  std::array<double, lanes> edit{};
  std::array<double, lanes> dot{};
  std::array<std::int32_t, lanes> changed{};
};

LOX_SIMD void add_scaled(const float* aligned, const float* edit, float coef, std::size_t count, float* step,
                         float* sum) {
  for (std::size_t i = 0; i < count; ++i) {
    step[i] = coef * edit[i];
    sum[i] = aligned[i] + step[i];
  }
}

LOX_SIMD void sum_up(const float* aligned, const float* rounded, const float* step, std::size_t count,
                     Sums& sums) {
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (std::size_t l = 0; l < lanes; ++l) {
      const double s = step[i + l];
      const float difference = rounded[i + l] - aligned[i + l];
      sums.edit[l] += s * s;
      sums.dot[l] += s * static_cast<double>(difference);
      sums.changed[l] += difference != 0 ? 1 : 0;
    }
  }
  for (; i < count; ++i) {
    const double s = step[i];
    const float difference = rounded[i] - aligned[i];
    sums.edit[0] += s * s;
    sums.dot[0] += s * static_cast<double>(difference);
    sums.changed[0] += difference != 0 ? 1 : 0;
  }
}

EditSummary close(const Sums& sums) {
  EditSummary summary;
  for (std::size_t l = 0; l < lanes; ++l) {
    summary.edit_squared += sums.edit[l];
    summary.realised_dot += sums.dot[l];
    summary.changed += sums.changed[l];
  }
  summary.finite = std::isfinite(summary.realised_dot);
  return summary;
}

EditSummary add_edit_wide(std::byte* values, const float* edit, float coef, std::size_t count) {
  EditSummary summary;
  std::array<double, strip> aligned;
  for (std::size_t first = 0; first < count; first += strip) {
    const std::size_t n = std::min(strip, count - first);
    std::byte* const at = values + first * sizeof(double);
    to_double(DType::F64, at, n, aligned.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double step = coef * edit[first + i];
      const double sum = aligned[i] + step;
      summary.edit_squared += step * step;
      summary.realised_dot += step * (sum - aligned[i]);
      summary.changed += sum != aligned[i] ? 1 : 0;
      aligned[i] = sum;
    }
    from_double(DType::F64, aligned.data(), n, at);
  }
  summary.finite = std::isfinite(summary.realised_dot);
  return summary;
}

/// values += coef * edit, one rounding.
EditSummary add_edit(DType dtype, std::byte* values, const float* edit, float coef, std::size_t count) {
  if (dtype == DType::F64) return add_edit_wide(values, edit, coef, count);
  const auto width = static_cast<std::size_t>(dtype_bits(dtype)) / 8;
  Sums sums;
  std::array<float, strip> aligned;
  std::array<float, strip> step;
  std::array<float, strip> sum;
  for (std::size_t first = 0; first < count; first += strip) {
    const std::size_t n = std::min(strip, count - first);
    std::byte* const at = values + first * width;
    to_float(dtype, at, n, aligned.data());
    add_scaled(aligned.data(), edit + first, coef, n, step.data(), sum.data());
    from_float(dtype, sum.data(), n, at);
    to_float(dtype, at, n, sum.data());
    sum_up(aligned.data(), sum.data(), step.data(), n, sums);
  }
  return close(sums);
}

}  // namespace

void EditSummary::add(const EditSummary& other) {
  edit_squared += other.edit_squared;
  realised_dot += other.realised_dot;
  changed += other.changed;
  finite = finite && other.finite;
}

EditSummary extrapolate(DType dtype, std::span<std::byte> rows, const Panel& u,
                        const std::vector<double>& sigma, const Panel& v, double coef) {
  const auto width = static_cast<std::size_t>(dtype_bits(dtype)) / 8;
  const auto cols = static_cast<std::size_t>(v.rows());
  const Panel scaled =
      u * Eigen::Map<const Eigen::VectorXd>(sigma.data(), u.cols()).cast<float>().asDiagonal();
  // Blocks of rows whose edit (floats) stays in the cache between the product and the sum.
  const Index block = std::max<Index>(1, (Index{1} << 20) / std::max<Index>(1, v.rows()));
  RowMajorMatrix edit;
  EditSummary summary;
  for (Index first = 0; first < u.rows(); first += block) {
    const Index count = std::min(block, u.rows() - first);
    edit.noalias() = scaled.middleRows(first, count) * v.transpose();
    std::vector<EditSummary> parts(static_cast<std::size_t>(count));
#pragma omp parallel for schedule(static)
    for (Index row = 0; row < count; ++row) {
      std::byte* const at = rows.data() + static_cast<std::size_t>(first + row) * cols * width;
      parts[static_cast<std::size_t>(row)] =
          add_edit(dtype, at, edit.data() + row * v.rows(), static_cast<float>(coef), cols);
    }
    for (const EditSummary& part : parts) summary.add(part);
  }
  return summary;
}

EditSummary extrapolate_full(DType dtype, std::span<std::byte> values, std::span<const float> delta,
                             double coef) {
  constexpr std::size_t chunk = 1 << 16;
  const auto width = static_cast<std::size_t>(dtype_bits(dtype)) / 8;
  std::vector<EditSummary> parts((delta.size() + chunk - 1) / chunk);
#pragma omp parallel for schedule(static)
  for (std::size_t c = 0; c < parts.size(); ++c) {
    const std::size_t first = c * chunk;
    parts[c] = add_edit(dtype, values.data() + first * width, delta.data() + first, static_cast<float>(coef),
                        std::min(chunk, delta.size() - first));
  }
  EditSummary summary;
  for (const EditSummary& part : parts) summary.add(part);
  return summary;
}

}  // namespace lox
