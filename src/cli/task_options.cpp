// SPDX-License-Identifier: MIT
#include "lox/cli/task_options.hpp"

#include "lox/plan/shapes.hpp"

namespace po = boost::program_options;

namespace lox {

void ConvertArguments::add_to(Options& options) {
  options.add({.name = "overwrite", .brief = "replace DST if it exists"}, overwrite);
  options.add({.name = "quiet", .brief = "say nothing unless it fails"}, quiet);
  options.add_positional("SRC");
  options.add_positional("DST");
}

void ConvertArguments::finish(const po::variables_map& values) {
  source = values["SRC"].as<std::string>();
  target = values["DST"].as<std::string>();
}

void SynthArguments::add_to(Options& options) {
  options.add({.name = "shape", .value = "NAME", .brief = "of the model"}, synth.shape);
  options.add({.name = "layers", .value = "N", .brief = "keep the first N layers", .fallback = "all"},
              synth.layers);
  options.add({.name = "seed", .value = "S", .brief = "of the random weights"}, synth.seed);
  options.add({.name = "role", .value = "base|aligned", .brief = "which half"}, role);
  options.add({.name = "quantised",
               .value = "none|fp8",
               .brief = "fp8: matrices of the layers as DeepSeek-V3 stores them",
               .text = "`fp8`: matrices of the layers are stored as those of DeepSeek-V3, as codes and a "
                       "scale for each block of 128 x 128"},
              quantised);
  options.add({.name = "headers-only", .brief = "no weights (sparse files): to plan with"},
              synth.headers_only);
  options.add({.name = "overwrite", .brief = "replace DST if it exists"}, synth.overwrite);
  options.add({.name = "quiet", .brief = "say nothing unless it fails"}, quiet);
  options.add_positional("DST");
}

void SynthArguments::finish(const po::variables_map& values) {
  synth.aligned = !is_first_of("--role", role, "base", "aligned");
  synth.fp8 = !is_first_of("--quantised", quantised, "none", "fp8");
  synth.target = values["DST"].as<std::string>();
  static_cast<void>(model_shape(synth.shape));  // a name that is not known is refused here
}

}  // namespace lox
