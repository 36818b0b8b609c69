// SPDX-License-Identifier: MIT
#include "lox/task/pair.hpp"

#include "lox/io/model_config.hpp"

namespace lox {

Pair open_pair(const Job& job, const Log& log) {
  Pair pair{open_checkpoint(job.base), open_checkpoint(job.aligned)};
  refuse_quantised(pair.base);
  refuse_quantised(pair.aligned);
  std::erase_if(pair.aligned.other_files, [&](const OtherFile& file) {
    const bool drop = is_foreign_weights(file.name);
    if (drop) log.warn("{} is not carried over: it holds weights that are not hardened", file.name);
    return drop;
  });
  return pair;
}

}  // namespace lox
