// SPDX-License-Identifier: MIT
// The header of a safetensors file.
#include "lox/io/safetensors.hpp"

#include "fuzz/fuzz.hpp"

using namespace lox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string header(fuzz::text_of(data, size));
  fuzz::survives(
      [&] {
        const SafetensorsHeader parsed = parse_safetensors_header(header, "x.safetensors");
        std::uint64_t end = 8 + header.size();
        for (const TensorInfo& tensor : parsed.tensors) {
          fuzz::expect(tensor.extent.offset == end, "extents follow one another from the header's end");
          fuzz::expect(tensor.extent.bytes == checked_bytes(tensor.dtype, tensor.shape, "", ""),
                       "extents have the shape's size");
          fuzz::expect(tensor.name.find('\0') == std::string::npos, "no NUL in a name");
          end += tensor.extent.bytes;
        }
        fuzz::expect(parsed.file_size == end, "the file ends where the last tensor does");
        const std::vector<Extent> placed = place_tensors(parsed.tensors, {{"x.safetensors", header}});
        for (std::size_t i = 0; i < placed.size(); ++i) {
          fuzz::expect(placed[i].offset == parsed.tensors[i].extent.offset, "a tensor is found where it was");
        }
        const std::vector<TensorInfo> again =
            parse_safetensors_header(make_safetensors_header(parsed.tensors), "again").tensors;
        fuzz::expect(again.size() == parsed.tensors.size(), "a header made of the tensors holds them all");
      },
      {ExitCode::bad_input});
  return 0;
}
