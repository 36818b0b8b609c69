// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/dtype.hpp"
#include "lox/io/hdf5_handle.hpp"

#include <optional>
#include <string>

namespace lox {

/// The little-endian HDF5 type that a dtype is written as (docs/formats.md).
Hdf5Handle hdf5_type_of(DType dtype);

/// Whether its elements are smaller than a byte, so that a dataset holds packed bytes in one dimension.
inline bool is_packed(DType dtype) {
  return dtype_bits(dtype) % 8 != 0;
}

/// What the elements of a dataset are, if lox knows: by the dataset's own type, or by the `declared` dtype
/// where the type can hold it (itself, raw bytes, an unsigned integer of its width).
std::optional<DType> dtype_of_hdf5(hid_t type, std::optional<DType> declared);

/// The type of the same elements with their bytes in little-endian order.
Hdf5Handle little_endian(hid_t type);

}  // namespace lox
