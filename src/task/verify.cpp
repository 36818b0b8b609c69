// SPDX-License-Identifier: MIT
#include "lox/task/verify.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/units.hpp"
#include "lox/io/quantised.hpp"
#include "lox/io/safetensors.hpp"
#include "lox/task/factor_choice.hpp"
#include "lox/task/pair.hpp"
#include "lox/task/reference_adapter.hpp"
#include "lox/task/reference_edit.hpp"
#include "lox/task/reference_factors.hpp"
#include "lox/task/verify_counts.hpp"
#include "lox/task/verify_tables.hpp"
#include "lox/task/verify_work.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

class Verifier {
 public:
  Verifier(const VerifyJob& asked, const VerifyTables& opened, const ExpectedContents& contents)
      : asked_(asked),
        opened_(opened),
        contents_(contents),
        base_(opened.base, FileStorage::Access::read),
        aligned_(opened.aligned, FileStorage::Access::read),
        hardened_(opened.hardened, FileStorage::Access::read) {
    if (asked.has_store()) store_.emplace(opened.store);
    if (opened.adapter) adapter_.emplace(opened.adapter->adapter.table, FileStorage::Access::read);
    for (const OtherFile& file : opened.hardened.other_files) files_.emplace(file.name, &file);
  }

  /// Holds a matrix against an edit formed anew. Says what is wrong, as a line; empty: nothing.
  std::string check(const Item& item, VerifyCounts& counts) {
    const TensorInfo& base = opened_.tensor(item, base_model);
    const TensorInfo& aligned = opened_.tensor(item, aligned_model);
    if (item.method == Method::lora) return check_adapted(item, aligned, counts);
    const Index rows = item.matrix.rows;
    const Index common = item.matrix.paired({0, rows});
    const Buffer base_bytes = read(base_, opened_.base, base, item, common);
    const Buffer aligned_bytes = read(aligned_, opened_.aligned, aligned, item, rows);
    const TensorInfo& hardened = opened_.tensor(item, hardened_model);
    const Buffer hardened_bytes = read(hardened_, opened_.hardened, hardened, item, rows);
    const Judgement judgement =
        judge({rows, item.matrix.cols, common, base.value_dtype(), aligned.value_dtype(), aligned.dtype,
               base_bytes.bytes(), aligned_bytes.bytes(), hardened_bytes.bytes()},
              aligned.name, item.matrix.number);
    counts.add(judgement, aligned.dtype);
    if (judgement.fault.empty()) return "";
    return to_line("tensor '{}' matrix {}: {}\n", aligned.name, item.matrix.number, judgement.fault);
  }

  /// Compares a copied tensor byte by byte.
  std::string compare(const Item& item, VerifyCounts& counts) {
    const TensorInfo& aligned = opened_.tensor(item, aligned_model);
    ++counts.copied;
    const auto differs =
        first_difference(aligned.extent.bytes, aligned, opened_.tensor(item, hardened_model));
    if (!differs) return "";
    return to_line("tensor '{}': byte {} is not that of the {} model\n", aligned.name, *differs, model());
  }

  /// Compares another file of the model.
  std::string compare(const OtherFile& file, VerifyCounts& counts) {
    ++counts.files;
    const auto found = files_.find(file.name);
    if (found == files_.end()) return to_line("file '{}': is missing\n", file.name);
    const std::uint64_t there = found->second->extent.bytes;
    const std::uint64_t common = std::min(file.extent.bytes, there);
    auto differs = file.text ? first_difference(*file.text, found->second->extent)
                             : first_difference(common, file.extent, found->second->extent);
    if (!differs && file.extent.bytes != there) differs = common;
    if (!differs) return "";
    return to_line("file '{}': byte {} is not that of the {} model\n", file.name, *differs, model());
  }

 private:
  /// A matrix of the base that the adapter changes.
  std::string check_adapted(const Item& item, const TensorInfo& tensor, VerifyCounts& counts) {
    const ReferenceProduct product = reference_product(*opened_.adapter, *adapter_, item);
    Judgement judgement;
    if (asked_.of_store()) {
      const StoredFactors factors =
          store_->read(tensor.name, item.matrix.number, item.matrix.rows, item.matrix.cols);
      judgement.fault =
          judge_factors(product.delta().cast<float>(), factors, asked_.job.solve.tolerance, false);
    } else {
      const Index rows = item.matrix.rows;
      const Buffer base = read(aligned_, opened_.aligned, tensor, item, rows);
      const Buffer hardened =
          read(hardened_, opened_.hardened, opened_.tensor(item, hardened_model), item, rows);
      const double coef = item.merge_only ? 0 : asked_.job.coef;
      judgement = judge_adapted({rows, item.matrix.cols, rows, tensor.value_dtype(), tensor.value_dtype(),
                                 tensor.dtype, base.bytes(), base.bytes(), hardened.bytes()},
                                product, asked_.job.solve.k, coef);
    }
    counts.add(judgement, tensor.dtype);
    if (judgement.fault.empty()) return "";
    return to_line("tensor '{}' matrix {}: {}\n", tensor.name, item.matrix.number, judgement.fault);
  }

  const char* model() const { return asked_.onto_base ? "base" : "aligned"; }
  Judgement judge(const EditedMatrix& matrix, const std::string& tensor, std::int64_t number) {
    const Job& job = asked_.job;
    if (!store_) return judge_edit(matrix, job.solve.k, job.coef);
    Content content;
    content.add(matrix.aligned, element_bytes(matrix.aligned_dtype), static_cast<std::size_t>(matrix.cols),
                0);
    if (contents_.at({tensor, number}) != content) {
      Judgement judgement;
      judgement.fault = "the model's matrix is not the one that the factors are of";
      return judgement;
    }
    const StoredFactors factors = store_->read(tensor, number, matrix.rows, matrix.cols);
    if (!asked_.of_store()) return judge_blend(matrix, factors, job.solve.k, job.coef);
    Judgement judgement;
    judgement.fault = judge_factors(reference_delta(matrix), factors, job.solve.tolerance);
    return judgement;
  }
  /// Index of the first byte that differs, or nothing.
  template <class Place>
  std::optional<std::uint64_t> first_difference(std::uint64_t all, const Place& aligned,
                                                const Place& hardened) {
    constexpr std::uint64_t at_once = std::uint64_t{32} << 20;
    Buffer ours(std::min(at_once, all));
    Buffer theirs(std::min(at_once, all));
    for (std::uint64_t first = 0; first < all; first += at_once) {
      const std::size_t count = std::min(at_once, all - first);
      aligned_.read(aligned, first, ours.bytes().first(count));
      hardened_.read(hardened, first, theirs.bytes().first(count));
      if (std::memcmp(ours.data(), theirs.data(), count) == 0) continue;
      const auto differs = std::mismatch(ours.data(), ours.data() + count, theirs.data());
      return first + static_cast<std::uint64_t>(differs.first - ours.data());
    }
    return std::nullopt;
  }
  /// The same of a text, as far as both go.
  std::optional<std::uint64_t> first_difference(const std::string& text, const Extent& hardened) {
    std::string found(std::min<std::uint64_t>(text.size(), hardened.bytes), '\0');
    hardened_.read(hardened, 0, std::as_writable_bytes(std::span(found)));
    const auto differs = std::ranges::mismatch(found, text);
    if (differs.in1 == found.end()) return std::nullopt;
    return static_cast<std::uint64_t>(differs.in1 - found.begin());
  }
  /// The first rows of the matrix in its tensor's value_dtype().
  static Buffer read(Storage& storage, const Checkpoint& model, const TensorInfo& tensor, const Item& item,
                     Index rows) {
    const auto entries = static_cast<std::size_t>(rows * item.matrix.cols);
    const auto first = static_cast<std::uint64_t>(item.matrix.number * item.matrix.rows * item.matrix.cols);
    Buffer bytes(entries * element_bytes(tensor.value_dtype()));
    if (tensor.quantised) {
      read_values(storage, model.files, tensor, first, bytes.floats());
    } else {
      storage.read(tensor, first * element_bytes(tensor.dtype), bytes.bytes());
    }
    return bytes;
  }
  const VerifyJob& asked_;
  const VerifyTables& opened_;
  const ExpectedContents& contents_;
  FileStorage base_;
  FileStorage aligned_;
  FileStorage hardened_;
  std::optional<FactorsOfStore> store_;
  std::optional<FileStorage> adapter_;
  std::map<std::string, const OtherFile*> files_;
};

/// The tolerance that the store was made with, and its k where none was asked for. Collective.
void take_job_of_store(const Comm& comm, FactorsInfo& info, Job& job) {
  nlohmann::json mine;
  on_root(comm, [&] { mine = {info.k, info.job.value("tolerance", job.solve.tolerance)}; });
  const nlohmann::json said = nlohmann::json::parse(comm.broadcast(mine.dump()));
  info.k = said.at(0).get<Index>();
  if (job.solve.k == full_rank) job.solve.k = info.k;
  job.solve.tolerance = said.at(1).get<double>();
}

/// Files of the result that harden never puts there.
std::string stray_files(const VerifyTables& opened) {
  std::set<std::string> known{index_name};  // where the shards are others; it was checked when it was read
  for (const OtherFile& file : opened.aligned.other_files) known.insert(file.name);
  std::string failures;
  for (const OtherFile& file : opened.hardened.other_files) {
    if (is_foreign_weights(file.name)) {
      failures += to_line("file '{}': holds weights that are not hardened\n", file.name);
    } else if (!known.contains(file.name)) {
      failures += to_line("file '{}': is not in the aligned model\n", file.name);
    }
  }
  return failures;
}

}  // namespace

void check_verify_job(const VerifyJob& asked) {
  Job job = asked.job;
  if (asked.has_store()) {
    if (!job.output.empty() && !job.base.empty()) {
      fail(ExitCode::usage,
           "--factors with --base checks the store, with --hardened a model made of it; one at a time");
    }
    if (job.output.empty()) job.output = asked.factors;
    if (job.base.empty()) job.base = job.aligned;
  }
  if (job.output.empty()) fail(ExitCode::usage, "--hardened is missing: the checkpoint to check");
  if (asked.sample < 0) fail(ExitCode::usage, "--sample {} is negative", asked.sample);
  check_job(job);
}

Forecast plan_verify(const VerifyJob& asked, int ranks, double bandwidth) {
  VerifyTables opened;
  open_tables(asked, opened);
  pair_tables(asked, opened);
  const VerifyWork work = work_of(asked, opened);
  return forecast_check(work.checked, work.compared_bytes(), ranks, bandwidth);
}

ExitCode verify(const Comm& comm, const VerifyJob& words, const Log& log) {
  VerifyTables opened;
  VerifyJob asked = words;
  on_root(comm, [&] { open_tables(asked, opened); });
  Pair pair{std::move(opened.base), std::move(opened.aligned), std::move(opened.adapter)};
  broadcast(comm, pair);
  opened.base = std::move(pair.base);
  opened.aligned = std::move(pair.aligned);
  opened.adapter = std::move(pair.adapter);
  for (Checkpoint* table : {&opened.hardened, &opened.store}) broadcast(comm, *table);
  ExpectedContents contents;
  if (asked.has_store()) {
    take_job_of_store(comm, opened.info, asked.job);
    contents = share_contents(comm, asked.factors, opened.info, asked.onto_base ? base_model : aligned_model);
  }
  together(comm, [&] { pair_tables(asked, opened); });
  if (asked.has_store()) {
    on_root(comm, [&] { check_entries(asked.factors, opened.info, opened.aligned, opened.items); });
  }

  VerifyCounts counts;
  std::string failures = comm.is_root() && !asked.of_store() ? stray_files(opened) : "";
  const VerifyWork todo = work_of(asked, opened);
  const auto count = [](const auto& all, const char* noun, const char* several = "") {
    return count_of(static_cast<std::int64_t>(all.size()), noun, several);
  };
  log.info("checking {}, comparing {} and {}: about {}", count(todo.checked, "matrix", "matrices"),
           count(todo.compared, "tensor"), count(todo.files, "file"),
           format_seconds(forecast_check(todo.checked, todo.compared_bytes(), comm.size()).seconds));
  RankProgress progress(comm, log, todo.counts(), {});
  Counts done;
  together(comm, [&] {
    Verifier verifier(asked, opened, contents);
    int turn = 0;
    const auto take_turns = [&](const auto& all, auto work) {
      for (const auto& one : all) {
        progress.update(done);
        if (progress.stop_urgency() > 0)
          fail(ExitCode::stopped, "stopped by a signal; nothing is decided, run it again");
        if (turn++ % comm.size() != comm.rank()) continue;
        failures += work(one);
        ++done.items;
        done.bytes += VerifyWork::bytes_of(one);
      }
    };
    take_turns(todo.checked, [&](const Item& item) { return verifier.check(item, counts); });
    take_turns(todo.compared, [&](const Item& item) { return verifier.compare(item, counts); });
    take_turns(todo.files, [&](const OtherFile& file) { return verifier.compare(file, counts); });
  });
  progress.finish(done);

  std::string all;
  for (const std::string& text : comm.gather(failures)) all += text;
  all = comm.broadcast(all);
  counts.sum(comm);
  if (comm.is_root()) {
    fmt::print("{}", all);
    counts.edited = std::ranges::count(opened.items, Action::edit, &Item::action);
    counts.all_files = static_cast<std::int64_t>(files_of_harden(opened.aligned).size());
    const bool place = has_place_for_files(opened.hardened);
    asked.of_store() ? log_store(log, counts) : log_result(log, counts, place);
    log.info("{}", all.empty() ? "verified" : "NOT what it should be");
  }
  return all.empty() ? ExitCode::done : ExitCode::not_certified;
}

}  // namespace lox
