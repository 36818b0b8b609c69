// SPDX-License-Identifier: MIT
#include "lox/task/pair.hpp"

#include "lox/base/error.hpp"
#include "lox/base/units.hpp"
#include "lox/io/model_config.hpp"
#include "lox/io/quantised_model.hpp"
#include "lox/plan/matching.hpp"

#include <algorithm>
#include <exception>
#include <future>

#include <re2/re2.h>

namespace lox {
namespace {

/// What a user of the adapter may not expect, a line each.
void tell_of_adapter(const Pair& pair, const Log& log) {
  const PeftAdapter& adapter = pair.adapter->adapter;
  warn_of_unused_weights(adapter, log);
  std::vector<const TensorInfo*> kept;
  for (const int at : pair.adapter->replaced) {
    const auto index = static_cast<std::size_t>(at);
    const TensorInfo& ours = pair.adapter->table.tensors[index];
    if (ours.dtype != pair.base.tensors[index].dtype) kept.push_back(&ours);
  }
  if (!kept.empty()) {
    log.warn("{}: {} written as {}, the adapter's dtype and not the base's; the first is '{}'",
             adapter.table.path, count_of(static_cast<std::int64_t>(kept.size()), "tensor"),
             dtype_name(kept[0]->dtype), kept[0]->name);
  }
  if (adapter.config.on_quantised) {
    log.warn(
        "{}: was trained beside a quantised base, '{}'; its Delta is added to the weights of {}, which "
        "differ",
        adapter.table.path, adapter.config.base_name, pair.base.path);
  }
}

/// One model under two names has no Delta.
void refuse_one_model(const Job& job) {
  std::error_code ignored;
  if (!fs::equivalent(job.base, job.aligned, ignored)) return;
  fail(ExitCode::bad_input,
       "{} and {}: --base and --aligned name one model; name the model before its alignment as --base",
       job.base, job.aligned);
}

Checkpoint dequantised_model(Checkpoint model, std::string_view name, const Log& log) {
  Checkpoint made = dequantised(std::move(model));
  const std::int64_t count = count_quantised(made);
  if (count > 0) {
    log.info("{}: {} tensors of the {} model are FP8: calculated with as code x scale, written as BF16",
             made.path, count, name);
  }
  return made;
}

/// By its files, or by what its folder is called.
bool looks_aligned(const Checkpoint& model) {
  const auto is_template = [](const OtherFile& file) { return file.name.starts_with("chat_template."); };
  if (std::ranges::any_of(model.other_files, is_template)) return true;
  const nlohmann::json tokenizer = read_json_of(model, "tokenizer_config.json");
  if (!tokenizer.value("chat_template", nlohmann::json()).is_null()) return true;
  static const re2::RE2 words("(?i)(^|[^a-z])(instruct|chat|dpo|sft|rlhf|it)([^a-z]|$)");
  return re2::RE2::PartialMatch(fs::absolute(model.path).lexically_normal().filename().string(), words);
}

void warn_of_swapped_models(const Pair& pair, const Log& log) {
  if (!looks_aligned(pair.base) || looks_aligned(pair.aligned)) return;
  log.warn(
      "{} looks like the aligned model (its name, or a chat template), and {} does not: are --base and "
      "--aligned swapped? The edit would weaken the alignment",
      pair.base.path, pair.aligned.path);
}

}  // namespace

void drop_foreign_weights(Checkpoint& aligned, const Log& log) {
  std::erase_if(aligned.other_files, [&](const OtherFile& file) {
    const bool drop = is_foreign_weights(file.name);
    if (drop) log.warn("{} is not copied: it holds weights that are not hardened", file.name);
    return drop;
  });
}

void refuse_equal_models(const Pair& pair, const std::vector<Record>& records) {
  const auto differs = [](const Record& record) { return record.spectrum.delta_norm > 0; };
  if (std::ranges::any_of(records, differs)) return;
  fail(ExitCode::bad_input,
       "{}: no matrix to be edited differs from that of {}; name the model before its alignment "
       "as --base",
       pair.aligned.path, pair.base.path);
}

void refuse_pair_rules(const Job& job) {
  if (!job.pairing.any()) return;
  fail(ExitCode::usage,
       "{}: is an adapter, which is made for the base's own names and shapes: --rename, --unpaired and "
       "--extra-rows are for two models",
       job.aligned);
}

void warn_of_unused_weights(const PeftAdapter& adapter, const Log& log) {
  for (const std::string& name : unused_weights(adapter)) {
    log.warn("{}: is no part of the adapter, whose weights are adapter_model.safetensors alone",
             adapter.table.path / name);
  }
}

void warn_of_no_edit(double coef, const fs::path& model, const Log& log) {
  if (coef == 0) log.warn("coef 0 changes nothing in {}", model);
}

void match_models(Checkpoint& base, const Checkpoint& aligned, const Job& job, const Log& log) {
  const std::vector<std::string> lines =
      match_names(base, aligned, ties_embeddings(base), job.selection, job.pairing);
  for (const std::string& line : lines) log.info("{}", line.c_str());
  for (const std::string& line : tell_unpaired(base, aligned, job.selection, job.pairing))
    log.info("{}", line.c_str());
}

Pair open_pair(const Job& job, const Log& log) {
  refuse_one_model(job);
  // Of a model of many tensors the headers take a while: one is read beside the other.
  std::future<Checkpoint> base = std::async(std::launch::async, open_checkpoint, job.base);
  const bool is_adapter = is_peft_adapter(job.aligned);
  if (is_adapter) refuse_pair_rules(job);
  PeftAdapter adapter;
  Pair pair;
  std::exception_ptr trouble;
  try {
    if (is_adapter) {
      adapter = open_peft_adapter(job.aligned);
    } else {
      pair.aligned = open_checkpoint(job.aligned);
    }
  } catch (...) {
    trouble = std::current_exception();
  }
  pair.base = base.get();  // what is wrong with the base is said first
  if (trouble) std::rethrow_exception(trouble);
  pair.base = dequantised_model(std::move(pair.base), "base", log);
  if (is_adapter) {
    drop_foreign_weights(pair.base, log);
    pair.adapter = adapt(pair.base, std::move(adapter));
    check_saved_bases(*pair.adapter);
    pair.aligned = pair.adapter->table;
    tell_of_adapter(pair, log);
    return pair;
  }
  pair.aligned = dequantised_model(std::move(pair.aligned), "aligned", log);
  drop_foreign_weights(pair.aligned, log);
  warn_of_swapped_models(pair, log);
  warn_of_no_edit(job.coef, job.aligned, log);
  match_models(pair.base, pair.aligned, job, log);
  return pair;
}

void broadcast(const Comm& comm, const Checkpoint& base, std::optional<AdaptedModel>& adapter) {
  if (comm.max(adapter ? 1 : 0) == 0) return;
  Checkpoint table;
  if (comm.is_root()) table = adapter->adapter.table;
  broadcast(comm, table);
  const std::string config = comm.broadcast(comm.is_root() ? adapter->adapter.config.text : "");
  if (!comm.is_root()) adapter = adapt(base, make_peft_adapter(std::move(table), config));
}

void broadcast(const Comm& comm, Pair& pair) {
  broadcast(comm, pair.base);
  broadcast(comm, pair.base, pair.adapter);
  if (!pair.adapter) {
    broadcast(comm, pair.aligned);
  } else if (!comm.is_root()) {
    pair.aligned = pair.adapter->table;
  }
}

nlohmann::ordered_json describe(const AdaptedModel& model) {
  const PeftAdapter& adapter = model.adapter;
  return {{"base_model_name_or_path", printable(adapter.config.base_name, SIZE_MAX)},
          {"trained_on_quantised", adapter.config.on_quantised},
          {"updated", model.updates.size()},
          {"replaced", model.replaced.size()}};
}

Checkpoint open_aligned(const fs::path& path, const Log& log) {
  if (is_peft_adapter(path)) {
    fail(ExitCode::bad_input,
         "{}: is a LoRA adapter, and here a whole model is needed; make it by 'lox harden --base BASE "
         "--aligned "
         "{} --coef 0 --output MERGED'",
         path, path);
  }
  Checkpoint aligned = dequantised_model(open_checkpoint(path), "aligned", log);
  drop_foreign_weights(aligned, log);
  return aligned;
}

}  // namespace lox
