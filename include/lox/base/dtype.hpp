// SPDX-License-Identifier: MIT
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace lox {

/// Element types of safetensors, in the reference writer's order (first sorts first).
enum class DType : std::uint8_t {
  // clang-format off
  U64, I64, F64, C64, F32, U32, I32, BF16, F16, U16, I16, F8_E5M2FNUZ, F8_E4M3FNUZ, F8_E8M0, F8_E4M3, F8_E5M2,
  I8, U8, F6_E3M2, F6_E2M3, F4, BOOL,
  // clang-format on
};

/// The safetensors name, e.g. "BF16".
std::string_view dtype_name(DType dtype);
std::optional<DType> dtype_from_name(std::string_view name);
int dtype_bits(DType dtype);
/// Bytes of an element; throws Error(internal) for a dtype with elements smaller than a byte.
std::size_t element_bytes(DType dtype);

/// BF16, F16, F32 or F64: what lox can edit.
bool is_editable(DType dtype);
/// Eight bits or fewer of floating point: a quantised weight, meaningless without its scales.
bool is_low_precision_float(DType dtype);

/// One unit in the last place of `value` in `dtype` (an editable one): the spacing of numbers around it.
double ulp(DType dtype, double value);

/// `count` elements of an editable type, widened exactly (F64 is rounded to float).
void to_float(DType dtype, const std::byte* from, std::size_t count, float* to);
void to_double(DType dtype, const std::byte* from, std::size_t count, double* to);
/// Rounds to nearest, ties to even; overflow gives infinity.
void from_float(DType dtype, const float* from, std::size_t count, std::byte* to);
void from_double(DType dtype, const double* from, std::size_t count, std::byte* to);

}  // namespace lox
