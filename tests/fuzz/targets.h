// What is fuzzed: each function feeds one input to a parser. Inputs that are refused with an Error
// are fine; everything else that goes wrong ends the program (sanitizers, uncaught exceptions, the
// checks in here). The same functions run under libFuzzer and, with made-up inputs, in CTest.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lockstep::fuzz {

// A model.safetensors, the header of which is read.
void safetensors(const std::uint8_t* data, std::size_t size);

// A GGUF file: header, config, and every tensor's first row where they are a whole checkpoint.
void gguf(const std::uint8_t* data, std::size_t size);

// A config.json.
void config(const std::uint8_t* data, std::size_t size);

}  // namespace lockstep::fuzz
