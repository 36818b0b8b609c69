// SPDX-License-Identifier: MIT
#include "lox/task/synth.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/fp8.hpp"
#include "lox/base/half.hpp"
#include "lox/base/random.hpp"
#include "lox/base/simd.hpp"
#include "lox/io/output.hpp"
#include "lox/io/pages.hpp"
#include "lox/io/safetensors.hpp"
#include "lox/linalg/matrix.hpp"
#include "lox/plan/shapes.hpp"
#include "lox/task/session.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

constexpr float weight_deviation = 0.02F;
constexpr float noise_deviation = 1e-4F;  // of the full-rank part of the delta
constexpr Index delta_rank = 24;

/// Takes bytes of the output's tensor of that number, at a position in it.
using TakeTensorBytes = std::function<void(std::size_t, std::uint64_t, std::span<const std::byte>)>;

/// Entries [first, first + count) of a base weight.
LOX_SIMD void fill_base(std::uint64_t key, std::uint64_t first, std::size_t count, std::uint16_t* to) {
  for (std::size_t i = 0; i < count; ++i) to[i] = float_to_bf16(weight_deviation * normal_at(key, first + i));
}

/// The same plus the delta's low-rank part (given) and noise.
LOX_SIMD void fill_aligned(std::uint64_t key, std::uint64_t noise_key, std::uint64_t first, std::size_t count,
                           const float* low_rank, std::uint16_t* to) {
  for (std::size_t i = 0; i < count; ++i) {
    const float base = bf16_to_float(float_to_bf16(weight_deviation * normal_at(key, first + i)));
    to[i] = float_to_bf16(base + low_rank[i] + noise_deviation * normal_at(noise_key, first + i));
  }
}

/// n x delta_rank of variance 1 / n: nearly orthonormal for large n.
Panel random_factor(std::uint64_t key, Index n) {
  Panel factor(n, delta_rank);
  const float scale = 1.0F / std::sqrt(static_cast<float>(n));
  for (Index i = 0; i < factor.size(); ++i) {
    factor.data()[i] = scale * normal_at(key, static_cast<std::uint64_t>(i));
  }
  return factor;
}

/// Rows from the top of a row of blocks as codes, with a scale for each block: of its largest value 448 is
/// made. The last blocks may be smaller.
void quantise(const std::uint16_t* values, Index rows, Index cols, std::byte* codes, float* scales) {
  const Index across = (cols + fp8_block - 1) / fp8_block;
  const Index blocks = (rows + fp8_block - 1) / fp8_block * across;
#pragma omp parallel for schedule(static)
  for (Index block = 0; block < blocks; ++block) {
    const Index row = block / across * fp8_block;
    const Index col = block % across * fp8_block;
    const Index end = std::min(row + fp8_block, rows);
    const Index wide = std::min(fp8_block, cols - col);
    std::array<float, fp8_block> line{};
    const auto widen = [&](Index i) {
      for (Index j = 0; j < wide; ++j) line.at(j) = bf16_to_float(values[i * cols + col + j]);
    };
    float largest = 0;
    for (Index i = row; i < end; ++i) {
      widen(i);
      for (const float value : line) largest = std::max(largest, std::abs(value));
    }
    scales[block] = largest > 0 ? largest / static_cast<float>(largest_e4m3) : 1;
    for (Index i = row; i < end; ++i) {
      widen(i);
      to_e4m3(line.data(), static_cast<std::size_t>(wide), scales[block], codes + i * cols + col);
    }
  }
}

class Generator {
 public:
  Generator(const SynthOptions& options, const Checkpoint& table) : options_(options), table_(table) {}

  /// Whether the tensor is written with the one before it: its scales.
  bool goes_along(std::size_t number) const {
    return number > 0 && table_.tensors[number - 1].dtype == DType::F8_E4M3;
  }

  /// Writes a tensor in pieces of whole rows, but for its edges (io/pages), and its scales, which follow it.
  void write(std::size_t number, Storage& storage, const TakeTensorBytes& edge) const {
    const TensorInfo& tensor = table_.tensors[number];
    const bool fp8 = tensor.dtype == DType::F8_E4M3;
    const bool vector = tensor.shape.size() < 2;
    const Index cols = tensor.shape.empty() ? 1 : tensor.shape.back();
    const Index rows = tensor.elements() / cols;
    const std::uint64_t key = stream_key(options_.seed, tensor.name);
    Panel left;
    Panel right;
    if (options_.aligned && !vector) {
      left = random_factor(mix64(key + 1), rows);
      right = random_factor(mix64(key + 2), cols);
      // The noise's own largest singular value is about deviation * (sqrt(m) + sqrt(n)); the planted ones
      // fall from eight times that to below it.
      const float noise_edge =
          noise_deviation * (std::sqrt(static_cast<float>(rows)) + std::sqrt(static_cast<float>(cols)));
      for (Index r = 0; r < delta_rank; ++r) left.col(r) *= 8 * noise_edge / static_cast<float>(r + 1);
    }
    const Index least = fp8 ? fp8_block : 1;
    const Index at_once = std::max<Index>(1, (Index{4} << 20) / cols / least) * least;
    const auto put = [&](std::size_t which, std::uint64_t first, std::span<const std::byte> bytes) {
      write_own_pages(storage, table_.tensors[which].extent, first, bytes,
                      [&](std::uint64_t at, std::span<const std::byte> rest) { edge(which, at, rest); });
    };
    Buffer codes;
    std::vector<float> scales;
    if (fp8) codes = Buffer(static_cast<std::size_t>(std::min(at_once, rows) * cols));
    Buffer buffer(static_cast<std::size_t>(std::min(at_once, rows) * cols) * 2);
    auto* const values = reinterpret_cast<std::uint16_t*>(buffer.data());
    RowMajorMatrix low_rank;
    for (Index first = 0; first < rows; first += at_once) {
      const Index count = std::min(at_once, rows - first);
      if (left.size() > 0) low_rank.noalias() = left.middleRows(first, count) * right.transpose();
#pragma omp parallel for schedule(static)
      for (Index row = 0; row < count; ++row) {
        const auto start = static_cast<std::uint64_t>((first + row) * cols);
        std::uint16_t* const to = values + row * cols;
        if (vector) {
          for (Index i = 0; i < cols; ++i) {
            to[i] =
                float_to_bf16(1 + weight_deviation * normal_at(key, start + static_cast<std::uint64_t>(i)));
          }
        } else if (options_.aligned) {
          fill_aligned(key, mix64(key + 3), start, static_cast<std::size_t>(cols),
                       low_rank.data() + row * cols, to);
        } else {
          fill_base(key, start, static_cast<std::size_t>(cols), to);
        }
      }
      const auto entries = static_cast<std::size_t>(count * cols);
      const auto done = static_cast<std::uint64_t>(first * cols);
      if (fp8) {
        const std::size_t made = scales.size();
        const Index across = (cols + fp8_block - 1) / fp8_block;
        scales.resize(made + static_cast<std::size_t>((count + fp8_block - 1) / fp8_block * across));
        quantise(values, count, cols, codes.data(), scales.data() + made);
        put(number, done, codes.bytes().first(entries));
      } else if (tensor.dtype == DType::F32) {
        std::vector<float> wide(entries);
        std::transform(values, values + entries, wide.begin(), bf16_to_float);
        put(number, done * sizeof(float), std::as_bytes(std::span(wide)));
      } else {
        put(number, done * 2, buffer.bytes().first(entries * 2));
      }
    }
    if (fp8) put(number + 1, 0, std::as_bytes(std::span(scales)));
  }

 private:
  const SynthOptions& options_;
  const Checkpoint& table_;
};

/// Writes what the ranks kept: tensor, first byte, number of bytes, then the bytes themselves, again and
/// again.
void put_edges(std::string_view edges, const Checkpoint& table) {
  FileStorage storage(table, FileStorage::Access::write);
  while (!edges.empty()) {
    std::array<std::uint64_t, 3> numbers{};
    std::memcpy(numbers.data(), edges.data(), sizeof numbers);
    edges.remove_prefix(sizeof numbers);
    const Extent& extent = table.tensors.at(numbers[0]).extent;
    put_edge(storage, extent, numbers[1], std::as_bytes(std::span(edges.substr(0, numbers[2]))));
    edges.remove_prefix(numbers[2]);
  }
  storage.sync_written();
}

/// What makes a half of a pair this one.
nlohmann::json identity_of_half(const SynthOptions& options) {
  nlohmann::json identity{
      {"task", "synth"},      {"shape", options.shape},     {"layers", options.layers},
      {"seed", options.seed}, {"aligned", options.aligned}, {"headers_only", options.headers_only}};
  if (options.fp8) identity["quantised"] = "fp8";
  return identity;
}

}  // namespace

Forecast plan_synth(const SynthOptions& options, int ranks, double bandwidth) {
  check_output(options.target, {options.overwrite, {}});
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : model_tensors(model_shape(options.shape), options.layers, options.fp8)) {
    bytes += tensor.extent.bytes;
  }
  return forecast_copy(0, options.headers_only ? 0 : bytes, ranks, bandwidth);
}

std::optional<std::uint64_t> synthesise(const Comm& comm, const SynthOptions& options) {
  const ModelShape& shape = model_shape(options.shape);
  std::optional<Output> output;
  Checkpoint table;
  bool done = false;
  on_root(comm, [&] {
    Checkpoint like;
    like.format = Format::safetensors_directory;
    like.tensors = model_tensors(shape, options.layers, options.fp8);
    like.shards = make_shards(like.tensors, shard_limit);
    std::vector<std::pair<std::string, std::string>> files{
        {"config.json", model_config(shape, options.layers, options.fp8)}};
    if (like.shards.size() > 1) {
      files.emplace_back("model.safetensors.index.json", make_safetensors_index(like.shards));
    }
    for (const auto& [name, text] : files) like.other_files.push_back({name, {0, 0, text.size()}});
    output = Output::create(options.target, {options.overwrite, {}}, like, identity_of_half(options),
                            options.headers_only ? Space::sparse : Space::reserved);
    table = output->table();
    done = output->state() != Output::State::fresh;
    if (done) {
      output->finish();
      return;
    }
    FileStorage storage(table, FileStorage::Access::write);
    for (const OtherFile& file : table.other_files) {
      for (const auto& [name, text] : files) {
        if (name == file.name) storage.write(file.extent, 0, std::as_bytes(std::span(text)));
      }
    }
    storage.sync_written();
  });
  if (comm.sum(std::int64_t{done ? 1 : 0}) > 0) return std::nullopt;
  broadcast(comm, table);
  std::optional<OutputLock> lock = Output::join(comm, options.target, output ? &*output : nullptr);
  const Generator generator(options, table);
  const std::uint64_t total = table.bytes();
  std::string edges;
  together(comm, [&] {  // what it has opened is closed at its end: rank 0 may have to remove it
    const std::optional<OutputLock> held = std::exchange(lock, std::nullopt);
    FileStorage storage(table, FileStorage::Access::write);
    const auto keep = [&](std::size_t t, std::uint64_t first, std::span<const std::byte> bytes) {
      for (const std::uint64_t number : {std::uint64_t{t}, first, std::uint64_t{bytes.size()}}) {
        edges.append(reinterpret_cast<const char*>(&number), sizeof number);
      }
      edges.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    std::uint64_t given = 0;  // tensors go to ranks by bytes, in order
    for (std::size_t t = 0; t < table.tensors.size(); ++t) {
      refuse_if_stopped();
      const auto owner = static_cast<int>(given * static_cast<std::uint64_t>(comm.size()) / (total + 1));
      given += table.tensors[t].extent.bytes;
      if (owner != comm.rank() || options.headers_only || generator.goes_along(t)) continue;
      generator.write(t, storage, keep);
    }
    storage.sync_written();
  });
  const std::vector<std::string> all_edges = comm.gather(edges);
  on_root(comm, [&] {
    for (const std::string& one : all_edges) put_edges(one, table);
    output->finish();
  });
  return total;
}

}  // namespace lox
