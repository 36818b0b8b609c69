// SPDX-License-Identifier: MIT
#include "lox/io/view.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"

#include <algorithm>
#include <cstring>

namespace lox {
namespace {

/// Copies entries of `width` bytes that follow one another to places that are `step` entries apart.
template <std::size_t width>
void spread_of(std::span<const std::byte> from, std::byte* to, std::size_t step) {
  for (std::size_t i = 0; i < from.size(); i += width) std::memcpy(to + i * step, from.data() + i, width);
}

void spread(std::span<const std::byte> from, std::byte* to, std::size_t width, std::size_t step) {
  switch (width) {
    case 1:
      return spread_of<1>(from, to, step);
    case 2:
      return spread_of<2>(from, to, step);
    case 4:
      return spread_of<4>(from, to, step);
    default:
      return spread_of<8>(from, to, step);
  }
}

/// A view's entries as whole numbers of them: throws if these bytes are not whole entries.
std::uint64_t entries(const TensorInfo& tensor, std::uint64_t bytes) {
  const std::size_t width = element_bytes(tensor.dtype);
  if (bytes % width == 0) return bytes / width;
  fail(ExitCode::internal, "tensor '{}': {} bytes are no whole entries", tensor.name, bytes);
}

}  // namespace

void read_view(Storage& storage, const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to) {
  const View& view = *tensor.view;
  const std::size_t width = element_bytes(tensor.dtype);
  std::uint64_t at = view.first + entries(tensor, first);
  if (!view.transposed) return storage.read(view.source, at * width, to);
  const auto rows = static_cast<std::uint64_t>(view.source.shape[view.source.shape.size() - 2]);
  const auto cols = static_cast<std::uint64_t>(view.source.shape.back());
  Buffer piece;
  for (std::uint64_t left = entries(tensor, to.size()); left > 0;) {
    // The entries of the next rows of the tensor, or of a part of one: source rows [row, last), `count`
    // columns.
    const std::uint64_t matrix = at / (rows * cols);
    const std::uint64_t col = at % (rows * cols) / rows;
    const std::uint64_t row = at % rows;
    const bool whole = row == 0 && left >= rows;
    const std::uint64_t count = whole ? std::min(left / rows, cols - col) : 1;
    const std::uint64_t last = whole ? rows : std::min(rows, row + left);
    if (piece.bytes().size() < count * width) piece = Buffer(count * width);
    for (std::uint64_t r = row; r < last; ++r) {
      const std::span<std::byte> run = piece.bytes().first(count * width);
      storage.read(view.source, ((matrix * rows + r) * cols + col) * width, run);
      spread(run, to.data() + (r - row) * width, width, last - row);
    }
    const std::uint64_t done = count * (last - row);
    to = to.subspan(done * width);
    at += done;
    left -= done;
  }
}

void will_read_view(Storage& storage, const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes) {
  const View& view = *tensor.view;
  const std::size_t width = element_bytes(tensor.dtype);
  std::uint64_t begin = view.first * width + first;
  std::uint64_t end = begin + bytes;
  if (view.transposed) {
    const auto& shape = view.source.shape;
    const std::uint64_t matrix = static_cast<std::uint64_t>(shape[shape.size() - 2] * shape.back()) * width;
    begin -= begin % matrix;
    end = (end + matrix - 1) / matrix * matrix;
  }
  storage.will_read(view.source, begin, end - begin);
}

}  // namespace lox
