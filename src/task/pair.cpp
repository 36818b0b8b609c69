// SPDX-License-Identifier: MIT
#include "lox/task/pair.hpp"

#include "lox/io/model_config.hpp"

#include <exception>
#include <future>

namespace lox {
namespace {

void drop_foreign_weights(Checkpoint& aligned, const Log& log) {
  std::erase_if(aligned.other_files, [&](const OtherFile& file) {
    const bool drop = is_foreign_weights(file.name);
    if (drop) log.warn("{} is not copied: it holds weights that are not hardened", file.name);
    return drop;
  });
}

}  // namespace

Pair open_pair(const Job& job, const Log& log) {
  // Of a model of many tensors the headers take a while: one is read beside the other.
  std::future<Checkpoint> base = std::async(std::launch::async, open_checkpoint, job.base);
  Pair pair;
  std::exception_ptr trouble;
  try {
    pair.aligned = open_checkpoint(job.aligned);
  } catch (...) {
    trouble = std::current_exception();
  }
  pair.base = base.get();  // what is wrong with the base is said first
  if (trouble) std::rethrow_exception(trouble);
  refuse_quantised(pair.base);
  refuse_quantised(pair.aligned);
  drop_foreign_weights(pair.aligned, log);
  return pair;
}

Checkpoint open_aligned(const fs::path& path, const Log& log) {
  Checkpoint aligned = open_checkpoint(path);
  refuse_quantised(aligned);
  drop_foreign_weights(aligned, log);
  return aligned;
}

}  // namespace lox
