// SPDX-License-Identifier: MIT
#include "lox/cli/options.hpp"

#include "lox/base/mpi.hpp"
#include "lox/base/units.hpp"

#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

namespace po = boost::program_options;

namespace lox {
namespace {

/// Boost 1.74 never returns from describing an error in which a word looks like one of its own placeholders
/// ("%value%").
void refuse_placeholders(std::string_view text, const std::string& where) {
  for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 1)) {
    const std::size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at + 1);
    if (end == std::string_view::npos || end == at + 1 || text[end] != '%') continue;
    fail(ExitCode::usage, "{}: '{}' cannot stand in an option; write it otherwise", where,
         text.substr(at, end + 1 - at));
  }
}

bool is_root() {
  int started = 0;
  MPI_Initialized(&started);
  return started == 0 || Comm::world().is_root();
}

}  // namespace

Options::Options(std::string command, std::string synopsis, std::string text, std::string example)
    : command_(std::move(command)),
      synopsis_(std::move(synopsis)),
      text_(std::move(text)),
      example_(std::move(example)),
      described_("Options", 80, 40) {
  described_.add_options()("help,h", "print this text");
}

void Options::add_positional(const std::string& name) {
  positional_.push_back(name);
}

std::string Options::help() const {
  std::ostringstream text;
  text << "Usage: lox " << command_ << ' ' << synopsis_ << "\n\n" << text_ << "\n\n" << described_;
  text << "\nExample:\n" << example_ << "\n";
  return text.str();
}

bool Options::parse(const Arguments& arguments, po::variables_map& values) {
  for (const std::string& word : arguments) refuse_placeholders(word, "command line");
  po::options_description all;
  all.add(described_);
  po::positional_options_description positions;
  for (const std::string& name : positional_) {
    all.add_options()(name.c_str(), po::value<std::string>());
    positions.add(name.c_str(), 1);
  }
  try {
    // No guessing: an abbreviated option would change its meaning when a new one is added.
    const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(arguments).options(all).positional(positions).style(style).run(),
              values);
    if (values.contains("help")) {
      if (is_root()) fmt::print("{}", help());
      return false;
    }
    if (config_ && values.contains("config")) {
      const std::string path = values["config"].as<std::string>();
      std::ifstream file(path);
      if (!file) {  // every rank looks at the same file
        throw SharedError(ExitCode::bad_input, to_line("{}: cannot open the job file", path));
      }
      std::stringstream text;
      text << file.rdbuf();
      refuse_placeholders(text.view(), path);
      try {
        po::store(po::parse_config_file(text, described_), values);
      } catch (const po::error& error) {
        fail(ExitCode::usage, "{}: {}", path, error.what());
      }
    }
    po::notify(values);
  } catch (const po::error& error) {
    fail(ExitCode::usage, "{}; see 'lox {} --help'", error.what(), command_);
  }
  for (const std::string& name : positional_) {
    if (!values.contains(name)) fail(ExitCode::usage, "{} is missing; see 'lox {} --help'", name, command_);
  }
  return true;
}

void JobOptions::add_to(Options& options) {
  options.allow_config_file();
  const auto path = [](fs::path& to) {
    return po::value<std::string>()->notifier([&to](const std::string& text) { to = text; });
  };
  options.add()("base", path(job.base)->value_name("CKPT"), "model before alignment")(
      "aligned", path(job.aligned)->value_name("CKPT"), "model after alignment")(
      "output", path(job.output)->value_name("CKPT"), "the hardened model; its format follows from the name")(
      "k", po::value(&job.solve.k)->default_value(job.solve.k),
      "rank of the part that is extrapolated; 0: full rank")(
      "coef", po::value(&job.coef)->default_value(job.coef), "how much of it is added to the aligned model")(
      "svd", po::value(&svd)->default_value(svd)->value_name("METHOD"), "krylov or exact")(
      "tolerance",
      po::value(&job.solve.tolerance)->default_value(job.solve.tolerance, "1e-4")->value_name("TOL"),
      "bound on the residuals of the singular triplets")(
      "grid", po::value(&grid)->default_value(grid)->value_name("WHEN"),
      "auto, never or always: solve a matrix by all ranks together")(
      "memory", po::value(&memory)->value_name("BYTES"),
      "memory of a rank, e.g. 8GiB; default: what is there")(
      "include", po::value(&job.selection.include)->value_name("REGEX"),
      "edit only tensors whose name matches (repeatable)")(
      "exclude", po::value(&job.selection.exclude)->value_name("REGEX"),
      "copy tensors whose name matches (repeatable)")(
      "proof", po::value(&job.solve.proof)->default_value(job.solve.proof)->value_name("EPS"),
      "no singular value above (1 + EPS) s_k may be missing, but for a probability of 1e-9")(
      "seed", po::value(&seed)->default_value(seed)->value_name("N"),
      "of the random start of the SVD; 'random': drawn when the job begins")(
      "report", path(job.report)->value_name("FILE"), "default: <output>.report.json")(
      "overwrite", po::bool_switch(&job.overwrite), "replace an existing output")(
      "time-limit", po::value(&time_limit)->value_name("TIME"),
      "stop in good order before it is over, e.g. 2h; default: the Slurm job's end, if known")(
      "recheck", po::bool_switch(&job.run.recheck),
      "before going on, compare what is finished with its checksums")(
      "config", po::value<std::string>()->value_name("JOBFILE"),
      "INI file of these options; the command line wins");
}

void JobOptions::finish() {
  if (svd == "krylov") {
    job.solve.svd = Method::krylov;
  } else if (svd == "exact") {
    job.solve.svd = Method::exact;
  } else {
    fail(ExitCode::usage, "--svd '{}' is neither krylov nor exact", svd);
  }
  if (grid == "auto") {
    job.run.grid = GridUse::automatic;
  } else if (grid == "never") {
    job.run.grid = GridUse::never;
  } else if (grid == "always") {
    job.run.grid = GridUse::always;
  } else {
    fail(ExitCode::usage, "--grid '{}' is none of auto, never, always", grid);
  }
  if (seed == "random") {
    job.random_seed = true;
  } else if (const auto [end, error] =
                 std::from_chars(seed.data(), seed.data() + seed.size(), job.solve.seed);
             error != std::errc() || end != seed.data() + seed.size()) {
    fail(ExitCode::usage, "--seed '{}' is neither a whole number from 0 to 2^64 - 1 nor 'random'", seed);
  }
  if (!time_limit.empty()) job.run.time_limit = parse_seconds(time_limit, "--time-limit");
  if (!memory.empty()) job.run.memory = parse_bytes(memory, "--memory");
  job.solve.weight = job.coef;
  for (fs::path* path : {&job.base, &job.aligned, &job.output}) {
    if (!path->empty() && !path->has_filename()) *path = path->parent_path();  // a slash at the end
  }
  check_job(job);
}

}  // namespace lox
