// SPDX-License-Identifier: MIT
#include "lox/io/quantised.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/fp8.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

constexpr std::uint64_t codes_at_once = std::uint64_t{256} << 10;
constexpr double largest_bf16 = 0x1.FEp127;

const fs::path& file_of(const std::vector<fs::path>& files, const TensorInfo& tensor) {
  return files[static_cast<std::size_t>(tensor.extent.file)];
}

bool is_not_zero(std::byte code) {
  return (code & std::byte{0x7F}) != std::byte{0};
}

/// Where in the scales those of a value are.
class Blocks {
 public:
  explicit Blocks(const TensorInfo& tensor)
      : q_(*tensor.quantised),
        rows_(tensor.shape[tensor.shape.size() - 2]),
        cols_(tensor.shape.back()),
        down_((rows_ + q_.block_rows - 1) / q_.block_rows),
        across_((cols_ + q_.block_cols - 1) / q_.block_cols) {}

  std::int64_t cols() const { return cols_; }
  std::int64_t across() const { return across_; }
  std::int64_t block_cols() const { return q_.block_cols; }
  /// Of the first scale of a row's blocks; `row` counts through all matrices of the tensor.
  std::int64_t first_scale(std::int64_t row) const {
    return (row / rows_ * down_ + row % rows_ / q_.block_rows) * across_;
  }

 private:
  const Quantised& q_;
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t down_;
  std::int64_t across_;
};

class Reader {
 public:
  Reader(Storage& storage, const std::vector<fs::path>& files, const TensorInfo& tensor)
      : storage_(storage), files_(files), q_(*tensor.quantised), blocks_(tensor) {}

  /// Values [first, first + to.size()), at most codes_at_once.
  void read(std::int64_t first, std::span<float> to, double* noise) {
    codes_.resize(to.size());
    storage_.read(q_.codes, static_cast<std::uint64_t>(first), codes_);
    const std::int64_t end = first + static_cast<std::int64_t>(to.size());
    read_scales(first / blocks_.cols(), (end - 1) / blocks_.cols());
    for (std::int64_t at = first, n = 0; at < end; at += n) {
      const std::int64_t col = at % blocks_.cols();
      const std::int64_t block = col / blocks_.block_cols();
      n = std::min({end - at, blocks_.cols() - col, (block + 1) * blocks_.block_cols() - col});
      const std::int64_t scale = blocks_.first_scale(at / blocks_.cols()) + block;
      run(at, static_cast<std::size_t>(n), scale, static_cast<std::size_t>(at - first), to, noise);
    }
  }

 private:
  /// The scales of these rows.
  void read_scales(std::int64_t first_row, std::int64_t last_row) {
    first_scale_ = blocks_.first_scale(first_row);
    const auto count =
        static_cast<std::size_t>(blocks_.first_scale(last_row) + blocks_.across() - first_scale_);
    const std::size_t width = element_bytes(q_.scales.dtype);
    stored_.resize(count * width);
    scales_.resize(count);
    storage_.read(q_.scales, static_cast<std::uint64_t>(first_scale_) * width, stored_);
    to_float(q_.scales.dtype, stored_.data(), count, scales_.data());
    for (std::size_t i = 0; i < count; ++i) {
      const float scale = scales_[i];
      if (scale >= 0 && largest_e4m3 * static_cast<double>(scale) <= largest_bf16) continue;
      fail(ExitCode::bad_input,
           "{}: tensor '{}' holds {} at index {}, no scale of FP8 weights ('{}'); the file is damaged, "
           "download "
           "it again",
           file_of(files_, q_.scales), q_.scales.name, scale, first_scale_ + static_cast<std::int64_t>(i),
           q_.codes.name);
    }
  }

  /// n values of one block, the first of them number `at` of the tensor and number `place` of `to`.
  void run(std::int64_t at, std::size_t n, std::int64_t scale_index, std::size_t place, std::span<float> to,
           double* noise) {
    const float scale = scales_[static_cast<std::size_t>(scale_index - first_scale_)];
    const std::byte* const codes = codes_.data() + place;
    const CodeSummary found = scale_e4m3(codes, n, scale, to.data() + place);
    if (found.has_nan) fail_nan(at, codes, n);
    if (scale == 0 && std::any_of(codes, codes + n, is_not_zero)) {
      fail(ExitCode::bad_input,
           "{}: tensor '{}' holds 0 at index {}, the scale of a block whose codes in '{}' are not all 0; the "
           "file is damaged, download it again",
           file_of(files_, q_.scales), q_.scales.name, scale_index, q_.codes.name);
    }
    if (noise == nullptr) return;
    const auto wide = static_cast<double>(scale);
    *noise += found.squared_spacings * wide * wide / 12;
  }

  [[noreturn]] void fail_nan(std::int64_t at, const std::byte* codes, std::size_t n) const {
    const auto nan = std::find_if(codes, codes + n,
                                  [](std::byte code) { return (code & std::byte{0x7F}) == std::byte{0x7F}; });
    fail(ExitCode::bad_input,
         "{}: tensor '{}' holds NaN (code 0x{:02X}) at index {}; the file is damaged, download it again",
         file_of(files_, q_.codes), q_.codes.name, static_cast<unsigned>(*nan), at + (nan - codes));
  }

  Storage& storage_;
  const std::vector<fs::path>& files_;
  const Quantised& q_;
  Blocks blocks_;
  std::vector<std::byte> codes_;
  std::vector<std::byte> stored_;
  std::vector<float> scales_;  ///< from number first_scale_ on
  std::int64_t first_scale_ = 0;
};

}  // namespace

void read_values(Storage& storage, const std::vector<fs::path>& files, const TensorInfo& tensor,
                 std::uint64_t first, std::span<float> to, double* noise) {
  Reader reader(storage, files, tensor);
  for (std::size_t done = 0; done < to.size(); done += codes_at_once) {
    const std::size_t n = std::min<std::size_t>(codes_at_once, to.size() - done);
    reader.read(static_cast<std::int64_t>(first + done), to.subspan(done, n), noise);
  }
}

void read_rounded(Storage& storage, const std::vector<fs::path>& files, const TensorInfo& tensor,
                  std::uint64_t first, std::span<std::byte> to) {
  const std::size_t width = element_bytes(tensor.dtype);
  if (first % width != 0 || to.size() % width != 0) {
    fail(ExitCode::internal, "bytes {} to {} of '{}' are no whole values", first, first + to.size(),
         tensor.name);
  }
  Reader reader(storage, files, tensor);
  std::vector<float> values(std::min<std::size_t>(codes_at_once, to.size() / width));
  for (std::size_t done = 0; done < to.size() / width; done += values.size()) {
    const std::span<float> piece = std::span(values).first(std::min(values.size(), to.size() / width - done));
    reader.read(static_cast<std::int64_t>(first / width + done), piece, nullptr);
    from_float(tensor.dtype, piece.data(), piece.size(), to.data() + done * width);
  }
}

}  // namespace lox
