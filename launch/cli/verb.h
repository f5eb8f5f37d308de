// The verbs of the `sutor` program: one function each, in launch/verbs/<verb>.cc.
#pragma once

#include <string>
#include <vector>

namespace sutor {

using Arguments = std::vector<std::string>;  // the command line after the verb

// Each returns the exit code; errors are thrown as sutor::Error.
int verb_init_model(const Arguments& arguments);
int verb_convert(const Arguments& arguments);
int verb_prepare(const Arguments& arguments);
int verb_score(const Arguments& arguments);
int verb_select(const Arguments& arguments);
int verb_plan(const Arguments& arguments);
int verb_params(const Arguments& arguments);
int verb_train(const Arguments& arguments);
int verb_chat(const Arguments& arguments);
int verb_generate(const Arguments& arguments);
int verb_eval(const Arguments& arguments);
int verb_logits(const Arguments& arguments);
int verb_export(const Arguments& arguments);
int verb_merge(const Arguments& arguments);
int verb_inspect(const Arguments& arguments);
int verb_verify(const Arguments& arguments);
int verb_diff(const Arguments& arguments);
int verb_run(const Arguments& arguments);
int verb_init(const Arguments& arguments);
int verb_config(const Arguments& arguments);
int verb_models(const Arguments& arguments);
int verb_doctor(const Arguments& arguments);
int verb_report(const Arguments& arguments);

}  // namespace sutor
