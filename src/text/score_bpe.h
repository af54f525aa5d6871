// Byte-pair encoding by the scores of pieces, as SentencePiece does it: GGUF's `llama` kind.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/merge.h"
#include "text/segment_encoder.h"
#include "text/vocabulary.h"

namespace lockstep {

struct ScoredPiece {
  std::int32_t id = 0;
  double score = 0;
  bool unused = false;  // takes part in merging, but is taken apart again in the end
};

class ScoreBpeEncoder final : public SegmentEncoder {
 public:
  // `pieces`: the tokens that merging may produce. `unk_id` (-1: none) stands for characters that
  // have neither piece nor byte tokens. `add_space_prefix`: a space goes before every stretch of
  // text.
  ScoreBpeEncoder(std::shared_ptr<const Vocabulary> vocabulary,
                  const std::vector<ScoredPiece>& pieces, std::int32_t unk_id,
                  bool add_space_prefix);

  void encode(std::string_view text, bool at_start, std::vector<std::int32_t>& ids) const override;

 private:
  struct Piece {
    std::int32_t rank = -1;  // 0: the best score; -1: not a piece
    bool unused = false;
  };
  // What taken-apart pieces were made of: the piece's id, and the split's position in bytes.
  using Splits = std::unordered_map<std::int32_t, std::uint32_t>;
  void emit(std::string_view piece, std::int32_t id, const Splits& splits,
            std::vector<std::int32_t>& ids) const;
  std::int32_t find(std::string_view text) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<Piece> pieces_;  // by id
  std::array<std::int32_t, 256> byte_ids_{};
  std::int32_t unk_id_;
  bool add_space_prefix_;
};

}  // namespace lockstep
