// SPDX-License-Identifier: MIT
#include "lox/cli/job_options.hpp"
#include "lox/cli/number_list.hpp"
#include "lox/task/landscape.hpp"

#include <cmath>

namespace po = boost::program_options;

namespace lox {
namespace {

/// A text cut at each of a character.
std::vector<std::string> cut(const std::string& text, char at) {
  std::vector<std::string> parts{""};
  for (const char c : text) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

double number(const std::string& text, const char* option, const std::string& value) {
  double found = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), found);
  if (error == std::errc() && end == text.data() + text.size() && !text.empty()) return found;
  fail(ExitCode::usage, "{} '{}': '{}' is no number", option, value, text);
}

Point point_of(const std::string& text) {
  const std::vector<std::string> parts = cut(text, ',');
  if (parts.size() != 2) fail(ExitCode::usage, "--at '{}' is no point, such as 5,-2.5", text);
  // A name is made of it: no -0.
  return {number(parts[0], "--at", text) + 0.0, number(parts[1], "--at", text) + 0.0};
}

/// One side of a grid: n numbers from the first to the last.
std::vector<double> side_of(const std::string& part, const std::string& text) {
  constexpr double most = 1000;
  const std::vector<std::string> parts = cut(part, ':');
  if (parts.size() != 3) fail(ExitCode::usage, "--grid '{}' is no grid, such as -10:30:5,-10:30:5", text);
  const double first = number(parts[0], "--grid", text);
  const double last = number(parts[1], "--grid", text);
  const double count = number(parts[2], "--grid", text);
  if (count < 1 || count > most || count != static_cast<int>(count)) {
    fail(ExitCode::usage, "--grid '{}': '{}' is no count from 1 to 1000", text, parts[2]);
  }
  std::vector<double> side;
  for (int i = 0; i < static_cast<int>(count); ++i) {
    const double at = count == 1 ? first : (first * (count - 1 - i) + last * i) / (count - 1);
    // A name is made of it: no -0, and no 1e-17 where 0 is meant.
    side.push_back(std::abs(at) < 1e-12 * std::abs(last - first) ? 0 : at + 0.0);
  }
  return side;
}

struct LandscapeOptions {
  LandscapeJob job;
  std::string k;
  std::vector<std::string> at;
  std::string grid;
  std::string direction = "tuned";
  RunWords run;
  void add_to(Options& options);
  void finish();
};

void LandscapeOptions::add_to(Options& options) {
  options.add(
      {.name = "base",
       .value = "CKPT",
       .brief = "model before alignment",
       .text = "the model before alignment: needed where no store is given; its place is told as well"},
      job.base);
  options.add({.name = "aligned",
               .value = "CKPT",
               .brief = "the model in the middle",
               .text = "the model in the middle, W"},
              job.aligned);
  options.add(
      {.name = "factors",
       .value = "STORE",
       .brief = "what 'lox factor' has written; else it is made",
       .text = "what `lox factor` has written of base and aligned. Without it the pair is solved first, and "
               "the store kept as `<output>.factors`"},
      job.factors);
  options.add({.name = "k",
               .value = "K",
               .brief = "triplets that make the direction of hardening",
               .text = "triplets that make d1, the direction of hardening",
               .fallback = "all that the store has"},
              k);
  options.add({.name = "tuned",
               .value = "CKPT",
               .brief = "a model tuned from the aligned one",
               .text = "a model tuned from the aligned one, T: d2 is T - W"},
              job.tuned);
  options.add({.name = "hardened",
               .value = "CKPT",
               .brief = "the hardened model",
               .text = "the hardened model, H; with `--hardened-tuned`, d2 is the mean of T - W and HT - H"},
              job.hardened);
  options.add({.name = "hardened-tuned",
               .value = "CKPT",
               .brief = "the hardened model, tuned in the same way",
               .text = "the hardened model, tuned in the same way, HT"},
              job.hardened_tuned);
  options.add({.name = "at",
               .value = "A,B",
               .brief = "a point: W + A d1 + B d2 (repeatable)",
               .text = "a point, W + A d1 + B d2, of which the model is written. Repeatable"},
              at);
  options.add({.name = "grid",
               .value = "A0:A1:N,B0:B1:M",
               .brief = "N x M points",
               .text = "N x M points, evenly spaced from A0 to A1 and from B0 to B1, ends included"},
              grid);
  options.add(
      {.name = "output",
       .value = "CKPT",
       .brief = "a point's model; {a} and {b} stand for its place",
       .text = "a point's model, in the format of its name; `{a}` and `{b}` in it stand for its place. "
               "`<output>.landscape.json` tells where the models lie ([formats.md](formats.md#a-landscape))"},
      job.output);
  options.add({.name = "direction",
               .value = "tuned|random",
               .brief = "of d2",
               .text = "of d2: towards the tuned model, or random, as a control"},
              direction);
  options.add({.name = "seed", .value = "S", .brief = "of the random direction"}, job.seed);
  run.add_memory_to(options);
  run.add_time_to(options, job.run, job.overwrite);
}

void LandscapeOptions::finish() {
  run.finish(job.run);
  job.random = !is_first_of("--direction", direction, "tuned", "random");
  if (!k.empty()) job.k = parse_list<Index>(k, "--k").front();
  if (k.find(',') != std::string::npos) fail(ExitCode::usage, "--k '{}' is more than one number", k);
  for (const std::string& text : at) job.points.push_back(point_of(text));
  if (!grid.empty()) {
    const std::vector<std::string> sides = cut(grid, ',');
    if (sides.size() != 2) fail(ExitCode::usage, "--grid '{}' is no grid, such as -10:30:5,-10:30:5", grid);
    const std::vector<double> across = side_of(sides[1], grid);
    for (const double a : side_of(sides[0], grid)) {
      for (const double b : across) job.points.push_back({a, b});
    }
  }
  for (fs::path* path :
       {&job.base, &job.aligned, &job.factors, &job.tuned, &job.hardened, &job.hardened_tuned}) {
    *path = without_slash(*path);
  }
  job.output = without_slash(job.output).string();
  check_landscape_job(job);
}

}  // namespace

Request read_landscape(const Arguments& arguments) {
  Options options("landscape", "--aligned A --factors F --tuned T --output P [options]",
                  "Measures the plane through A that the direction of hardening and that of tuning\n"
                  "span: where the models lie in it goes to P.landscape.json. Then writes models\n"
                  "at the points that --at and --grid name, all in one reading. The same command\n"
                  "goes on with what was left unfinished.",
                  "  lox landscape --aligned aligned --factors factors.h5 --tuned attacked \\\n"
                  "      --grid -10:30:5,-10:30:5 --output point_{a}_{b}");
  LandscapeOptions words;
  words.add_to(options);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  words.finish();
  const auto work = [words](const Comm& comm) {
    return landscape(comm, words.job, Log(words.run.level(comm)));
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
