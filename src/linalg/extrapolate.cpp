// SPDX-License-Identifier: MIT
#include "lox/linalg/extrapolate.hpp"

#include "lox/linalg/lanes.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace lox {
namespace {

/// Floats that are held as such and rounded to BF16.
template <std::size_t N>
struct F32ToBf16 {
  static constexpr std::size_t width = 4;
  LOX_INLINE static void load(const std::byte* from, Floats<N>& values) { F32<N>::load(from, values); }
  LOX_INLINE static void store(std::byte* to, Floats<N>& values) {
    round(values);
    F32<N>::store(to, values);
  }
  LOX_INLINE static void round(Floats<N>& values) {
    Words<N> words;
    narrow_bf16<Words<N>, Floats<N>>(values, words);
    widen_bf16<Words<N>, Floats<N>>(words, values);
  }
};

/// What an entry is when nothing is added to it.
template <std::size_t N, class Type>
LOX_INLINE inline void round_alone(Floats<N>& values) {
  if constexpr (requires { Type::round(values); }) Type::round(values);
}

/// Lanes keep the order of the sums fixed for any vector width.
template <std::size_t N>
struct Sums {
  typename Vectors<N>::Doubles edit[2 * Vectors<N>::parts]{};
  typename Vectors<N>::Doubles dot[2 * Vectors<N>::parts]{};
  typename Vectors<N>::Counts changed[Vectors<N>::parts]{};
};

/// The step of a row of W: sum of r weights times rows of `factors`, `stride` entries apart.
struct Step {
  const float* weights;
  const float* factors;
  std::size_t stride;
  Index r;
};

/// Adds to N entries, lanes [part * N, part * N + N), one rounding.
template <std::size_t N, class Type>
LOX_INLINE inline void add_part(std::byte* values, const Floats<N>& add, std::size_t part, Sums<N>& sums) {
  Floats<N> before;
  Type::load(values, before);
  Floats<N> after = before + add;
  Type::store(values, after);
  round_alone<N, Type>(before);
  const Floats<N> difference = after - before;
  typename Vectors<N>::Doubles edit[2];
  typename Vectors<N>::Doubles realised[2];
  widen_halves<N>(add, edit[0], edit[1]);
  widen_halves<N>(difference, realised[0], realised[1]);
  for (std::size_t h = 0; h < 2; ++h) {
    sums.edit[2 * part + h] += edit[h] * edit[h];
    sums.dot[2 * part + h] += edit[h] * realised[h];
  }
  sums.changed[part] -= difference != 0;  // true is -1
}

/// N entries of the step.
template <std::size_t N>
LOX_INLINE inline void sum_up(const Step& step, const float* factors, Floats<N>& add) {
#pragma GCC unroll 8
  for (Index i = 0; i < step.r; ++i) {
    Floats<N> row;
    __builtin_memcpy(&row, factors + static_cast<std::size_t>(i) * step.stride, sizeof(row));
    add += step.weights[i] * row;
  }
}

/// Adds the step to `lanes` entries.
template <std::size_t N, class Type>
LOX_INLINE inline void add_lanes(std::byte* values, const Step& step, const float* factors, Sums<N>& sums) {
#pragma GCC unroll 4
  for (std::size_t part = 0; part < Vectors<N>::parts; ++part) {
    Floats<N> add{};
    sum_up<N>(step, factors + part * N, add);
    add_part<N, Type>(values + part * N * Type::width, add, part, sums);
  }
}

/// Adds the step to `count` entries of a type.
template <template <std::size_t> class Type>
struct AddStep {
  template <std::size_t N>
  LOX_INLINE static EditSummary run(std::byte* values, const Step& asked, std::size_t count) {
    constexpr std::size_t width = Type<N>::width;
    const Step step = asked;  // it and the sums are out of reach of the stores through `values`
    Sums<N> sums;
    std::size_t first = 0;
    for (; first + lanes <= count; first += lanes) {
      add_lanes<N, Type<N>>(values + first * width, step, step.factors + first, sums);
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
      add_lanes<N, Type<N>>(entries, {&one, factors, 0, 1}, factors, sums);
      std::memcpy(values + first * width, entries, (count - first) * width);
    }
    constexpr std::size_t half = N / 2;
    EditSummary summary;
    for (std::size_t l = 0; l < lanes; ++l) {
      summary.edit_squared += sums.edit[l / half][l % half];
      summary.realised_dot += sums.dot[l / half][l % half];
      summary.changed += sums.changed[l / N][l % N];
    }
    summary.finite = std::isfinite(summary.realised_dot);
    return summary;
  }
};

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

EditSummary add_step(EntryTypes types, std::byte* values, const Step& step, std::size_t count) {
  if (types.held != types.output) return run_loop<AddStep<F32ToBf16>>(values, step, count);
  switch (types.held) {
    case DType::BF16:
      return run_loop<AddStep<Bf16>>(values, step, count);
    case DType::F16:
      return run_loop<AddStep<F16>>(values, step, count);
    case DType::F32:
      return run_loop<AddStep<F32>>(values, step, count);
    default:
      return add_step_f64(values, step, count);
  }
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
        if (weights.row(first + row).isZero(0)) continue;
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

EditSummary extrapolate(EntryTypes types, std::span<std::byte> rows, const Small& u,
                        const std::vector<double>& sigma, const Small& v, double coef) {
  constexpr Index few = 16;  // triplets up to which the sum over them is formed along with the rest
  const std::size_t width = element_bytes(types.held);
  const auto cols = static_cast<std::size_t>(v.rows());
  const Small wide_weights =
      u * (coef * Eigen::Map<const Eigen::VectorXd>(sigma.data(), u.cols())).asDiagonal();
  if (dtype_bits(types.output) > 16) return extrapolate_in_double(types.output, rows, wide_weights, v);
  const RowMajorMatrix weights = wide_weights.cast<float>();
  const RowMajorMatrix factors = v.transpose().cast<float>();
  // With many triplets, blocks of rows whose steps stay in the cache between the product and the sum.
  const Index block =
      u.cols() <= few ? std::max<Index>(1, u.rows()) : extrapolation_block(types.output, v.rows());
  const float one = 1;
  RowMajorMatrix product;
  EditSummary summary;
  for (Index first = 0; first < u.rows(); first += block) {
    const Index count = std::min(block, u.rows() - first);
    if (u.cols() > few) product.noalias() = weights.middleRows(first, count) * factors;
    std::vector<EditSummary> parts(static_cast<std::size_t>(count));
#pragma omp parallel for schedule(static)
    for (Index row = 0; row < count; ++row) {
      if (weights.row(first + row).isZero(0)) continue;
      std::byte* const at = rows.data() + static_cast<std::size_t>(first + row) * cols * width;
      const Step step = u.cols() > few
                            ? Step{&one, product.data() + row * v.rows(), cols, 1}
                            : Step{weights.data() + (first + row) * u.cols(), factors.data(), cols, u.cols()};
      parts[static_cast<std::size_t>(row)] = add_step(types, at, step, cols);
    }
    summary.add(sum_up(parts));
  }
  return summary;
}

EditSummary extrapolate_full(EntryTypes types, std::span<std::byte> values, std::span<const float> delta,
                             double coef) {
  constexpr std::size_t chunk = 1 << 16;
  const std::size_t width = element_bytes(types.held);
  const auto weight = static_cast<float>(coef);
  std::vector<EditSummary> parts((delta.size() + chunk - 1) / chunk);
#pragma omp parallel for schedule(static)
  for (std::size_t c = 0; c < parts.size(); ++c) {
    const std::size_t first = c * chunk;
    parts[c] = add_step(types, values.data() + first * width, {&weight, delta.data() + first, 0, 1},
                        std::min(chunk, delta.size() - first));
  }
  return sum_up(parts);
}

}  // namespace lox
