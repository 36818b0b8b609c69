// SPDX-License-Identifier: MIT
#include "lox/task/factor_choice.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

namespace lox {

std::string replaced(std::string text, const std::string& word, const std::string& by) {
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + by.size())) {
    text.replace(at, word.size(), by);
  }
  return text;
}

std::string check_rank(const fs::path& store, const FactorsInfo& info, Index k, bool accept_open) {
  if (k > info.k) {
    fail(ExitCode::bad_input,
         "{}: holds {} triplets of every matrix, fewer than --k {}; factor with a larger --k", store, info.k,
         k);
  }
  const auto is_open = [&](const FactorEntry& entry) {
    return k == info.k ? !entry.settled : std::ranges::find(entry.open, k, &OpenRank::k) != entry.open.end();
  };
  const auto open = std::ranges::find_if(info.matrices, is_open);
  if (open == info.matrices.end()) return "";
  const auto count = std::ranges::count_if(info.matrices, is_open);
  std::string why = "s_k = s_k+1 as far as was solved";
  for (const OpenRank& rank : open->open) {
    if (rank.k == k)
      why = fmt::format("{}, its gap to the next singular value is {:.1e} of it", rank.why, rank.gap);
  }
  if (k < info.k && !accept_open) {
    fail(ExitCode::bad_input,
         "{}: of {} matrices, tensor '{}' the first, k = {} is not settled ({}); take another --k, factor "
         "with --k {}, "
         "or say --accept-open",
         store, count, open->tensor, k, why, k);
  }
  return to_line("k = {}: {} matrices, tensor '{}' the first, are not settled ({})", k, count, open->tensor,
                 why);
}

void check_entries(const fs::path& store, const FactorsInfo& info, const Checkpoint& aligned,
                   const std::vector<Item>& items) {
  std::set<std::pair<std::string, std::int64_t>> wanted;
  for (const Item& item : items) {
    if (item.action == Action::copy) continue;
    const auto tensor = static_cast<std::size_t>(item.matrix.tensor(aligned_model));
    wanted.emplace(aligned.tensors[tensor].name, item.matrix.number);
  }
  for (const FactorEntry& entry : info.matrices) {
    if (wanted.erase({entry.tensor, entry.matrix}) == 1) continue;
    fail(ExitCode::bad_input,
         "{}: its {} tells of tensor '{}' matrix {}, whose factors are not there, or twice", store,
         factors_file, entry.tensor, entry.matrix);
  }
  if (wanted.empty()) return;
  fail(ExitCode::bad_input, "{}: its {} does not tell of tensor '{}' matrix {}", store, factors_file,
       wanted.begin()->first, wanted.begin()->second);
}

FactorEntries entries_by_matrix(const FactorsInfo& info) {
  FactorEntries entries;
  for (const FactorEntry& entry : info.matrices) entries[{entry.tensor, entry.matrix}] = &entry;
  return entries;
}

void describe(const FactorEntry& entry, Index k, Index stored_k, Spectrum& spectrum) {
  for (const Method method : methods) {
    if (method_name(method) == entry.method) spectrum.method = method;
  }
  spectrum.k = std::min<std::int64_t>(k, spectrum.k);
  spectrum.sigma.resize(static_cast<std::size_t>(spectrum.k));
  spectrum.delta_norm = entry.delta_norm;
  spectrum.certificate = {entry.certificate, entry.orthogonality};
  spectrum.missed = {entry.missed_epsilon, entry.missed_probability};
  spectrum.settled =
      k == stored_k ? entry.settled : std::ranges::find(entry.open, k, &OpenRank::k) == entry.open.end();
  spectrum.open.clear();
  for (const OpenRank& open : entry.open) {
    if (open.k < spectrum.k) spectrum.open.push_back({open.k, open.gap, {}});
  }
}

ExpectedContents share_contents(const Comm& comm, const fs::path& store, const FactorsInfo& info, Role of) {
  nlohmann::json list = nlohmann::json::array();
  on_root(comm, [&] {
    for (const FactorEntry& entry : info.matrices) {
      if (of == base_model && !entry.base) {
        fail(ExitCode::bad_input,
             "{}: was made by lox {}, which did not note what the base's matrices hold; factor once more",
             store, info.lox);
      }
      list.push_back({entry.tensor, entry.matrix, of == base_model ? entry.base->sums : entry.aligned.sums});
    }
  });
  ExpectedContents contents;
  for (const nlohmann::json& one : nlohmann::json::parse(comm.broadcast(list.dump()))) {
    contents[{one.at(0).get<std::string>(), one.at(1).get<std::int64_t>()}].sums =
        one.at(2).get<std::array<std::uint64_t, 2>>();
  }
  return contents;
}

}  // namespace lox
