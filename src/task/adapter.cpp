// SPDX-License-Identifier: MIT
#include "lox/task/adapter.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/units.hpp"
#include "lox/base/version.hpp"
#include "lox/io/factors.hpp"
#include "lox/io/identity.hpp"
#include "lox/io/output.hpp"
#include "lox/io/peft_adapter.hpp"
#include "lox/io/safetensors_header.hpp"
#include "lox/plan/apply_plan.hpp"
#include "lox/plan/job.hpp"
#include "lox/run/apply_steps.hpp"
#include "lox/task/factor_choice.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/report_place.hpp"
#include "lox/task/session.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

constexpr const char* weights_file = "adapter_model.safetensors";
constexpr const char* config_file = "adapter_config.json";

/// The store, opened, and what of it becomes an adapter.
struct Opened {
  explicit Opened(const AdapterJob& job)
      : store(open_checkpoint(job.factors)),
        info(read_factors_info(store)),
        storage(store, FileStorage::Access::read),
        names(store),
        tensors(factored_tensors(store, info, names)),
        k(job.k == 0 ? info.k : job.k) {
    check_rank(job.factors, info, k, job.accept_open);
    table = adapter_table(tensors, job.program);
    if (table.modules.empty()) {
      fail(ExitCode::bad_input, "{}: holds nothing that {} puts a LoRA on", job.factors,
           adapter_for_name(job.program));
    }
  }
  static std::vector<AdaptedTensor> factored_tensors(const Checkpoint& store, const FactorsInfo& info,
                                                     const FactorTable& table);
  Item item(std::size_t tensor, std::int64_t matrix) const;

  Checkpoint store;
  FactorsInfo info;
  FileStorage storage;
  FactorTable names;
  std::vector<AdaptedTensor> tensors;
  Index k;
  AdapterTable table;
};

/// The tensors that the store has factors of, with their own shapes.
std::vector<AdaptedTensor> Opened::factored_tensors(const Checkpoint& store, const FactorsInfo& info,
                                                    const FactorTable& table) {
  std::vector<AdaptedTensor> tensors;
  std::set<std::string> seen;
  std::size_t used = 0;
  for (const FactorEntry& entry : info.matrices) {
    if (!seen.insert(entry.tensor).second) continue;
    const FactorIndices parts = table.find(entry.tensor);
    TensorInfo tensor{entry.tensor, DType::BF16, {}, {}, ""};
    if (parts[static_cast<std::size_t>(FactorPart::u_low)] >= 0) tensor.dtype = DType::F32;
    for (const FactorPart part : {FactorPart::u, FactorPart::v}) {
      const int index = parts[static_cast<std::size_t>(part)];
      const std::string name = factor_name(entry.tensor, part);
      if (index < 0) fail(ExitCode::bad_input, "{}: lacks tensor '{}'", store.path, name);
      const std::vector<std::int64_t>& shape = store.tensors[static_cast<std::size_t>(index)].shape;
      if (shape.size() < 2) fail(ExitCode::bad_input, "{}: tensor '{}' is no matrix", store.path, name);
      if (part == FactorPart::u) tensor.shape.assign(shape.begin(), shape.end() - 1);
      if (part == FactorPart::v) tensor.shape.push_back(shape[shape.size() - 2]);
    }
    check_factors(store, info.k, tensor, parts);
    used += static_cast<std::size_t>(std::ranges::count_if(parts, [](int index) { return index >= 0; }));
    tensors.push_back({tensor.name, tensor.shape});
  }
  if (used != store.tensors.size()) {
    fail(ExitCode::bad_input, "{}: holds tensors that its {} does not tell of", store.path, factors_file);
  }
  return tensors;
}

Item Opened::item(std::size_t tensor, std::int64_t matrix) const {
  const AdaptedTensor& from = tensors[tensor];
  const FactorIndices parts = names.find(from.name);
  Item item;
  item.matrix.tensors = {0};
  item.matrix.tensors.insert(item.matrix.tensors.end(), parts.begin(), parts.end());
  item.matrix.number = matrix;
  item.matrix.rows = from.shape[from.shape.size() - 2];
  item.matrix.cols = from.shape.back();
  item.rows = {0, item.matrix.rows};
  item.k = k;
  return item;
}

/// The weights file, to be made: tensors A and B of every module, in turn.
Checkpoint weights_to_make(const Opened& opened, const AdapterJob& job, const std::string& config) {
  Checkpoint like;
  like.format = Format::safetensors_directory;
  const auto add = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
    TensorInfo tensor{name, job.dtype, {rows, cols}, {}, ""};
    tensor.extent.bytes = checked_bytes(job.dtype, tensor.shape, "", name);
    like.tensors.push_back(std::move(tensor));
  };
  for (const AdapterModule& module : opened.table.modules) {
    add(module.a, opened.k, module.in);
    add(module.b, module.count, opened.k);
  }
  like.shards = {{weights_file, make_safetensors_header(like.tensors)}};
  like.other_files = {{config_file, {-1, 0, config.size()}}};
  return like;
}

void put(const RowMajorMatrix& values, const TensorInfo& tensor, FileStorage& storage) {
  const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> wide = values.cast<double>();
  std::vector<std::byte> bytes(tensor.extent.bytes);
  from_double(tensor.dtype, wide.data(), static_cast<std::size_t>(wide.size()), bytes.data());
  storage.write(tensor.extent, 0, bytes);
}

/// Squares of the edit's norm, by tensor.
using Squares = std::vector<double>;

Squares squares_of(Opened& opened) {
  const FactorReader reader(opened.store, opened.storage);
  Squares squares;
  for (std::size_t i = 0; i < opened.tensors.size(); ++i) {
    const std::vector<std::int64_t>& shape = opened.tensors[i].shape;
    std::int64_t matrices = 1;
    for (std::size_t d = 0; d + 2 < shape.size(); ++d) matrices *= shape[d];
    double sum = 0;
    for (std::int64_t m = 0; m < matrices; ++m) {
      for (const double s : reader.read_sigma(opened.item(i, m))) sum += s * s;
    }
    squares.push_back(sum);
  }
  return squares;
}

void write_weights(Opened& opened, const Checkpoint& table) {
  FileStorage target(table, FileStorage::Access::write);
  const FactorReader reader(opened.store, opened.storage);
  std::optional<std::pair<std::size_t, std::int64_t>> held;
  Factors f;
  for (std::size_t i = 0; i < opened.table.modules.size(); ++i) {
    refuse_if_stopped();
    const AdapterModule& module = opened.table.modules[i];
    if (held != std::pair(module.tensor, module.matrix)) {
      f = reader.read(opened.item(module.tensor, module.matrix)).factors;
      held = {module.tensor, module.matrix};
    }
    const Small& right = module.turned ? f.u : f.v;
    const Small& left = module.turned ? f.v : f.u;
    const auto found = static_cast<Index>(f.sigma.size());
    RowMajorMatrix a = RowMajorMatrix::Zero(opened.k, module.in);
    a.topRows(found) = right.transpose().cast<float>();
    RowMajorMatrix b = RowMajorMatrix::Zero(module.count, opened.k);
    const Eigen::Map<const Eigen::VectorXd> sigma(f.sigma.data(), found);
    b.leftCols(found) = (left.middleRows(module.first, module.count) * sigma.asDiagonal()).cast<float>();
    put(a, table.tensors[2 * i], target);
    put(b, table.tensors[2 * i + 1], target);
  }
  target.sync_written();
}

void write_config(const Checkpoint& table, const std::string& config) {
  FileStorage storage(table, FileStorage::Access::write);
  storage.write(table.other_files.front().extent, 0, std::as_bytes(std::span(config)));
  storage.sync_written();
}

std::string model_of(const FactorsInfo& info, bool base) {
  return (base ? info.base : info.aligned).value("path", "");
}

/// What makes an adapter this one.
nlohmann::json identity_of(const AdapterJob& job, const Opened& opened, double coef) {
  nlohmann::json identity{{"task", "adapter"},
                          {"k", opened.k},
                          {"coef", coef},
                          {"for", adapter_for_name(job.program)},
                          {"dtype", dtype_name(job.dtype)},
                          {"factors", lox::identity_of(opened.store)}};
  if (job.onto_base) identity["onto"] = "base";
  return identity;
}

fs::path output_of(const AdapterJob& job, double coef) {
  return without_slash(replaced(job.output, "{coef}", fmt::format("{}", coef)));
}

nlohmann::ordered_json report_of(const AdapterJob& job, const Opened& opened, double coef,
                                 const Squares& squares) {
  double all = 0;
  for (const double square : squares) all += square;
  nlohmann::ordered_json left_out = nlohmann::ordered_json::array();
  for (const LeftOut& left : opened.table.left_out) {
    left_out.push_back({{"name", opened.tensors[left.tensor].name},
                        {"reason", left.reason},
                        {"share", all > 0 ? std::sqrt(squares[left.tensor] / all) : 0}});
  }
  return {{"lox", version()},
          {"job",
           {{"for", adapter_for_name(job.program)},
            {"onto", job.onto_base ? "base" : "aligned"},
            {"k", opened.k},
            {"coef", coef},
            {"dtype", dtype_name(job.dtype)},
            {"factors", printable(job.factors.native(), SIZE_MAX)},
            {"output", printable(output_of(job, coef).native(), SIZE_MAX)}}},
          {"modules", opened.table.modules.size()},
          {"left_out", std::move(left_out)}};
}

fs::path report_of(const fs::path& output) {
  Job job;
  job.output = output;
  return report_path(job);
}

/// Another name of a file, or a copy where the file system has no second names.
void share_file(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_hard_link(from, to, error);
  if (!error) return;
  fs::copy_file(from, to, error);
  if (error) fail(ExitCode::io, "{}: cannot be copied to {}: {}", from, to, error.message());
  File::open_write(to).sync();
}

/// The first folder gets the weights; each further one another name of the same file.
void write_adapters(const AdapterJob& job, const Log& log) {
  const OutputRules rules{job.overwrite, {job.factors}};
  for (const double coef : job.coef) {
    const fs::path output = output_of(job, coef);
    check_output(output, rules);
    check_report(report_of(output), OutputPaths(output), rules.inputs);
  }
  Opened opened(job);
  if (!job.onto_base && is_peft_adapter(model_of(opened.info, false))) {
    log.warn(
        "{}: is of an adapter, not of a model: write the path of the model that it was merged to into "
        "base_model_name_or_path",
        job.factors);
  }
  if (std::ranges::find(job.coef, 0) != job.coef.end())
    warn_of_no_edit(0, model_of(opened.info, job.onto_base), log);
  fs::path weights;
  const Squares squares = squares_of(opened);
  for (const double coef : job.coef) {
    const fs::path path = output_of(job, coef);
    const std::string config =
        adapter_config(opened.table, opened.k, coef, model_of(opened.info, job.onto_base));
    const bool first = weights.empty();
    Output output = Output::create(path, rules, weights_to_make(opened, job, config),
                                   identity_of(job, opened, coef), first ? Space::reserved : Space::sparse);
    if (output.state() != Output::State::fresh) {  // an earlier run could not give it its name
      output.finish();
      if (first) weights = path / weights_file;
      continue;
    }
    if (first) {
      write_weights(opened, output.table());
    } else {
      const fs::path here = output.table().path / weights_file;
      fs::remove(here);
      share_file(weights, here);
      sync_directory(output.table().path);
    }
    write_config(output.table(), config);
    write_text_atomically(report_of(path), report_of(job, opened, coef, squares).dump(1) + "\n");
    output.finish();
    if (first) weights = path / weights_file;
    log.info("wrote {} and {}", path, report_of(path));
  }
  const nlohmann::ordered_json report = report_of(job, opened, job.coef.front(), squares);
  for (const auto& left : report.at("left_out")) {
    log.warn("left out: '{}' ({:.1f}% of the edit's norm): {}", left.at("name").get<std::string>(),
             100 * left.at("share").get<double>(), left.at("reason").get<std::string>());
  }
  log.info("{} of rank {}, lora_alpha = coef * {}",
           count_of(static_cast<std::int64_t>(opened.table.modules.size()), "module"), opened.k, opened.k);
}

}  // namespace

void check_adapter_job(const AdapterJob& job) {
  if (job.factors.empty()) fail(ExitCode::usage, "--factors is missing: what 'lox factor' has written");
  if (job.output.empty()) fail(ExitCode::usage, "--output is missing: the folder of the adapter");
  if (job.k < 0) fail(ExitCode::usage, "--k {} is not a number of triplets", job.k);
  if (job.dtype != DType::F32 && job.dtype != DType::BF16) {
    fail(ExitCode::usage, "--dtype is neither F32 nor BF16");
  }
  for (const double coef : job.coef) check_coef(coef);
  if (job.coef.size() > 1 && output_of(job, job.coef[0]) == output_of(job, job.coef[1])) {
    fail(ExitCode::usage, "--output '{}' gives two adapters one name; write {{coef}} into it", job.output);
  }
  if (format_of(job.output) != Format::safetensors_directory) {
    fail(ExitCode::usage, "--output '{}': an adapter is a folder", job.output);
  }
}

ExitCode adapter(const Comm& comm, const AdapterJob& job, const Log& log) {
  on_root(comm, [&] { write_adapters(job, log); });
  return ExitCode::done;
}

}  // namespace lox
