#include "text/sentencepiece_model.h"

#include <sentencepiece_processor.h>

#include <optional>

#include "text/read_file.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

constexpr std::uint64_t kMaxModelBytes = std::uint64_t{64} << 20;

// Reads fields of one protocol-buffer message (the wire format of protobuf.dev's "Encoding" page).
class WireReader {
 public:
  WireReader(std::string_view bytes, const std::string& source) : bytes_(bytes), source_(source) {}

  struct Field {
    std::uint64_t number = 0;
    std::uint64_t integer = 0;    // of a varint
    std::string_view bytes = {};  // of a length-delimited field
  };

  std::optional<Field> next() {
    if (bytes_.empty()) return std::nullopt;
    const std::uint64_t tag = varint();
    Field field{.number = tag >> 3};
    switch (tag & 7) {
      case 0:
        field.integer = varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        take(4);
        break;
      default:
        fail("{}: not a SentencePiece model (wire type {})", source_, tag & 7);
    }
    return field;
  }

 private:
  std::string_view take(std::uint64_t count) {
    check(count <= bytes_.size(), "{}: not a SentencePiece model: a field of {} bytes, {} are left",
          source_, count, bytes_.size());
    const std::string_view taken = bytes_.substr(0, static_cast<std::size_t>(count));
    bytes_.remove_prefix(static_cast<std::size_t>(count));
    return taken;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7Fu) << shift;
      if (byte < 0x80) return value;
    }
    fail("{}: not a SentencePiece model: an integer of more than 64 bits", source_);
  }

  std::string_view bytes_;
  const std::string& source_;
};

struct NormalizerSpec {
  bool add_dummy_prefix = true;
};

// Of a ModelProto, the fields that libsentencepiece does not tell. A table of normalisation rules
// is refused: libsentencepiece walks it without checks, and no Llama or Mistral model has one.
NormalizerSpec read_normalizer_spec(std::string_view model, const std::string& source) {
  constexpr std::uint64_t kNormalizerSpec = 3;
  constexpr std::uint64_t kPrecompiledCharsmap = 2;
  constexpr std::uint64_t kAddDummyPrefix = 3;
  constexpr std::uint64_t kDenormalizerSpec = 5;
  NormalizerSpec spec;
  WireReader reader(model, source);
  while (const auto field = reader.next()) {
    if (field->number != kNormalizerSpec && field->number != kDenormalizerSpec) continue;
    WireReader inner(field->bytes, source);
    while (const auto entry = inner.next()) {
      check(entry->number != kPrecompiledCharsmap || entry->bytes.empty(),
            "{}: a SentencePiece model with normalisation rules is not supported, only 'identity' "
            "is",
            source);
      if (field->number == kNormalizerSpec && entry->number == kAddDummyPrefix)
        spec.add_dummy_prefix = entry->integer != 0;
    }
  }
  return spec;
}

using Processor = sentencepiece::SentencePieceProcessor;

std::unique_ptr<Processor> load(std::string_view model, const std::string& source) {
  auto processor = std::make_unique<Processor>();
  const auto status = processor->LoadFromSerializedProto({model.data(), model.size()});
  check(status.ok(), "{}: not a SentencePiece model: {}", source, status.ToString());
  return processor;
}

class SentencePieceEncoder final : public SegmentEncoder {
 public:
  SentencePieceEncoder(std::unique_ptr<Processor> first, std::unique_ptr<Processor> later,
                       std::string source)
      : first_(std::move(first)), later_(std::move(later)), source_(std::move(source)) {}

  void encode(std::string_view text, bool at_start, std::vector<std::int32_t>& ids) const override {
    std::vector<int> pieces;
    const Processor& processor = at_start || later_ == nullptr ? *first_ : *later_;
    const auto status = processor.Encode({text.data(), text.size()}, &pieces);
    check(status.ok(), "{}: encoding failed: {}", source_, status.ToString());
    ids.insert(ids.end(), pieces.begin(), pieces.end());
  }

 private:
  std::unique_ptr<Processor> first_;
  std::unique_ptr<Processor> later_;  // null: the same as first_
  std::string source_;
};

}  // namespace

TokenizerParts read_sentencepiece_model(const std::filesystem::path& path, bool legacy) {
  const std::string source = path.string();
  const std::string model = read_whole_file(path, kMaxModelBytes);
  const NormalizerSpec spec = read_normalizer_spec(model, source);
  std::unique_ptr<Processor> first = load(model, source);
  std::unique_ptr<Processor> later;
  // Fields at the end of a message override those before: {normalizer_spec: {add_dummy_prefix:
  // false}}.
  constexpr std::string_view kNoDummyPrefix("\x1a\x02\x18\x00", 4);
  if (!legacy && spec.add_dummy_prefix) later = load(model + std::string(kNoDummyPrefix), source);

  TokenizerParts parts;
  const int size = first->GetPieceSize();
  parts.vocabulary = std::make_shared<Vocabulary>(source, static_cast<std::size_t>(size));
  for (int id = 0; id < size; ++id) {
    const std::string& piece = first->IdToPiece(id);
    check(is_valid_utf8(piece), "{}: the piece {} is not UTF-8", source, id);
    parts.vocabulary->add(piece, id);
    if (!first->IsControl(id) && !first->IsUnknown(id)) continue;
    parts.vocabulary->add_added(piece, id, true);
    parts.added_tokens.push_back({.content = piece, .id = id, .special = true});
  }
  parts.bos_id = first->bos_id();
  if (parts.bos_id >= 0) parts.prefix = {parts.bos_id};
  if (first->eos_id() >= 0) parts.eos_ids = {first->eos_id()};
  parts.decoder = Decoder::sentencepiece(spec.add_dummy_prefix);
  parts.encoder =
      std::make_unique<SentencePieceEncoder>(std::move(first), std::move(later), source);
  return parts;
}

}  // namespace lockstep
