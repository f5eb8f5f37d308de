// What to write instead of an unknown key of a recipe: the key that is meant by its spelling, by
// its place, or by the name that it has in other trainers (HF Trainer, TRL, axolotl, LLaMA-Factory,
// ms-swift, Megatron-LM, the authors' ESFT scripts).
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace sutor {

// "did you mean `top_p`?", "`lr` belongs to `optim`: write `optim.lr`", "other trainers'
// `learning_rate` is `optim.lr` here", or the keys of the section. `name`: the whole key.
std::string suggestion(const std::string& name);

// A key of other trainers.
struct ForeignKey {
  std::string_view name;  // lower case, with underscores
  std::string_view ours;  // the key that does the same; "" where nothing does
  std::string_view note;  // what is different, or what to do without it; "" where nothing is
};

std::span<const ForeignKey> foreign_keys();

}  // namespace sutor
