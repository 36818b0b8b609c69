// SPDX-License-Identifier: MIT
#include "lox/linalg/extrapolate.hpp"

#include "lox/base/simd.hpp"
#include "lox/linalg/lanes.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace lox {
namespace {

/// Lanes keep the order of the sums fixed for any vector width.
struct Sums {
  Doubles edit[2]{};
  Doubles dot[2]{};
  Counts changed{};
};

/// The step of a row of W: sum of r weights times rows of `factors`, `stride` entries apart.
struct Step {
  const float* weights;
  const float* factors;
  std::size_t stride;
  Index r;
};

/// Adds the step to `lanes` entries, one rounding.
template <class Type>
LOX_INLINE inline void add_lanes(std::byte* values, const Step& step, const float* factors, Sums& sums) {
  Floats add{};
#pragma GCC unroll 8
  for (Index i = 0; i < step.r; ++i) {
    Floats row;
    __builtin_memcpy(&row, factors + static_cast<std::size_t>(i) * step.stride, sizeof(row));
    add += step.weights[i] * row;
  }
  Floats before;
  Type::load(values, before);
  Floats after = before + add;
  Type::store(values, after);
  const Floats difference = after - before;
  Doubles edit[2];
  Doubles realised[2];
  widen_halves(add, edit[0], edit[1]);
  widen_halves(difference, realised[0], realised[1]);
  sums.edit[0] += edit[0] * edit[0];
  sums.edit[1] += edit[1] * edit[1];
  sums.dot[0] += edit[0] * realised[0];
  sums.dot[1] += edit[1] * realised[1];
  sums.changed -= difference != 0;  // true is -1
}

template <class Type>
LOX_INLINE inline void add_step(std::byte* values, const Step& step, std::size_t count, Sums& sums) {
  constexpr std::size_t width = sizeof(typename Type::Bits) / lanes;
  Sums local = sums;  // out of reach of the stores through `values`
  std::size_t first = 0;
  for (; first + lanes <= count; first += lanes) {
    add_lanes<Type>(values + first * width, step, step.factors + first, local);
  }
  if (first < count) {  // the same on a copy, the lanes beyond being zero
    std::byte entries[lanes * width] = {};
    std::memcpy(entries, values + first * width, (count - first) * width);
    float factors[lanes] = {};
    for (std::size_t l = 0; l < count - first; ++l) {
      for (Index i = 0; i < step.r; ++i) {
        factors[l] += step.weights[i] * step.factors[static_cast<std::size_t>(i) * step.stride + first + l];
      }
    }
    const float one = 1;
    add_lanes<Type>(entries, {&one, factors, 0, 1}, factors, local);
    std::memcpy(values + first * width, entries, (count - first) * width);
  }
  sums = local;
}

LOX_SIMD void add_step_bf16(std::byte* values, const Step& step, std::size_t count, Sums& sums) {
  add_step<Bf16>(values, step, count, sums);
}
LOX_SIMD void add_step_f16(std::byte* values, const Step& step, std::size_t count, Sums& sums) {
  add_step<F16>(values, step, count, sums);
}
LOX_SIMD void add_step_f32(std::byte* values, const Step& step, std::size_t count, Sums& sums) {
  add_step<F32>(values, step, count, sums);
}

EditSummary close(const Sums& sums) {
  EditSummary summary;
  for (std::size_t l = 0; l < lanes; ++l) {
    summary.edit_squared += lane(sums.edit, l);
    summary.realised_dot += lane(sums.dot, l);
    summary.changed += sums.changed[l];
  }
  summary.finite = std::isfinite(summary.realised_dot);
  return summary;
}

EditSummary add_step_f64(std::byte* values, const Step& step, std::size_t count) {
  EditSummary summary;
  for (std::size_t j = 0; j < count; ++j) {
    double add = 0;
    for (Index i = 0; i < step.r; ++i) {
      add += static_cast<double>(step.weights[i]) *
             static_cast<double>(step.factors[static_cast<std::size_t>(i) * step.stride + j]);
    }
    double before = 0;
    std::memcpy(&before, values + j * sizeof(double), sizeof(double));
    const double after = before + add;
    std::memcpy(values + j * sizeof(double), &after, sizeof(double));
    summary.edit_squared += add * add;
    summary.realised_dot += add * (after - before);
    summary.changed += after != before ? 1 : 0;
  }
  summary.finite = std::isfinite(summary.realised_dot);
  return summary;
}

EditSummary add_step(DType dtype, std::byte* values, const Step& step, std::size_t count) {
  Sums sums;
  switch (dtype) {
    case DType::BF16:
      add_step_bf16(values, step, count, sums);
      break;
    case DType::F16:
      add_step_f16(values, step, count, sums);
      break;
    case DType::F32:
      add_step_f32(values, step, count, sums);
      break;
    default:
      return add_step_f64(values, step, count);
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

namespace {

EditSummary sum_up(const std::vector<EditSummary>& parts) {
  EditSummary summary;
  for (const EditSummary& part : parts) summary.add(part);
  return summary;
}

/// Values of the dtype plus steps in double, one rounding.
EditSummary add_in_double(DType dtype, std::byte* values, const double* steps, std::size_t count,
                          std::vector<double>& before, std::vector<double>& after) {
  before.resize(count);
  after.resize(count);
  to_double(dtype, values, count, before.data());
  for (std::size_t j = 0; j < count; ++j) after[j] = before[j] + steps[j];
  from_double(dtype, after.data(), count, values);
  to_double(dtype, values, count, after.data());
  EditSummary summary;
  for (std::size_t j = 0; j < count; ++j) {
    summary.edit_squared += steps[j] * steps[j];
    summary.realised_dot += steps[j] * (after[j] - before[j]);
    summary.changed += after[j] != before[j] ? 1 : 0;
  }
  summary.finite = std::isfinite(summary.realised_dot);
  return summary;
}

EditSummary extrapolate_in_double(DType dtype, std::span<std::byte> rows, const Small& weights,
                                  const Small& v) {
  using RowMajorDoubles = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const std::size_t width = element_bytes(dtype);
  const auto cols = static_cast<std::size_t>(v.rows());
  const Index block = extrapolation_block(dtype, v.rows());
  RowMajorDoubles product;
  EditSummary summary;
  for (Index first = 0; first < weights.rows(); first += block) {
    const Index count = std::min(block, weights.rows() - first);
    product.noalias() = weights.middleRows(first, count) * v.transpose();
    std::vector<EditSummary> parts(static_cast<std::size_t>(count));
#pragma omp parallel
    {
      std::vector<double> before;
      std::vector<double> after;
#pragma omp for schedule(static)
      for (Index row = 0; row < count; ++row) {
        std::byte* const at = rows.data() + static_cast<std::size_t>(first + row) * cols * width;
        parts[static_cast<std::size_t>(row)] =
            add_in_double(dtype, at, product.data() + row * v.rows(), cols, before, after);
      }
    }
    summary.add(sum_up(parts));
  }
  return summary;
}

}  // namespace

Index extrapolation_block(DType dtype, Index cols) {
  const Index entries = Index{1} << (dtype_bits(dtype) > 16 ? 19 : 20);
  return std::max<Index>(1, entries / std::max<Index>(1, cols));
}

EditSummary extrapolate(DType dtype, std::span<std::byte> rows, const Small& u,
                        const std::vector<double>& sigma, const Small& v, double coef) {
  constexpr Index few = 16;  // triplets up to which the sum over them is formed along with the rest
  const std::size_t width = element_bytes(dtype);
  const auto cols = static_cast<std::size_t>(v.rows());
  const Small wide_weights =
      u * (coef * Eigen::Map<const Eigen::VectorXd>(sigma.data(), u.cols())).asDiagonal();
  if (width > 2) return extrapolate_in_double(dtype, rows, wide_weights, v);
  const RowMajorMatrix weights = wide_weights.cast<float>();
  const RowMajorMatrix factors = v.transpose().cast<float>();
  // With many triplets, blocks of rows whose steps stay in the cache between the product and the sum.
  const Index block = u.cols() <= few ? std::max<Index>(1, u.rows()) : extrapolation_block(dtype, v.rows());
  const float one = 1;
  RowMajorMatrix product;
  EditSummary summary;
  for (Index first = 0; first < u.rows(); first += block) {
    const Index count = std::min(block, u.rows() - first);
    if (u.cols() > few) product.noalias() = weights.middleRows(first, count) * factors;
    std::vector<EditSummary> parts(static_cast<std::size_t>(count));
#pragma omp parallel for schedule(static)
    for (Index row = 0; row < count; ++row) {
      std::byte* const at = rows.data() + static_cast<std::size_t>(first + row) * cols * width;
      const Step step = u.cols() > few
                            ? Step{&one, product.data() + row * v.rows(), cols, 1}
                            : Step{weights.data() + (first + row) * u.cols(), factors.data(), cols, u.cols()};
      parts[static_cast<std::size_t>(row)] = add_step(dtype, at, step, cols);
    }
    summary.add(sum_up(parts));
  }
  return summary;
}

EditSummary extrapolate_full(DType dtype, std::span<std::byte> values, std::span<const float> delta,
                             double coef) {
  constexpr std::size_t chunk = 1 << 16;
  const std::size_t width = element_bytes(dtype);
  const auto weight = static_cast<float>(coef);
  std::vector<EditSummary> parts((delta.size() + chunk - 1) / chunk);
#pragma omp parallel for schedule(static)
  for (std::size_t c = 0; c < parts.size(); ++c) {
    const std::size_t first = c * chunk;
    parts[c] = add_step(dtype, values.data() + first * width, {&weight, delta.data() + first, 0, 1},
                        std::min(chunk, delta.size() - first));
  }
  return sum_up(parts);
}

}  // namespace lox
