#include "ops/checks.h"

namespace lockstep {

void check_attention(const char* op, const Tensor& qkv, const AttentionShape& shape,
                     const KvLayer& cache, const BatchView& batch, DeviceType where) {
  check(shape.local_heads >= 0 && shape.local_kv_heads >= 0 && shape.head_dim > 0 &&
            shape.head_dim % 2 == 0 && shape.group_size > 0 && shape.group_offset >= 0 &&
            shape.group_offset < shape.group_size && shape.window >= 0,
        "{}: {} query heads, {} KV heads of {}, groups of {} from {}, window {} are no attention",
        op, shape.local_heads, shape.local_kv_heads, shape.head_dim, shape.group_size,
        shape.group_offset, shape.window);
  check(shape.local_heads == 0 ||
            (shape.local_heads - 1 + shape.group_offset) / shape.group_size < shape.local_kv_heads,
        "{}: query head {} has no KV head among {}", op, shape.local_heads - 1,
        shape.local_kv_heads);
  check(batch.rows >= 0, "{}: {} rows", op, batch.rows);
  check_tensor(op, "qkv", qkv, DType::kFloat32,
               {batch.rows, (shape.local_heads + 2 * shape.local_kv_heads) * shape.head_dim},
               where);
  check_tensor(op, "positions", batch.positions, DType::kInt32, {batch.rows}, where);
  check_tensor(op, "row_sequence", batch.row_sequence, DType::kInt32, {batch.rows}, where);
  check_table(op, "block_tables", batch.block_tables, where);
  check_tensor(op, "block_tables", batch.block_tables, DType::kInt32, batch.block_tables.shape,
               where);
  const DType dtype = cache.keys.dtype;
  check(dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat16,
        "{}: the cache must be float32, bfloat16 or float16, found {}", op, name_of(dtype));
  const std::int64_t num_blocks = cache.keys.num_rows();
  const Shape expected{num_blocks, shape.local_kv_heads, kKvBlockSize, shape.head_dim};
  check_tensor(op, "keys", cache.keys, dtype, expected, where);
  check_tensor(op, "values", cache.values, dtype, expected, where);
}

}  // namespace lockstep
