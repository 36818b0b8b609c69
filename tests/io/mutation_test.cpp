// SPDX-License-Identifier: MIT
// Damaged files open or are refused with an Error; nothing else may come of them. The damage is the same each
// time.
#include "lox/base/random.hpp"
#include "lox/io/checkpoint.hpp"
#include "lox/io/storage.hpp"

#include <algorithm>

#include "io/models.hpp"

namespace lox {
namespace {

using testing::Scratch;

/// `bytes` with one to four spots damaged, by a stream of numbers that `seed` picks.
std::string mutated(std::string bytes, std::uint64_t seed, std::size_t within) {
  std::uint64_t count = 0;
  const auto number = [&](std::uint64_t below) { return mix64(seed * 1000003 + count++) % below; };
  for (std::uint64_t spots = 1 + number(4); spots > 0 && !bytes.empty(); --spots) {
    const std::size_t at = number(std::min(within, bytes.size()));
    switch (number(7)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << number(8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(number(256));
        break;
      case 2:
        bytes[at] = '\xFF';
        break;
      case 3:
        bytes[at] = '\0';
        break;
      case 4:
        bytes.insert(at, bytes, number(bytes.size()), 1 + number(9));
        break;
      case 5:
        bytes.erase(at, 1 + number(9));
        break;
      default:
        bytes.resize(number(4) == 0 ? at : bytes.size());
        break;
    }
  }
  return bytes;
}

/// Opens a damaged file and reads what it shows. Returns whether it opened.
bool survives(const fs::path& path) {
  const std::uint64_t size = fs::is_directory(path) ? UINT64_MAX : fs::file_size(path);
  try {
    const Checkpoint model = open_checkpoint(path);
    FileStorage storage(model, FileStorage::Access::read);
    std::vector<std::byte> bytes;
    for (const TensorInfo& tensor : model.tensors) {
      EXPECT_TRUE(!tensor.dataset.empty() || tensor.extent.bytes <= size);
      bytes.resize(std::min<std::uint64_t>(tensor.extent.bytes, 1 << 16));
      storage.read(tensor, 0, bytes);
    }
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos);
    return false;
  }
}

/// Both outcomes must be common, or the damage is none or total.
void expect_all_survive(const std::string& bytes, const fs::path& path, int times, std::size_t within) {
  int opened = 0;
  for (int i = 0; i < times; ++i) {
    testing::put(path, mutated(bytes, static_cast<std::uint64_t>(i), within));
    opened += survives(path) ? 1 : 0;
  }
  EXPECT_GT(opened, times / 100);
  EXPECT_LT(opened, times);
}

TEST(Mutation, Safetensors) {
  const Scratch scratch;
  testing::put_odd_model(scratch.path());
  const std::string bytes = testing::get(scratch / "model-00001-of-00002.safetensors");
  expect_all_survive(bytes, scratch / "x.safetensors", 4000, bytes.size() - 50);
  EXPECT_LT(fs::file_size(scratch / "x.safetensors"), 2 * bytes.size());
}

TEST(Mutation, Index) {
  const Scratch scratch;
  testing::put_odd_model(scratch.path());
  const std::string bytes = testing::get(scratch / "model.safetensors.index.json");
  int opened = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    testing::put(scratch / "model.safetensors.index.json", mutated(bytes, i, bytes.size()));
    opened += survives(scratch.path()) ? 1 : 0;
  }
  EXPECT_GT(opened, 0);
}

TEST(Mutation, Hdf5) {
  const Scratch scratch;
  testing::put_odd_model(scratch / "in");
  create_checkpoint(open_checkpoint(scratch / "in"), scratch / "x.h5", Format::hdf5);
  const std::string bytes = testing::get(scratch / "x.h5");
  expect_all_survive(bytes, scratch / "y.h5", 100, bytes.size());
  expect_all_survive(bytes, scratch / "y.h5", 60, 2048);
}

}  // namespace
}  // namespace lox
