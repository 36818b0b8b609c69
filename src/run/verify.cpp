// SPDX-License-Identifier: MIT
#include "lox/run/verify.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/random.hpp"
#include "lox/io/storage.hpp"
#include "lox/plan/plan.hpp"
#include "lox/run/reference_edit.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

namespace lox {
namespace {

class Verifier {
 public:
  Verifier(const Job& job, const Checkpoint& base, const Checkpoint& aligned, const Checkpoint& hardened)
      : job_(job),
        base_(base, FileStorage::Access::read),
        aligned_(aligned, FileStorage::Access::read),
        hardened_(hardened, FileStorage::Access::read) {}

  /// Index of the first byte of a copied tensor or file that differs, or nothing.
  std::optional<std::uint64_t> first_difference(const TensorInfo& aligned, const TensorInfo& hardened) {
    return difference(aligned.extent.bytes, aligned, hardened);
  }
  std::optional<std::uint64_t> first_difference(const OtherFile& aligned, const OtherFile& hardened) {
    const std::uint64_t common = std::min(aligned.extent.bytes, hardened.extent.bytes);
    const auto differs = difference(common, aligned.extent, hardened.extent);
    return differs || aligned.extent.bytes == hardened.extent.bytes ? differs : common;
  }

  Judgement judge(const WorkItem& item, const TensorInfo& base, const TensorInfo& aligned,
                  const TensorInfo& hardened) {
    const Buffer base_bytes = read(base_, base, item);
    const Buffer aligned_bytes = read(aligned_, aligned, item);
    const Buffer hardened_bytes = read(hardened_, hardened, item);
    return judge_edit({item.rows, item.cols, base.dtype, aligned.dtype, base_bytes.bytes(),
                       aligned_bytes.bytes(), hardened_bytes.bytes()},
                      job_.k, job_.coef);
  }

 private:
  template <class Place>
  std::optional<std::uint64_t> difference(std::uint64_t all, const Place& aligned, const Place& hardened) {
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
  Buffer read(Storage& storage, const TensorInfo& tensor, const WorkItem& item) {
    Buffer bytes(static_cast<std::size_t>(item.rows * item.cols * dtype_bits(tensor.dtype) / 8));
    storage.read(tensor, static_cast<std::uint64_t>(item.matrix) * bytes.size(), bytes.bytes());
    return bytes;
  }
  const Job& job_;
  FileStorage base_;
  FileStorage aligned_;
  FileStorage hardened_;
};

/// Which matrices to check: `sample` of them, spread by a hash of their names.
std::vector<const WorkItem*> choose(const Plan& plan, const Checkpoint& aligned, std::int64_t sample) {
  std::vector<std::pair<std::uint64_t, const WorkItem*>> order;
  for (const WorkItem& item : plan.items) {
    if (item.action == Action::copy) continue;
    const std::string& name = aligned.tensors[static_cast<std::size_t>(item.tensor)].name;
    order.emplace_back(stream_key(static_cast<std::uint64_t>(item.matrix), name), &item);
  }
  std::sort(order.begin(), order.end());
  if (sample > 0 && static_cast<std::size_t>(sample) < order.size())
    order.resize(static_cast<std::size_t>(sample));
  std::vector<const WorkItem*> chosen;
  for (const auto& [hash, item] : order) chosen.push_back(item);
  return chosen;
}

/// What was looked at, summed over ranks.
struct Counts {
  std::int64_t none = 0;
  std::int64_t whole = 0;
  std::int64_t unique = 0;
  std::int64_t tied = 0;
  std::int64_t undecided = 0;
  std::int64_t loose = 0;
  std::int64_t copied = 0;
  std::int64_t files = 0;
  double as_expected = 1;  ///< of the 16-bit ones with a unique edit; wider ones show the solver's arithmetic

  void add(const Judgement& judgement, DType dtype) {
    switch (judgement.kind) {
      case Judgement::Kind::none:
        ++none;
        break;
      case Judgement::Kind::whole:
        ++whole;
        break;
      case Judgement::Kind::unique:
        ++unique;
        if (dtype_bits(dtype) == 16) as_expected = std::min(as_expected, judgement.as_expected);
        break;
      case Judgement::Kind::tied:
        ++tied;
        break;
    }
    if (judgement.undecided) ++undecided;
    if (judgement.loose) ++loose;
  }

  void sum(const Comm& comm) {
    for (std::int64_t* count : {&none, &whole, &unique, &tied, &undecided, &loose, &copied, &files}) {
      *count = comm.sum(*count);
    }
    as_expected = -comm.max(-as_expected);
  }
};

/// Whether the result's format has a place for the files that harden carries over.
bool has_place_for_files(const Checkpoint& hardened) {
  return hardened.format != Format::safetensors_file;
}

/// Files of the result that harden never puts there.
std::string stray_files(const Checkpoint& aligned, const Checkpoint& hardened) {
  std::set<std::string> known;
  for (const OtherFile& file : aligned.other_files) known.insert(file.name);
  std::string failures;
  for (const OtherFile& file : hardened.other_files) {
    if (is_foreign_weights(file.name)) {
      failures += to_line("file '{}': holds weights that are not hardened\n", file.name);
    } else if (!known.contains(file.name)) {
      failures += to_line("file '{}': is not in the aligned model\n", file.name);
    }
  }
  return failures;
}

void log_summary(const Log& log, const Counts& counts, const Plan& plan, const Checkpoint& aligned,
                 const Checkpoint& hardened, bool good) {
  const std::int64_t checked = counts.none + counts.whole + counts.unique + counts.tied;
  const std::int64_t edited = std::count_if(plan.items.begin(), plan.items.end(),
                                            [](const WorkItem& item) { return item.action == Action::edit; });
  log.info("{} of {} edited matrices, every entry, against an edit formed anew in double", checked, edited);
  if (counts.unique > 0) {
    log.info("  {} with an edit that is unique; of 16-bit entries at least {:.4f}% as expected",
             counts.unique, 100 * counts.as_expected);
  }
  if (counts.whole > 0) log.info("  {} with a multiple of Delta, which no SVD decides", counts.whole);
  if (counts.none > 0) log.info("  {} with a Delta of 0: not to be changed", counts.none);
  if (counts.tied > 0) {
    log.info(
        "  {} with equal singular values at k: held against the right edit next to the result, of several",
        counts.tied);
  }
  if (counts.loose > 0) {
    log.info("  {} of these have fewer entries that show an edit than choices: that one fits proves little",
             counts.loose);
  }
  if (counts.undecided > 0) {
    log.info("  {} of these left open: near a right edit, but rounding or want of time hides the choice",
             counts.undecided);
  }
  if (checked < edited)
    log.info("{} edited matrices were not looked at: --sample 0 takes all", edited - checked);
  log.info("{} copied tensors, byte by byte", counts.copied);
  const auto carried = static_cast<std::int64_t>(
      std::count_if(aligned.other_files.begin(), aligned.other_files.end(),
                    [](const OtherFile& file) { return !is_foreign_weights(file.name); }));
  if (has_place_for_files(hardened)) {
    log.info("{} other files of the model, byte by byte", counts.files);
  } else if (carried > 0) {
    log.info("{} other files of the aligned model have no place in a .safetensors file: not looked at",
             carried);
  }
  log.info("{}", good ? "verified" : "NOT what it should be");
}

}  // namespace

ExitCode verify(const Comm& comm, const Job& job, std::int64_t sample, const Log& log) {
  Checkpoint base;
  Checkpoint aligned;
  Checkpoint hardened;
  on_root(comm, [&] {
    base = open_checkpoint(job.base);
    aligned = open_checkpoint(job.aligned);
    hardened = open_checkpoint(job.output);
    make_plan(base, aligned, job, {});
    make_plan(aligned, hardened, job, {});  // names, shapes and dtypes of the result
  });
  for (Checkpoint* table : {&base, &aligned, &hardened}) broadcast(comm, *table);
  const Plan plan = make_plan(base, aligned, job, {});
  std::map<std::string, const TensorInfo*> result;
  for (const TensorInfo& tensor : hardened.tensors) result.emplace(tensor.name, &tensor);
  std::map<std::string, const OtherFile*> files;
  for (const OtherFile& file : hardened.other_files) files.emplace(file.name, &file);

  Verifier verifier(job, base, aligned, hardened);
  std::string failures = comm.is_root() ? stray_files(aligned, hardened) : "";
  Counts counts;
  int turn = 0;
  const auto mine = [&] { return turn++ % comm.size() == comm.rank(); };
  for (const WorkItem* item : choose(plan, aligned, sample)) {
    if (!mine()) continue;
    const auto t = static_cast<std::size_t>(item->tensor);
    const TensorInfo& tensor = aligned.tensors[t];
    const TensorInfo& before = base.tensors[static_cast<std::size_t>(plan.base_of[t])];
    const Judgement judgement = verifier.judge(*item, before, tensor, *result.at(tensor.name));
    counts.add(judgement, tensor.dtype);
    if (judgement.fault.empty()) continue;
    failures += to_line("tensor '{}' matrix {}: {}\n", tensor.name, item->matrix, judgement.fault);
  }
  for (const WorkItem& item : plan.items) {
    if (item.action != Action::copy || !mine()) continue;
    const TensorInfo& tensor = aligned.tensors[static_cast<std::size_t>(item.tensor)];
    ++counts.copied;
    if (const auto differs = verifier.first_difference(tensor, *result.at(tensor.name))) {
      failures += to_line("tensor '{}': byte {} is not that of the aligned model\n", tensor.name, *differs);
    }
  }
  for (const OtherFile& file : aligned.other_files) {
    if (is_foreign_weights(file.name) || !has_place_for_files(hardened) || !mine()) continue;
    ++counts.files;
    const auto found = files.find(file.name);
    if (found == files.end()) {
      failures += to_line("file '{}': is missing\n", file.name);
    } else if (const auto differs = verifier.first_difference(file, *found->second)) {
      failures += to_line("file '{}': byte {} is not that of the aligned model\n", file.name, *differs);
    }
  }

  std::string all;
  for (const std::string& text : comm.gather(failures)) all += text;
  all = comm.broadcast(all);
  counts.sum(comm);
  if (comm.is_root()) {
    fmt::print("{}", all);
    log_summary(log, counts, plan, aligned, hardened, all.empty());
  }
  return all.empty() ? ExitCode::done : ExitCode::not_certified;
}

}  // namespace lox
