// SPDX-License-Identifier: MIT
#include "lox/task/verify_tables.hpp"

#include "lox/base/error.hpp"
#include "lox/io/quantised_model.hpp"
#include "lox/plan/adapter_plan.hpp"
#include "lox/plan/apply_plan.hpp"

namespace lox {

void open_tables(const VerifyJob& asked, VerifyTables& opened) {
  const Job& job = asked.job;
  const bool alone = asked.has_store() && !asked.of_store();  // no base is read
  opened.base =
      alone ? open_aligned(job.aligned, Log(Log::Level::silent)) : dequantised(open_checkpoint(job.base));
  if (is_peft_adapter(job.aligned)) {
    opened.adapter = adapt(opened.base, open_peft_adapter(job.aligned));
    opened.aligned = opened.adapter->table;
  } else {
    opened.aligned = dequantised(open_checkpoint(job.aligned));
  }
  if (!alone && !opened.adapter) match_models(opened.base, opened.aligned, job, Log(Log::Level::silent));
  opened.hardened = job.output.empty() ? opened.aligned : open_checkpoint(job.output);
  if (!asked.has_store() && is_store(opened.hardened)) {
    fail(
        ExitCode::bad_input,
        "{}: is a store of factors, no model; check it by its report (--report), or as --factors with --base "
        "and --aligned",
        job.output);
  }
  if (!asked.has_store()) return;
  opened.store = open_checkpoint(asked.factors);
  opened.info = read_factors_info(opened.store);
  if (job.solve.k > opened.info.k) {
    fail(ExitCode::bad_input, "{}: holds {} triplets of every matrix, fewer than --k {}", asked.factors,
         opened.info.k, job.solve.k);
  }
}

void pair_tables(const VerifyJob& asked, VerifyTables& opened) {
  const bool store = asked.has_store();
  opened.items =
      make_items({{"aligned", &opened.aligned}, {"base", &opened.base}, {"hardened", &opened.hardened, true}},
                 store ? Selection() : asked.job.selection, asked.job.solve, {}, asked.job.pairing)
          .items;
  if (opened.adapter) {
    Plan plan;
    plan.items = std::move(opened.items);
    use_adapter(*opened.adapter, Cut::none, plan);
    opened.items = std::move(plan.items);
  }
  if (!store) return;
  (void)plan_apply(opened.aligned, opened.store, opened.info.k, 1, 1, {});  // refuses what apply would refuse
  const FactorTable table(opened.store);
  std::erase_if(opened.items, [&](Item& item) {
    const TensorInfo& tensor = opened.tensor(item, aligned_model);
    if (item.action == Action::edit && table.find(tensor.name).front() >= 0) return false;
    const bool again = item.action == Action::edit && item.matrix.number > 0;
    item.action = Action::copy;
    item.bytes = tensor.extent.bytes;
    return again || asked.of_store();
  });
}

}  // namespace lox
