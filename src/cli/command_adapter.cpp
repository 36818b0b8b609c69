// SPDX-License-Identifier: MIT
#include "lox/cli/number_list.hpp"
#include "lox/cli/options.hpp"
#include "lox/task/adapter.hpp"

namespace po = boost::program_options;

namespace lox {
namespace {

AdapterFor program_of(const std::string& word) {
  for (const AdapterFor program : {AdapterFor::peft, AdapterFor::vllm, AdapterFor::llamacpp}) {
    if (word == adapter_for_name(program)) return program;
  }
  fail(ExitCode::usage, "--for '{}' is none of peft, vllm, llamacpp", word);
}

}  // namespace

Request read_adapter(const Arguments& arguments) {
  Options options("adapter", "--factors F --coef C --output DIR [options]",
                  "Writes the edit as a LoRA adapter, for programs that load one beside the aligned\n"
                  "model: coef is one number in its configuration. What a program puts no LoRA on\n"
                  "is left out, and told in a line each.",
                  "  lox adapter --factors factors.h5 --coef 0.5,1.25 --for vllm --output a-{coef}");
  AdapterJob job;
  std::string coef = "1.25";
  std::string program = "peft";
  std::string onto = "aligned";
  std::string dtype = "F32";
  bool quiet = false;
  options.add({.name = "factors",
               .value = "STORE",
               .brief = "what 'lox factor' has written",
               .text = "what `lox factor` has written"},
              job.factors);
  options.add(
      {.name = "output",
       .value = "DIR",
       .brief = "the adapter's folder; {coef} stands for its number",
       .text = "the adapter's folder; `{coef}` in it stands for the number of each, where several are made"},
      job.output);
  options.add({.name = "k", .value = "K", .brief = "how many triplets; 0: all that the store has"}, job.k);
  options.add(
      {.name = "coef",
       .value = "C,..",
       .brief = "how much is added; several: one folder each",
       .text = "how much of them is added, one or several numbers with commas between them. Each gives a "
               "folder of its own; the weights are one file with several names"},
      coef);
  options.add(
      {.name = "for",
       .value = "peft|vllm|llamacpp",
       .brief = "the program that loads it",
       .text = "the program that loads it: which modules it puts a LoRA on, and how they are called there"},
      program);
  options.add(
      {.name = "onto",
       .value = "aligned|base",
       .brief = "the model that it is put beside",
       .text = "the model that it is put beside: its path stands in the configuration. With `base` and "
               "`--coef 1` the adapter is the alignment itself, as far as k triplets hold it"},
      onto);
  options.add({.name = "dtype", .value = "F32|BF16", .brief = "of the adapter's weights"}, dtype);
  options.add({.name = "accept-open",
               .brief = "also a k that the store does not vouch for",
               .text = "also a k that the store does not vouch for, as for `apply`"},
              job.accept_open);
  options.add({.name = "overwrite", .brief = "replace folders that exist"}, job.overwrite);
  options.add({.name = "quiet", .brief = "warnings and errors only"}, quiet);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  job.coef = parse_list<double>(coef, "--coef");
  job.program = program_of(program);
  job.onto_base = !is_first_of("--onto", onto, "aligned", "base");
  const std::optional<DType> known = dtype_from_name(dtype);
  if (!known) fail(ExitCode::usage, "--dtype '{}' is neither F32 nor BF16", dtype);
  job.dtype = *known;
  job.factors = without_slash(job.factors);
  check_adapter_job(job);
  const auto work = [job, quiet](const Comm& comm) {
    const Log::Level level = quiet ? Log::Level::warnings : Log::Level::all;
    return adapter(comm, job, Log(comm.is_root() ? level : Log::Level::silent));
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
