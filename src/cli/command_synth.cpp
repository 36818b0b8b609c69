// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/base/units.hpp"
#include "lox/cli/manual.hpp"
#include "lox/cli/task_options.hpp"
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
  SynthArguments asked;
  asked.add_to(options);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  asked.finish(values);
  const auto work = [asked](const Comm& comm) {
    const Log log(comm.is_root() && !asked.quiet ? Log::Level::all : Log::Level::silent);
    const std::optional<std::uint64_t> bytes = synthesise(comm, asked.synth);
    if (!bytes) {
      log.info("{} was finished already", asked.synth.target);
      return ExitCode::done;
    }
    log.info("wrote {}: the {} half of a {} pair, {}", asked.synth.target, asked.role, asked.synth.shape,
             format_bytes(static_cast<double>(*bytes)));
    return ExitCode::done;
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
