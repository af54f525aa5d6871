// libFuzzer's entry to the target named by LOCKSTEP_FUZZ_TARGET.
#include "../targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lockstep::fuzz::LOCKSTEP_FUZZ_TARGET(data, size);
  return 0;
}
