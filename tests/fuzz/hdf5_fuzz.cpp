// SPDX-License-Identifier: MIT
// The structure of an HDF5 file: what open_checkpoint makes of it, /layout and /files included, and reading
// from it. Built twice. hdf5_fuzz enters the HDF5 library in this process (no_sandbox.cpp), so that the
// fuzzer sees its way through our code and theirs; where the library itself breaks down is none of our
// findings, and hdf5_sandboxed_fuzz, which opens files as the program does, shows that we survive it.
#include "lox/io/hdf5.hpp"
#include "lox/io/hdf5_sandbox.hpp"
#include "lox/io/other_files.hpp"
#include "lox/io/storage.hpp"

#include <algorithm>

#include "fuzz/fuzz.hpp"

using namespace lox;

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  if (const auto code = run_if_sandboxed_reader(*argc, *argv)) ::_exit(*code);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::ScratchFile file(fuzz::text_of(data, size));
  fuzz::survives(
      [&] {
        const Checkpoint model = open_hdf5(file.path());
        const Checkpoint again = Checkpoint::from_text(model.to_text());
        fuzz::expect(again.tensors.size() == model.tensors.size(), "the table survives its broadcast");
        for (const OtherFile& other : model.other_files) {
          check_other_file_name(other.name, file.path());
          fuzz::expect(other.extent.offset <= size && other.extent.bytes <= size - other.extent.offset,
                       "another file lies in the file");
        }
        for (const Shard& shard : model.shards) {
          check_other_file_name(shard.name, file.path());
          fuzz::expect(shard.name.find('/') == std::string::npos, "a shard is a plain name");
        }
        FileStorage storage(model, FileStorage::Access::read);
        std::vector<std::byte> start;
        for (const TensorInfo& tensor : model.tensors) {
          if (tensor.dataset.empty() && tensor.extent.bytes > 0) {
            fuzz::expect(tensor.extent.offset <= size && tensor.extent.bytes <= size - tensor.extent.offset,
                         "a tensor lies in the file");
          }
          start.resize(std::min<std::uint64_t>(tensor.extent.bytes, 4096));
          storage.read(tensor, 0, start);
        }
      },
      {ExitCode::bad_input, ExitCode::io});
  return 0;
}
