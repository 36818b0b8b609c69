// SPDX-License-Identifier: MIT
#include "lox/cli/verify_options.hpp"

#include "lox/cli/apply_options.hpp"
#include "lox/cli/job_options.hpp"
#include "lox/report/json.hpp"

#include <charconv>
#include <optional>

namespace po = boost::program_options;

namespace lox {
namespace {

/// What a job file or a report says of the job whose result is to be checked.
struct Asked {
  fs::path base;
  fs::path aligned;
  fs::path hardened;
  fs::path factors;
  std::optional<Index> k;  ///< nothing: all that the store has
  double coef = 1.25;
  Selection selection;
  PairRules pairing;
};

/// The one output of a job file of apply.
Asked of_apply_file(const ApplyJob& job, const std::string& file) {
  if (job.k.size() > 1 || job.coef.size() > 1) {
    fail(ExitCode::usage, "{}: makes several models; name the report of one instead (--report)", file);
  }
  Asked asked;
  asked.base = job.base;
  asked.aligned = job.aligned;
  asked.factors = job.factors;
  asked.coef = job.coef.front();
  if (!job.k.empty()) asked.k = job.k.front();
  asked.hardened = apply_output(job, asked.k, asked.coef);
  return asked;
}

/// A job file of harden, or of apply.
Asked of_job_file(const std::string& file) {
  const Arguments words{"--config", file};
  po::variables_map values;
  if (job_file_names(file, "factors")) {
    Options options("apply", "", "", "");
    ApplyOptions apply;
    apply.add_to(options);
    options.read(words, values);
    apply.finish(values);
    return of_apply_file(apply.job, file);
  }
  Options options("harden", "", "", "");
  JobOptions harden;
  harden.add_to(options);
  options.read(words, values);
  harden.finish();
  const Job& job = harden.job;
  return {job.base, job.aligned, job.output, {}, job.solve.k, job.coef, job.selection, job.pairing};
}

/// A path of a report's job: where it was then, whatever folder this is; as it was given, if only that is
/// there.
fs::path place_of(const Report& report, const char* key) {
  fs::path given = report.job.value(key, std::string());
  if (given.empty() || given.is_absolute()) return given;
  const auto paths = report.made.is_object() ? report.made.value("paths", nlohmann::ordered_json::object())
                                             : nlohmann::ordered_json::object();
  const fs::path made = paths.value(key, std::string());
  return made.empty() || (!fs::exists(made) && fs::exists(given)) ? given : made;
}

/// The report of harden, factor or apply: a file, or what lies in or beside a model.
Asked of_report(const std::string& word) {
  const fs::path file = report_file(word);
  Asked asked;
  try {
    const Report report = read_report(file);
    const nlohmann::ordered_json& job = report.job;
    if (!job.is_object()) fail(ExitCode::bad_input, "{}: is not a report of harden, factor or apply", file);
    const auto path = [&](const char* key) { return place_of(report, key); };
    const fs::path output = file == fs::path(word) ? path("output") : fs::path(word);
    const bool of_store = !job.contains("coef");
    asked.base = path("base");
    asked.aligned = path("aligned");
    asked.factors = of_store ? output : path("factors");
    if (!of_store) asked.hardened = output;
    asked.k = job.at("k").get<Index>();
    asked.coef = job.value("coef", asked.coef);
    asked.selection = {job.at("include").get<std::vector<std::string>>(),
                       job.at("exclude").get<std::vector<std::string>>()};
    asked.pairing = {job.value("rename", std::vector<std::string>()),
                     job.value("unpaired", "refuse") == "copy", job.value("extra_rows", "refuse") == "copy"};
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_input, "{}: is not a report of lox: {}", file, error.what());
  }
  return asked;
}

}  // namespace

void VerifyOptions::add_to(Options& options) {
  Job& job = asked.job;
  options.add({.name = "base", .value = "CKPT", .brief = "model before alignment"}, job.base);
  options.add({.name = "aligned", .value = "CKPT", .brief = "model after alignment, or a LoRA adapter"},
              job.aligned);
  options.add({.name = "hardened", .value = "CKPT", .brief = "the result to check"}, job.output);
  options.add({.name = "factors",
               .value = "STORE",
               .brief = "check this store against --base, or --hardened against it",
               .text = "a store of `lox factor`: with `--base` and `--aligned` it is checked itself, with "
                       "`--hardened` the model that `apply` made of it and of `--aligned` (or of `--base`)"},
              asked.factors);
  options.add({.name = "k",
               .value = "K",
               .brief = "as given to harden or apply",
               .fallback = "6; of a store, all that it has"},
              k);
  options.add({.name = "coef", .value = "C", .brief = "as given to harden or apply"}, job.coef);
  options.add({.name = "include", .value = "REGEX", .brief = "as given to harden"}, job.selection.include);
  options.add({.name = "exclude", .value = "REGEX", .brief = "as given to harden"}, job.selection.exclude);
  options.add({.name = "rename", .value = "FROM=TO", .brief = "as given to harden"}, job.pairing.rename);
  options.add({.name = "unpaired", .value = "copy|refuse", .brief = "as given to harden"}, unpaired);
  options.add({.name = "extra-rows", .value = "copy|refuse", .brief = "as given to harden"}, extra_rows);
  options.add({.name = "config",
               .value = "JOBFILE",
               .brief = "job file of harden or apply: all of the above from there",
               .text = "a job file of `harden` or `apply`: all of the above is taken from there, and the "
                       "command line wins"},
              job_file);
  options.add(
      {.name = "report",
       .value = "FILE|MODEL",
       .brief = "the same from the report of harden, factor or apply",
       .text = "the same from the report that `harden`, `factor` or `apply` has written, or from that "
               "of a model, which is checked where it lies now. Paths of the report are of the folder "
               "in which the job ran"},
      report);
  options.add({.name = "sample",
               .value = "N",
               .brief = "matrices to check; 0: all",
               .text = "matrices to check, spread over the model; 0: all"},
              asked.sample);
}

void VerifyOptions::finish(const po::variables_map& values) {
  if (!job_file.empty() && !report.empty()) {
    fail(ExitCode::usage, "--config and --report both say what was asked; give one of them");
  }
  const bool told = !job_file.empty() || !report.empty();
  const Asked source = !job_file.empty() ? of_job_file(job_file)
                       : !report.empty() ? of_report(report)
                                         : Asked();
  Job& job = asked.job;
  const auto take = [&](const char* word, auto& to, const auto& from) {
    if (told && !values.contains(word)) to = from;
  };
  take("base", job.base, source.base);
  take("aligned", job.aligned, source.aligned);
  take("hardened", job.output, source.hardened);
  take("factors", asked.factors, source.factors);
  take("coef", job.coef, source.coef);
  take("include", job.selection.include, source.selection.include);
  take("exclude", job.selection.exclude, source.selection.exclude);
  take("rename", job.pairing.rename, source.pairing.rename);
  job.pairing.copy_unpaired = is_first_of("--unpaired", unpaired, "copy", "refuse");
  job.pairing.copy_extra_rows = is_first_of("--extra-rows", extra_rows, "copy", "refuse");
  take("unpaired", job.pairing.copy_unpaired, source.pairing.copy_unpaired);
  take("extra-rows", job.pairing.copy_extra_rows, source.pairing.copy_extra_rows);
  Index& rank = job.solve.k;
  if (asked.has_store()) rank = full_rank;
  if (source.k) rank = *source.k;
  if (!k.empty()) {
    const auto [end, error] = std::from_chars(k.data(), k.data() + k.size(), rank);
    if (error != std::errc() || end != k.data() + k.size()) {
      fail(ExitCode::usage, "--k '{}' is not a whole number", k);
    }
  }
  if (asked.has_store() && !job.output.empty() && job.aligned.empty()) {
    asked.onto_base = !job.base.empty();
    std::swap(job.aligned, job.base);
  }
  check_verify_job(asked);
}

}  // namespace lox
