// SPDX-License-Identifier: MIT
#include "lox/report/analysis.hpp"

#include "lox/base/error.hpp"
#include "lox/base/version.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>

namespace lox {
namespace {

using nlohmann::ordered_json;
using Records = std::vector<const Record*>;

/// Sums over matrices, from which each number is made: of one matrix, of a batch, of a model, all seen as one
/// block-diagonal matrix.
struct Sums {
  struct Tuned {
    double squared = 0;   ///< |T - base|^2
    double measured = 0;  ///< the same of matrices where U_k is known
    std::vector<double> kept;
    double weight = 0;  ///< |Delta|^2 of matrices that have overlaps
    std::vector<double> left;
    std::vector<double> right;
  };
  double delta_squared = 0;
  double weight_squared = 0;
  double largest = 0;  ///< s_1
  std::vector<double> kept;
  std::vector<Tuned> tuned;

  Sums(std::size_t ks, std::size_t models) : kept(ks), tuned(models) {
    for (Tuned& t : tuned) t.kept = t.left = t.right = kept;
  }
  void add(const Record& record, const std::vector<Index>& ks);
};

void Sums::add(const Record& record, const std::vector<Index>& ks) {
  const Spectrum& spectrum = record.spectrum;
  const double squared = spectrum.delta_norm * spectrum.delta_norm;
  delta_squared += squared;
  weight_squared += record.analysis->weight_norm * record.analysis->weight_norm;
  if (!spectrum.sigma.empty()) largest = std::max(largest, spectrum.sigma.front());
  for (std::size_t i = 0; i < ks.size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < std::min(spectrum.sigma.size(), static_cast<std::size_t>(ks[i])); ++j) {
      sum += spectrum.sigma[j] * spectrum.sigma[j];
    }
    kept[i] += std::min(sum, squared);
  }
  for (std::size_t t = 0; t < tuned.size(); ++t) {
    const TunedMatrix& from = record.analysis->tuned.at(t);
    Tuned& to = tuned[t];
    const double norm = from.delta_norm * from.delta_norm;
    to.squared += norm;
    if (from.share.empty()) continue;
    to.measured += norm;
    to.weight += squared;
    for (std::size_t i = 0; i < ks.size(); ++i) {
      to.kept[i] += from.share[i] * from.share[i] * norm;
      to.left[i] += from.overlap_left[i] * squared;
      to.right[i] += from.overlap_right[i] * squared;
    }
  }
}

/// {"6": value, ..}; null where a number has no meaning.
template <class Value>
ordered_json by_k(const std::vector<Index>& ks, bool known, Value value) {
  ordered_json all = ordered_json::object();
  for (std::size_t i = 0; i < ks.size(); ++i) {
    all[std::to_string(ks[i])] = known ? ordered_json(value(i)) : ordered_json();
  }
  return all;
}

ordered_json shares(const AnalysisAsked& asked, const std::vector<double>& kept, double all) {
  return by_k(asked.k, all > 0, [&](std::size_t i) { return std::sqrt(std::min(1.0, kept[i] / all)); });
}

ordered_json tuned_to_json(const AnalysisAsked& asked, const Sums& sums) {
  ordered_json list = ordered_json::array();
  for (std::size_t t = 0; t < sums.tuned.size(); ++t) {
    const Sums::Tuned& of = sums.tuned[t];
    const auto mean = [&](const std::vector<double>& total) {
      return by_k(asked.k, of.weight > 0, [&](std::size_t i) { return std::min(1.0, total[i] / of.weight); });
    };
    list.push_back({{"model", printable(asked.tuned[t], SIZE_MAX)},
                    {"delta_norm", std::sqrt(of.squared)},
                    {"r_ft", shares(asked, of.kept, of.measured)},
                    {"overlap_left", mean(of.left)},
                    {"overlap_right", mean(of.right)}});
  }
  return list;
}

ordered_json numbers_to_json(const AnalysisAsked& asked, const Sums& sums) {
  const bool known = sums.delta_squared > 0;
  return {{"delta_norm", std::sqrt(sums.delta_squared)},
          {"weight_norm", std::sqrt(sums.weight_squared)},
          {"stable_rank", sums.largest > 0 ? ordered_json(sums.delta_squared / sums.largest / sums.largest)
                                           : ordered_json()},
          {"energy", by_k(asked.k, known, [&](std::size_t i) { return sums.kept[i] / sums.delta_squared; })},
          {"r_align", shares(asked, sums.kept, sums.delta_squared)},
          {"tuned", tuned_to_json(asked, sums)}};
}

bool is_settled(const Spectrum& spectrum, Index k) {
  if (k >= spectrum.k) return spectrum.settled;
  return std::ranges::find(spectrum.open, k, &Unsettled::k) == spectrum.open.end();
}

ordered_json matrix_to_json(const AnalysisAsked& asked, const Record& record) {
  Sums sums(asked.k.size(), asked.tuned.size());
  sums.add(record, asked.k);
  const Spectrum& spectrum = record.spectrum;
  ordered_json matrix{
      {"method", method_name(spectrum.method)},
      {"where", where_name(spectrum.where)},
      {"certificate", spectrum.certificate.residual},
      {"settled", by_k(asked.k, true, [&](std::size_t i) { return is_settled(spectrum, asked.k[i]); })},
      {"sigma", spectrum.sigma}};
  matrix.update(numbers_to_json(asked, sums));
  for (std::size_t t = 0; asked.angles && t < asked.tuned.size(); ++t) {
    const TunedMatrix& tuned = record.analysis->tuned[t];
    const bool known = !tuned.angles_left.empty();
    matrix["tuned"][t]["angles_left"] =
        by_k(asked.k, known, [&](std::size_t i) { return tuned.angles_left[i]; });
    matrix["tuned"][t]["angles_right"] =
        by_k(asked.k, known, [&](std::size_t i) { return tuned.angles_right[i]; });
  }
  return matrix;
}

ordered_json tensor_to_json(const AnalysisAsked& asked, const TensorInfo& info, const Records& matrices) {
  ordered_json tensor{
      {"name", printable(info.name, SIZE_MAX)}, {"shape", info.shape}, {"dtype", dtype_name(info.dtype)}};
  if (info.shape.size() == 2) {
    tensor.update(matrix_to_json(asked, *matrices.front()));
    return tensor;
  }
  Sums sums(asked.k.size(), asked.tuned.size());
  ordered_json batch = ordered_json::array();
  std::vector<double> sigma;
  for (const Record* record : matrices) {
    sums.add(*record, asked.k);
    batch.push_back(matrix_to_json(asked, *record));
    sigma.insert(sigma.end(), record->spectrum.sigma.begin(), record->spectrum.sigma.end());
  }
  // Of the block-diagonal matrix as many are known for certain as of each block.
  std::ranges::sort(sigma, std::greater<>());
  sigma.resize(matrices.front()->spectrum.sigma.size());
  tensor["sigma"] = sigma;
  tensor.update(numbers_to_json(asked, sums));
  tensor["batch"] = std::move(batch);
  return tensor;
}

/// The mean of a number over matrices that have it.
class Mean {
 public:
  explicit Mean(std::size_t ks) : sums_(ks) {}
  void add(const std::vector<double>& values) {
    if (values.empty()) return;
    for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += values[i];
    ++count_;
  }
  ordered_json by(const std::vector<Index>& ks) const {
    return by_k(ks, count_ > 0, [&](std::size_t i) { return sums_[i] / static_cast<double>(count_); });
  }

 private:
  std::vector<double> sums_;
  std::int64_t count_ = 0;
};

/// The paper's means: every linear layer counts as much as any other.
ordered_json means_to_json(const AnalysisAsked& asked, const Records& linear) {
  const std::size_t ks = asked.k.size();
  Mean align(ks);
  for (const Record* record : linear) {
    Sums sums(ks, asked.tuned.size());
    sums.add(*record, asked.k);
    std::vector<double> values;
    for (const double kept : sums.kept) {
      if (sums.delta_squared > 0) values.push_back(std::sqrt(kept / sums.delta_squared));
    }
    align.add(values);
  }
  ordered_json tuned = ordered_json::array();
  for (std::size_t t = 0; t < asked.tuned.size(); ++t) {
    Mean share(ks);
    Mean left(ks);
    Mean right(ks);
    for (const Record* record : linear) {
      const TunedMatrix& of = record->analysis->tuned[t];
      share.add(of.share);
      left.add(of.overlap_left);
      right.add(of.overlap_right);
    }
    tuned.push_back({{"model", printable(asked.tuned[t], SIZE_MAX)},
                     {"r_ft", share.by(asked.k)},
                     {"overlap_left", left.by(asked.k)},
                     {"overlap_right", right.by(asked.k)}});
  }
  return {{"r_align", align.by(asked.k)}, {"tuned", std::move(tuned)}};
}

}  // namespace

bool is_embedding(const std::string& name) {
  std::string lower = name;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  constexpr std::array<std::string_view, 3> words{"embed", "wte", "wpe"};
  return std::ranges::any_of(words,
                             [&](std::string_view word) { return lower.find(word) != std::string::npos; });
}

ordered_json analysis_report(const AnalysisAsked& asked, const Checkpoint& model,
                             const std::vector<Record>& records, const RunTotals& run) {
  std::map<std::string_view, Records> by_name;
  Sums all(asked.k.size(), asked.tuned.size());
  Sums of_linear = all;
  Records linear;
  std::uint64_t bytes_read = 0;
  for (const Record& record : records) {
    by_name[record.key.name].push_back(&record);
    all.add(record, asked.k);
    bytes_read += record.timing.bytes_read;
    if (is_embedding(record.key.name)) continue;
    linear.push_back(&record);
    of_linear.add(record, asked.k);
  }
  ordered_json tensors = ordered_json::array();
  for (const TensorInfo& tensor : model.tensors) {
    const auto found = by_name.find(tensor.name);
    if (found == by_name.end()) continue;
    std::ranges::sort(found->second, {}, [](const Record* record) { return record->key.matrix; });
    tensors.push_back(tensor_to_json(asked, tensor, found->second));
  }
  ordered_json weighted{{"r_align", shares(asked, of_linear.kept, of_linear.delta_squared)},
                        {"tuned", tuned_to_json(asked, of_linear)}};
  const WorkTimes& work = run.work;
  ordered_json totals{{"tensors", tensors.size()},
                      {"matrices", records.size()},
                      {"linear", linear.size()},
                      {"delta_norm", std::sqrt(all.delta_squared)},
                      {"weight_norm", std::sqrt(all.weight_squared)},
                      {"mean", means_to_json(asked, linear)},
                      {"weighted", std::move(weighted)},
                      {"bytes_read", bytes_read},
                      {"seconds", run.seconds},
                      {"peak_rss_bytes", run.peak_rss_bytes},
                      {"ranks", run.ranks},
                      {"rank_seconds",
                       {{"solving", work.solving},
                        {"waiting", work.waiting},
                        {"idle", work.idle},
                        {"reading", work.reading}}}};
  return {
      {"lox", version()}, {"job", asked.job}, {"totals", std::move(totals)}, {"tensors", std::move(tensors)}};
}

bool is_analysis(const ordered_json& text) {
  return text.is_object() && text.contains("totals") && text["totals"].is_object() &&
         text["totals"].contains("mean") && text["totals"].contains("weighted");
}

std::string analysis_table(const ordered_json& analysis) {
  const auto share = [](const ordered_json& value) {
    return value.is_null() ? std::string("-") : fmt::format("{:.4f}", value.get<double>());
  };
  const ordered_json& totals = analysis.at("totals");
  std::string text =
      fmt::format("{} matrices of {} tensors, |Delta| / |A| = {:.3g}\n\n", totals.at("matrices").dump(),
                  totals.at("tensors").dump(),
                  totals.at("delta_norm").get<double>() / totals.at("weight_norm").get<double>());
  text += fmt::format("{:>6}  {:>8}  {:>8}\n", "k", "R_align", "weighted");
  for (const auto& [k, mean] : totals.at("mean").at("r_align").items()) {
    text += fmt::format("{:>6}  {:>8}  {:>8}\n", printable(k), share(mean),
                        share(totals.at("weighted").at("r_align").at(k)));
  }
  const ordered_json& weighted = totals.at("weighted").at("tuned");
  for (std::size_t t = 0; t < weighted.size(); ++t) {
    const ordered_json& mean = totals.at("mean").at("tuned").at(t);
    text += fmt::format("\n{}\n{:>6}  {:>8}  {:>8}  {:>12}  {:>13}\n",
                        printable(mean.at("model").get<std::string>()), "k", "R_ft", "weighted",
                        "overlap left", "overlap right");
    for (const auto& [k, r_ft] : mean.at("r_ft").items()) {
      text += fmt::format("{:>6}  {:>8}  {:>8}  {:>12}  {:>13}\n", printable(k), share(r_ft),
                          share(weighted.at(t).at("r_ft").at(k)), share(mean.at("overlap_left").at(k)),
                          share(mean.at("overlap_right").at(k)));
    }
  }
  return text;
}

}  // namespace lox
