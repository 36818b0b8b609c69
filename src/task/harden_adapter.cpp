// SPDX-License-Identifier: MIT
#include "lox/task/harden_adapter.hpp"

#include "lox/base/error.hpp"
#include "lox/base/timer.hpp"
#include "lox/base/units.hpp"
#include "lox/base/version.hpp"
#include "lox/io/identity.hpp"
#include "lox/io/output.hpp"
#include "lox/io/peft_adapter.hpp"
#include "lox/io/storage.hpp"
#include "lox/linalg/delta.hpp"
#include "lox/linalg/matrix.hpp"
#include "lox/linalg/product_svd.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/report_place.hpp"
#include "lox/task/session.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

RowMajorDoubles read_matrix(FileStorage& storage, const Checkpoint& table, int index) {
  const TensorInfo& tensor = table.tensors[static_cast<std::size_t>(index)];
  std::vector<std::byte> bytes(tensor.extent.bytes);
  storage.read(tensor, 0, bytes);
  RowMajorDoubles values(tensor.shape[0], tensor.shape[1]);
  to_double(tensor.dtype, bytes.data(), static_cast<std::size_t>(values.size()), values.data());
  if (!values.allFinite()) {
    fail(ExitCode::bad_input, "{}: tensor '{}' holds NaN or Inf", table.path, tensor.name);
  }
  return values;
}

/// Columns of B, and rows of A, that one expert has.
Small expert_b(const RowMajorDoubles& b, const LoraPair& pair, std::int64_t expert) {
  Small part(b.rows(), pair.r);
  for (Index j = 0; j < pair.r; ++j) part.col(j) = b.col(j * pair.experts + expert);
  return part;
}

nlohmann::ordered_json harden_into(const PeftAdapter& adapter, const Checkpoint& output, const Job& job,
                                   const Log& log) {
  FileStorage source(adapter.table, FileStorage::Access::read);
  FileStorage target(output, FileStorage::Access::write);
  nlohmann::ordered_json modules = nlohmann::ordered_json::array();
  std::vector<bool> changed(adapter.table.tensors.size());
  for (const LoraPair& pair : adapter.pairs) {
    refuse_if_stopped();
    const RowMajorDoubles a = read_matrix(source, adapter.table, pair.a);
    RowMajorDoubles b = read_matrix(source, adapter.table, pair.b);
    const Index k = job.solve.k == full_rank ? pair.r : std::min<Index>(job.solve.k, pair.r);
    for (std::int64_t e = 0; e < pair.experts; ++e) {
      const Small own = expert_b(b, pair, e);
      const Factors factors =
          product_svd(own, a.middleRows(e * pair.r, pair.r).transpose(), pair.scale).factors;
      const Small u = factors.u.leftCols(std::min(k, factors.u.cols()));
      const Small hard = own + job.coef * u * (u.transpose() * own);
      for (Index j = 0; j < pair.r; ++j) b.col(j * pair.experts + e) = hard.col(j);
      modules.push_back(
          {{"module", pair.module}, {"expert", e}, {"r", pair.r}, {"k", k}, {"sigma", factors.sigma}});
    }
    const TensorInfo& place = output.tensors[static_cast<std::size_t>(pair.b)];
    std::vector<std::byte> bytes(place.extent.bytes);
    from_double(place.dtype, b.data(), static_cast<std::size_t>(b.size()), bytes.data());
    if (find_non_finite(place.dtype, bytes.data(), static_cast<std::size_t>(b.size()))) {
      fail(ExitCode::bad_input, "tensor '{}': the edit leaves the range of {}; use a smaller --coef",
           place.name, dtype_name(place.dtype));
    }
    target.write(place.extent, 0, bytes);
    changed[static_cast<std::size_t>(pair.b)] = true;
  }
  for (std::size_t i = 0; i < changed.size(); ++i) {
    if (changed[i]) continue;
    refuse_if_stopped();
    const TensorInfo& from = adapter.table.tensors[i];
    copy_bytes([&](std::uint64_t at, std::span<std::byte> to) { source.read(from, at, to); }, target,
               output.tensors[i].extent, 0, from.extent.bytes);
  }
  for (std::size_t i = 0; i < output.other_files.size(); ++i) {
    const Extent& from = adapter.table.other_files[i].extent;
    copy_bytes([&](std::uint64_t at, std::span<std::byte> to) { source.read(from, at, to); }, target,
               output.other_files[i].extent, 0, from.bytes);
  }
  target.sync_written();
  for (const PeftAdapter::Named& whole : adapter.whole) {
    const TensorInfo& tensor = adapter.table.tensors[static_cast<std::size_t>(whole.tensor)];
    if (tensor.shape.size() < 2) continue;
    log.warn("'{}' is copied: it is a whole weight, whose change only the base model tells", tensor.name);
  }
  return modules;
}

void harden_on_root(const Job& job, const Log& log) {
  const Timer start;
  const OutputRules rules{job.overwrite, {job.aligned}};
  if (!is_peft_adapter(job.aligned)) {
    fail(ExitCode::bad_input, "{}: is no adapter: it holds no adapter_config.json", job.aligned);
  }
  refuse_pair_rules(job);
  PeftAdapter adapter = open_peft_adapter(job.aligned);
  drop_foreign_weights(adapter.table, log);
  warn_of_no_edit(job.coef, job.aligned, log);
  fit_without_base(adapter);
  if (format_of(job.output) != Format::safetensors_directory) {
    fail(ExitCode::usage, "--output '{}': an adapter is a folder", job.output);
  }
  check_report(report_path(job), OutputPaths(job.output), rules.inputs);
  nlohmann::json identity{{"task", "harden adapter"}, {"job", job_parameters(job)}};
  identity["aligned"] = identity_of(adapter.table);
  Output output = Output::create(job.output, rules, adapter.table, identity);
  if (output.state() != Output::State::fresh) {
    output.finish();
    log.info("{} was finished already", job.output);
    return;
  }
  try_report(report_path(job));
  nlohmann::ordered_json reported = reported_job(job);
  reported.erase("base");
  const nlohmann::ordered_json report{{"lox", version()},
                                      {"job", std::move(reported)},
                                      {"modules", harden_into(adapter, output.table(), job, log)}};
  write_text_atomically(report_path(job), report.dump(1) + "\n");
  output.finish();
  log.info("hardened {} of the adapter in {}: wrote {} and {}",
           count_of(static_cast<std::int64_t>(adapter.pairs.size()), "module"),
           format_seconds(start.seconds()), job.output, report_path(job));
}

}  // namespace

ExitCode harden_adapter(const Comm& comm, const Job& job, const Log& log) {
  on_root(comm, [&] { harden_on_root(job, log); });
  return ExitCode::done;
}

}  // namespace lox
