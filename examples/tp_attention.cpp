// The attention of a layer, sharded by heads over all ranks, for one token of each sequence: each
// rank has its own query heads and the key/value heads that they need, with the cache of those
// alone; o_proj is row-parallel, so the ranks' products are partial sums, which are added once.
//
//   build-dev/examples/tp_attention --tp 4
#include "common/layer.h"

int main(int argc, char** argv) {
  return example::run_layer_example(argc, argv, "tp_attention",
                                    "One attention layer on several ranks",
                                    [](example::Layer& layer, const lockstep::BatchView& batch) {
                                      layer.transformer.attention(0, batch, layer.cache.layer(0));
                                    });
}
