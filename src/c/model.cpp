#include <memory>
#include <optional>

#include "c/guard.h"
#include "c/handles.h"
#include "c/options.h"

using namespace lockstep::c;

namespace {

std::optional<lockstep::DeviceType> device_type_from(lockstep_device_type type) {
  switch (type) {
    case LOCKSTEP_DEVICE_AUTO:
      return std::nullopt;
    case LOCKSTEP_DEVICE_CPU:
      return lockstep::DeviceType::kCpu;
    case LOCKSTEP_DEVICE_CUDA:
      return lockstep::DeviceType::kCuda;
  }
  throw InvalidArgument(
      fmt::format("device type {} is none of lockstep_device_type", static_cast<int>(type)));
}

lockstep_dtype to_c(lockstep::DType dtype) {
  switch (dtype) {
    case lockstep::DType::kFloat32:
      return LOCKSTEP_DTYPE_FLOAT32;
    case lockstep::DType::kBFloat16:
      return LOCKSTEP_DTYPE_BFLOAT16;
    case lockstep::DType::kFloat16:
      return LOCKSTEP_DTYPE_FLOAT16;
    default:
      lockstep::fail("no model is kept as {}", name_of(dtype));
  }
}

}  // namespace

const char* lockstep_last_error() { return last_error(); }
// They are made of string literals, which end with a NUL.
const char* lockstep_version() { return lockstep::version().data(); }
const char* lockstep_git_revision() { return lockstep::git_revision().data(); }
const char* lockstep_backends() { return lockstep::backends().data(); }

lockstep_status lockstep_mesh_tensor_parallel(int world_size, lockstep_device_type type,
                                              lockstep_mesh** mesh) {
  return guarded(__func__, [&] {
    lockstep_mesh*& out = not_null(mesh, "mesh");
    out = nullptr;
    auto value = lockstep::Mesh::tensor_parallel(world_size, device_type_from(type));
    std::string description = to_string(value);
    out = new lockstep_mesh{std::move(value), std::move(description)};
    return LOCKSTEP_OK;
  });
}

int lockstep_mesh_world_size(const lockstep_mesh* mesh) {
  return value_or(__func__, 0, [&] { return not_null(mesh, "mesh").value.world_size(); });
}

const char* lockstep_mesh_description(const lockstep_mesh* mesh) {
  return value_or<const char*>(__func__, nullptr,
                               [&] { return not_null(mesh, "mesh").description.c_str(); });
}

void lockstep_mesh_free(lockstep_mesh* mesh) { delete mesh; }

lockstep_status lockstep_model_load(const char* name, const lockstep_mesh* mesh,
                                    const lockstep_load_options* options, lockstep_model** model) {
  return guarded(__func__, [&] {
    lockstep_model*& out = not_null(model, "model");
    out = nullptr;
    out = new lockstep_model{lockstep::load_model(
        &not_null(name, "name"), not_null(mesh, "mesh").value, load_options(options))};
    return LOCKSTEP_OK;
  });
}

lockstep_dtype lockstep_model_dtype(const lockstep_model* model) {
  return value_or(__func__, LOCKSTEP_DTYPE_AUTO,
                  [&] { return to_c(not_null(model, "model").value.dtype()); });
}

int64_t lockstep_model_vocab_size(const lockstep_model* model) {
  return value_or<int64_t>(__func__, 0,
                           [&] { return not_null(model, "model").value.vocab_size(); });
}

int64_t lockstep_model_max_length(const lockstep_model* model) {
  return value_or<int64_t>(__func__, 0,
                           [&] { return not_null(model, "model").value.max_length(); });
}

bool lockstep_model_has_tokenizer(const lockstep_model* model) {
  return value_or(__func__, false, [&] { return not_null(model, "model").value.has_tokenizer(); });
}

void lockstep_model_free(lockstep_model* model) { delete model; }
