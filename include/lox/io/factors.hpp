// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/checksum.hpp"
#include "lox/io/checkpoint.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

/// A store of factors is a checkpoint like any other (docs/formats.md). Of a tensor [.., m, n] it holds
///
///     name.u  [.., m, K]     name.s  [.., K]     name.v  [.., n, K]      Delta_K = u diag(s) v^T
///
/// in F32, triplets that there are not being zero. Of a tensor of more than 16 bits an entry it also holds
/// what F32 rounds away, name.u_low, .s_low (in F64: of singular values below the smallest float all is
/// rounded away) and .v_low, to be added to the others. Where min(m, n) <= K it holds Delta itself,
/// name.delta [.., m, n], which is what harden adds there.
inline constexpr const char* factors_file = "factors.json";

enum class FactorPart : std::size_t { u, s, v, u_low, s_low, v_low, delta };
inline constexpr std::size_t factor_parts = 7;
std::string factor_name(const std::string& tensor, FactorPart part);
DType factor_dtype(FactorPart part);

/// Whether a checkpoint carries the text of a store.
bool is_store(const Checkpoint& checkpoint);

/// The tensors of a store for these tensors of the aligned model, K triplets each, in their order; those of
/// F64 first.
std::vector<TensorInfo> factor_tensors(const std::vector<TensorInfo>& aligned, std::int64_t k);

/// Which tensors of a store hold the parts of a tensor's factors; -1: there is none.
using FactorIndices = std::array<int, factor_parts>;

/// Finds the factors of tensors in a store.
class FactorTable {
 public:
  explicit FactorTable(const Checkpoint& store);
  /// Without a `u` the store has no factors of this tensor.
  FactorIndices find(const std::string& tensor) const;

 private:
  std::unordered_map<std::string, int> by_name_;
};

/// A k' < K for which the first k' triplets are not known to make Delta_k', and why: "tie" (s_k' = s_k'+1),
/// "rounding", "unfinished".
struct OpenRank {
  std::int64_t k = 0;
  double gap = 0;  ///< (s_k' - s_k'+1) / s_k'
  std::string why;
  bool operator==(const OpenRank&) const = default;
};

/// What a store says of one matrix.
struct FactorEntry {
  std::string tensor;       ///< of the aligned model
  std::int64_t matrix = 0;  ///< which one of the tensor's batch
  Content aligned;          ///< what the aligned matrix holds
  double delta_norm = 0;    ///< |Delta|_F
  std::string method;
  double certificate = 0;
  double orthogonality = 0;
  double missed_epsilon = 0;
  double missed_probability = 0;
  bool settled = true;            ///< Delta_K is exact enough; it is not where s_K = s_K+1
  std::vector<double> residuals;  ///< of each triplet, over its singular value
  std::vector<OpenRank> open;
  std::optional<Content> base = {};  ///< what the base's holds; stores of lox 0.1 do not tell
};

/// What a store says of itself, in factors.json.
struct FactorsInfo {
  std::string lox;  ///< version
  std::int64_t k = 0;
  nlohmann::json job;      ///< parameters and paths
  nlohmann::json base;     ///< identity
  nlohmann::json aligned;  ///< identity
  std::vector<FactorEntry> matrices;
};

/// Bytes that the text of factors.json can take, known before there is a number: it lies in the store, which
/// has its size from the start. `info` has all but the matrices' numbers.
std::uint64_t longest_factors_text(const FactorsInfo& info);

/// A store to be made, as `like` for create_checkpoint: the text has its place, but is not there. One
/// *.safetensors file has no place for other files; there the text is a part of the header's __metadata__.
Checkpoint factors_to_make(std::vector<TensorInfo> tensors, Format format, std::uint64_t text_bytes);

/// Puts the text into the place that factors_to_make() made for it, on disk when it returns.
void write_factors_info(const Checkpoint& store, const FactorsInfo& info);

/// Throws Error(bad_input) if the checkpoint is no store of factors. `store` with shard headers, as
/// open_checkpoint() gives it.
FactorsInfo read_factors_info(const Checkpoint& store);

}  // namespace lox
