// SPDX-License-Identifier: MIT
#include "lox/linalg/delta.hpp"

#include "lox/linalg/lanes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <Eigen/Core>

namespace lox {
namespace {

constexpr std::size_t chunk = 1 << 16;  // elements summed up by one thread
constexpr std::size_t strip = 2048;     // elements that stay in the first-level cache

/// Lanes keep the order of the sums fixed for any vector width.
struct Sums {
  double squares[lanes]{};
  float largest[lanes]{};
};

/// The same in registers.
template <std::size_t N>
struct WideSums {
  typename Vectors<N>::Doubles squares[2 * Vectors<N>::parts];
  Floats<N> largest[Vectors<N>::parts];
};

/// Subtracts N entries, lanes [part * N, part * N + N), and sums up.
template <std::size_t N>
LOX_INLINE inline void subtract_part(const Floats<N>& aligned, const Floats<N>& base, std::size_t part,
                                     Floats<N>& delta, WideSums<N>& sums) {
  delta = aligned - base;
  typename Vectors<N>::Doubles d[2];
  widen_halves<N>(delta, d[0], d[1]);
  for (std::size_t h = 0; h < 2; ++h) sums.squares[2 * part + h] += d[h] * d[h];
  const Floats<N> size = delta < 0 ? -delta : delta;
  sums.largest[part] = size > sums.largest[part] ? size : sums.largest[part];
}

/// Subtracts `lanes` entries.
template <std::size_t N, class Type>
LOX_INLINE inline void subtract_lanes(const std::byte* aligned, const std::byte* base, float* delta,
                                      WideSums<N>& sums) {
#pragma GCC unroll 4
  for (std::size_t part = 0; part < Vectors<N>::parts; ++part) {
    Floats<N> a;
    Floats<N> b;
    Floats<N> d;
    Type::load(aligned + part * N * Type::width, a);
    Type::load(base + part * N * Type::width, b);
    subtract_part<N>(a, b, part, d, sums);
    __builtin_memcpy(delta + part * N, &d, sizeof(d));
  }
}

/// Both models in one type.
template <template <std::size_t> class Type>
struct Subtract {
  template <std::size_t N>
  LOX_INLINE static void run(const std::byte* aligned, const std::byte* base, std::span<float> delta,
                             Sums& total) {
    constexpr std::size_t width = Type<N>::width;
    WideSums<N> sums;  // out of reach of the stores to delta
    __builtin_memcpy(&sums.squares, total.squares, sizeof(total.squares));
    __builtin_memcpy(&sums.largest, total.largest, sizeof(total.largest));
    std::size_t first = 0;
    for (; first + lanes <= delta.size(); first += lanes) {
      subtract_lanes<N, Type<N>>(aligned + first * width, base + first * width, delta.data() + first, sums);
    }
    if (first < delta.size()) {  // the same on copies, the lanes beyond being zero
      const std::size_t rest = delta.size() - first;
      std::array<std::byte, lanes * width> ours{};
      std::array<std::byte, lanes * width> theirs{};
      std::array<float, lanes> found;
      std::memcpy(ours.data(), aligned + first * width, rest * width);
      std::memcpy(theirs.data(), base + first * width, rest * width);
      subtract_lanes<N, Type<N>>(ours.data(), theirs.data(), found.data(), sums);
      std::memcpy(delta.data() + first, found.data(), rest * sizeof(float));
    }
    __builtin_memcpy(total.squares, &sums.squares, sizeof(total.squares));
    __builtin_memcpy(total.largest, &sums.largest, sizeof(total.largest));
  }
};

/// Calls work(aligned, base, delta) for strips of both models in one type, into which `convert` brings them.
template <class Value, class Convert, class Work>
void by_strips(Convert convert, DType aligned_type, const std::byte* aligned, DType base_type,
               const std::byte* base, std::span<float> delta, Work work) {
  const std::size_t aligned_width = element_bytes(aligned_type);
  const std::size_t base_width = element_bytes(base_type);
  std::array<Value, strip> a;
  std::array<Value, strip> b;
  for (std::size_t first = 0; first < delta.size(); first += strip) {
    const std::size_t n = std::min(strip, delta.size() - first);
    convert(aligned_type, aligned + first * aligned_width, n, a.data());
    convert(base_type, base + first * base_width, n, b.data());
    work(a.data(), b.data(), delta.subspan(first, n));
  }
}

/// Different types, none of them double.
void subtract_mixed(DType aligned_type, const std::byte* aligned, DType base_type, const std::byte* base,
                    std::span<float> delta, Sums& sums) {
  by_strips<float>(to_float, aligned_type, aligned, base_type, base, delta,
                   [&](const float* a, const float* b, std::span<float> d) {
                     run_loop<Subtract<F32>>(reinterpret_cast<const std::byte*>(a),
                                             reinterpret_cast<const std::byte*>(b), d, sums);
                   });
}

/// With doubles: subtracted as such, rounded once.
void subtract_wide(DType aligned_type, const std::byte* aligned, DType base_type, const std::byte* base,
                   std::span<float> delta, Sums& sums, bool& vanished) {
  by_strips<double>(to_double, aligned_type, aligned, base_type, base, delta,
                    [&](const double* a, const double* b, std::span<float> delta_strip) {
                      for (std::size_t i = 0; i < delta_strip.size(); ++i) {
                        const auto d = static_cast<float>(a[i] - b[i]);
                        delta_strip[i] = d;
                        sums.squares[0] += static_cast<double>(d) * static_cast<double>(d);
                        sums.largest[0] = std::max(sums.largest[0], std::abs(d));
                        vanished =
                            vanished || (a[i] != b[i] && std::abs(d) < std::numeric_limits<float>::min());
                      }
                    });
}

DeltaSummary subtract_chunk(DType aligned_type, const std::byte* aligned, DType base_type,
                            const std::byte* base, std::span<float> delta) {
  Sums sums;
  DeltaSummary summary;
  if (aligned_type == DType::F64 || base_type == DType::F64) {
    subtract_wide(aligned_type, aligned, base_type, base, delta, sums, summary.vanished);
  } else if (aligned_type != base_type) {
    subtract_mixed(aligned_type, aligned, base_type, base, delta, sums);
  } else if (aligned_type == DType::BF16) {
    run_loop<Subtract<Bf16>>(aligned, base, delta, sums);
  } else if (aligned_type == DType::F16) {
    run_loop<Subtract<F16>>(aligned, base, delta, sums);
  } else {
    run_loop<Subtract<F32>>(aligned, base, delta, sums);
  }
  for (std::size_t l = 0; l < lanes; ++l) {
    summary.norm_squared += sums.squares[l];
    summary.largest = std::max(summary.largest, sums.largest[l]);
  }
  summary.finite = std::isfinite(summary.norm_squared);  // a square of a float cannot overflow a double
  return summary;
}

}  // namespace

void DeltaSummary::add(const DeltaSummary& other) {
  norm_squared += other.norm_squared;
  largest = std::max(largest, other.largest);
  vanished = vanished || other.vanished;
  inverse_ulps += other.inverse_ulps;
  sampled += other.sampled;
  noise_squared += other.noise_squared;
  finite = finite && other.finite;
}

DeltaSummary subtract(DType aligned_type, const std::byte* aligned, DType base_type, const std::byte* base,
                      std::span<float> delta) {
  const std::size_t aligned_width = element_bytes(aligned_type);
  const std::size_t base_width = element_bytes(base_type);
  const std::size_t chunks = (delta.size() + chunk - 1) / chunk;
  std::vector<DeltaSummary> parts(chunks);
#pragma omp parallel for schedule(static)
  for (std::size_t c = 0; c < chunks; ++c) {
    const std::size_t first = c * chunk;
    parts[c] =
        subtract_chunk(aligned_type, aligned + first * aligned_width, base_type, base + first * base_width,
                       delta.subspan(first, std::min(chunk, delta.size() - first)));
  }
  DeltaSummary summary;
  for (const DeltaSummary& part : parts) summary.add(part);
  return summary;
}

void sample_ulps(DType output, DType aligned_type, const std::byte* aligned, std::span<const float> delta,
                 std::uint64_t first, DeltaSummary& summary) {
  constexpr std::uint64_t step = 1021;  // a prime, so that columns take turns
  const std::size_t width = element_bytes(aligned_type);
  for (std::size_t i = (step - first % step) % step; i < delta.size(); i += step) {
    double weight = 0;
    to_double(aligned_type, aligned + i * width, 1, &weight);
    const double size = std::max(std::abs(weight), std::abs(static_cast<double>(delta[i])));
    if (size == 0) continue;
    summary.inverse_ulps += 1 / ulp(output, size);
    summary.sampled += 1;
  }
}

double sum_of_squares(DType dtype, std::span<const std::byte> values) {
  const std::size_t width = element_bytes(dtype);
  const std::size_t count = values.size() / width;
  std::array<double, strip> wide;
  double sum = 0;
  for (std::size_t first = 0; first < count; first += strip) {
    const auto n = static_cast<Eigen::Index>(std::min(strip, count - first));
    to_double(dtype, values.data() + first * width, static_cast<std::size_t>(n), wide.data());
    sum += Eigen::Map<const Eigen::ArrayXd>(wide.data(), n).square().sum();
  }
  return sum;
}

std::optional<std::size_t> find_non_finite(DType dtype, const std::byte* values, std::size_t count) {
  const std::size_t width = element_bytes(dtype);
  std::array<double, strip> wide;
  for (std::size_t first = 0; first < count; first += strip) {
    const std::size_t n = std::min(strip, count - first);
    to_double(dtype, values + first * width, n, wide.data());
    for (std::size_t i = 0; i < n; ++i) {
      if (!std::isfinite(wide[i])) return first + i;
    }
  }
  return std::nullopt;
}

double rescale(std::span<float> delta, float largest) {
  if (largest == 0) return 1;
  const int exponent = std::ilogb(largest);
  if (std::abs(exponent) <= 40) return 1;
  // In two steps, since 2^-exponent itself may not be a float.
  const float half = std::ldexp(1.0F, -exponent / 2);
  const float rest = std::ldexp(1.0F, -exponent - (-exponent / 2));
  for (float& value : delta) value = value * half * rest;
  return std::ldexp(1.0, exponent);
}

}  // namespace lox
