// SPDX-License-Identifier: MIT
#include "lox/task/verify.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/random.hpp"
#include "lox/base/stop.hpp"
#include "lox/io/storage.hpp"
#include "lox/plan/plan.hpp"
#include "lox/task/reference_edit.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

namespace lox {
namespace {

constexpr auto hardened_model = static_cast<Role>(2);

/// The three models, and what of them is compared.
struct Opened {
  Checkpoint base;
  Checkpoint aligned;
  Checkpoint hardened;
  std::vector<Item> items;

  const TensorInfo& tensor(const Item& item, Role role) const {
    const Checkpoint& model = role == aligned_model ? aligned : role == base_model ? base : hardened;
    return model.tensors[static_cast<std::size_t>(item.matrix.tensor(role))];
  }
};

void open_tables(const Job& job, Opened& opened) {
  opened.base = open_checkpoint(job.base);
  opened.aligned = open_checkpoint(job.aligned);
  opened.hardened = open_checkpoint(job.output);
}

/// Names, shapes and dtypes of all three must agree.
void pair_tables(const Job& job, Opened& opened) {
  opened.items =
      make_items({{"aligned", &opened.aligned}, {"base", &opened.base}, {"hardened", &opened.hardened}},
                 job.selection, job.solve, {})
          .items;
}

/// Which matrices to check: `sample` of them (0: all), spread by a hash of their names.
std::vector<Item> choose(const Opened& opened, std::int64_t sample) {
  std::vector<std::pair<std::uint64_t, const Item*>> order;
  for (const Item& item : opened.items) {
    if (item.action == Action::copy) continue;
    const std::string& name = opened.tensor(item, aligned_model).name;
    order.emplace_back(stream_key(static_cast<std::uint64_t>(item.matrix.number), name), &item);
  }
  std::sort(order.begin(), order.end());
  if (sample > 0 && static_cast<std::size_t>(sample) < order.size())
    order.resize(static_cast<std::size_t>(sample));
  std::vector<Item> chosen;
  for (const auto& [hash, item] : order) chosen.push_back(*item);
  return chosen;
}

/// Whether the result's format has a place for the files that harden carries over.
bool has_place_for_files(const Checkpoint& hardened) {
  return hardened.format != Format::safetensors_file;
}

/// The other files of the aligned model that the result must hold.
std::vector<OtherFile> files_to_compare(const Opened& opened) {
  std::vector<OtherFile> files = opened.aligned.other_files;
  std::erase_if(files, [&](const OtherFile& file) {
    return is_foreign_weights(file.name) || !has_place_for_files(opened.hardened);
  });
  return files;
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

class Verifier {
 public:
  Verifier(const Job& job, const Opened& opened)
      : job_(job),
        opened_(opened),
        base_(opened.base, FileStorage::Access::read),
        aligned_(opened.aligned, FileStorage::Access::read),
        hardened_(opened.hardened, FileStorage::Access::read) {
    for (const OtherFile& file : opened.hardened.other_files) files_.emplace(file.name, &file);
  }

  /// Holds a matrix against an edit formed anew. Says what is wrong, as a line; empty: nothing.
  std::string check(const Item& item, Counts& counts) {
    const TensorInfo& base = opened_.tensor(item, base_model);
    const TensorInfo& aligned = opened_.tensor(item, aligned_model);
    const Buffer base_bytes = read(base_, base, item);
    const Buffer aligned_bytes = read(aligned_, aligned, item);
    const Buffer hardened_bytes = read(hardened_, opened_.tensor(item, hardened_model), item);
    const Judgement judgement =
        judge_edit({item.matrix.rows, item.matrix.cols, base.dtype, aligned.dtype, base_bytes.bytes(),
                    aligned_bytes.bytes(), hardened_bytes.bytes()},
                   job_.solve.k, job_.coef);
    counts.add(judgement, aligned.dtype);
    if (judgement.fault.empty()) return "";
    return to_line("tensor '{}' matrix {}: {}\n", aligned.name, item.matrix.number, judgement.fault);
  }

  /// Compares a copied tensor byte by byte.
  std::string compare(const Item& item, Counts& counts) {
    const TensorInfo& aligned = opened_.tensor(item, aligned_model);
    ++counts.copied;
    const auto differs =
        first_difference(aligned.extent.bytes, aligned, opened_.tensor(item, hardened_model));
    if (!differs) return "";
    return to_line("tensor '{}': byte {} is not that of the aligned model\n", aligned.name, *differs);
  }

  /// Compares another file of the model.
  std::string compare(const OtherFile& file, Counts& counts) {
    ++counts.files;
    const auto found = files_.find(file.name);
    if (found == files_.end()) return to_line("file '{}': is missing\n", file.name);
    const std::uint64_t there = found->second->extent.bytes;
    const std::uint64_t common = std::min(file.extent.bytes, there);
    auto differs = first_difference(common, file.extent, found->second->extent);
    if (!differs && file.extent.bytes != there) differs = common;
    if (!differs) return "";
    return to_line("file '{}': byte {} is not that of the aligned model\n", file.name, *differs);
  }

 private:
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
  Buffer read(Storage& storage, const TensorInfo& tensor, const Item& item) {
    Buffer bytes(static_cast<std::size_t>(item.matrix.rows * item.matrix.cols) * element_bytes(tensor.dtype));
    storage.read(tensor, static_cast<std::uint64_t>(item.matrix.number) * bytes.size(), bytes.bytes());
    return bytes;
  }
  const Job& job_;
  const Opened& opened_;
  FileStorage base_;
  FileStorage aligned_;
  FileStorage hardened_;
  std::map<std::string, const OtherFile*> files_;
};

/// Files of the result that harden never puts there.
std::string stray_files(const Opened& opened) {
  std::set<std::string> known;
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

void log_summary(const Log& log, const Counts& counts, const Opened& opened, bool good) {
  const std::int64_t checked = counts.none + counts.whole + counts.unique + counts.tied;
  const std::int64_t edited = std::count_if(opened.items.begin(), opened.items.end(),
                                            [](const Item& item) { return item.action == Action::edit; });
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
  const auto copied_files = static_cast<std::int64_t>(
      std::count_if(opened.aligned.other_files.begin(), opened.aligned.other_files.end(),
                    [](const OtherFile& file) { return !is_foreign_weights(file.name); }));
  if (has_place_for_files(opened.hardened)) {
    log.info("{} other files of the model, byte by byte", counts.files);
  } else if (copied_files > 0) {
    log.info("{} other files of the aligned model have no place in a .safetensors file: not looked at",
             copied_files);
  }
  log.info("{}", good ? "verified" : "NOT what it should be");
}

}  // namespace

Forecast plan_verify(const Job& job, std::int64_t sample, int ranks) {
  Opened opened;
  open_tables(job, opened);
  pair_tables(job, opened);
  std::uint64_t compared = 0;
  for (const Item& item : opened.items) compared += item.action == Action::copy ? item.bytes : 0;
  for (const OtherFile& file : files_to_compare(opened)) compared += file.extent.bytes;
  return forecast_check(choose(opened, sample), compared, ranks);
}

ExitCode verify(const Comm& comm, const Job& job, std::int64_t sample, const Log& log) {
  Opened opened;
  on_root(comm, [&] { open_tables(job, opened); });
  for (Checkpoint* table : {&opened.base, &opened.aligned, &opened.hardened}) broadcast(comm, *table);
  together(comm, [&] { pair_tables(job, opened); });

  Counts counts;
  std::string failures = comm.is_root() ? stray_files(opened) : "";
  together(comm, [&] {
    Verifier verifier(job, opened);
    int turn = 0;
    const auto mine = [&] {
      if (stop_urgency() > 0)
        fail(ExitCode::stopped, "stopped by a signal; nothing is decided, run it again");
      return turn++ % comm.size() == comm.rank();
    };
    for (const Item& item : choose(opened, sample)) {
      if (mine()) failures += verifier.check(item, counts);
    }
    for (const Item& item : opened.items) {
      if (item.action == Action::copy && mine()) failures += verifier.compare(item, counts);
    }
    for (const OtherFile& file : files_to_compare(opened)) {
      if (mine()) failures += verifier.compare(file, counts);
    }
  });

  std::string all;
  for (const std::string& text : comm.gather(failures)) all += text;
  all = comm.broadcast(all);
  counts.sum(comm);
  if (comm.is_root()) {
    fmt::print("{}", all);
    log_summary(log, counts, opened, all.empty());
  }
  return all.empty() ? ExitCode::done : ExitCode::not_certified;
}

}  // namespace lox
