// sutor logits: writes logits, router choices and, on request, gradients of given ids, for
// comparison with other implementations.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/safetensors.h"
#include "launch/checkpoints/apply_checkpoint.h"
#include "launch/cli/command_line.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/cli/token_ids.h"
#include "launch/job/device_choice.h"
#include "launch/job/job.h"
#include "launch/log/run_paths.h"
#include "launch/model/session.h"
#include "launch/train/passes/pipeline_runner.h"
#include "layers/esft/trainable_params.h"
#include "parallel_state/model/expert_config.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "logits", "Writes logits and router choices of given token ids as safetensors.",
    "sutor logits RECIPE | --model DIR  --ids FILE.json --out FILE.safetensors "
    "[--checkpoint best|last|none|DIR] [--dtype fp32|bf16] [--grads EXPERT_CONFIG]",
    "sutor logits --model model/ --ids ids.json --dtype fp32 --out logits.safetensors\n"
    "sutor logits --model model/ --ids ids.json --grads expert_config.json --out "
    "grads.safetensors"};

struct Rows {
  int64_t rows = 0, tokens = 0;
  std::vector<int64_t> ids;
};

Rows read_ids(const std::string& path, int64_t vocab) {
  Rows result;
  for (const std::vector<int64_t>& row : read_token_ids(path)) {
    if (result.rows > 0 && static_cast<int64_t>(row.size()) != result.tokens) {
      fail(ErrorCode::kBadTokenIds,
           "{}: row {} has {} ids, the rows before have {}: all must be equally long", path,
           result.rows, row.size(), result.tokens);
    }
    result.tokens = static_cast<int64_t>(row.size());
    for (const int64_t id : row) {
      if (id >= vocab) {
        fail(ErrorCode::kBeyondVocabulary, "{}: row {} holds the id {}, the vocabulary has {}",
             path, result.rows, id, vocab);
      }
      result.ids.push_back(id);
    }
    ++result.rows;
  }
  if (result.ids.empty()) fail(ErrorCode::kBadTokenIds, "{} holds no token ids", path);
  return result;
}

void write_tensors(const std::map<std::string, at::Tensor>& tensors, const std::string& path) {
  std::vector<SafetensorsDeclaration> declared;
  for (const auto& [name, tensor] : tensors) {
    const DType dtype = tensor.scalar_type() == at::kLong ? DType::kI64 : DType::kF32;
    declared.push_back({name, std::string(name_of(dtype)), tensor.sizes().vec()});
  }
  sort_as_safetensors(declared);
  replace_file(path, [&](const std::filesystem::path& temporary) {
    SafetensorsWriter writer(temporary, declared);
    for (const SafetensorsDeclaration& declaration : declared) {
      const at::Tensor data = tensors.at(declaration.name).contiguous();
      writer.append({static_cast<const std::byte*>(data.data_ptr()), data.nbytes()});
    }
    writer.finish();
  });
}

// Loss of predicting every next token, and the gradients of what the config trains.
void add_gradients(Session& session, const Rows& rows, std::map<std::string, at::Tensor>& out) {
  MicroBatch batch{.ids = rows.ids};
  for (int64_t r = 0; r <= rows.rows; ++r) batch.doc_offsets.push_back(r * rows.tokens);
  for (size_t i = 0; i < rows.ids.size(); ++i) {
    const bool last = static_cast<int64_t>(i) % rows.tokens == rows.tokens - 1;
    batch.targets.push_back(last ? kNoTarget : rows.ids[i + 1]);
    batch.supervised += !last;
  }
  if (batch.supervised == 0) {
    fail(ErrorCode::kNoData, "rows of one token have no next token to predict");
  }
  const double scale = 1.0 / static_cast<double>(batch.supervised);
  const PipelineResult result = forward_backward(
      session.model(), session.store(), std::span(&batch, 1),
      {.lowest_layer = session.store().trainable().lowest_layer(), .loss_scale = scale});
  session.store().finish_reductions();
  out["loss"] = at::full({1}, result.loss_sum.item<double>() * scale, at::kFloat);
  for (const FlatBuffer* buffer : session.store().buffers()) {
    for (size_t i = 0; i < buffer->size(); ++i)
      out["grad." + buffer->name(i)] = buffer->grad(i).cpu();
  }
}

void add_logits(Session& session, const Rows& rows, std::map<std::string, at::Tensor>& out) {
  std::vector<int64_t> offsets;
  for (int64_t r = 0; r <= rows.rows; ++r) offsets.push_back(r * rows.tokens);
  const PackedBatch batch = make_packed_batch(rows.ids, offsets, {}, session.model().device());
  ForwardContext context{.batch = batch};
  const auto shaped = [&](const at::Tensor& x) {
    return x.contiguous().view({rows.rows, rows.tokens, x.size(-1)}).clone().cpu();
  };
  context.on_routing = [&](int layer, const at::Tensor& idx, const at::Tensor& weights,
                           const at::Tensor&) {
    const std::string prefix = "router." + std::to_string(layer);
    out[prefix + ".topk_idx"] = shaped(idx);
    out[prefix + ".topk_weights"] = shaped(weights);
  };
  at::NoGradGuard no_grad;
  const at::Tensor hidden = session.model().hidden_states(context);
  out["logits"] = shaped(at::linear(hidden, session.model().head().value).to(at::kFloat));
}

}  // namespace

int verb_logits(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  add_model_options(options);
  add_device_option(options);
  options.add_options()("ids", po::value<std::string>()->required(),
                        "JSON: a list of equally long rows of ids")(
      "out", po::value<std::string>()->required(), "safetensors file to write")(
      "checkpoint", po::value<std::string>()->default_value(kAutoCheckpoint), kCheckpointHelp)(
      "grads", po::value<std::string>(),
      "expert config: also write the mean loss over next tokens and the gradients of what it "
      "trains")("layer-base", po::value<int>()->default_value(0),
                "1 for configs whose layers count from 1");
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    if (world.size() > 1) {
      fail(ErrorCode::kOneProcessOnly, "`sutor logits` runs as one process, found {} ranks",
           world.size());
    }
    require_plain_file((*values)["out"].as<std::string>());  // before anything costly
    const Recipe recipe = recipe_or_model_from(*values);
    const bool grads = values->count("grads") > 0;
    // Gradients are of what has no other values than the model's.
    const ChosenCheckpoint chosen = choose_for_all(
        world, RunPaths(recipe.output).checkpoints(),
        grads && (*values)["checkpoint"].defaulted() ? "none" : checkpoint_option(*values));
    if (grads && !chosen.path.empty()) {
      fail(ErrorCode::kBadArgument, "--grads is of the model as it is: leave --checkpoint out");
    }
    fmt::print("{}\n", checkpoint_line(chosen, recipe.model.path));
    const ModelSource source(recipe.model);
    check_source(source, world);
    const Rows rows = read_ids((*values)["ids"].as<std::string>(), source.info.vocab_size);
    const ChosenDevice device = choose_device(recipe.device, world);
    const SessionOptions session_options{.dtype = computing_dtype(recipe.model.dtype),
                                         .device = device.device,
                                         .device_text = device.text};
    TrainableSet trainable;
    if (grads) {
      const std::string path = (*values)["grads"].as<std::string>();
      trainable =
          trainable_set(source.info, check_expert_config(read_expert_config(path), source.info,
                                                         (*values)["layer-base"].as<int>(), path));
    }
    Session session(source, source.info, trainable, world, session_options);
    apply_checkpoint(chosen, session);
    std::map<std::string, at::Tensor> out;
    add_logits(session, rows, out);
    if (grads) add_gradients(session, rows, out);
    write_tensors(out, (*values)["out"].as<std::string>());
    return kExitOk;
  });
}

}  // namespace sutor
