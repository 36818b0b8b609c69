// SPDX-License-Identifier: MIT
#include "lox/task/verify_counts.hpp"

#include "lox/base/units.hpp"

#include <algorithm>

namespace lox {
namespace {

void tell_unseen(const Log& log, std::int64_t count, const char* one, const char* several) {
  log.info("{} {} not looked at: --sample 0 takes all", count_of(count, one, several),
           count == 1 ? "was" : "were");
}

}  // namespace

void VerifyCounts::add(const Judgement& judgement, DType dtype) {
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

void VerifyCounts::sum(const Comm& comm) {
  for (std::int64_t* count : {&none, &whole, &unique, &tied, &undecided, &loose, &copied, &files}) {
    *count = comm.sum(*count);
  }
  as_expected = -comm.max(-as_expected);
}

void log_result(const Log& log, const VerifyCounts& counts, bool place) {
  log.info("{} of {} edited matrices, every entry, against an edit formed anew in double", counts.checked(),
           counts.edited);
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
  if (counts.checked() < counts.edited) {
    tell_unseen(log, counts.edited - counts.checked(), "edited matrix", "edited matrices");
  }
  log.info("{}, byte by byte", count_of(counts.copied, "copied tensor"));
  if (place) {
    log.info("{} of the model, byte by byte", count_of(counts.files, "other file"));
  } else if (counts.all_files > 0) {
    log.info("{} of the aligned model {} no place in a .safetensors file: not looked at",
             count_of(counts.all_files, "other file"), counts.all_files == 1 ? "has" : "have");
  }
}

void log_store(const Log& log, const VerifyCounts& counts) {
  log.info("the triplets of {} of {} matrices, against a dense factorisation in double", counts.checked(),
           counts.edited);
  if (counts.checked() < counts.edited) {
    tell_unseen(log, counts.edited - counts.checked(), "matrix", "matrices");
  }
}

}  // namespace lox
