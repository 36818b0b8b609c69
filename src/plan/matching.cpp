// SPDX-License-Identifier: MIT
#include "lox/plan/matching.hpp"

#include "lox/base/error.hpp"
#include "lox/base/units.hpp"
#include "lox/plan/experts.hpp"
#include "lox/plan/patterns.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <unordered_map>

#include <re2/re2.h>

namespace lox {
namespace {

constexpr std::string_view head_ending = "lm_head.weight";
constexpr std::string_view embeddings_ending = "embed_tokens.weight";
/// How a language model's tensors begin, alone and as a part of a model of text and pictures.
constexpr std::array<std::string_view, 5> prefixes{"", "model.", "model.language_model.", "language_model.",
                                                   "language_model.model."};

/// FROM=TO: a pattern and what takes its place.
class Rule {
 public:
  explicit Rule(const std::string& text) : text_(text) {
    const std::size_t at = text.find('=');
    if (at == std::string::npos || at == 0)
      fail(ExitCode::usage, "--rename '{}' is not FROM=TO, a regular expression and what takes its place",
           text);
    pattern_ = std::make_unique<re2::RE2>(text.substr(0, at), re2::RE2::Quiet);
    to_ = text.substr(at + 1);
    std::string why;
    if (!pattern_->ok()) {
      fail(ExitCode::usage, "--rename '{}': FROM is not a regular expression of RE2: {}", text,
           pattern_->error());
    }
    if (!pattern_->CheckRewriteString(to_, &why)) fail(ExitCode::usage, "--rename '{}': TO: {}", text, why);
  }
  const std::string& text() const { return text_; }
  bool apply(std::string& name) const { return re2::RE2::Replace(&name, *pattern_, to_); }

 private:
  std::string text_;
  std::unique_ptr<re2::RE2> pattern_;
  std::string to_;
};

void rename(Checkpoint& base, const std::vector<std::string>& texts) {
  if (texts.empty()) return;
  std::vector<Rule> rules;
  for (const std::string& text : texts) rules.emplace_back(text);
  std::vector<bool> used(rules.size());
  std::unordered_map<std::string, std::string> before;  // by the new name
  for (TensorInfo& tensor : base.tensors) {
    const std::string old = tensor.name;
    for (std::size_t i = 0; i < rules.size(); ++i) used[i] = rules[i].apply(tensor.name) || used[i];
    const auto [first, fresh] = before.emplace(tensor.name, old);
    if (fresh) continue;
    fail(ExitCode::bad_input, "{}: --rename calls both '{}' and '{}' '{}'", base.path, first->second, old,
         tensor.name);
  }
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (used[i]) continue;
    fail(ExitCode::bad_input,
         "{}: --rename '{}' matches no tensor of the base; 'lox inspect' lists the names", base.path,
         rules[i].text());
  }
}

/// Whether a selected tensor of `has` is not in `other`.
bool lacks_some(const Checkpoint& has, const Checkpoint& other, const Patterns& patterns) {
  const TensorIndex index(other);
  for (std::size_t i = 0; i < has.tensors.size(); ++i) {
    const std::string& name = has.tensors[i].name;
    if (!index.contains(name, i) && patterns.takes(name)) return true;
  }
  return false;
}

/// The base under other names.
struct Fit {
  Checkpoint base;
  std::size_t pairs = 0;           ///< selected tensors that both models have
  std::vector<std::string> lines;  ///< for the user
};

/// Finds out whether the base fits the aligned model under other names.
class Matcher {
 public:
  Matcher(const Checkpoint& base, const Checkpoint& aligned, std::optional<bool> base_is_tied,
          const Selection& selection, const PairRules& rules)
      : base_(base),
        aligned_(aligned),
        index_(aligned),
        tied_(base_is_tied),
        patterns_(selection),
        rules_(rules) {}

  /// The base with `from` at the beginning of its names replaced, if everything matches then, but for what
  /// the rules let differ.
  std::optional<Fit> fits(std::string_view from, std::string_view to) const {
    Fit fit{base_, 0, {}};
    Checkpoint& base = fit.base;
    if (from != to) {
      fit.lines.push_back(to_line(
          "names that begin with '{}' in the base are taken for those with '{}' in the aligned model: "
          "{} then",
          from, to, rules_.copy_unpaired ? "most tensors match" : "everything matches"));
    }
    for (TensorInfo& tensor : base.tensors) {
      if (tensor.name.starts_with(from)) tensor.name = std::string(to) + tensor.name.substr(from.size());
    }
    if (std::string line = match_experts(base, aligned_); !line.empty()) fit.lines.push_back(std::move(line));
    untie(base, fit.lines);
    for (std::size_t i = 0; i < base.tensors.size(); ++i) {
      const TensorInfo& tensor = base.tensors[i];
      if (!patterns_.takes(tensor.name)) continue;
      const int partner = index_.find(tensor.name, i);
      if (partner >= 0) {
        if (!same_shape(aligned_.tensors[static_cast<std::size_t>(partner)], tensor)) return std::nullopt;
        ++fit.pairs;
      } else if (!rules_.copy_unpaired) {
        return std::nullopt;
      }
    }
    if (fit.pairs == 0 || TensorIndex(base).has_twins()) return std::nullopt;
    if (!rules_.copy_unpaired && lacks_some(aligned_, base, patterns_)) return std::nullopt;
    return fit;
  }

  /// Whether names that begin with `from` in the base may be ones with `to` in the aligned model.
  bool may_be(std::string_view from, std::string_view to) const {
    if (from == to) return from.empty();
    const auto has = [](const Checkpoint& model, std::string_view prefix) {
      return std::ranges::any_of(model.tensors,
                                 [&](const TensorInfo& tensor) { return tensor.name.starts_with(prefix); });
    };
    return has(base_, from) && has(aligned_, to);
  }

 private:
  bool same_shape(const TensorInfo& ours, const TensorInfo& theirs) const {
    return ours.shape == theirs.shape ||
           (rules_.copy_extra_rows && differs_in_rows(ours.shape, theirs.shape));
  }

  /// A head that only one of the models stores.
  void untie(Checkpoint& base, std::vector<std::string>& told) const {
    const auto ends = [](std::string_view ending) {
      return [ending](const TensorInfo& tensor) { return tensor.name.ends_with(ending); };
    };
    const auto head = std::ranges::find_if(aligned_.tensors, ends(head_ending));
    const auto base_head = std::ranges::find_if(base.tensors, ends(head_ending));
    const auto embeddings = std::ranges::find_if(base.tensors, ends(embeddings_ending));
    const bool has = head != aligned_.tensors.end();
    const bool base_has = base_head != base.tensors.end();
    if (embeddings == base.tensors.end() || has == base_has || (has && !patterns_.takes(head->name))) return;
    if (has && tied_.value_or(true) && std::ranges::count_if(base.tensors, ends(embeddings_ending)) == 1) {
      TensorInfo tied = *embeddings;
      tied.name = head->name;
      told.push_back(to_line("the base stores no '{}', so its head is '{}', and that is subtracted",
                             head->name, embeddings->name));
      base.tensors.push_back(std::move(tied));
    } else if (base_has && tied_.value_or(false)) {
      told.push_back(to_line("the base stores its tied head twice: '{}' is left out", base_head->name));
      base.tensors.erase(base_head);
    }
  }

  const Checkpoint& base_;
  const Checkpoint& aligned_;
  const TensorIndex index_;
  std::optional<bool> tied_;
  Patterns patterns_;
  const PairRules& rules_;
};

/// Whether both models have the same tensors in one order, as almost all pairs do.
bool are_alike(const Checkpoint& base, const Checkpoint& aligned) {
  return std::ranges::equal(base.tensors, aligned.tensors, [](const TensorInfo& a, const TensorInfo& b) {
    return a.name == b.name && a.shape == b.shape;
  });
}

}  // namespace

bool differs_in_rows(const std::vector<std::int64_t>& ours, const std::vector<std::int64_t>& theirs) {
  return ours.size() == 2 && theirs.size() == 2 && ours[0] != theirs[0] && ours[1] == theirs[1] &&
         ours[0] > 0 && theirs[0] > 0;
}

void check_rename(const std::vector<std::string>& rules) {
  for (const std::string& rule : rules) (void)Rule(rule);
}

std::vector<std::string> match_names(Checkpoint& base, const Checkpoint& aligned,
                                     std::optional<bool> base_is_tied, const Selection& selection,
                                     const PairRules& rules) {
  rename(base, rules.rename);
  std::vector<std::string> lines;
  if (are_alike(base, aligned)) return lines;
  if (std::string line = match_experts(base, aligned); !line.empty()) lines.push_back(std::move(line));
  const Patterns patterns(selection);
  if (!lacks_some(aligned, base, patterns) && !lacks_some(base, aligned, patterns)) return lines;
  const Matcher matcher(base, aligned, base_is_tied, selection, rules);
  std::optional<Fit> best;
  for (const std::string_view from : prefixes) {
    for (const std::string_view to : prefixes) {
      if (!matcher.may_be(from, to)) continue;
      std::optional<Fit> fit = matcher.fits(from, to);
      if (fit && (!best || fit->pairs > best->pairs)) best = std::move(fit);
    }
  }
  if (best) {
    base = std::move(best->base);
    std::ranges::move(best->lines, std::back_inserter(lines));
  }
  return lines;
}

std::vector<std::string> tell_unpaired(const Checkpoint& base, const Checkpoint& aligned,
                                       const Selection& selection, const PairRules& rules) {
  const Patterns patterns(selection);
  std::vector<std::string> lines;
  const auto tell = [&](const Checkpoint& has, const TensorIndex& other, const char* what) {
    std::int64_t count = 0;
    std::int64_t paired = 0;
    const std::string* first = nullptr;
    for (std::size_t i = 0; i < has.tensors.size(); ++i) {
      const std::string& name = has.tensors[i].name;
      if (!patterns.takes(name)) continue;
      if (other.contains(name, i)) {
        ++paired;
      } else if (count++ == 0) {
        first = &name;
      }
    }
    if (count == 0) return;
    lines.push_back(to_line(
        "{} only in the {}, first '{}'{}", count_of(count, "tensor"), what, *first,
        count > paired ? "; that is most of the model: if they have other names, --rename pairs them" : ""));
  };
  const TensorIndex theirs(base);
  if (rules.copy_unpaired) {
    tell(aligned, theirs, "aligned model, copied");
    tell(base, TensorIndex(aligned), "base, left out");
  }
  std::size_t left_out = 0;
  for (std::size_t i = 0; i < aligned.tensors.size(); ++i) {
    const TensorInfo& tensor = aligned.tensors[i];
    const int partner = theirs.find(tensor.name, i);
    if (partner < 0) continue;
    const TensorInfo& other = base.tensors[static_cast<std::size_t>(partner)];
    const bool is_batch_of_rows = is_left_out(tensor, selection);
    const bool has_extra_rows = rules.copy_extra_rows && differs_in_rows(tensor.shape, other.shape);
    if ((!is_batch_of_rows && !has_extra_rows) || !patterns.takes(tensor.name)) continue;
    left_out += is_batch_of_rows ? 1 : 0;
    if (!has_extra_rows) continue;
    lines.push_back(
        to_line("tensor '{}' has {} rows, and {} in the base: the common ones are edited, the others "
                "copied",
                tensor.name, tensor.shape[0], other.shape[0]));
  }
  if (left_out > 0) {
    lines.push_back(
        to_line("{} tensors that are batches of single rows or columns, as conv1d.weight [C, 1, k], are "
                "copied: each of these would be a matrix of rank 1; name them with --include to edit them",
                left_out));
  }
  return lines;
}

}  // namespace lox
