// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/base/units.hpp"
#include "lox/cli/options.hpp"
#include "lox/plan/shapes.hpp"
#include "lox/task/synth.hpp"

namespace po = boost::program_options;

namespace lox {

ExitCode run_synth(const Arguments& arguments) {
  std::string names;
  for (const ModelShape& shape : model_shapes()) names += (names.empty() ? "" : ", ") + shape.name;
  for (std::size_t line = 0;
       (line = names.rfind(' ', line + 70)) != std::string::npos && names.size() - line > 10;) {
    names[line] = '\n';
  }
  Options options("synth", "DST --shape NAME [options]",
                  "Writes random weights in the shapes of a real model, for demonstrations, sizing\n"
                  "and benchmarks. With the same seed, the aligned half is the base half plus a\n"
                  "decaying low-rank part and noise. Shapes:\n" +
                      names + ".",
                  "  lox synth base --shape llama-2-7b --layers 2 --role base\n"
                  "  lox synth aligned --shape llama-2-7b --layers 2 --role aligned");
  SynthOptions synth;
  std::string role = "base";
  bool quiet = false;
  options.add()("shape", po::value(&synth.shape)->default_value(synth.shape)->value_name("NAME"),
                "of the model")("layers", po::value(&synth.layers)->value_name("N"),
                                "keep the first N layers")(
      "seed", po::value(&synth.seed)->default_value(synth.seed), "of the random weights")(
      "role", po::value(&role)->default_value(role)->value_name("HALF"), "base or aligned")(
      "headers-only", po::bool_switch(&synth.headers_only), "no weights (sparse files): to plan with")(
      "overwrite", po::bool_switch(&synth.overwrite), "replace DST if it exists")(
      "quiet", po::bool_switch(&quiet), "say nothing unless it fails");
  options.add_positional("DST");
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  if (role != "base" && role != "aligned") {
    fail(ExitCode::usage, "--role '{}' is neither base nor aligned", role);
  }
  synth.aligned = role == "aligned";
  synth.target = values["DST"].as<std::string>();
  const Comm comm = Comm::world();
  const Log log(comm.is_root() && !quiet ? Log::Level::all : Log::Level::silent);
  const std::uint64_t bytes = synthesise(comm, synth);
  log.info("wrote {}: the {} half of a {} pair, {}", synth.target, role, synth.shape,
           format_bytes(static_cast<double>(bytes)));
  return ExitCode::done;
}

}  // namespace lox
