// SPDX-License-Identifier: MIT
#include "lox/linalg/delta.hpp"

#include "lox/base/simd.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace lox {
namespace {

constexpr std::size_t chunk = 1 << 16;  // elements summed up by one thread
constexpr std::size_t strip = 2048;     // elements that stay in the first-level cache
constexpr std::size_t lanes = 16;

/// Subtracts a strip and sums up; lanes keep the order of the sums fixed for any vector width.
LOX_SIMD void subtract_strip(const float* aligned, const float* base, std::size_t count, float* delta,
                             double* squares, double* aligned_squares, float* largest) {
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (std::size_t l = 0; l < lanes; ++l) {
      const float a = aligned[i + l];
      const float d = a - base[i + l];
      delta[i + l] = d;
      squares[l] += static_cast<double>(d) * static_cast<double>(d);
      aligned_squares[l] += static_cast<double>(a) * static_cast<double>(a);
      largest[l] = std::abs(d) > largest[l] ? std::abs(d) : largest[l];
    }
  }
  for (; i < count; ++i) {
    const float d = aligned[i] - base[i];
    delta[i] = d;
    squares[0] += static_cast<double>(d) * static_cast<double>(d);
    aligned_squares[0] += static_cast<double>(aligned[i]) * static_cast<double>(aligned[i]);
    largest[0] = std::max(largest[0], std::abs(d));
  }
}

struct Sums {
  std::array<double, lanes> squares{};
  std::array<double, lanes> aligned_squares{};
  std::array<float, lanes> largest{};
};

DeltaSummary subtract_chunk(DType aligned_type, const std::byte* aligned, DType base_type,
                            const std::byte* base, std::span<float> delta) {
  const bool wide = aligned_type == DType::F64 || base_type == DType::F64;
  const auto aligned_width = static_cast<std::size_t>(dtype_bits(aligned_type)) / 8;
  const auto base_width = static_cast<std::size_t>(dtype_bits(base_type)) / 8;
  Sums sums;
  std::array<float, strip> a;
  std::array<float, strip> b;
  std::array<double, strip> a_wide;
  std::array<double, strip> b_wide;
  for (std::size_t first = 0; first < delta.size(); first += strip) {
    const std::size_t n = std::min(strip, delta.size() - first);
    if (wide) {  // subtract in double, round once
      to_double(aligned_type, aligned + first * aligned_width, n, a_wide.data());
      to_double(base_type, base + first * base_width, n, b_wide.data());
      for (std::size_t i = 0; i < n; ++i) {
        a[i] = static_cast<float>(a_wide[i] - b_wide[i]);
        b[i] = 0;
      }
    } else {
      to_float(aligned_type, aligned + first * aligned_width, n, a.data());
      to_float(base_type, base + first * base_width, n, b.data());
    }
    subtract_strip(a.data(), b.data(), n, delta.data() + first, sums.squares.data(),
                   sums.aligned_squares.data(), sums.largest.data());
    if (wide) {
      for (std::size_t i = 0; i < n; ++i) {
        sums.aligned_squares[0] +=
            a_wide[i] * a_wide[i] - static_cast<double>(a[i]) * static_cast<double>(a[i]);
      }
    }
  }
  DeltaSummary summary;
  for (std::size_t l = 0; l < lanes; ++l) {
    summary.norm_squared += sums.squares[l];
    summary.aligned_norm_squared += sums.aligned_squares[l];
    summary.largest = std::max(summary.largest, sums.largest[l]);
  }
  summary.finite = std::isfinite(summary.norm_squared);  // a square of a float cannot overflow a double
  return summary;
}

}  // namespace

void DeltaSummary::add(const DeltaSummary& other) {
  norm_squared += other.norm_squared;
  aligned_norm_squared += other.aligned_norm_squared;
  largest = std::max(largest, other.largest);
  finite = finite && other.finite;
}

DeltaSummary subtract(DType aligned_type, const std::byte* aligned, DType base_type, const std::byte* base,
                      std::span<float> delta) {
  const auto aligned_width = static_cast<std::size_t>(dtype_bits(aligned_type)) / 8;
  const auto base_width = static_cast<std::size_t>(dtype_bits(base_type)) / 8;
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

std::optional<std::size_t> find_non_finite(DType dtype, const std::byte* values, std::size_t count) {
  const auto width = static_cast<std::size_t>(dtype_bits(dtype)) / 8;
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
