#include "lockstep/generator.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <random>
#include <span>
#include <thread>

#include "core/check.h"
#include "core/log.h"
#include "generate/engine.h"
#include "generate/logprobs.h"
#include "generate/memory.h"
#include "generate/request.h"
#include "generate/scheduler.h"
#include "model/kv_cache.h"

namespace lockstep {
namespace {

using Request = TokenStream::Request;
using RequestPtr = std::shared_ptr<Request>;

// Beyond this, a sequence's memory is set aside only when asked for by max_length.
constexpr std::int64_t kDefaultMaxLength = 8192;

double seconds_between(Request::Clock::time_point from, Request::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

GeneratorOptions complete(GeneratorOptions options, const Config& config, const Mesh& mesh) {
  check(options.max_batch_size >= 1 && options.max_batch_size <= 4096,
        "max_batch_size is {}; it has to be from 1 to 4096", options.max_batch_size);
  check(options.prefill_chunk >= 1 && options.prefill_chunk <= 65536,
        "prefill_chunk is {}; it has to be from 1 to 65536", options.prefill_chunk);
  check(options.max_length >= 0 && options.max_length <= config.max_position_embeddings,
        "max_length is {}; the model has {} positions", options.max_length,
        config.max_position_embeddings);
  if (!options.steps_ahead)
    options.steps_ahead = mesh.devices().front().type == DeviceType::kCuda ? 1 : 0;
  check(*options.steps_ahead >= 0 && *options.steps_ahead < static_cast<int>(Engine::kMaxSteps),
        "steps_ahead is {}; it has to be 0 or 1", *options.steps_ahead);
  if (options.max_length == 0)
    options.max_length = std::min(config.max_position_embeddings, kDefaultMaxLength);
  return options;
}

// Refuses what there is no memory for. Of a max_length that nobody asked for it makes what there is
// room for.
GeneratorOptions fit_to_memory(GeneratorOptions options, bool asked, const Model::Impl& model) {
  if (!model.check_memory) return options;
  const FreeMemory free =
      free_memory(model.team->mesh().devices().front().type, model.team->world_size());
  const Workload workload{options.max_batch_size, options.max_length, options.prefill_chunk, true};
  const std::int64_t longest =
      longest_that_fits(model.config, model.plan, model.dtype, workload, free);
  const std::int64_t shortest = std::min(options.max_length, kShortestDefaultLength);
  if (!asked && longest < options.max_length && longest >= shortest) {
    logger().warn("max_length is {}, because there is no memory for {}", longest,
                  options.max_length);
    options.max_length = longest;
    return options;
  }
  check_fits(model.config, model.team->world_size(), model.dtype, workload, free);
  return options;
}

BatchLimits limits_of(const GeneratorOptions& options) {
  BatchLimits limits;
  limits.max_batch_size = options.max_batch_size;
  limits.max_length = options.max_length;
  limits.max_rows = std::max(options.prefill_chunk, options.max_batch_size);
  limits.max_logit_rows = options.max_batch_size;
  return limits;
}

std::uint64_t random_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

SlotSampling slot_sampling(const SamplingParams& params) {
  // So small a temperature leaves nothing to chance, and logit / temperature could overflow.
  constexpr float kGreedyBelow = 1e-5f;
  SlotSampling sampling;
  sampling.temperature = params.temperature < kGreedyBelow ? 0 : params.temperature;
  sampling.top_p = params.top_p;
  sampling.min_p = params.min_p;
  sampling.top_k = std::max(params.top_k, 0);
  sampling.repetition_penalty = params.repetition_penalty;
  sampling.presence_penalty = params.presence_penalty;
  sampling.frequency_penalty = params.frequency_penalty;
  sampling.seed = params.seed ? *params.seed : random_seed();
  return sampling;
}

}  // namespace

struct LOCKSTEP_LOCAL Generator::Impl {
  Impl(std::shared_ptr<Model::Impl> model_impl, const GeneratorOptions& wanted)
      : model(std::move(model_impl)),
        options(fit_to_memory(complete(wanted, model->config, model->team->mesh()),
                              wanted.max_length > 0, *model)),
        blocks(options.max_batch_size * kv_blocks(options.max_length)),
        scheduler(limits_of(options), blocks),
        engine(model, limits_of(options), blocks),
        thread([this](std::stop_token stop) { work(stop); }) {}

  ~Impl() {
    thread.request_stop();
    changed.notify_all();
  }

  RequestPtr submit(const Prompt& prompt, const std::optional<SamplingParams>& params);

  // The rest runs on `thread` alone.
  void work(std::stop_token stop);
  void admit_waiting();
  void run_steps();
  bool start_step();
  void finish_step();
  void deliver(Request& request, std::int32_t id, std::span<const float> logits);
  void finish(Request& request, FinishReason reason, std::optional<std::string> error = {});
  void remove_done();
  void fail_running(const std::string& error);

  std::shared_ptr<Model::Impl> model;
  GeneratorOptions options;
  std::int64_t blocks;
  Scheduler scheduler;
  Engine engine;
  std::vector<RequestPtr> running;  // by no particular order
  // Of the steps that were started and not yet finished: whom each logit row is for. A request that
  // has ended since gets nothing.
  std::deque<std::vector<RequestPtr>> started;

  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<RequestPtr> waiting;  // guarded by mutex
  std::jthread thread;             // last: it uses everything above
};

RequestPtr Generator::Impl::submit(const Prompt& prompt,
                                   const std::optional<SamplingParams>& params) {
  auto request = std::make_shared<Request>();
  request->params = params.value_or(model->default_sampling);
  validate(request->params);
  if (prompt.ids) {
    request->prompt = *prompt.ids;
  } else {
    check(model->tokenizer != nullptr, "this model has no tokenizer: give the prompt as token ids");
    request->prompt = model->tokenizer->encode(prompt.text);
  }
  const auto length = static_cast<std::int64_t>(request->prompt.size());
  check(length > 0, "the prompt is empty");
  check(length < options.max_length,
        "the prompt has {} tokens, and max_length is {}: there is no room for a new token", length,
        options.max_length);
  const auto check_id = [&](std::int32_t id, const char* what) {
    check(id >= 0 && id < model->config.vocab_size, "{} {} is outside of the vocabulary of {}",
          what, id, model->config.vocab_size);
  };
  for (std::int32_t id : request->prompt) check_id(id, "token id");
  for (const auto& [id, bias] : request->params.logit_bias) check_id(id, "logit_bias' token id");
  check(request->params.stop.empty() || model->tokenizer != nullptr,
        "stop strings need a tokenizer, and this model has none: use stop_token_ids");
  request->max_length = std::min(options.max_length, length + request->params.max_tokens);
  request->stop_ids = request->params.stop_token_ids;
  if (!request->params.ignore_eos)
    request->stop_ids.insert(request->stop_ids.end(), model->eos_ids.begin(), model->eos_ids.end());
  request->text = std::make_unique<TextBuilder>(model->tokenizer.get(), request->params);
  request->completion.prompt_tokens = length;
  request->submitted = Request::Clock::now();
  {
    const std::lock_guard lock(mutex);
    waiting.push_back(request);
  }
  changed.notify_all();
  return request;
}

void Generator::Impl::work(std::stop_token stop) {
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, stop,
                   [&] { return !waiting.empty() || !running.empty() || !started.empty(); });
    }
    admit_waiting();
    try {
      run_steps();
    } catch (const std::exception& error) {
      fail_running(error.what());
    }
    remove_done();
  }
  const std::lock_guard lock(mutex);
  running.insert(running.end(), waiting.begin(), waiting.end());
  waiting.clear();
  for (const RequestPtr& request : running) finish(*request, FinishReason::kCancelled);
}

// First come, first served: a sequence that does not fit yet holds up those behind it.
void Generator::Impl::admit_waiting() {
  const std::lock_guard lock(mutex);
  std::erase_if(waiting, [&](const RequestPtr& request) {
    const bool cancelled = request->cancelled;
    if (cancelled) finish(*request, FinishReason::kCancelled);
    return cancelled;
  });
  while (!waiting.empty()) {
    const RequestPtr request = waiting.front();
    const SamplingParams& params = request->params;
    const auto slot = scheduler.admit(request->prompt, request->max_length, slot_sampling(params),
                                      {params.logit_bias.begin(), params.logit_bias.end()});
    if (!slot) return;
    request->slot = *slot;
    request->admitted = Request::Clock::now();
    running.push_back(request);
    waiting.pop_front();
  }
}

void Generator::Impl::run_steps() {
  for (const RequestPtr& request : running)
    if (request->cancelled) finish(*request, FinishReason::kCancelled);
  remove_done();
  const auto wanted = static_cast<std::size_t>(*options.steps_ahead) + 1;
  while (started.size() < wanted && start_step()) {
  }
  if (!started.empty()) finish_step();
}

// False when there is nothing to do.
bool Generator::Impl::start_step() {
  const StepInput step = scheduler.next_step();
  if (step.slots.empty()) return false;
  std::vector<RequestPtr> receivers;
  bool with_logits = false;
  for (std::int32_t row : step.logit_rows) {
    const std::int32_t slot = step.slots[static_cast<std::size_t>(row)];
    receivers.push_back(*std::find_if(running.begin(), running.end(),
                                      [&](const RequestPtr& r) { return r->slot == slot; }));
    with_logits |= receivers.back()->params.logprobs.has_value();
  }
  engine.start(step, with_logits);
  started.push_back(std::move(receivers));
  return true;
}

void Generator::Impl::finish_step() {
  const StepOutput output = engine.finish();
  const std::vector<RequestPtr> receivers = std::move(started.front());
  started.pop_front();
  const auto vocab_size = static_cast<std::size_t>(model->config.vocab_size);
  for (std::size_t i = 0; i < receivers.size(); ++i) {
    Request& request = *receivers[i];
    if (request.slot < 0) continue;
    std::span<const float> logits;
    if (request.params.logprobs) logits = output.logits.subspan(i * vocab_size, vocab_size);
    deliver(request, output.ids[i], logits);
  }
}

// Gives a request its next token, and ends the request if that was the last.
void Generator::Impl::deliver(Request& request, std::int32_t id, std::span<const float> logits) {
  Token token;
  token.id = id;
  if (request.params.logprobs)
    add_logprobs(token, logits, *request.params.logprobs, model->tokenizer.get());
  token.text = request.text->push(id);

  std::optional<FinishReason> reason;
  const auto length = request.completion.prompt_tokens +
                      static_cast<std::int64_t>(request.completion.tokens.size()) + 1;
  const bool end =
      std::find(request.stop_ids.begin(), request.stop_ids.end(), id) != request.stop_ids.end();
  if (end || request.text->stopped_by())
    reason = FinishReason::kStop;
  else if (length >= request.max_length)
    reason = FinishReason::kLength;
  if (reason) token.text += request.text->finish();
  if (request.text->stopped_by()) reason = FinishReason::kStop;

  {
    const std::lock_guard lock(request.mutex);
    if (request.completion.tokens.empty()) request.first_token = Request::Clock::now();
    request.completion.text += token.text;
    request.completion.tokens.push_back(std::move(token));
  }
  request.changed.notify_all();
  if (reason) finish(request, *reason);
}

void Generator::Impl::finish(Request& request, FinishReason reason,
                             std::optional<std::string> error) {
  if (request.slot >= 0) scheduler.release(request.slot);
  request.slot = -1;
  {
    const std::lock_guard lock(request.mutex);
    const auto now = Request::Clock::now();
    Completion& completion = request.completion;
    completion.finish_reason = reason;
    if (request.text->stopped_by()) completion.stop_string = *request.text->stopped_by();
    if (!completion.tokens.empty()) {
      completion.timings.queue_seconds = seconds_between(request.submitted, request.admitted);
      completion.timings.prefill_seconds = seconds_between(request.admitted, request.first_token);
      completion.timings.decode_seconds = seconds_between(request.first_token, now);
    }
    request.error = std::move(error);
    request.done = true;
  }
  request.changed.notify_all();
}

void Generator::Impl::remove_done() {
  std::erase_if(running, [](const RequestPtr& request) { return request->slot < 0; });
}

// The ranks' state of running sequences is lost; waiting ones are not affected.
void Generator::Impl::fail_running(const std::string& error) {
  started.clear();
  for (const RequestPtr& request : running)
    if (request->slot >= 0) finish(*request, FinishReason::kCancelled, error);
}

Generator::Generator(const Model& model, const GeneratorOptions& options)
    : impl_(std::make_unique<Impl>(model.impl(), options)) {}
Generator::~Generator() = default;
Generator::Generator(Generator&&) noexcept = default;
Generator& Generator::operator=(Generator&&) noexcept = default;

const GeneratorOptions& Generator::options() const {
  check(impl_ != nullptr, "the generator was moved from");
  return impl_->options;
}

TokenStream Generator::stream(const Prompt& prompt, const std::optional<SamplingParams>& params,
                              std::stop_token stop) {
  check(impl_ != nullptr, "the generator was moved from");
  const RequestPtr request = impl_->submit(prompt, params);
  if (stop.stop_possible())
    request->on_stop.emplace(std::move(stop),
                             [&cancelled = request->cancelled] { cancelled = true; });
  return TokenStream(request);
}

Completion Generator::generate(const Prompt& prompt, const std::optional<SamplingParams>& params,
                               std::stop_token stop) {
  return std::move(generate(std::vector<Prompt>{prompt}, params, std::move(stop)).front());
}

std::vector<Completion> Generator::generate(const std::vector<Prompt>& prompts,
                                            const std::optional<SamplingParams>& params,
                                            std::stop_token stop) {
  std::vector<TokenStream> streams;
  for (const Prompt& prompt : prompts) streams.push_back(stream(prompt, params));
  const std::stop_callback cancel(stop, [&] {
    for (TokenStream& stream : streams) stream.cancel();
  });
  std::vector<Completion> completions;
  for (TokenStream& stream : streams) completions.push_back(stream.completion());
  return completions;
}

Completion Generator::generate(const Prompt& prompt, const std::optional<SamplingParams>& params,
                               const std::function<void(const Token&)>& on_token,
                               std::stop_token stop) {
  TokenStream tokens = stream(prompt, params, std::move(stop));
  for (const Token& token : tokens) on_token(token);
  return tokens.completion();
}

TokenStream Generator::stream_chat(const std::vector<ChatMessage>& messages,
                                   const std::optional<SamplingParams>& params,
                                   const ChatOptions& options, std::stop_token stop) {
  check(impl_ != nullptr, "the generator was moved from");
  const Model model(impl_->model);
  SamplingParams chosen = params.value_or(model.default_sampling());
  if (!params) chosen.max_tokens = std::numeric_limits<int>::max();
  return stream(model.render_chat(messages, options).ids, chosen, std::move(stop));
}

Completion Generator::chat(const std::vector<ChatMessage>& messages,
                           const std::optional<SamplingParams>& params, const ChatOptions& options,
                           std::stop_token stop) {
  return stream_chat(messages, params, options, std::move(stop)).completion();
}

}  // namespace lockstep
