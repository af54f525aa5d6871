#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/: a corpus, small tokenizers trained on it in the shapes that real ones
have, and what the reference libraries make of every line.

References: Hugging Face tokenizers 0.23.3, sentencepiece 0.2.3, gguf 0.19.0 (writes GGUF files, reads the
demo model's), numpy. Python 3.11 (Unicode 14).

  scripts/test-assets.sh
  python3 scripts/golden/make_tokenizer_golden.py

Every folder has the tokenizer's files (those of `assets` excepted, which scripts/test-assets.sh fetches), and

  hashes.bin    for each line of corpus.txt a 64-bit FNV-1a hash, little endian, over
                count and ids of encode(line), count and ids of encode(line) without special tokens
                added or recognised (all of them little-endian uint32), the byte count and the bytes of
                decode(first ids, skipping special tokens), and of decode(second ids, skipping none)
  samples.json  the first ids of every 50th line, and the text of lists of random ids
"""

import argparse
import collections
import io
import json
import pathlib
import random
import re
import struct
import sys

import gguf
import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

from tokenizer_corpus import escape, make_corpus

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "golden" / "tokenizer"
CACHE = ROOT / ".cache"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def special(content, **flags):
    return AddedToken(content, special=True, normalized=False, **flags)


def plain(content, **flags):
    return AddedToken(content, special=False, **flags)


# ---- the tokenizers -----------------------------------------------------------------------------


def train_byte_level(texts, pre_tokenizer, vocab_size, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def regex_and_bytes(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make_gpt2(texts):
    tokenizer = train_byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=False), 1200)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([special("<|endoftext|>")])
    return tokenizer


def make_llama3(texts):
    tokenizer = train_byte_level(texts, regex_and_bytes(LLAMA3), 1400)
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = True
    del data["model"]["merges"][-150:]  # tokens that only ignore_merges reaches
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens([special(t) for t in (
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>")])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      pair="<|begin_of_text|> $A <|begin_of_text|> $B:1",
                                      special_tokens=[("<|begin_of_text|>", bos)])])
    return tokenizer


def make_qwen2(texts):
    tokenizer = train_byte_level(texts, regex_and_bytes(QWEN2), 1200, normalizers.NFC())
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([special(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([plain("<tool_call>", normalized=False), plain("</tool_call>", normalized=False)])
    return tokenizer


def make_smollm2(texts):
    tokenizer = train_byte_level(texts, pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)]), 1000)
    tokenizer.add_special_tokens([special(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    return tokenizer


def make_tekken(texts):
    tokenizer = train_byte_level(texts, regex_and_bytes(TEKKEN), 1000)
    tokenizer.add_special_tokens([special(t) for t in ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")])
    return tokenizer


def make_splits(texts):
    """Every split behaviour, and every flag of added tokens."""
    split = pre_tokenizers.Split
    tokenizer = train_byte_level(texts, pre_tokenizers.Sequence([
        split(Regex(r"\p{N}{1,3}"), "isolated"),
        split(Regex("[一-龥\u3040-ゟ゠-ヿ]+"), "isolated"),
        split(Regex(r"[\p{P}\p{S}]"), "contiguous"),
        split(Regex(r"\n|\p{Lu}"), "merged_with_next"),
        split(",", "merged_with_previous"),
        split(Regex(r"[^\t]+"), "removed", invert=True),
        split("zz", "removed"),
        split(Regex(r"\w+|\S"), "isolated"),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Punctuation("isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)]), 1200)
    tokenizer.add_special_tokens([special("<mask>", lstrip=True), special("</s>", rstrip=True),
                                  special("<s>", lstrip=True, rstrip=True)])
    tokenizer.add_tokens([plain("word", single_word=True, normalized=False), plain("é\u0301"),
                          plain("[INST]", single_word=True, lstrip=True), plain("NORM", rstrip=True)])
    return tokenizer


def make_metaspace_unk(texts):
    """Characters without a token, NFKC and Metaspace with its own decoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFKC(), normalizers.Strip(left=False, right=True),
        normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    # Chosen here, because the trainer's own choice among characters of one frequency is random.
    counts = collections.Counter(c for text in texts for c in text if not c.isspace())
    alphabet = ["▁"] + sorted(counts, key=lambda c: (-counts[c], c))[:299]
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=[special("<unk>"), special("</s>")],
                                  show_progress=False, initial_alphabet=alphabet, limit_alphabet=300)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([plain("NORM", normalized=True), plain("word", single_word=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B:1 </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def train_sentencepiece(texts):
    """A serialized model. The trainer is given no file, whose path would stand in the model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([t.replace("\n", " ").replace("\0", " ") for t in texts[:4000]]),
        model_writer=model, model_type="bpe", vocab_size=1600, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, allow_whitespace_only_pieces=True, max_sentence_length=20000,
        num_threads=1, minloglevel=2, control_symbols=["[INST]", "[/INST]"])
    return model.getvalue()


def bpe_of_sentencepiece(processor):
    """The same model with a list of merges: all ways to put a piece together, best score first."""
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    normal = {p for i, p in enumerate(pieces) if not (
        processor.is_control(i) or processor.is_unknown(i) or processor.is_byte(i))}
    merges = []
    for piece in sorted(normal, key=lambda p: (-processor.get_score(vocab[p]), vocab[p])):
        for cut in range(1, len(piece)):
            if piece[:cut] in normal and piece[cut:] in normal:
                merges.append((piece[:cut], piece[cut:]))
    return models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


LLAMA_DECODER = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                   decoders.Fuse(), decoders.Strip(content=" ", left=1)])


def make_llama2(processor, legacy):
    """Llama's conversion of a SentencePiece model, as its tokenizer.json has it."""
    tokenizer = Tokenizer(bpe_of_sentencepiece(processor))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"),
                                                     normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    tokenizer.decoder = LLAMA_DECODER
    tokenizer.add_special_tokens([special(processor.id_to_piece(i))
                                  for i in range(processor.vocab_size())
                                  if processor.is_control(i) or processor.is_unknown(i)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tokenizer


# ---- GGUF ---------------------------------------------------------------------------------------


def write_gguf(path, metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), "llama")
    metadata(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_gguf_llama(path, processor):
    size = processor.vocab_size()
    kind = gguf.TokenType

    def type_of(i):
        return (kind.UNKNOWN if processor.is_unknown(i) else kind.CONTROL if processor.is_control(i)
                else kind.BYTE if processor.is_byte(i) else kind.NORMAL)

    def metadata(writer):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([processor.id_to_piece(i) for i in range(size)])
        writer.add_token_scores([processor.get_score(i) for i in range(size)])
        writer.add_token_types([type_of(i) for i in range(size)])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
    write_gguf(path, metadata)


def write_gguf_gpt2(path, tokenizer, pre, add_bos):
    data = json.loads(tokenizer.to_str())
    tokens = {i: t for t, i in data["model"]["vocab"].items()}
    types = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for token in data["added_tokens"]:
        tokens[token["id"]] = token["content"]
        types[token["id"]] = (gguf.TokenType.CONTROL if token["special"]
                              else gguf.TokenType.USER_DEFINED)

    def metadata(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list([tokens[i] for i in range(len(tokens))])
        writer.add_token_types([types[i] for i in range(len(tokens))])
        writer.add_token_merges([" ".join(m) if isinstance(m, list) else m
                                 for m in data["model"]["merges"]])
        if add_bos is not None:
            writer.add_bos_token_id(tokenizer.token_to_id(add_bos))
            writer.add_chat_template("{{ bos_token }}")
    write_gguf(path, metadata)


def tokenizer_of_gguf(path):
    """SmolLM2's tokenizer from the vocabulary and merges in its GGUF file."""
    fields = gguf.GGUFReader(str(path)).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert not fields["tokenizer.ggml.add_bos_token"].contents()
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([special(t) for t, kind in zip(tokens, types) if kind == 3])
    return tokenizer


# ---- references ---------------------------------------------------------------------------------


class HuggingFace:
    name = "Hugging Face tokenizers"

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text, special):
        self.tokenizer.encode_special_tokens = not special
        return self.tokenizer.encode(text, add_special_tokens=special).ids

    def decode(self, ids, skip):
        return self.tokenizer.decode(ids, skip_special_tokens=skip)


class SentencePiece:
    """sentencepiece itself for text; control tokens cut out of the text and bos put before it, as
    Hugging Face's LlamaTokenizer does. `later`: what encodes the text behind the first part, where
    that is another. Decoding is Hugging Face's."""
    name = "sentencepiece"

    def __init__(self, processor, later=None):
        self.processor = processor
        self.later = later or processor
        self.decoder = HuggingFace(make_llama2(processor, legacy=True))
        self.size = processor.vocab_size()
        control = [processor.id_to_piece(i) for i in range(self.size)
                   if processor.is_control(i) or processor.is_unknown(i)]
        self.control = re.compile(
            "(" + "|".join(re.escape(c) for c in sorted(control, key=len, reverse=True)) + ")")

    def encode(self, text, special):
        if not special:
            return self.processor.encode(text) if text else []
        ids = [self.processor.bos_id()]
        for i, part in enumerate(self.control.split(text)):
            if i % 2:
                ids.append(self.processor.piece_to_id(part))
            elif part:
                ids += (self.processor if i == 0 else self.later).encode(part)
        return ids

    def decode(self, ids, skip):
        return self.decoder.decode(ids, skip)


# ---- output -------------------------------------------------------------------------------------


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def pack_ids(ids):
    return struct.pack(f"<{len(ids) + 1}I", len(ids), *ids)


def pack_text(text):
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def write_golden(folder, reference, texts):
    folder.mkdir(parents=True, exist_ok=True)
    hashes = bytearray()
    samples = {}
    for i, text in enumerate(texts):
        first = reference.encode(text, True)
        second = reference.encode(text, False)
        hashes += struct.pack("<Q", fnv1a(
            pack_ids(first) + pack_ids(second) + pack_text(reference.decode(first, True))
            + pack_text(reference.decode(second, False))))
        if i % 50 == 0:
            samples[str(i)] = first
    r = random.Random(7)
    random_ids = []
    for _ in range(60):
        ids = [r.randrange(min(300, reference.size)) if r.random() < 0.5 else r.randrange(reference.size)
               for _ in range(r.randint(0, 24))]
        random_ids.append({"ids": ids, "kept": reference.decode(ids, False),
                           "skipped": reference.decode(ids, True)})
    (folder / "hashes.bin").write_bytes(hashes)
    (folder / "samples.json").write_text(json.dumps(
        {"reference": reference.name, "samples": samples, "random": random_ids},
        separators=(",", ":")) + "\n")
    print(folder.name, flush=True)


def save_json(tokenizer, folder, string_merges=False, **config):
    folder.mkdir(parents=True, exist_ok=True)
    data = json.loads(tokenizer.to_str())
    if string_merges:
        data["model"]["merges"] = [m if isinstance(m, str) else " ".join(m)
                                   for m in data["model"]["merges"]]
    (folder / "tokenizer.json").write_text(
        json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")


def main():
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    for asset in ("SmolLM2-135M-Instruct.Q4_1.gguf", "mistral-v1", "mistral-v3"):
        if not (CACHE / asset).exists():
            sys.exit(f"{CACHE / asset} is missing; run scripts/test-assets.sh")
    OUT.mkdir(parents=True, exist_ok=True)
    corpus = make_corpus()
    (OUT / "corpus.txt").write_bytes(b"".join(escape(line) + b"\n" for line in corpus))
    texts = [line.decode("utf-8", "replace") for line in corpus]

    byte_level = {"gpt2": make_gpt2(texts), "llama3": make_llama3(texts), "qwen2": make_qwen2(texts),
                  "smollm2": make_smollm2(texts), "splits": make_splits(texts),
                  "metaspace_unk": make_metaspace_unk(texts), "tekken": make_tekken(texts)}
    for name, tokenizer in byte_level.items():
        if name != "tekken":
            save_json(tokenizer, OUT / name, string_merges=name in ("gpt2", "smollm2"))
            write_golden(OUT / name, HuggingFace(tokenizer), texts)
    for name, bos in (("llama3", "<|begin_of_text|>"), ("qwen2", None), ("tekken", "<s>")):
        folder = OUT / f"gguf_{name}"
        tokenizer = byte_level[name]
        write_gguf_gpt2(folder / "vocabulary.gguf", tokenizer,
                        {"llama3": "llama-bpe"}.get(name, name), bos)
        if name == "tekken":  # as llama.cpp runs it: bos, and words that are tokens stay whole
            data = json.loads(tokenizer.to_str())
            data["model"]["ignore_merges"] = True
            tokenizer = Tokenizer.from_str(json.dumps(data))
            tokenizer.post_processor = processors.TemplateProcessing(
                single="<s> $A", pair="<s> $A $B:1",
                special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
        write_golden(folder, HuggingFace(tokenizer), texts)

    model = train_sentencepiece(texts)
    (OUT / "sentencepiece").mkdir(exist_ok=True)
    (OUT / "sentencepiece/tokenizer.model").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    write_golden(OUT / "sentencepiece", SentencePiece(processor), texts)
    for name, legacy in (("llama2", True), ("llama2_metaspace", False)):
        tokenizer = make_llama2(processor, legacy)
        save_json(tokenizer, OUT / name, string_merges=legacy)
        write_golden(OUT / name, HuggingFace(tokenizer), texts)
    folder = OUT / "sentencepiece_new"  # the same model, not `legacy`
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    # The same without a space put before the text (normalizer_spec.add_dummy_prefix = false: fields
    # at the end of a protocol-buffer message override those before).
    later = sentencepiece.SentencePieceProcessor(model_proto=model + b"\x1a\x02\x18\x00")
    assert later.encode("the", out_type=str)[0][0] != "▁" == processor.encode("the", out_type=str)[0][0]
    (folder / "tokenizer_config.json").write_text(json.dumps({"legacy": False}) + "\n")
    write_golden(folder, SentencePiece(processor, later), texts)
    write_gguf_llama(OUT / "gguf_llama/vocabulary.gguf", processor)
    write_golden(OUT / "gguf_llama", SentencePiece(processor), texts)

    assets = OUT / "assets"
    for name in ("mistral-v1", "mistral-v3"):
        model = sentencepiece.SentencePieceProcessor(model_file=str(CACHE / name / "tokenizer.model"))
        write_golden(assets / name, SentencePiece(model), texts)
    smollm2 = tokenizer_of_gguf(CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf")
    write_golden(assets / "SmolLM2-135M-Instruct.Q4_1.gguf", HuggingFace(smollm2), texts)


if __name__ == "__main__":
    main()
