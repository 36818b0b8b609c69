// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/dtype.hpp"
#include "lox/base/file.hpp"
#include "lox/base/mpi.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lox {

struct Quantised;
struct Parts;
struct View;

/// Where bytes lie: `bytes` of them at `offset` of file number `file` of the checkpoint.
struct Extent {
  int file = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

struct TensorInfo {
  std::string name;
  DType dtype = DType::F32;         ///< of a quantised tensor: what is written of its values
  std::vector<std::int64_t> shape;  ///< C order
  Extent extent;
  /// HDF5 path of a dataset that has no extent of plain little-endian bytes (chunked, compressed, big
  /// endian): its bytes come through the library, converted to `dtype`. Empty for all others.
  std::string dataset;
  /// If the values lie on disk as codes and scales (io/quantised); `extent` is then in the file of the codes
  /// and as long as the values are in `dtype`.
  std::shared_ptr<const Quantised> quantised = {};
  /// If the tensor lies in parts over several places (io/parts); `extent` then begins with the first of them
  /// and is as long as the whole tensor.
  std::shared_ptr<const Parts> parts = {};
  /// If it is another tensor, or some of one, seen in another way (io/view); `extent` then begins with that
  /// one's and is as long as this tensor.
  std::shared_ptr<const View> view = {};

  std::int64_t elements() const;
  /// In which the values are calculated with: F32 if the tensor is quantised, else `dtype`.
  DType value_dtype() const { return quantised ? DType::F32 : dtype; }
  /// Bytes on disk, scales included.
  std::uint64_t stored_bytes() const;
};

/// How the values of a tensor lie on disk: value = code * scale of its block.
struct Quantised {
  TensorInfo codes;             ///< F8_E4M3, in the tensor's shape
  TensorInfo scales;            ///< floats, in C order one for each block of each matrix
  std::int64_t block_rows = 1;  ///< at the end of rows and columns blocks may be smaller
  std::int64_t block_cols = 1;
};

/// Boxes that a tensor was cut into, each whole in a file, in C order: they cover the tensor and do not
/// overlap.
struct Parts {
  std::size_t dimensions = 0;
  std::vector<Extent> extents;
  std::vector<std::int64_t> boxes;  ///< of each part where it begins in the tensor, then its shape

  std::size_t count() const { return extents.size(); }
  std::span<const std::int64_t> begin(std::size_t part) const {
    return std::span(boxes).subspan(2 * part * dimensions, dimensions);
  }
  std::span<const std::int64_t> shape(std::size_t part) const {
    return std::span(boxes).subspan((2 * part + 1) * dimensions, dimensions);
  }
};

/// Another tensor's entries from number `first` on; if `transposed`, of that tensor with its last two
/// dimensions swapped.
struct View {
  TensorInfo source;
  std::uint64_t first = 0;
  bool transposed = false;
};

/// Another file of the model directory (config.json, tokenizer ...), copied byte for byte.
struct OtherFile {
  std::string name;                      ///< relative path, '/' between folders
  Extent extent;                         ///< of file -1: there are no bytes yet
  std::optional<std::string> text = {};  ///< what it holds, where that is not what the file holds
};

/// Whether another file holds weights in another form (*.bin, *.gguf, original/ ...): `convert` copies it,
/// but an edited model must not have it, since it would hand on the weights without the edit.
bool is_foreign_weights(const std::string& name);

/// A safetensors file as it must be written again: its name and its header, every byte of it (without the
/// length).
struct Shard {
  std::string name;
  std::string header;
};

enum class Format { safetensors_file, safetensors_directory, hdf5 };

/// What a path will hold if lox writes to it: *.h5 and *.hdf5 HDF5, *.safetensors one file, anything else a
/// directory.
Format format_of(const fs::path& path);

/// A model on disk as a table: names, shapes, dtypes and the extents of their bytes. A plain value without
/// open files, whatever the format; rank 0 makes it and broadcasts it.
struct Checkpoint {
  Format format = Format::safetensors_file;
  fs::path path;
  std::vector<fs::path> files;         ///< the files that extents refer to
  std::vector<TensorInfo> tensors;     ///< in file order
  std::vector<OtherFile> other_files;  ///< sorted by name
  /// The safetensors form of this model: every tensor is in one of them. Empty if it has none yet (a foreign
  /// HDF5 file, a model made from nothing): then it is made up where it is needed, in shards of 5 GB.
  std::vector<Shard> shards;

  std::uint64_t bytes() const;             ///< of all tensors
  std::uint64_t bytes_with_files() const;  ///< of all tensors and other files
  /// The table as JSON and back, to hand it to other ranks. Shard headers stay behind.
  std::string to_text() const;
  static Checkpoint from_text(const std::string& text);
};

/// Rank 0's table, on all ranks. Collective.
void broadcast(const Comm& comm, Checkpoint& table);

/// Reads and validates every header under `path` (a directory of *.safetensors, one .safetensors, one
/// .h5/.hdf5). Throws Error(bad_input) naming file, tensor and fact.
Checkpoint open_checkpoint(const fs::path& path);

/// Makes a checkpoint of the tensors and other files of `like` at `path`, as `format`, at its final size
/// but for the bytes of tensors and other files; everything else is complete and on disk when it returns.
/// The result's tensors are in the order of `like.tensors`, its other files in that of `like.other_files`. A
/// single file *.safetensors has no place for other files, so there the result has none.
/// `path` must not exist. What was made is removed again if making it fails.
Checkpoint create_checkpoint(const Checkpoint& like, const fs::path& path, Format format,
                             Space space = Space::reserved);

}  // namespace lox
