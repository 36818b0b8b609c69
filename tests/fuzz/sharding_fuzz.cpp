// SPDX-License-Identifier: MIT
// Headers of several files, one a line, whose DCP_SHARDING_INFO tells how their tensors lie in parts.
#include "lox/io/parts.hpp"
#include "lox/io/safetensors_header.hpp"
#include "lox/io/sharded_model.hpp"

#include <algorithm>

#include "fuzz/fuzz.hpp"

using namespace lox;

namespace {

/// Files of nothing but 0xFF.
class Ones final : public Storage {
 public:
  void read(const TensorInfo&, std::uint64_t, std::span<std::byte>) override { std::abort(); }
  void read(const Extent& extent, std::uint64_t first, std::span<std::byte> to) override {
    fuzz::expect(first + to.size() <= extent.bytes, "no byte beyond a part is read");
    std::ranges::fill(to, std::byte{0xFF});
  }
  void will_read(const TensorInfo&, std::uint64_t, std::uint64_t) override {}
  void write(const Extent&, std::uint64_t, std::span<const std::byte>) override { std::abort(); }
  void sync(const Extent&) override {}
};

void check(const TensorInfo& tensor) {
  fuzz::expect(tensor.extent.bytes == checked_bytes(tensor.dtype, tensor.shape, "", ""),
               "a tensor has its shape's size");
  if (!tensor.parts) return;
  std::uint64_t sum = 0;
  for (const Extent& extent : tensor.parts->extents) sum += extent.bytes;
  fuzz::expect(sum == tensor.extent.bytes, "the parts are as many bytes as the tensor");
  const std::uint64_t most = std::uint64_t{1} << 20;
  if (tensor.extent.bytes > most) return;
  std::vector<std::byte> bytes(tensor.extent.bytes);
  Ones ones;
  const std::uint64_t half = bytes.size() / 2 + 1;
  read_parts(ones, tensor, 0, std::span(bytes).first(half));
  read_parts(ones, tensor, half, std::span(bytes).subspan(half));
  fuzz::expect(std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0xFF}; }),
               "every byte is in a part");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text = fuzz::text_of(data, size);
  fuzz::survives(
      [&] {
        Checkpoint model;
        ShardingInfos infos;
        while (!text.empty()) {
          const std::string header(text.substr(0, text.find('\n')));
          text.remove_prefix(std::min(text.size(), header.size() + 1));
          const int file = static_cast<int>(model.files.size());
          SafetensorsHeader parsed = parse_safetensors_header(header, "x.safetensors");
          for (TensorInfo& tensor : parsed.tensors) {
            tensor.extent.file = file;
            model.tensors.push_back(std::move(tensor));
          }
          if (parsed.sharding) infos.emplace(file, *parsed.sharding);
          model.files.emplace_back(fmt::format("{}.safetensors", file));
        }
        const Checkpoint whole = assembled(std::move(model), infos);
        for (const TensorInfo& tensor : whole.tensors) check(tensor);
      },
      {ExitCode::bad_input});
  return 0;
}
