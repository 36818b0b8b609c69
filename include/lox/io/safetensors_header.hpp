// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/checkpoint.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lox {

/// Longest header allowed, as in the reference implementation.
inline constexpr std::uint64_t longest_header = 100'000'000;

/// A parsed safetensors header. Extents count from the start of the file, as file number 0.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< in the order of their bytes
  std::uint64_t file_size = 0;      ///< that a file with this header must have
  /// The text of DCP_SHARDING_INFO, if __metadata__ has one: the tensors may be parts (io/sharded_model).
  std::optional<std::string> sharding = {};
};

/// Parses and validates one header (the JSON without its length): no duplicate names, no holes, no overlap,
/// extents that match shape x dtype. `file` is only for the error texts. Throws Error(bad_input).
SafetensorsHeader parse_safetensors_header(std::string_view header, const std::string& file);

/// Reads length and header of a file; checks the length before anything is allocated.
std::string read_safetensors_header(const File& file);

/// The bytes of a file before its tensors: the length, then the header.
std::string frame_safetensors_header(const std::string& header);

/// The header of a file that holds `tensors` in this order (names, dtypes, shapes), padded to a multiple
/// of 8.
std::string make_safetensors_header(const std::vector<TensorInfo>& tensors);

/// A shape for people, "[2, 3]"; of many dimensions, of which a file may claim millions, the first few.
std::string shape_text(const std::vector<std::int64_t>& shape);

/// Bytes of a tensor of this dtype and shape. Throws Error(bad_input) naming file (unless empty) and tensor
/// if the product overflows or is no whole number of bytes.
std::uint64_t checked_bytes(DType dtype, const std::vector<std::int64_t>& shape, const std::string& file,
                            const std::string& tensor);

}  // namespace lox
