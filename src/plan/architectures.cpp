// SPDX-License-Identifier: MIT
#include "lox/plan/architectures.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <array>

namespace lox {
namespace {

constexpr Block embeddings{Part::start, "model.embed_tokens.weight V H"};
constexpr Block last_norm{Part::end, "model.norm.weight H"};
constexpr Block head{Part::head, "lm_head.weight V H"};

constexpr Block first_norm{Part::layer, "input_layernorm.weight H"};
constexpr Block second_norm{Part::layer, "post_attention_layernorm.weight H"};
constexpr Block queries_keys_values{Part::layer,
                                    "self_attn.q_proj.weight N*D H *\n"
                                    "self_attn.k_proj.weight G*D H *\n"
                                    "self_attn.v_proj.weight G*D H *"};
constexpr Block attention_biases{Part::layer,
                                 "self_attn.q_proj.bias N*D\n"
                                 "self_attn.k_proj.bias G*D\n"
                                 "self_attn.v_proj.bias G*D"};
constexpr Block norms_of_heads{Part::layer,
                               "self_attn.q_norm.weight D\n"
                               "self_attn.k_norm.weight D"};
constexpr Block attention_output{Part::layer, "self_attn.o_proj.weight H N*D *"};

constexpr Block gated{Part::dense,
                      "mlp.gate_proj.weight I H *\n"
                      "mlp.up_proj.weight I H *\n"
                      "mlp.down_proj.weight H I *"};
constexpr Block experts{Part::sparse,
                        "mlp.experts.{e}.gate_proj.weight M H *\n"
                        "mlp.experts.{e}.up_proj.weight M H *\n"
                        "mlp.experts.{e}.down_proj.weight H M *"};
constexpr Block router{Part::sparse, "mlp.gate.weight E H"};

constexpr std::array llama{embeddings,  first_norm, queries_keys_values, attention_output,
                           second_norm, gated,      last_norm,           head};

constexpr std::array qwen2{
    embeddings, first_norm, queries_keys_values, attention_biases, attention_output, second_norm, gated,
    last_norm,  head};

constexpr std::array qwen3{embeddings,
                           first_norm,
                           queries_keys_values,
                           norms_of_heads,
                           attention_output,
                           second_norm,
                           gated,
                           router,
                           experts,
                           last_norm,
                           head};

constexpr std::array mixtral{embeddings,
                             first_norm,
                             queries_keys_values,
                             attention_output,
                             second_norm,
                             Block{Part::sparse, "block_sparse_moe.gate.weight E H"},
                             Block{Part::sparse,
                                   "block_sparse_moe.experts.{e}.w1.weight I H *\n"
                                   "block_sparse_moe.experts.{e}.w3.weight I H *\n"
                                   "block_sparse_moe.experts.{e}.w2.weight H I *"},
                             last_norm,
                             head};

/// Multi-head latent attention. Its sizes are those of all models of this kind, whatever their number of
/// heads: q_lora_rank 1536, kv_lora_rank 512, heads of 128 without and 64 with positions, values of 128.
constexpr std::array deepseek{embeddings,
                              first_norm,
                              Block{Part::layer,
                                    "self_attn.q_a_proj.weight 1536 H *\n"
                                    "self_attn.q_a_layernorm.weight 1536\n"
                                    "self_attn.q_b_proj.weight N*192 1536 *\n"
                                    "self_attn.kv_a_proj_with_mqa.weight 576 H *\n"
                                    "self_attn.kv_a_layernorm.weight 512\n"
                                    "self_attn.kv_b_proj.weight N*256 512 *\n"
                                    "self_attn.o_proj.weight H N*128 *"},
                              second_norm,
                              gated,
                              router,
                              Block{Part::sparse, "mlp.gate.e_score_correction_bias E F32"},
                              experts,
                              Block{Part::sparse,
                                    "mlp.shared_experts.gate_proj.weight M H *\n"
                                    "mlp.shared_experts.up_proj.weight M H *\n"
                                    "mlp.shared_experts.down_proj.weight H M *"},
                              Block{Part::mtp,
                                    "embed_tokens.weight V H\n"
                                    "enorm.weight H\n"
                                    "hnorm.weight H\n"
                                    "eh_proj.weight H 2*H\n"
                                    "shared_head.norm.weight H\n"
                                    "shared_head.head.weight V H"},
                              last_norm,
                              head};
constexpr std::string_view deepseek_config = R"({"first_k_dense_replace": 0, "kv_lora_rank": 512,
  "moe_layer_freq": 1, "n_shared_experts": 1, "norm_topk_prob": true, "num_experts_per_tok": 8,
  "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "scoring_func": "sigmoid",
  "topk_method": "noaux_tc", "v_head_dim": 128})";

constexpr Block norms_around_feed_forward{Part::layer,
                                          "pre_feedforward_layernorm.weight H\n"
                                          "post_feedforward_layernorm.weight H"};

constexpr std::array gemma3_text{
    embeddings,  first_norm, queries_keys_values,       norms_of_heads, attention_output,
    second_norm, gated,      norms_around_feed_forward, last_norm};

constexpr std::array gemma3{
    Block{Part::start,
          "vision_tower.vision_model.embeddings.patch_embedding.weight 1152 3 14 14\n"
          "vision_tower.vision_model.embeddings.patch_embedding.bias 1152\n"
          "vision_tower.vision_model.embeddings.position_embedding.weight 4096 1152"},
    Block{Part::start,
          "vision_tower.vision_model.encoder.layers.{v}.layer_norm1.weight 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.layer_norm1.bias 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.layer_norm2.weight 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.layer_norm2.bias 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.mlp.fc1.weight 4304 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.mlp.fc1.bias 4304\n"
          "vision_tower.vision_model.encoder.layers.{v}.mlp.fc2.weight 1152 4304\n"
          "vision_tower.vision_model.encoder.layers.{v}.mlp.fc2.bias 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.self_attn.k_proj.weight 1152 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.self_attn.k_proj.bias 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.self_attn.out_proj.weight 1152 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.self_attn.out_proj.bias 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.self_attn.q_proj.weight 1152 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.self_attn.q_proj.bias 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.self_attn.v_proj.weight 1152 1152\n"
          "vision_tower.vision_model.encoder.layers.{v}.self_attn.v_proj.bias 1152"},
    Block{Part::start,
          "vision_tower.vision_model.post_layernorm.weight 1152\n"
          "vision_tower.vision_model.post_layernorm.bias 1152\n"
          "multi_modal_projector.mm_input_projection_weight 1152 H\n"
          "multi_modal_projector.mm_soft_emb_norm.weight 1152\n"
          "language_model.model.embed_tokens.weight V H"},
    first_norm,
    queries_keys_values,
    norms_of_heads,
    attention_output,
    second_norm,
    gated,
    norms_around_feed_forward,
    Block{Part::end, "language_model.model.norm.weight H"}};

constexpr std::array olmo2{embeddings,
                           queries_keys_values,
                           Block{Part::layer,
                                 "self_attn.q_norm.weight N*D\n"
                                 "self_attn.k_norm.weight G*D"},
                           attention_output,
                           second_norm,
                           gated,
                           Block{Part::layer, "post_feedforward_layernorm.weight H"},
                           last_norm,
                           head};

constexpr std::array apertus{embeddings,
                             Block{Part::layer, "attention_layernorm.weight H"},
                             queries_keys_values,
                             norms_of_heads,
                             attention_output,
                             Block{Part::layer, "feedforward_layernorm.weight H"},
                             Block{Part::dense,
                                   "mlp.up_proj.weight I H *\n"
                                   "mlp.down_proj.weight H I *\n"
                                   "mlp.act_fn.alpha_n 1\n"
                                   "mlp.act_fn.alpha_p 1\n"
                                   "mlp.act_fn.beta\n"
                                   "mlp.act_fn.eps"},
                             last_norm,
                             head};

constexpr std::string_view model_layers = "model.layers.";
constexpr std::array architectures{
    Architecture{"llama", "LlamaForCausalLM", model_layers, llama},
    Architecture{"qwen2", "Qwen2ForCausalLM", model_layers, qwen2},
    Architecture{"qwen3", "Qwen3ForCausalLM", model_layers, qwen3},
    Architecture{"qwen3_moe", "Qwen3MoeForCausalLM", model_layers, qwen3, "num_experts",
                 R"({"norm_topk_prob": true, "num_experts_per_tok": 8})"},
    Architecture{"mixtral", "MixtralForCausalLM", model_layers, mixtral, "num_local_experts",
                 R"({"num_experts_per_tok": 2})"},
    Architecture{"deepseek_v3", "DeepseekV3ForCausalLM", model_layers, deepseek, "n_routed_experts",
                 deepseek_config},
    Architecture{"kimi_k2", "DeepseekV3ForCausalLM", model_layers, deepseek, "n_routed_experts",
                 deepseek_config},
    Architecture{"gemma3_text", "Gemma3ForCausalLM", model_layers, gemma3_text},
    Architecture{"gemma3", "Gemma3ForConditionalGeneration", "language_model.model.layers.", gemma3},
    Architecture{"olmo2", "Olmo2ForCausalLM", model_layers, olmo2},
    Architecture{"apertus", "ApertusForCausalLM", model_layers, apertus},
};

}  // namespace

const Architecture& architecture(std::string_view model_type) {
  const auto* const found = std::ranges::find(architectures, model_type, &Architecture::model_type);
  if (found == architectures.end()) fail(ExitCode::internal, "no architecture is called '{}'", model_type);
  return *found;
}

}  // namespace lox
