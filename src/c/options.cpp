#include "c/options.h"

#include <optional>
#include <span>
#include <stop_token>

#include "c/handles.h"

namespace lockstep::c {
namespace {

template <typename T>
std::span<const T> list(const T* data, std::size_t size, const char* field) {
  if (data == nullptr && size != 0)
    throw InvalidArgument(fmt::format("{} is NULL, but holds {} elements", field, size));
  return {data, size};
}

std::optional<DType> dtype_from(lockstep_dtype dtype) {
  switch (dtype) {
    case LOCKSTEP_DTYPE_AUTO:
      return std::nullopt;
    case LOCKSTEP_DTYPE_FLOAT32:
      return DType::kFloat32;
    case LOCKSTEP_DTYPE_BFLOAT16:
      return DType::kBFloat16;
    case LOCKSTEP_DTYPE_FLOAT16:
      return DType::kFloat16;
  }
  throw InvalidArgument(fmt::format("dtype {} is none of lockstep_dtype", static_cast<int>(dtype)));
}

lockstep_load_options default_load_options() {
  lockstep_load_options options{};
  options.struct_size = sizeof options;
  options.use_generation_config = LoadOptions().use_generation_config;
  options.check_memory = LoadOptions().check_memory;
  return options;
}

lockstep_generator_options default_generator_options() {
  const GeneratorOptions defaults;
  lockstep_generator_options options{};
  options.struct_size = sizeof options;
  options.max_batch_size = defaults.max_batch_size;
  options.max_length = defaults.max_length;
  options.prefill_chunk = defaults.prefill_chunk;
  options.steps_ahead = defaults.steps_ahead.value_or(-1);
  return options;
}

// Without the lists.
lockstep_sampling_params to_c(const SamplingParams& params) {
  lockstep_sampling_params out{};
  out.struct_size = sizeof out;
  out.temperature = params.temperature;
  out.top_p = params.top_p;
  out.top_k = params.top_k;
  out.min_p = params.min_p;
  out.repetition_penalty = params.repetition_penalty;
  out.presence_penalty = params.presence_penalty;
  out.frequency_penalty = params.frequency_penalty;
  out.max_tokens = params.max_tokens;
  out.logprobs = params.logprobs.value_or(-1);
  out.has_seed = params.seed.has_value();
  out.seed = params.seed.value_or(0);
  out.ignore_eos = params.ignore_eos;
  out.include_stop_str_in_output = params.include_stop_str_in_output;
  out.skip_special_tokens = params.skip_special_tokens;
  return out;
}

PullOptions pull_options(const lockstep_load_options& options) {
  PullOptions out;
  if (options.revision) out.revision = options.revision;
  out.offline = options.offline;
  if (options.download) {
    std::stop_source stop;
    out.stop = stop.get_token();
    out.progress = [callback = options.download, data = options.download_user_data,
                    stop](const PullProgress& progress) mutable {
      const lockstep_download download = {progress.file.c_str(), progress.file_done,
                                          progress.file_size, progress.done, progress.total};
      if (callback(&download, data)) stop.request_stop();
    };
  }
  return out;
}

}  // namespace

LoadOptions load_options(const lockstep_load_options* options) {
  LoadOptions out;
  if (options == nullptr) return out;
  check_size<lockstep_load_options>(options->struct_size);
  out.dtype = dtype_from(options->dtype);
  out.dummy_weights = options->dummy_weights;
  out.dummy_seed = options->dummy_seed;
  out.deterministic = options->deterministic;
  out.use_generation_config = options->use_generation_config;
  out.check_memory = options->check_memory;
  out.planned_batch_size = options->planned_batch_size;
  out.planned_length = options->planned_length;
  out.pull = pull_options(*options);
  if (options->progress)
    out.progress = [callback = options->progress, data = options->progress_user_data](
                       std::uint64_t done, std::uint64_t total) {
      check(!callback(done, total, data), "stopped by the progress callback at {} of {} bytes",
            done, total);
    };
  return out;
}

GeneratorOptions generator_options(const lockstep_generator_options* options) {
  GeneratorOptions out;
  if (options == nullptr) return out;
  check_size<lockstep_generator_options>(options->struct_size);
  out.max_batch_size = options->max_batch_size;
  out.max_length = options->max_length;
  out.prefill_chunk = options->prefill_chunk;
  if (options->steps_ahead != -1) out.steps_ahead = options->steps_ahead;
  return out;
}

std::optional<SamplingParams> sampling_params(const lockstep_sampling_params* given) {
  if (given == nullptr) return std::nullopt;
  const lockstep_sampling_params& params = *given;
  check_size<lockstep_sampling_params>(params.struct_size);
  SamplingParams out;
  out.temperature = params.temperature;
  out.top_p = params.top_p;
  out.top_k = params.top_k;
  out.min_p = params.min_p;
  out.repetition_penalty = params.repetition_penalty;
  out.presence_penalty = params.presence_penalty;
  out.frequency_penalty = params.frequency_penalty;
  out.max_tokens = params.max_tokens;
  if (params.logprobs != -1) out.logprobs = params.logprobs;
  if (params.has_seed) out.seed = params.seed;
  out.ignore_eos = params.ignore_eos;
  out.include_stop_str_in_output = params.include_stop_str_in_output;
  out.skip_special_tokens = params.skip_special_tokens;
  for (const char* stop : list(params.stop, params.num_stop, "stop"))
    out.stop.emplace_back(&not_null(stop, "a string of stop"));
  const auto ids = list(params.stop_token_ids, params.num_stop_token_ids, "stop_token_ids");
  out.stop_token_ids.assign(ids.begin(), ids.end());
  for (const lockstep_logit_bias& bias :
       list(params.logit_bias, params.num_logit_bias, "logit_bias"))
    out.logit_bias[bias.id] = bias.bias;
  return out;
}

}  // namespace lockstep::c

using namespace lockstep::c;

lockstep_status lockstep_load_options_init(lockstep_load_options* options, size_t size) {
  return fill_in(options, size, __func__, default_load_options);
}

lockstep_status lockstep_generator_options_init(lockstep_generator_options* options, size_t size) {
  return fill_in(options, size, __func__, default_generator_options);
}

lockstep_status lockstep_sampling_params_init(lockstep_sampling_params* params, size_t size) {
  return fill_in(params, size, __func__, [] { return to_c(lockstep::SamplingParams()); });
}

lockstep_status lockstep_model_default_sampling(const lockstep_model* model,
                                                lockstep_sampling_params* params, size_t size) {
  return fill_in(params, size, __func__,
                 [&] { return to_c(not_null(model, "model").value.default_sampling()); });
}
