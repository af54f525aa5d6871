// Everything that a program needs.
#pragma once

#include "lockstep/error.h"
#include "lockstep/generator.h"
#include "lockstep/mesh.h"
#include "lockstep/model.h"
#include "lockstep/sampling.h"
#include "lockstep/spmd.h"
#include "lockstep/tensor.h"
