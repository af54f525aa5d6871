/// @file
/// Lockstep for C and for languages that call C: load a model onto devices, generate text.
///
/// **Errors.** No exception leaves these functions. Those that can fail return a lockstep_status;
/// lockstep_last_error() then says in a sentence what went wrong. Getters that return a value give
/// 0, false or NULL for a NULL handle, and set the text as well. On failure, what an output
/// parameter points to is set to NULL.
///
/// **Ownership.** What a function hands out through a `**` parameter belongs to the caller, who
/// gives it to the matching `_free` function; NULL may be freed. Handles keep alive what they were
/// made from, so that they may be freed in any order. Arguments are copied during the call.
///
/// **Threads.** A mesh, a model, a generator and a completion may be used from several threads at
/// the same time. A stream is used from one thread at a time, except for lockstep_stream_cancel().
///
/// **Options** are structs whose first field is their size, so that programs go on working when
/// fields are added: fill them by their `_init` function with `sizeof` of the struct, then change
/// what should be different.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstep/export.h"
#include "lockstep/version.h"

#ifdef __cplusplus
extern "C" {
#endif

/// How a call ended.
typedef enum lockstep_status {
  LOCKSTEP_OK = 0,                ///< Done.
  LOCKSTEP_END = 1,               ///< lockstep_stream_next(): there are no more tokens.
  LOCKSTEP_ERROR = 2,             ///< Failed; see lockstep_last_error().
  LOCKSTEP_INVALID_ARGUMENT = 3,  ///< An argument is NULL or malformed; see lockstep_last_error().
} lockstep_status;

/// What this thread's latest call that can fail complained about, in English; "" when it succeeded.
/// Valid until the thread's next call into the library.
LOCKSTEP_API const char* lockstep_last_error(void);

/// Version of the library in use, "major.minor.patch". LOCKSTEP_VERSION is the headers'.
LOCKSTEP_API const char* lockstep_version(void);
/// Commit that the library was built from; "" when it was not built from a git checkout.
LOCKSTEP_API const char* lockstep_git_revision(void);
/// Kinds of devices that the library was built for: "cpu" or "cpu, cuda".
LOCKSTEP_API const char* lockstep_backends(void);

/// @name Mesh: which devices take part
/// @{

/// A list of devices, one a rank. Starts nothing.
typedef struct lockstep_mesh lockstep_mesh;

/// Kind of device.
typedef enum lockstep_device_type {
  LOCKSTEP_DEVICE_AUTO = 0,  ///< GPUs where there are as many as asked for, otherwise the CPU.
  LOCKSTEP_DEVICE_CPU = 1,   ///< Threads of this process.
  LOCKSTEP_DEVICE_CUDA = 2,  ///< NVIDIA GPUs.
} lockstep_device_type;

/// `world_size` devices, from 1 to 64, over which a model is split.
LOCKSTEP_API lockstep_status lockstep_mesh_tensor_parallel(int world_size,
                                                           lockstep_device_type type,
                                                           lockstep_mesh** mesh);
/// Number of devices.
LOCKSTEP_API int lockstep_mesh_world_size(const lockstep_mesh* mesh);
/// "cpu x 4", "cuda:0..3". Valid as long as the mesh.
LOCKSTEP_API const char* lockstep_mesh_description(const lockstep_mesh* mesh);
/// Frees the handle.
LOCKSTEP_API void lockstep_mesh_free(lockstep_mesh* mesh);

/// @}
/// @name Model: weights on a mesh, and a tokenizer
/// @{

/// A loaded model.
typedef struct lockstep_model lockstep_model;

/// Element type of weights and KV cache.
typedef enum lockstep_dtype {
  LOCKSTEP_DTYPE_AUTO = 0,      ///< As the checkpoint; float16 for quantized ones.
  LOCKSTEP_DTYPE_FLOAT32 = 1,   ///< IEEE 754 single precision.
  LOCKSTEP_DTYPE_BFLOAT16 = 2,  ///< The upper half of a float32.
  LOCKSTEP_DTYPE_FLOAT16 = 3,   ///< IEEE 754 half precision.
} lockstep_dtype;

/// Called while a model is loaded, with bytes of weights in place and of all weights, over all
/// devices; from other threads than the caller's, one call at a time. true stops the loading,
/// which then fails.
typedef bool (*lockstep_progress_callback)(uint64_t done, uint64_t total, void* user_data);

/// How far the download of a model is, in bytes.
typedef struct lockstep_download {
  const char* file;    ///< The file that advanced.
  uint64_t file_done;  ///< Bytes of it that are in place.
  uint64_t file_size;  ///< Bytes that it has.
  uint64_t done;       ///< Bytes in place of all files known so far.
  uint64_t total;      ///< Bytes of all files known so far.
} lockstep_download;

/// Called while a model is fetched from the hub, from other threads than the caller's, one call at
/// a time; `download` is valid during the call. true ends it: what has arrived stays, and the next
/// time goes on from there.
typedef bool (*lockstep_download_callback)(const lockstep_download* download, void* user_data);

/// How lockstep_model_load() loads.
typedef struct lockstep_load_options {
  size_t struct_size;    ///< Set by lockstep_load_options_init().
  lockstep_dtype dtype;  ///< What weights and KV cache are kept as. Default: AUTO.
  /// Seeded random weights from a config.json alone, for benchmarks and tests. Default: false.
  bool dummy_weights;
  /// GPUs: prompts, too, have the same bits on any number of devices, which makes them slower.
  /// Default: false.
  bool deterministic;
  /// Take sampling defaults from the model's generation_config.json. Default: true.
  bool use_generation_config;
  /// Refuse a model that does not fit into the memory that is free, before anything is loaded, and
  /// later generators that do not fit. Default: true.
  bool check_memory;
  /// The generator that is planned: sequences that run at the same time, taken into account when
  /// memory is checked. Default: 0, none.
  int32_t planned_batch_size;
  int64_t planned_length;  ///< Its tokens of one sequence. Default: 0, the generator's default.
  /// Of a name on the hub: take what is in the cache, ask nobody. Default: false.
  bool offline;
  /// Of a name on the hub without \@revision: branch, tag or commit. Default: NULL, main.
  const char* revision;
  lockstep_download_callback download;  ///< Default: NULL.
  void* download_user_data;             ///< Passed to `download`.
  uint64_t dummy_seed;                  ///< Seed of dummy_weights. Default: 0.
  lockstep_progress_callback progress;  ///< Default: NULL.
  void* progress_user_data;             ///< Passed to `progress`.
} lockstep_load_options;

/// Fills in the defaults; `size` is sizeof(lockstep_load_options).
LOCKSTEP_API lockstep_status lockstep_load_options_init(lockstep_load_options* options,
                                                        size_t size);

/// Loads `name`, a directory with config.json and safetensors, a .gguf file, or a name on the hub
/// such as org/name (fetched when the cache does not have it; a path that exists wins), onto the
/// devices of `mesh`; blocks until the weights are in place. `options` may be NULL.
LOCKSTEP_API lockstep_status lockstep_model_load(const char* name, const lockstep_mesh* mesh,
                                                 const lockstep_load_options* options,
                                                 lockstep_model** model);
/// What weights and KV cache are kept as; AUTO for NULL.
LOCKSTEP_API lockstep_dtype lockstep_model_dtype(const lockstep_model* model);
/// Number of token ids: they are from 0 to this - 1.
LOCKSTEP_API int64_t lockstep_model_vocab_size(const lockstep_model* model);
/// Positions that the model was made for: tokens of a prompt and its output together.
LOCKSTEP_API int64_t lockstep_model_max_length(const lockstep_model* model);
/// Whether prompts can be text; without a tokenizer they are token ids.
LOCKSTEP_API bool lockstep_model_has_tokenizer(const lockstep_model* model);
/// Frees the handle; the weights when nothing else uses them.
LOCKSTEP_API void lockstep_model_free(lockstep_model* model);

/// @}
/// @name Sampling: how the next token is chosen, and when a text ends
/// @{

/// Added to the logit of a token.
typedef struct lockstep_logit_bias {
  int32_t id;  ///< The token.
  float bias;  ///< What is added.
} lockstep_logit_bias;

/// Names, defaults and meaning are those of vLLM's SamplingParams. Order of work on the logits:
/// penalties and bias, temperature, min_p, top_k, top_p.
typedef struct lockstep_sampling_params {
  size_t struct_size;        ///< Set by the functions that fill in the struct.
  float temperature;         ///< [0, 100]; 0: greedy. Default: 1.
  float top_p;               ///< Keep the most probable that add up to this; (0, 1]. Default: 1.
  int32_t top_k;             ///< Keep this many tokens; 0: all. Default: 0.
  float min_p;               ///< Keep those this times as probable as the best; [0, 1]. Default: 0.
  float repetition_penalty;  ///< Divides logits of tokens that occurred; [0.01, 100]. Default: 1.
  float presence_penalty;    ///< Taken once from generated tokens; [-2, 2]. Default: 0.
  float frequency_penalty;   ///< Taken each time a token was generated; [-2, 2]. Default: 0.
  int32_t max_tokens;        ///< At most this many new tokens; at least 1. Default: 16.
  /// Log-probabilities of each chosen token and of this many of the most probable; at most 20.
  /// Default: -1, none.
  int32_t logprobs;
  bool has_seed;    ///< Whether `seed` counts; a new one each time otherwise. Default: false.
  bool ignore_eos;  ///< Go on after end-of-sequence. Default: false.
  bool include_stop_str_in_output;  ///< Keep the stop string. Default: false.
  bool skip_special_tokens;         ///< Leave special tokens out of the text. Default: true.
  uint64_t seed;                    ///< The same seed gives the same text on any number of devices.
  const char* const* stop;          ///< Strings that end the text before them. Default: NULL.
  size_t num_stop;                  ///< Number of those.
  const int32_t* stop_token_ids;    ///< Tokens that end the text. Default: NULL.
  size_t num_stop_token_ids;        ///< Number of those.
  const lockstep_logit_bias* logit_bias;  ///< Added to logits. Default: NULL.
  size_t num_logit_bias;                  ///< Number of those.
} lockstep_sampling_params;

/// Fills in the defaults above; `size` is sizeof(lockstep_sampling_params).
LOCKSTEP_API lockstep_status lockstep_sampling_params_init(lockstep_sampling_params* params,
                                                           size_t size);
/// Fills in the model's defaults: the above, overlaid by its generation_config.json. The lists stay
/// empty.
LOCKSTEP_API lockstep_status lockstep_model_default_sampling(const lockstep_model* model,
                                                             lockstep_sampling_params* params,
                                                             size_t size);

/// @}
/// @name Generator: prompts in, text out
/// @{

/// Runs completions of one model, several at a time.
typedef struct lockstep_generator lockstep_generator;

/// Sizes of a generator: they decide how much memory the KV cache takes.
typedef struct lockstep_generator_options {
  size_t struct_size;      ///< Set by lockstep_generator_options_init().
  int32_t max_batch_size;  ///< Sequences that run at the same time, 1 to 4096. Default: 8.
  int32_t prefill_chunk;   ///< Tokens of a prompt that one step works on. Default: 512.
  /// Tokens of one sequence, prompt and output. Default: 0, the model's but at most 8192.
  int64_t max_length;
  /// 1: the next step starts before this one's tokens are known to the host; 0: one after the
  /// other. Default: -1, 1 on GPUs and 0 on the CPU.
  int32_t steps_ahead;
} lockstep_generator_options;

/// Fills in the defaults; `size` is sizeof(lockstep_generator_options).
LOCKSTEP_API lockstep_status lockstep_generator_options_init(lockstep_generator_options* options,
                                                             size_t size);

/// Sets aside memory on every device; `options` may be NULL.
LOCKSTEP_API lockstep_status lockstep_generator_new(const lockstep_model* model,
                                                    const lockstep_generator_options* options,
                                                    lockstep_generator** generator);
/// Tokens of one sequence, as given or filled in.
LOCKSTEP_API int64_t lockstep_generator_max_length(const lockstep_generator* generator);
/// Cancels what is running, then frees the handle. Streams end, and can still be read. No other
/// thread may be in a call with this generator.
LOCKSTEP_API void lockstep_generator_free(lockstep_generator* generator);

/// A text, or token ids as they are. One of `text` and `ids` is NULL.
typedef struct lockstep_prompt {
  const char* text;    ///< UTF-8, ends with a NUL.
  const int32_t* ids;  ///< Token ids, to which nothing is added.
  size_t num_ids;      ///< Number of those.
} lockstep_prompt;

/// One of the most probable tokens at a position.
typedef struct lockstep_token_logprob {
  int32_t id;         ///< The token.
  float logprob;      ///< Natural logarithm of its probability.
  const char* token;  ///< As the vocabulary spells it.
} lockstep_token_logprob;

/// One generated token. Made by the library alone, which may add fields.
typedef struct lockstep_token {
  int32_t id;         ///< The token.
  bool has_logprob;   ///< Whether logprobs were asked for.
  float logprob;      ///< Natural logarithm of its probability, if so.
  const char* text;   ///< What became certain with it; may be empty. UTF-8, ends with a NUL.
  size_t text_bytes;  ///< Without that NUL; the text itself may hold some.
  const lockstep_token_logprob* top_logprobs;  ///< The most probable tokens, the best first.
  size_t num_top_logprobs;                     ///< Number of those.
} lockstep_token;

/// Called with each token as soon as there is one, on the thread that called; `token` is valid
/// during the call. true stops the generation: the completion has what there is by then, and the
/// finish reason LOCKSTEP_FINISH_CANCELLED.
typedef bool (*lockstep_token_callback)(const lockstep_token* token, void* user_data);

/// A whole answer.
typedef struct lockstep_completion lockstep_completion;

/// Completes `prompt`; blocks until the completion is whole. Without `params` (NULL), the model's
/// defaults. `on_token` may be NULL. Callers on several threads share the batch.
LOCKSTEP_API lockstep_status lockstep_generate(lockstep_generator* generator,
                                               const lockstep_prompt* prompt,
                                               const lockstep_sampling_params* params,
                                               lockstep_token_callback on_token, void* user_data,
                                               lockstep_completion** completion);

/// Why a completion ended.
typedef enum lockstep_finish_reason {
  LOCKSTEP_FINISH_STOP = 0,       ///< End-of-sequence, a stop token or a stop string.
  LOCKSTEP_FINISH_LENGTH = 1,     ///< max_tokens or max_length.
  LOCKSTEP_FINISH_CANCELLED = 2,  ///< The caller's wish, or the end of the generator.
} lockstep_finish_reason;

/// Where a completion's time went, in seconds.
typedef struct lockstep_timings {
  double queue_seconds;    ///< From submission to admission into the batch.
  double prefill_seconds;  ///< From admission to the first token.
  double decode_seconds;   ///< From the first token to the last.
} lockstep_timings;

/// The text, UTF-8, ends with a NUL. `bytes`, if not NULL, receives its length without that NUL.
/// This pointer and those below are valid as long as the completion.
LOCKSTEP_API const char* lockstep_completion_text(const lockstep_completion* completion,
                                                  size_t* bytes);
/// Number of generated tokens, with the end-of-sequence token if that ended the text.
LOCKSTEP_API size_t lockstep_completion_num_tokens(const lockstep_completion* completion);
/// Token `index`, from 0; NULL beyond the last.
LOCKSTEP_API const lockstep_token* lockstep_completion_token(const lockstep_completion* completion,
                                                             size_t index);
/// Why it ended; CANCELLED for NULL.
LOCKSTEP_API lockstep_finish_reason
lockstep_completion_finish_reason(const lockstep_completion* completion);
/// The stop string that ended the text; "" if none did.
LOCKSTEP_API const char* lockstep_completion_stop_string(const lockstep_completion* completion);
/// Number of tokens of the prompt.
LOCKSTEP_API int64_t lockstep_completion_prompt_tokens(const lockstep_completion* completion);
/// Where the time went; zeros for NULL.
LOCKSTEP_API lockstep_timings lockstep_completion_timings(const lockstep_completion* completion);
/// Frees the completion and all that was got from it.
LOCKSTEP_API void lockstep_completion_free(lockstep_completion* completion);

/// @}
/// @name Stream: a completion that is being made
/// @{

/// Tokens of one completion, each as soon as there is one.
typedef struct lockstep_stream lockstep_stream;

/// Starts the completion of one prompt and returns at once. Arguments as of lockstep_generate().
LOCKSTEP_API lockstep_status lockstep_stream_start(lockstep_generator* generator,
                                                   const lockstep_prompt* prompt,
                                                   const lockstep_sampling_params* params,
                                                   lockstep_stream** stream);
/// Waits for the next token, which is valid until the next call with this stream. LOCKSTEP_END and
/// NULL when there are no more.
LOCKSTEP_API lockstep_status lockstep_stream_next(lockstep_stream* stream,
                                                  const lockstep_token** token);
/// Ends the generation soon; the stream then gives what there is, then its end. From any thread,
/// while others wait for the stream, too.
LOCKSTEP_API lockstep_status lockstep_stream_cancel(lockstep_stream* stream);
/// Waits for the end and copies the whole completion.
LOCKSTEP_API lockstep_status lockstep_stream_completion(lockstep_stream* stream,
                                                        lockstep_completion** completion);
/// Cancels what is still to be made, then frees the stream.
LOCKSTEP_API void lockstep_stream_free(lockstep_stream* stream);

/// @}
/// @name Chat: conversations with a model that comes with a chat template
/// @{

/// One message of a conversation. All strings are UTF-8 and end with a NUL; what is NULL was not
/// said. What a text says is never taken for a control token, whatever it spells.
typedef struct lockstep_chat_message {
  const char* role;          ///< "system", "user", "assistant", "tool" or what the template knows.
  const char* content;       ///< What was said.
  const char* name;          ///< Who said it.
  const char* tool_call_id;  ///< Of a tool's answer: which call it answers.
  const char* tool_calls;    ///< Of an assistant's message: a JSON list of the calls that it made.
  const char* reasoning_content;  ///< Of an assistant's message: what it thought before.
} lockstep_chat_message;

/// How a conversation becomes a prompt.
typedef struct lockstep_chat_options {
  size_t struct_size;  ///< Set by lockstep_chat_options_init().
  /// End the prompt with the beginning of an assistant's message. Default: true.
  bool add_generation_prompt;
  const char* tools;  ///< Tools that the model may call: a JSON list of schemas. Default: NULL.
  const char* chat_template;  ///< A template's source instead of the model's. Default: NULL.
  const char* variables;      ///< A JSON object of what the template shall see, too. Default: NULL.
} lockstep_chat_options;

/// Fills in the defaults; `size` is sizeof(lockstep_chat_options).
LOCKSTEP_API lockstep_status lockstep_chat_options_init(lockstep_chat_options* options,
                                                        size_t size);

/// Whether the model comes with a chat template, and a tokenizer for what it writes.
LOCKSTEP_API bool lockstep_model_has_chat_template(const lockstep_model* model);

/// The model's answer to `num_messages` messages; otherwise as lockstep_generate(). Without
/// `params` (NULL) the answer may reach to the end of the generator's max_length. `options` may be
/// NULL.
LOCKSTEP_API lockstep_status lockstep_chat(
    lockstep_generator* generator, const lockstep_chat_message* messages, size_t num_messages,
    const lockstep_sampling_params* params, const lockstep_chat_options* options,
    lockstep_token_callback on_token, void* user_data, lockstep_completion** completion);
/// Starts the answer to a conversation and returns at once. Arguments as of lockstep_chat().
LOCKSTEP_API lockstep_status lockstep_stream_start_chat(lockstep_generator* generator,
                                                        const lockstep_chat_message* messages,
                                                        size_t num_messages,
                                                        const lockstep_sampling_params* params,
                                                        const lockstep_chat_options* options,
                                                        lockstep_stream** stream);

/// A conversation as the model reads it.
typedef struct lockstep_rendered_chat lockstep_rendered_chat;

/// What lockstep_chat() gives to the model. `options` may be NULL.
LOCKSTEP_API lockstep_status lockstep_model_render_chat(const lockstep_model* model,
                                                        const lockstep_chat_message* messages,
                                                        size_t num_messages,
                                                        const lockstep_chat_options* options,
                                                        lockstep_rendered_chat** chat);
/// What the template wrote, ends with a NUL. `bytes`, if not NULL, receives its length without that
/// NUL. This pointer and the next are valid as long as `chat`.
LOCKSTEP_API const char* lockstep_rendered_chat_text(const lockstep_rendered_chat* chat,
                                                     size_t* bytes);
/// Its token ids, whose number `num_ids` receives if it is not NULL.
LOCKSTEP_API const int32_t* lockstep_rendered_chat_ids(const lockstep_rendered_chat* chat,
                                                       size_t* num_ids);
/// Frees the conversation.
LOCKSTEP_API void lockstep_rendered_chat_free(lockstep_rendered_chat* chat);

/// @}

#ifdef __cplusplus
}
#endif
