// SPDX-License-Identifier: MIT
// The index of a sharded model: no name in it may lead out of the model's folder.
#include "lox/io/safetensors.hpp"

#include "fuzz/fuzz.hpp"

using namespace lox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::survives(
      [&] {
        const auto map = parse_safetensors_index(fuzz::text_of(data, size), index_name);
        fuzz::expect(!map.empty(), "an index names tensors");
        for (const auto& [tensor, shard] : map) {
          fuzz::expect(shard.find('/') == std::string::npos && shard.find('\0') == std::string::npos &&
                           shard.ends_with(".safetensors"),
                       "a shard is a plain name");
        }
      },
      {ExitCode::bad_input});
  return 0;
}
