/// @file
/// Which symbols the shared library shows. Included by every public header; valid C and C++.
#pragma once

/// Marks what programs may use. Everything else is compiled with hidden visibility.
#define LOCKSTEP_API __attribute__((visibility("default")))
/// Hides the implementation of a class that is itself marked LOCKSTEP_API.
#define LOCKSTEP_LOCAL __attribute__((visibility("hidden")))
