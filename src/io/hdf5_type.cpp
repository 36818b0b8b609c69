// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_type.hpp"

#include <array>
#include <cstdint>

namespace lox {
namespace {

Hdf5Handle copy_type(hid_t type) {
  return {H5Tcopy(type), H5Tclose, "H5Tcopy"};
}

/// A 16-bit float: sign in bit 15, then exponent, then mantissa.
Hdf5Handle float16_type(std::size_t mantissa_bits, std::size_t bias) {
  Hdf5Handle type = copy_type(H5T_IEEE_F32LE);
  // Fields before size: the size may not shrink below the fields.
  hdf5_check(H5Tset_fields(type.get(), 15, mantissa_bits, 15 - mantissa_bits, 0, mantissa_bits),
             "H5Tset_fields");
  hdf5_check(H5Tset_size(type.get(), 2), "H5Tset_size");
  hdf5_check(H5Tset_ebias(type.get(), bias), "H5Tset_ebias");
  return type;
}

/// As h5py writes numpy.complex64.
Hdf5Handle complex_type() {
  Hdf5Handle type(H5Tcreate(H5T_COMPOUND, 8), H5Tclose, "H5Tcreate");
  hdf5_check(H5Tinsert(type.get(), "r", 0, H5T_IEEE_F32LE), "H5Tinsert");
  hdf5_check(H5Tinsert(type.get(), "i", 4, H5T_IEEE_F32LE), "H5Tinsert");
  return type;
}

/// As h5py writes numpy.bool_.
Hdf5Handle bool_type() {
  Hdf5Handle type(H5Tenum_create(H5T_STD_I8LE), H5Tclose, "H5Tenum_create");
  for (const std::int8_t value : {0, 1}) {
    hdf5_check(H5Tenum_insert(type.get(), value == 0 ? "FALSE" : "TRUE", &value), "H5Tenum_insert");
  }
  return type;
}

bool equal(hid_t a, hid_t b) {
  return hdf5_check(H5Tequal(a, b), "H5Tequal") > 0;
}

/// Bytes without a meaning of their own, of the width of the dtype: opaque (numpy's void), or an unsigned
/// integer.
bool is_raw(hid_t type, DType dtype) {
  const auto bits = static_cast<std::size_t>(is_packed(dtype) ? 8 : dtype_bits(dtype));
  if (H5Tget_size(type) * 8 != bits) return false;
  const H5T_class_t kind = H5Tget_class(type);
  if (kind == H5T_OPAQUE) return true;
  return kind == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE && H5Tget_precision(type) == bits;
}

}  // namespace

Hdf5Handle hdf5_type_of(DType dtype) {
  switch (dtype) {
    case DType::U64:
      return copy_type(H5T_STD_U64LE);
    case DType::I64:
      return copy_type(H5T_STD_I64LE);
    case DType::F64:
      return copy_type(H5T_IEEE_F64LE);
    case DType::C64:
      return complex_type();
    case DType::F32:
      return copy_type(H5T_IEEE_F32LE);
    case DType::U32:
      return copy_type(H5T_STD_U32LE);
    case DType::I32:
      return copy_type(H5T_STD_I32LE);
    case DType::BF16:
      return float16_type(7, 127);
    case DType::F16:
      return float16_type(10, 15);
    case DType::U16:
      return copy_type(H5T_STD_U16LE);
    case DType::I16:
      return copy_type(H5T_STD_I16LE);
    case DType::I8:
      return copy_type(H5T_STD_I8LE);
    case DType::BOOL:
      return bool_type();
    default:
      return copy_type(H5T_STD_U8LE);  // eight bits and fewer of floating point: bytes
  }
}

std::optional<DType> dtype_of_hdf5(hid_t type, std::optional<DType> declared) {
  static constexpr std::array natural{DType::U64, DType::I64, DType::F64,  DType::C64, DType::F32,
                                      DType::U32, DType::I32, DType::BF16, DType::F16, DType::U16,
                                      DType::I16, DType::I8,  DType::U8,   DType::BOOL};
  const Hdf5Handle little = little_endian(type);
  if (declared) {
    const bool fits = equal(little.get(), hdf5_type_of(*declared).get()) || is_raw(little.get(), *declared);
    return fits ? declared : std::nullopt;
  }
  for (const DType dtype : natural) {
    if (equal(little.get(), hdf5_type_of(dtype).get())) return dtype;
  }
  return std::nullopt;
}

Hdf5Handle little_endian(hid_t type) {
  Hdf5Handle copy = copy_type(type);
  const H5T_class_t kind = H5Tget_class(type);
  if ((kind == H5T_INTEGER || kind == H5T_FLOAT) && H5Tget_order(type) == H5T_ORDER_BE) {
    hdf5_check(H5Tset_order(copy.get(), H5T_ORDER_LE), "H5Tset_order");
  }
  return copy;
}

}  // namespace lox
