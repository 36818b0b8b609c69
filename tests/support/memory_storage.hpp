// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/error.hpp"
#include "lox/io/storage.hpp"

#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace lox::testing {

/// A checkpoint's bytes in memory, by the number of the file. Writes down what is done to it, in order, and
/// fails when it is asked to.
class MemoryStorage final : public Storage {
 public:
  explicit MemoryStorage(std::vector<std::string>* log = nullptr, std::string name = "")
      : log_(log), name_(name) {}

  void read(const TensorInfo& tensor, std::uint64_t first, std::span<std::byte> to) override {
    read(tensor.extent, first, to);
  }
  void read(const Extent& extent, std::uint64_t first, std::span<std::byte> to) override {
    const std::vector<std::byte>& bytes = files[extent.file];
    if (extent.offset + first + to.size() > bytes.size()) fail(ExitCode::io, "read beyond the end");
    std::memcpy(to.data(), bytes.data() + extent.offset + first, to.size());
  }
  void will_read(const TensorInfo&, std::uint64_t, std::uint64_t) override {}
  void write(const Extent& extent, std::uint64_t first, std::span<const std::byte> from) override {
    if (fails) fail(ExitCode::io, "the disk fails");
    note("write", extent);
    std::vector<std::byte>& bytes = files[extent.file];
    bytes.resize(std::max<std::size_t>(bytes.size(), extent.offset + first + from.size()));
    std::memcpy(bytes.data() + extent.offset + first, from.data(), from.size());
  }
  void sync(const Extent& extent) override {
    if (fails) fail(ExitCode::io, "the disk fails");
    note("sync", extent);
  }

  std::map<int, std::vector<std::byte>> files;
  bool fails = false;

 private:
  void note(const char* word, const Extent& extent) {
    if (log_ != nullptr) log_->push_back(fmt::format("{} {}{}", word, name_, extent.file));
  }
  std::vector<std::string>* log_;
  std::string name_;
};

}  // namespace lox::testing
