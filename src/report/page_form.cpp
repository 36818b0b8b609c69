// SPDX-License-Identifier: MIT
#include "lox/report/page_form.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string_view>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using nlohmann::json;

/// Whether a value has its type. May take from a list or an object what has not.
using Check = std::function<bool(json&)>;
using Form = std::map<std::string_view, Check>;

bool is_number(json& value) {
  return value.is_number();
}
bool is_text(json& value) {
  return value.is_string();
}
bool is_truth(json& value) {
  return value.is_boolean();
}
/// Of an analysis: by k.
bool is_truth_or_by_k(json& value) {
  constexpr std::size_t most = 64;
  return is_truth(value) ||
         (value.is_object() && value.size() <= most && std::ranges::all_of(value, is_truth));
}
bool is_table(json& value) {
  return value.is_structured();
}

Check list_of(const Check& element) {
  return [element](json& value) { return value.is_array() && std::ranges::all_of(value, element); };
}

bool is_number_or_numbers(json& value) {
  return value.is_number() || (value.is_array() && std::ranges::all_of(value, is_number));
}

/// Takes what is not wanted out of an object.
template <class Wanted>
void keep_if(json& object, Wanted wanted) {
  for (auto at = object.begin(); at != object.end();) {
    at = wanted(at.key(), at.value()) ? std::next(at) : object.erase(at);
  }
}

/// An object whose values are of one type; those that are null, which have none, are taken out.
Check object_of(const Check& element) {
  return [element](json& value) {
    if (!value.is_object()) return false;
    keep_if(value, [](const std::string&, const json& inner) { return !inner.is_null(); });
    return std::ranges::all_of(value, element);
  };
}

/// Keeps account of what is left out of a report.
class Shaper {
 public:
  /// Keeps the keys of the form; `where`: for people.
  void shape(json& object, const Form& form, const std::string& where) {
    keep_if(object, [&](const std::string& key, json& value) {
      const auto known = form.find(key);
      if (known == form.end() || value.is_null()) return false;
      if (known->second(value)) return true;
      note(key, where);
      return false;
    });
  }

  void note(const std::string& key, const std::string& where) {
    const auto [found, first] = left_out_.try_emplace(key, where, 0);
    ++found->second.second;
  }

  std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    for (const auto& [key, what] : left_out_) {
      lines.push_back(to_line("'{}' of {}{} is not of the type that lox writes, and is not shown", key,
                              what.first, what.second > 1 ? to_line(" and {} more", what.second - 1) : ""));
    }
    return lines;
  }

 private:
  std::map<std::string, std::pair<std::string, std::size_t>> left_out_;  ///< key: the first place, how many
};

/// Objects by k. Each distinct k becomes a column of the page: of more than anybody asks for the rest is left
/// out.
class ByK {
 public:
  static constexpr std::size_t most = 64;

  bool operator()(json& value) {
    if (!value.is_object()) return false;
    std::size_t odd = 0;
    keep_if(value, [&](const std::string& k, const json& number) {
      if (number.is_null()) return false;
      const bool keeps = number.is_number() && known(k);
      odd += keeps ? 0 : 1;
      return keeps;
    });
    return odd == 0 || !value.empty();
  }
  /// Whether some were left out for their number.
  bool crowded() const { return crowded_; }

 private:
  bool known(const std::string& k) {
    if (k.empty() || k.size() > 9 || k.find_first_not_of("0123456789") != std::string::npos) return false;
    if (seen_.contains(k)) return true;
    if (seen_.size() == most) crowded_ = true;
    return !crowded_ && seen_.insert(k).second;
  }
  std::set<std::string> seen_;
  bool crowded_ = false;
};

const Form& form_of_job() {
  static const Form form{{"k", is_number_or_numbers},
                         {"coef", is_number},
                         {"svd", is_text},
                         {"tolerance", is_number},
                         {"include", list_of(is_text)},
                         {"exclude", list_of(is_text)},
                         {"seed", is_number},
                         {"base", is_text},
                         {"aligned", is_text},
                         {"factors", is_text},
                         {"output", is_text}};
  return form;
}

const Form& form_of_made() {
  static const Form form{{"date", is_text},
                         {"host", is_text},
                         {"nodes", is_number},
                         {"threads", is_number},
                         {"slurm_job", is_text},
                         {"versions", object_of(is_text)},
                         {"paths", object_of(is_text)}};
  return form;
}

/// All numbers and texts of the totals are shown; of tables only these.
void shape_totals(json& totals, Shaper& shaper) {
  const Check seconds = object_of(is_number);
  keep_if(totals, [&](const std::string& key, json& value) {
    if (key != "rank_seconds" && key != "grid_seconds") return value.is_primitive();
    if (seconds(value)) return true;
    shaper.note(key, "the totals");
    return false;
  });
}

bool is_shape(json& value) {
  return value.is_array();  // of sizes, as is known already
}

Form form_of_tensor(ByK& by_k, Shaper& shaper) {
  const Check numbers_by_k = std::ref(by_k);
  const Check number_or_by_k = [numbers_by_k](json& value) {
    return value.is_number() || numbers_by_k(value);
  };
  const Check tuned = [numbers_by_k, &shaper](json& value) {
    if (!value.is_array() || !std::ranges::all_of(value, [](const json& one) { return one.is_object(); }))
      return false;
    static const std::string where = "a tuned model";
    const Form form{{"model", is_text},
                    {"delta_norm", is_number},
                    {"r_ft", numbers_by_k},
                    {"overlap_left", numbers_by_k},
                    {"overlap_right", numbers_by_k}};
    for (json& one : value) shaper.shape(one, form, where);
    return true;
  };
  return {{"name", is_text},
          {"shape", is_shape},
          {"dtype", is_text},
          {"action", is_text},
          {"method", is_text},
          {"where", is_text},
          {"k", is_number},
          {"sigma", list_of(is_number)},
          {"certificate", is_number},
          {"settled", is_truth_or_by_k},
          {"iterations", is_number},
          {"delta_norm", is_number},
          {"weight_norm", is_number},
          {"stable_rank", is_number},
          {"energy", number_or_by_k},
          {"edit_norm", is_number},
          {"realised", is_number},
          {"changed", is_number},
          {"r_align", numbers_by_k},
          {"tuned", tuned},
          {"seconds", object_of(is_number)},
          {"matrices", is_number},
          {"batch", [](json& value) { return value.is_array(); }}};
}

}  // namespace

std::vector<std::string> to_page_form(json& report) {
  Shaper shaper;
  for (const char* const part : {"job", "made", "totals"}) {
    const auto found = report.find(part);
    if (found == report.end() || found->is_object()) continue;
    if (!found->is_null()) shaper.note(part, "the report");
    report.erase(found);
  }
  if (report.contains("job")) shaper.shape(report["job"], form_of_job(), "the job");
  if (report.contains("made")) shaper.shape(report["made"], form_of_made(), "the job");
  if (report.contains("totals")) shape_totals(report["totals"], shaper);
  static const Form whole{
      {"lox", is_text}, {"job", is_table}, {"made", is_table}, {"totals", is_table}, {"tensors", is_table}};
  shaper.shape(report, whole, "the report");
  ByK by_k;
  const Form form = form_of_tensor(by_k, shaper);
  for (json& tensor : report["tensors"])
    shaper.shape(tensor, form, "'" + tensor["name"].get<std::string>() + "'");
  std::vector<std::string> lines = shaper.lines();
  if (by_k.crowded())
    lines.push_back(fmt::format("of more than {} values of k only the first are shown", ByK::most));
  return lines;
}

}  // namespace lox
