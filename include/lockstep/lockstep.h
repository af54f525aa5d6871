/// @file
/// Everything that a program needs.
#pragma once

#include "lockstep/chat.h"
#include "lockstep/error.h"
#include "lockstep/generator.h"
#include "lockstep/hub.h"
#include "lockstep/mesh.h"
#include "lockstep/model.h"
#include "lockstep/sampling.h"
#include "lockstep/spmd.h"
#include "lockstep/tensor.h"
#include "lockstep/version.h"

/// @mainpage
/// In C++: lockstep::Mesh, lockstep::load_model() and lockstep::Generator make text;
/// lockstep::Executable runs your own code on every rank. In C: c/lockstep.h. Programs to start
/// from are in docs/getting-started.md and docs/library.md of the sources.

/// Tensor-parallel text generation: one language model on several devices at once.
namespace lockstep {}
