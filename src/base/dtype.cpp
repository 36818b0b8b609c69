// SPDX-License-Identifier: MIT
#include "lox/base/dtype.hpp"

#include "lox/base/error.hpp"
#include "lox/base/half.hpp"
#include "lox/base/simd.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace lox {
namespace {

struct Entry {
  std::string_view name;
  int bits;
};

// In the order of the enumeration.
constexpr std::array<Entry, 22> table{{
    {"U64", 64},        {"I64", 64},    {"F64", 64},    {"C64", 64},    {"F32", 32}, {"U32", 32},
    {"I32", 32},        {"BF16", 16},   {"F16", 16},    {"U16", 16},    {"I16", 16}, {"F8_E5M2FNUZ", 8},
    {"F8_E4M3FNUZ", 8}, {"F8_E8M0", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"I8", 8},   {"U8", 8},
    {"F6_E3M2", 6},     {"F6_E2M3", 6}, {"F4", 4},      {"BOOL", 8},
}};

template <class T>
T load(const std::byte* from, std::size_t i) {
  T value;
  std::memcpy(&value, from + i * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void store(std::byte* to, std::size_t i, T value) {
  std::memcpy(to + i * sizeof(T), &value, sizeof(T));
}

LOX_SIMD void bf16_to_floats(const std::byte* from, std::size_t count, float* to) {
  for (std::size_t i = 0; i < count; ++i) to[i] = bf16_to_float(load<std::uint16_t>(from, i));
}
LOX_SIMD void f16_to_floats(const std::byte* from, std::size_t count, float* to) {
  for (std::size_t i = 0; i < count; ++i) to[i] = f16_to_float(load<std::uint16_t>(from, i));
}
LOX_SIMD void floats_to_bf16(const float* from, std::size_t count, std::byte* to) {
  for (std::size_t i = 0; i < count; ++i) store(to, i, float_to_bf16(from[i]));
}
LOX_SIMD void floats_to_f16(const float* from, std::size_t count, std::byte* to) {
  for (std::size_t i = 0; i < count; ++i) store(to, i, float_to_f16(from[i]));
}

[[noreturn]] void not_editable(DType dtype) {
  fail(ExitCode::internal, "{} is not a floating type that lox edits", dtype_name(dtype));
}

}  // namespace

std::string_view dtype_name(DType dtype) {
  return table[static_cast<std::size_t>(dtype)].name;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  const auto found = std::find_if(table.begin(), table.end(), [&](const Entry& e) { return e.name == name; });
  if (found == table.end()) return std::nullopt;
  return static_cast<DType>(found - table.begin());
}

int dtype_bits(DType dtype) {
  return table[static_cast<std::size_t>(dtype)].bits;
}

std::size_t element_bytes(DType dtype) {
  const int bits = dtype_bits(dtype);
  if (bits % 8 != 0) fail(ExitCode::internal, "elements of {} are smaller than a byte", dtype_name(dtype));
  return static_cast<std::size_t>(bits) / 8;
}

bool is_editable(DType dtype) {
  return dtype == DType::BF16 || dtype == DType::F16 || dtype == DType::F32 || dtype == DType::F64;
}

bool is_low_precision_float(DType dtype) {
  return dtype_bits(dtype) <= 8 && dtype_name(dtype).front() == 'F';
}

double ulp(DType dtype, double value) {
  int mantissa = 0;  // explicit bits
  int lowest = 0;    // exponent of the smallest normal number
  switch (dtype) {
    case DType::BF16:
      mantissa = 7;
      lowest = -126;
      break;
    case DType::F16:
      mantissa = 10;
      lowest = -14;
      break;
    case DType::F32:
      mantissa = 23;
      lowest = -126;
      break;
    case DType::F64:
      mantissa = 52;
      lowest = -1022;
      break;
    default:
      not_editable(dtype);
  }
  const int exponent = value == 0 ? lowest : std::max(std::ilogb(value), lowest);
  return std::ldexp(1.0, exponent - mantissa);
}

void to_float(DType dtype, const std::byte* from, std::size_t count, float* to) {
  switch (dtype) {
    case DType::BF16:
      bf16_to_floats(from, count, to);
      break;
    case DType::F16:
      f16_to_floats(from, count, to);
      break;
    case DType::F32:
      std::memcpy(to, from, count * sizeof(float));
      break;
    case DType::F64:
      for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<float>(load<double>(from, i));
      break;
    default:
      not_editable(dtype);
  }
}

void to_double(DType dtype, const std::byte* from, std::size_t count, double* to) {
  if (dtype == DType::F64) {
    std::memcpy(to, from, count * sizeof(double));
    return;
  }
  const std::size_t width = element_bytes(dtype);
  std::array<float, 1024> piece;
  for (std::size_t done = 0; done < count; done += piece.size()) {
    const std::size_t n = std::min(piece.size(), count - done);
    to_float(dtype, from + done * width, n, piece.data());
    std::copy_n(piece.begin(), n, to + done);
  }
}

void from_float(DType dtype, const float* from, std::size_t count, std::byte* to) {
  switch (dtype) {
    case DType::BF16:
      floats_to_bf16(from, count, to);
      break;
    case DType::F16:
      floats_to_f16(from, count, to);
      break;
    case DType::F32:
      std::memcpy(to, from, count * sizeof(float));
      break;
    case DType::F64:
      for (std::size_t i = 0; i < count; ++i) store(to, i, static_cast<double>(from[i]));
      break;
    default:
      not_editable(dtype);
  }
}

void from_double(DType dtype, const double* from, std::size_t count, std::byte* to) {
  if (dtype == DType::F64) {
    std::memcpy(to, from, count * sizeof(double));
    return;
  }
  // Through float: the two roundings differ from one only where the double is within 2^-53 of a tie.
  const std::size_t width = element_bytes(dtype);
  std::array<float, 1024> piece;
  for (std::size_t done = 0; done < count; done += piece.size()) {
    const std::size_t n = std::min(piece.size(), count - done);
    for (std::size_t i = 0; i < n; ++i) piece[i] = static_cast<float>(from[done + i]);
    from_float(dtype, piece.data(), n, to + done * width);
  }
}

}  // namespace lox
