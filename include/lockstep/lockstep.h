/// @file
/// Everything that a program needs.
#pragma once

#include "lockstep/error.h"
#include "lockstep/generator.h"
#include "lockstep/mesh.h"
#include "lockstep/model.h"
#include "lockstep/sampling.h"
#include "lockstep/spmd.h"
#include "lockstep/tensor.h"
#include "lockstep/version.h"

/// Tensor-parallel text generation: one language model on several devices at once.
namespace lockstep {}
