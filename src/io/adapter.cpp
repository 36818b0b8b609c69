// SPDX-License-Identifier: MIT
#include "lox/io/adapter.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <set>

namespace lox {
namespace {

constexpr std::string_view weight = ".weight";
constexpr std::string_view prefix = "base_model.model.";

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, word) != words.end();
}

/// What stands behind the last point.
std::string_view last_word(std::string_view name) {
  const std::size_t point = name.rfind('.');
  return point == std::string_view::npos ? name : name.substr(point + 1);
}

bool is_embedding(std::string_view module) {
  return is_one_of(last_word(module),
                   {"embed_tokens", "wte", "wpe", "word_embeddings", "tok_embeddings", "embed_in", "shared"});
}

/// vLLM refuses an adapter with a module that it does not expect.
bool is_known_to_vllm(std::string_view module) {
  return is_one_of(last_word(module),
                   {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj",
                    "gate_up_proj", "down_proj", "w1", "w2", "w3", "embed_tokens", "lm_head"});
}

constexpr std::int64_t vllm_vocabulary = 258048;

/// Why this program cannot take the edit of such a module; empty: it can.
std::string refusal(const std::string& module, std::int64_t rows, AdapterFor program) {
  if (program != AdapterFor::vllm) return "";
  if (!is_known_to_vllm(module)) return "vLLM puts no LoRA on '" + std::string(last_word(module)) + "'";
  if (last_word(module) == "lm_head" && rows > vllm_vocabulary) {
    return fmt::format("vLLM puts no LoRA on an lm_head of more than {} rows", vllm_vocabulary);
  }
  return "";
}

AdapterModule make_module(std::size_t tensor, std::int64_t matrix, const std::string& module, bool embedding,
                          std::int64_t out, std::int64_t in) {
  AdapterModule made;
  made.tensor = tensor;
  made.matrix = matrix;
  made.turned = embedding;
  made.count = out;
  made.in = in;
  const std::string name = std::string(prefix) + module;
  made.a = name + (embedding ? ".lora_embedding_A" : ".lora_A.weight");
  made.b = name + (embedding ? ".lora_embedding_B" : ".lora_B.weight");
  made.target = last_word(module);
  return made;
}

/// How the experts of a layer lie in `PREFIX.experts.gate_up_proj` and `.down_proj`, if both are there and
/// their shapes tell: [E, 2I, H] and [E, H, I], or turned, [E, H, 2I] and [E, I, H].
std::optional<bool> are_turned(const std::vector<std::int64_t>& gate_up,
                               const std::vector<std::int64_t>& down) {
  const bool straight = gate_up[1] == 2 * down[2] && gate_up[2] == down[1];
  const bool turned = gate_up[2] == 2 * down[1] && gate_up[1] == down[2];
  return straight == turned ? std::nullopt : std::optional(turned);
}

class TableMaker {
 public:
  TableMaker(const std::vector<AdaptedTensor>& tensors, AdapterFor program)
      : tensors_(tensors), program_(program) {}

  AdapterTable make() {
    for (std::size_t i = 0; i < tensors_.size(); ++i) add(i);
    return std::move(table_);
  }

 private:
  void leave_out(std::size_t tensor, std::string reason) {
    table_.left_out.push_back({tensor, std::move(reason)});
  }

  void add(std::size_t i) {
    const auto& [name, shape] = tensors_[i];
    if (shape.size() == 3) return add_experts(i);
    if (shape.size() != 2) return leave_out(i, "a tensor of more than three dimensions");
    if (!name.ends_with(weight)) return leave_out(i, "no weight of a module");
    const std::string module = name.substr(0, name.size() - weight.size());
    if (is_one_of(last_word(module), {"c_attn", "c_proj", "c_fc"})) {
      return leave_out(i, "a Conv1D, whose weight lies [in, out]");
    }
    if (const std::string why = refusal(module, shape[0], program_); !why.empty()) return leave_out(i, why);
    const bool embedding = is_embedding(module);
    const std::int64_t out = embedding ? shape[1] : shape[0];
    const std::int64_t in = embedding ? shape[0] : shape[1];
    table_.modules.push_back(make_module(i, 0, module, embedding, out, in));
  }

  const AdaptedTensor* find(const std::string& name) const {
    const auto found = std::ranges::find(tensors_, name, &AdaptedTensor::name);
    return found == tensors_.end() || found->shape.size() != 3 ? nullptr : &*found;
  }

  /// Experts in one tensor become modules of their own, as most programs name them.
  void add_experts(std::size_t i) {
    const auto& [name, shape] = tensors_[i];
    const bool is_gate_up = name.ends_with(".experts.gate_up_proj");
    const bool is_down = name.ends_with(".experts.down_proj");
    if (!is_gate_up && !is_down)
      return leave_out(i, "a tensor of three dimensions that is none of known experts");
    if (program_ == AdapterFor::llamacpp)
      return leave_out(i, "llama.cpp's converter takes no experts in one tensor");
    const std::string experts = name.substr(0, name.rfind('.'));
    const AdaptedTensor* const gate_up = find(experts + ".gate_up_proj");
    const AdaptedTensor* const down = find(experts + ".down_proj");
    const bool interleaved = std::ranges::any_of(
        tensors_, [&](const AdaptedTensor& tensor) { return tensor.name == experts + ".gate_up_proj_bias"; });
    if (interleaved && is_gate_up) return leave_out(i, "its gate and up parts are interleaved (gpt-oss)");
    const std::optional<bool> turned =
        gate_up && down ? are_turned(gate_up->shape, down->shape) : std::optional<bool>();
    if (!turned) return leave_out(i, "whether its experts lie [out, in] or [in, out] is not known");
    const std::int64_t out = shape[*turned ? 2 : 1];
    const std::int64_t in = shape[*turned ? 1 : 2];
    for (std::int64_t e = 0; e < shape[0]; ++e) {
      const std::string expert = fmt::format("{}.{}.", experts, e);
      const auto put = [&](const char* word, std::int64_t first, std::int64_t count) {
        AdapterModule module = make_module(i, e, expert + word, false, count, in);
        module.turned = *turned;
        module.first = first;
        table_.modules.push_back(std::move(module));
      };
      if (is_down) {
        put("down_proj", 0, out);
      } else {  // one SVD of both: A is the same, B is cut
        put("gate_proj", 0, out / 2);
        put("up_proj", out / 2, out / 2);
      }
    }
  }

  const std::vector<AdaptedTensor>& tensors_;
  AdapterFor program_;
  AdapterTable table_;
};

}  // namespace

std::string_view adapter_for_name(AdapterFor program) {
  constexpr std::array<std::string_view, 3> names{"peft", "vllm", "llamacpp"};
  return names[static_cast<std::size_t>(program)];
}

AdapterTable adapter_table(const std::vector<AdaptedTensor>& tensors, AdapterFor program) {
  return TableMaker(tensors, program).make();
}

std::string adapter_config(const AdapterTable& table, std::int64_t r, double coef, const std::string& model) {
  std::set<std::string> targets;
  for (const AdapterModule& module : table.modules) targets.insert(module.target);
  const nlohmann::ordered_json config{{"peft_type", "LORA"},
                                      {"task_type", "CAUSAL_LM"},
                                      {"base_model_name_or_path", model},
                                      {"r", r},
                                      {"lora_alpha", coef * static_cast<double>(r)},
                                      {"target_modules", targets},
                                      {"lora_dropout", 0.0},
                                      {"bias", "none"},
                                      {"use_rslora", false},
                                      {"use_dora", false},
                                      {"fan_in_fan_out", false},
                                      {"modules_to_save", nullptr},
                                      {"inference_mode", true}};
  return config.dump(2) + "\n";
}

}  // namespace lox
