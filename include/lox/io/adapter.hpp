// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/dtype.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {

/// The program that is to load a LoRA adapter: it decides what can go into one.
enum class AdapterFor { peft, vllm, llamacpp };
std::string_view adapter_for_name(AdapterFor program);

/// A tensor of the model whose edit is to become a part of an adapter.
struct AdaptedTensor {
  std::string name;
  std::vector<std::int64_t> shape;  ///< [.., m, n]
};

/// One module of an adapter: its weight is W + scale * B A, or for an embedding W + scale * (B A)^T. With the
/// triplets Delta = U diag(s) V^T of a matrix of the model, by the way its tensor lies:
///
///     [out, in]   A = V^T              B = U diag(s), rows [first, first + count) of it
///     [in, out]   A = U^T              B = V diag(s), rows [first, first + count) of it     (turned)
struct AdapterModule {
  std::size_t tensor = 0;   ///< which one of the model's tensors
  std::int64_t matrix = 0;  ///< of its batch
  bool turned = false;      ///< an embedding, or a matrix of experts that is stored [in, out]
  std::int64_t first = 0;
  std::int64_t count = 0;  ///< rows of B
  std::int64_t in = 0;     ///< columns of A
  std::string a;           ///< name of A
  std::string b;
  std::string target;  ///< what target_modules must hold: the module's own name, without those before it
};

/// A tensor of which an adapter for that program takes no edit, and why.
struct LeftOut {
  std::size_t tensor = 0;
  std::string reason;
};

struct AdapterTable {
  std::vector<AdapterModule> modules;
  std::vector<LeftOut> left_out;
};

/// What goes into an adapter, and what does not. Knows names alone (docs/adapters.md).
AdapterTable adapter_table(const std::vector<AdaptedTensor>& tensors, AdapterFor program);

/// The text of adapter_config.json: rank r and lora_alpha = coef * r, so that another coef is one number.
/// `model`: path of the aligned model.
std::string adapter_config(const AdapterTable& table, std::int64_t r, double coef, const std::string& model);

}  // namespace lox
