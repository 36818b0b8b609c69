// SPDX-License-Identifier: MIT
// Two models and what is asked of them, a line each: what comes of the names, and what the plan makes of it.
//
//     aB23NAME, bB23NAME   a tensor of the aligned model or the base: B BF16, I I64, F F32; digits, its shape
//     rRULE, iREGEX, xREGEX, u, e   --rename, --include, --exclude, --unpaired copy, --extra-rows copy
//     t0, t1               the base's config.json says whether it is tied
#include "lox/plan/matching.hpp"
#include "lox/plan/patterns.hpp"
#include "lox/plan/plan.hpp"

#include <map>
#include <optional>
#include <set>

#include "fuzz/fuzz.hpp"

using namespace lox;

namespace {

struct Asked {
  Checkpoint base;
  Checkpoint aligned;
  std::optional<bool> tied;
  Selection selection;
  PairRules rules;
};

/// A model has no two tensors of one name: files that have are refused.
void add_tensor(std::string_view words, std::set<std::string>& names, Checkpoint& to) {
  TensorInfo tensor;
  tensor.dtype = words.front() == 'B' ? DType::BF16 : words.front() == 'I' ? DType::I64 : DType::F32;
  words.remove_prefix(1);
  while (tensor.shape.size() < 4 && !words.empty() && words.front() >= '0' && words.front() <= '9') {
    tensor.shape.push_back(words.front() - '0');
    words.remove_prefix(1);
  }
  tensor.name = words;
  // Its place tells it again, whatever it is called.
  tensor.extent = {0, to.tensors.size(),
                   static_cast<std::uint64_t>(tensor.elements()) * element_bytes(tensor.dtype)};
  if (names.insert(tensor.name).second) to.tensors.push_back(std::move(tensor));
}

Asked read(std::string_view text) {
  Asked asked;
  std::set<std::string> base;
  std::set<std::string> aligned;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.empty()) continue;
    const std::string_view rest = line.substr(1);
    switch (line.front()) {
      case 'b':
        if (!rest.empty()) add_tensor(rest, base, asked.base);
        break;
      case 'a':
        if (!rest.empty()) add_tensor(rest, aligned, asked.aligned);
        break;
      case 'r':
        asked.rules.rename.emplace_back(rest);
        break;
      case 'i':
        asked.selection.include.emplace_back(rest);
        break;
      case 'x':
        asked.selection.exclude.emplace_back(rest);
        break;
      case 'u':
        asked.rules.copy_unpaired = true;
        break;
      case 'e':
        asked.rules.copy_extra_rows = true;
        break;
      case 't':
        asked.tied = rest == "1";
        break;
      default:
        break;
    }
  }
  return asked;
}

/// Every tensor of the aligned model is copied once, or each of its matrices is edited once.
void check_items(const std::vector<Item>& items, const Asked& asked) {
  std::map<int, std::set<std::int64_t>> edited;
  std::map<int, std::int64_t> copied;
  for (const Item& item : items) {
    const int t = item.matrix.tensor(aligned_model);
    if (item.action == Action::copy) {
      ++copied[t];
      continue;
    }
    fuzz::expect(edited[t].insert(item.matrix.number).second, "a matrix is edited once");
    const TensorInfo& ours = asked.aligned.tensors.at(static_cast<std::size_t>(t));
    const int other = item.matrix.tensor(base_model);
    fuzz::expect(other >= 0, "what is edited has a partner");
    const TensorInfo& theirs = asked.base.tensors.at(static_cast<std::size_t>(other));
    fuzz::expect(ours.shape == theirs.shape ||
                     (asked.rules.copy_extra_rows && differs_in_rows(ours.shape, theirs.shape)),
                 "tensors of different shapes are not paired");
    const Index rows = item.matrix.paired({0, item.matrix.rows});
    fuzz::expect(rows <= ours.shape[ours.shape.size() - 2] && rows <= theirs.shape[theirs.shape.size() - 2],
                 "rows that are subtracted are in both");
  }
  for (std::size_t i = 0; i < asked.aligned.tensors.size(); ++i) {
    const TensorInfo& tensor = asked.aligned.tensors[i];
    const auto t = static_cast<int>(i);
    if (edited.contains(t)) {
      const std::int64_t matrix = tensor.shape.back() * tensor.shape[tensor.shape.size() - 2];
      fuzz::expect(copied[t] == 0, "a tensor is copied or edited, not both");
      fuzz::expect(static_cast<std::int64_t>(edited[t].size()) * matrix == tensor.elements(),
                   "all of a tensor is edited");
    } else {
      fuzz::expect(copied[t] == 1, "what is not edited is copied, once");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Asked asked = read(fuzz::text_of(data, size));
  const std::size_t before = asked.base.tensors.size();
  fuzz::survives(
      [&] {
        const auto one_line = [](const std::vector<std::string>& lines) {
          for (const std::string& line : lines)
            fuzz::expect(line.find('\n') == std::string::npos, "what is told is one line");
        };
        one_line(match_names(asked.base, asked.aligned, asked.tied, asked.selection, asked.rules));
        std::set<std::string> names;
        for (const TensorInfo& tensor : asked.base.tensors)
          fuzz::expect(names.insert(tensor.name).second, "no two tensors get one name");
        fuzz::expect(asked.base.tensors.size() + 1 >= before && asked.base.tensors.size() <= before + 1,
                     "only a head comes or goes");
        one_line(tell_unpaired(asked.base, asked.aligned, asked.selection, asked.rules));
        const std::vector<NamedModel> models{{"aligned", &asked.aligned}, {"base", &asked.base}};
        const Patterns patterns(asked.selection);
        const Pairing pairing = pair_models(
            models, [&](const std::string& name) { return patterns.takes(name); }, asked.rules);
        std::set<int> partners;
        fuzz::expect(pairing.size() == asked.aligned.tensors.size(), "every tensor is in the pairing");
        for (std::size_t t = 0; t < pairing.size(); ++t) {
          const int partner = pairing[t].at(base_model);
          fuzz::expect(pairing[t].at(aligned_model) == static_cast<int>(t), "in the aligned model's order");
          if (partner < 0) continue;
          fuzz::expect(partners.insert(partner).second, "a tensor of the base has one partner");
          fuzz::expect(
              asked.base.tensors.at(static_cast<std::size_t>(partner)).name == asked.aligned.tensors[t].name,
              "partners have one name");
        }
        check_items(make_items(models, asked.selection, {}, {}, asked.rules).items, asked);
      },
      {ExitCode::usage, ExitCode::bad_input});
  return 0;
}
