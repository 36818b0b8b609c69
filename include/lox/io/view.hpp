// SPDX-License-Identifier: MIT
#pragma once
#include "lox/io/storage.hpp"

#include <cstdint>
#include <span>

namespace lox {

/// Bytes of a tensor that is a view of another one, whole entries. Of a transposed one each row of the source
/// is read from in turn, as far as it is in these bytes: whole rows of the tensor at once, the more the
/// better.
void read_view(Storage& storage, const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to);

/// These bytes will be read soon. Of a transposed one the whole matrices are that they are in.
void will_read_view(Storage& storage, const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes);

}  // namespace lox
