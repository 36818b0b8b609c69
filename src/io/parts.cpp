// SPDX-License-Identifier: MIT
#include "lox/io/parts.hpp"

#include "lox/base/dtype.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace lox {
namespace {

constexpr std::uint64_t at_once = std::uint64_t{256} << 10;

/// How the bytes of a part lie in those of its tensor. Both are in C order, so the bytes of the part that are
/// in a range of the tensor follow one another, and runs of them do so in the tensor, too.
class PartPlace {
 public:
  PartPlace(const TensorInfo& tensor, std::size_t part) : dimensions_(tensor.shape.size()) {
    // The last dimension counts bytes.
    std::uint64_t stride = 1;
    std::uint64_t part_stride = 1;
    bool whole = true;
    for (std::size_t d = dimensions_; d-- > 0;) {
      const std::uint64_t width = d + 1 == dimensions_ ? element_bytes(tensor.dtype) : 1;
      const auto size = static_cast<std::uint64_t>(tensor.parts->shape(part)[d]) * width;
      const auto size_of_all = static_cast<std::uint64_t>(tensor.shape[d]) * width;
      begin_[d] = static_cast<std::uint64_t>(tensor.parts->begin(part)[d]) * width;
      size_[d] = size;
      stride_[d] = stride;
      part_stride_[d] = part_stride;
      stride *= size_of_all;
      part_stride *= size;
      if (whole) run_ = part_stride;
      whole = whole && size == size_of_all;
    }
    tensor_bytes_ = stride;
    part_bytes_ = part_stride;
  }

  /// Bytes of the part that come before byte `at` of the tensor.
  std::uint64_t before(std::uint64_t at) const {
    if (at >= tensor_bytes_) return part_bytes_;
    std::uint64_t count = 0;
    for (std::size_t d = 0; d < dimensions_; ++d) {
      const std::uint64_t index = at / stride_[d];
      at %= stride_[d];
      if (index < begin_[d]) return count;
      if (index >= begin_[d] + size_[d]) return count + size_[d] * part_stride_[d];
      count += (index - begin_[d]) * part_stride_[d];
    }
    return count;
  }

  /// Which byte of the tensor byte `at` of the part is.
  std::uint64_t in_tensor(std::uint64_t at) const {
    std::uint64_t place = 0;
    for (std::size_t d = 0; d < dimensions_; ++d) {
      place += (begin_[d] + at / part_stride_[d]) * stride_[d];
      at %= part_stride_[d];
    }
    return place;
  }

  /// Where the run ends that byte `at` of the part is in.
  std::uint64_t run_end(std::uint64_t at) const { return (at / run_ + 1) * run_; }

 private:
  using Numbers = std::array<std::uint64_t, most_dimensions_in_parts>;
  std::size_t dimensions_;
  Numbers begin_{};
  Numbers size_{};
  Numbers stride_{};  ///< in the tensor
  Numbers part_stride_{};
  std::uint64_t run_ = 1;  ///< bytes that follow one another in the tensor as in the part
  std::uint64_t tensor_bytes_ = 0;
  std::uint64_t part_bytes_ = 0;
};

/// Calls work(place, extent, begin, end) for the parts that have bytes in [first, first + bytes).
template <class Work>
void visit_parts(const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes, Work work) {
  if (bytes == 0) return;
  const Parts& parts = *tensor.parts;
  const std::uint64_t slice = tensor.extent.bytes / static_cast<std::uint64_t>(tensor.shape[0]);
  const auto first_slice = static_cast<std::int64_t>(first / slice);
  const auto last_slice = static_cast<std::int64_t>((first + bytes - 1) / slice);
  for (std::size_t part = 0; part < parts.count(); ++part) {
    const std::int64_t begin_slice = parts.begin(part)[0];
    if (begin_slice > last_slice || begin_slice + parts.shape(part)[0] <= first_slice) continue;
    const PartPlace place(tensor, part);
    const std::uint64_t begin = place.before(first);
    const std::uint64_t end = place.before(first + bytes);
    if (begin < end) work(place, parts.extents[part], begin, end);
  }
}

}  // namespace

void read_parts(Storage& storage, const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to) {
  std::vector<std::byte> buffer;
  visit_parts(tensor, first, to.size(),
              [&](const PartPlace& place, const Extent& extent, std::uint64_t begin, std::uint64_t end) {
                for (std::uint64_t at = begin, n = 0; at < end; at += n) {
                  n = std::min(end, place.run_end(at)) - at;
                  const auto target = [&](std::uint64_t byte) {
                    return to.data() + (place.in_tensor(byte) - first);
                  };
                  if (at + n == end || n >= at_once) {
                    storage.read(extent, at, {target(at), n});
                    continue;
                  }
                  n = std::min(end - at, at_once);
                  buffer.resize(at_once);
                  const std::span<std::byte> piece = std::span(buffer).first(n);
                  storage.read(extent, at, piece);
                  for (std::uint64_t done = 0, run = 0; done < n; done += run) {
                    run = std::min(at + n, place.run_end(at + done)) - (at + done);
                    std::memcpy(target(at + done), piece.data() + done, run);
                  }
                }
              });
}

std::uint64_t bytes_of_places(const Checkpoint& model) {
  // In the table, as JSON values of 16 bytes, and as text of up to 20 characters.
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : model.tensors) {
    const Parts* const parts = (tensor.view ? tensor.view->source : tensor).parts.get();
    if (parts != nullptr) bytes += parts->count() * (3 + 2 * parts->dimensions) * (8 + 16 + 20);
  }
  return bytes;
}

void for_parts(const TensorInfo& tensor, std::uint64_t first, std::uint64_t bytes,
               const std::function<void(const Extent& extent, std::uint64_t at, std::uint64_t count)>& work) {
  visit_parts(tensor, first, bytes,
              [&](const PartPlace&, const Extent& extent, std::uint64_t begin, std::uint64_t end) {
                work(extent, begin, end - begin);
              });
}

}  // namespace lox
