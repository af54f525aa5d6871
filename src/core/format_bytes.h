// Sizes for people.
#pragma once

#include <string>

namespace lockstep {

// "1.25 GB", "640 B"; a kilobyte has 1000 bytes.
std::string format_bytes(double bytes);

}  // namespace lockstep
