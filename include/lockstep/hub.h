/// @file
/// Models by name: org/name on the Hugging Face hub, kept in the cache that Python's
/// huggingface_hub uses too. docs/hub.md has the names, the environment variables and what is
/// fetched.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>

#include "lockstep/export.h"

namespace lockstep {

/// How far a pull is.
struct PullProgress {
  std::string file;             ///< The file that advanced.
  std::uint64_t file_done = 0;  ///< Bytes of it that are in place.
  std::uint64_t file_size = 0;  ///< Bytes that it has.
  std::uint64_t done = 0;       ///< Bytes in place of all files known so far.
  std::uint64_t total = 0;      ///< Bytes of all files known so far.
};

/// How pull() and locate_model() work.
struct PullOptions {
  /// Branch, tag or commit where the name has no \@revision; empty: main.
  std::string revision;
  /// false: everything but the weights, for LoadOptions::dummy_weights.
  bool weights = true;
  /// Use the cache alone, as HF_HUB_OFFLINE=1 does.
  bool offline = false;
  /// Called from the threads that download, one at a time. A file that has to be fetched anew goes
  /// back to 0.
  std::function<void(const PullProgress&)> progress;
  /// Ends the pull with an Error. What has arrived stays, and the next pull goes on from there.
  std::stop_token stop;
};

/// Brings `model`, org/name[:quantization | /file.gguf][\@revision], into the cache as the hub has
/// it now, and returns its directory there (or the .gguf file). Fetches only what is missing of the
/// files that are needed to run it, and checks every file's sum. Throws Error saying what to do:
/// for names that the hub does not know, without permission, network or disk space, or when what
/// arrives is not what the hub announced. Thread-safe, also between processes.
LOCKSTEP_API std::filesystem::path pull(const std::string& model, const PullOptions& options = {});

/// Where the files of a MODEL argument are: `model` itself if there is such a path, otherwise its
/// place in the cache, without asking the hub, otherwise pull(). This is what load_model() does.
LOCKSTEP_API std::filesystem::path locate_model(const std::string& model,
                                                const PullOptions& options = {});

}  // namespace lockstep
