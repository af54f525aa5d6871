// Runs a function on one thread a rank, and typed tensors over vectors.
#pragma once

#include <gmock/gmock.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/thread_comm.h"
#include "lockstep/error.h"

namespace lockstep {

using Comms = std::vector<std::unique_ptr<Comm>>;
using std::chrono::milliseconds;

// What each rank threw; empty where a rank returned.
inline std::vector<std::string> run_ranks(const Comms& comms,
                                          const std::function<void(Comm&)>& function) {
  std::vector<std::string> errors(comms.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < comms.size(); ++rank)
      threads.emplace_back([&, rank] {
        try {
          function(*comms[rank]);
        } catch (const Error& error) {
          errors[rank] = error.what();
        }
      });
  }
  return errors;
}

// Expects that no rank throws.
inline void run_all(const Comms& comms, const std::function<void(Comm&)>& function) {
  for (const std::string& error : run_ranks(comms, function)) EXPECT_EQ(error, "");
}

inline Tensor tensor_of(std::vector<float>& values) {
  return {values.data(), DType::kFloat32, {static_cast<std::int64_t>(values.size())}, {}};
}
inline Tensor tensor_of(std::vector<std::int32_t>& values) {
  return {values.data(), DType::kInt32, {static_cast<std::int64_t>(values.size())}, {}};
}
inline Tensor tensor_of(std::vector<std::int64_t>& values) {
  return {values.data(), DType::kInt64, {static_cast<std::int64_t>(values.size())}, {}};
}
// 16-bit floats.
inline Tensor tensor_of(std::vector<std::uint16_t>& bits, DType dtype) {
  return {bits.data(), dtype, {static_cast<std::int64_t>(bits.size())}, {}};
}

}  // namespace lockstep
