// A whole transformer block, attention and feed-forward network, sharded over all ranks, for one
// token of each sequence: two sums over ranks, and nothing else is exchanged.
//
//   build-dev/examples/tp_transformer_block --tp 4
#include "common/layer.h"

int main(int argc, char** argv) {
  return example::run_layer_example(argc, argv, "tp_transformer_block",
                                    "One transformer block on several ranks",
                                    [](example::Layer& layer, const lockstep::BatchView& batch) {
                                      layer.transformer.attention(0, batch, layer.cache.layer(0));
                                      layer.transformer.mlp(0);
                                    });
}
