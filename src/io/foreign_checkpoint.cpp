// SPDX-License-Identifier: MIT
#include "lox/io/foreign_checkpoint.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace lox {
namespace {

constexpr std::string_view dcp_file = ".distcp";

bool is_of_dcp(const std::string& name) {
  return name == ".metadata" || name.ends_with(dcp_file);
}

/// In the folder of a run of Megatron-LM or Megatron Bridge, or in that of one of its iterations.
bool is_of_megatron(const std::string& name) {
  static constexpr std::array<std::string_view, 3> names{"latest_checkpointed_iteration.txt",
                                                         "latest_train_state.pt", "common.pt"};
  return std::ranges::find(names, name) != names.end() || name.starts_with("iter_");
}

/// Folders of the older form: one for each rank of tensor and pipeline parallelism.
bool is_of_old_megatron(const std::string& name) {
  return name.starts_with("mp_rank_") && name.find('.') == std::string::npos;
}

/// Whether a folder holds something whose name is `of_a_kind`.
bool holds(const fs::path& directory, bool (*of_a_kind)(const std::string&)) {
  const fs::directory_iterator entries(directory);
  return std::any_of(begin(entries), end(entries), [&](const fs::directory_entry& entry) {
    return of_a_kind(entry.path().filename().string());
  });
}

/// The folder, or one of an iteration in it.
bool is_old_megatron(const fs::path& directory) {
  if (holds(directory, is_of_old_megatron)) return true;
  const fs::directory_iterator entries(directory);
  return std::any_of(begin(entries), end(entries), [](const fs::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    return (name.starts_with("iter_") || name == "release") && entry.is_directory() &&
           holds(entry.path(), is_of_old_megatron);
  });
}

[[noreturn]] void refuse_dcp(const fs::path& directory) {
  fail(ExitCode::bad_input,
       "{}: is a distributed checkpoint of torch (DCP), not safetensors; convert it by python -m "
       "torch.distributed.checkpoint.format_utils dcp_to_torch \"{}\" model.pt, and save the weights in "
       "model.pt with safetensors.torch.save_file",
       directory, directory);
}

void refuse_megatron(const fs::path& directory) {
  const bool old = is_old_megatron(directory);
  if (!old && !holds(directory, is_of_megatron)) return;
  const std::string first = old ? to_line(
                                      "start its training once with --load \"{}\" --ckpt-convert-format "
                                      "torch_dist --ckpt-convert-save NEW, then ",
                                      directory)
                                : "";
  fail(ExitCode::bad_input,
       "{}: is a checkpoint of Megatron, not safetensors; {}convert it by python -c \"from megatron.bridge "
       "import AutoBridge; AutoBridge.from_hf_pretrained('HF_MODEL').export_ckpt('{}', 'OUTPUT')\" (Megatron "
       "Bridge; HF_MODEL: the Hugging Face model that it was trained from)",
       directory, first.c_str(), old ? fs::path("NEW/torch_dist") : directory);
}

}  // namespace

void refuse_without_safetensors(const fs::path& directory) {
  refuse_megatron(directory);  // whose newer form is one of DCP
  if (holds(directory, is_of_dcp)) refuse_dcp(directory);
  fail(ExitCode::bad_input,
       "{}: holds no *.safetensors; other forms (*.bin, *.pth, *.gguf) must be saved as safetensors first",
       directory);
}

void refuse_foreign_file(const fs::path& file) {
  if (file.extension() == dcp_file || file.filename() == ".metadata")
    refuse_without_safetensors(file.has_parent_path() ? file.parent_path() : fs::path("."));
}

}  // namespace lox
