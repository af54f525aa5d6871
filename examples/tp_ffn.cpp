// The feed-forward network of a layer, sharded over all ranks, for one token of each sequence:
// gate_proj and up_proj are column-parallel, so each rank computes its own features of both;
// down_proj is row-parallel, so the ranks' products are partial sums, which are added once.
//
//   build-dev/examples/tp_ffn --tp 4
#include "common/layer.h"

int main(int argc, char** argv) {
  return example::run_layer_example(
      argc, argv, "tp_ffn", "One feed-forward network on several ranks",
      [](example::Layer& layer, const lockstep::BatchView&) { layer.transformer.mlp(0); });
}
