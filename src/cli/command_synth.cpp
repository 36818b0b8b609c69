// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/base/units.hpp"
#include "lox/cli/manual.hpp"
#include "lox/cli/options.hpp"
#include "lox/plan/shapes.hpp"
#include "lox/task/synth.hpp"

namespace po = boost::program_options;

namespace lox {

Request read_synth(const Arguments& arguments) {
  std::string names;
  for (const ModelShape& shape : model_shapes()) names += (names.empty() ? "" : ", ") + shape.name;
  Options options("synth", "DST --shape NAME [options]",
                  "Writes random weights in the shapes of a real model, for demonstrations, sizing\n"
                  "and benchmarks. With the same seed, the aligned half is the base half plus a\n"
                  "decaying low-rank part and noise.\n" +
                      wrapped("Shapes: " + names + ".", 80),
                  "  lox synth base --shape llama-2-7b --layers 2 --role base\n"
                  "  lox synth aligned --shape llama-2-7b --layers 2 --role aligned");
  SynthOptions synth;
  std::string role = "base";
  bool quiet = false;
  options.add({.name = "shape", .value = "NAME", .brief = "of the model"}, synth.shape);
  options.add({.name = "layers", .value = "N", .brief = "keep the first N layers", .fallback = "all"},
              synth.layers);
  options.add({.name = "seed", .value = "S", .brief = "of the random weights"}, synth.seed);
  options.add({.name = "role", .value = "base|aligned", .brief = "which half"}, role);
  options.add({.name = "headers-only", .brief = "no weights (sparse files): to plan with"},
              synth.headers_only);
  options.add({.name = "overwrite", .brief = "replace DST if it exists"}, synth.overwrite);
  options.add({.name = "quiet", .brief = "say nothing unless it fails"}, quiet);
  options.add_positional("DST");
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  if (role != "base" && role != "aligned") {
    fail(ExitCode::usage, "--role '{}' is neither base nor aligned", role);
  }
  synth.aligned = role == "aligned";
  synth.target = values["DST"].as<std::string>();
  static_cast<void>(model_shape(synth.shape));  // a name that is not known is refused here
  const auto work = [=](const Comm& comm) {
    const Log log(comm.is_root() && !quiet ? Log::Level::all : Log::Level::silent);
    const std::optional<std::uint64_t> bytes = synthesise(comm, synth);
    if (!bytes) {
      log.info("{} was finished already", synth.target);
      return ExitCode::done;
    }
    log.info("wrote {}: the {} half of a {} pair, {}", synth.target, role, synth.shape,
             format_bytes(static_cast<double>(*bytes)));
    return ExitCode::done;
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
