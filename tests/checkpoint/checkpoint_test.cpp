// Whole checkpoints: values, partial reads, dispatch.
#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>

#include <random>
#include <thread>

#include "checkpoint/json.h"
#include "checkpoint/safetensors.h"
#include "test_files.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::read_floats;
using test::TempDir;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

fs::path golden(const std::string& name) {
  return fs::path(LOCKSTEP_GOLDEN_DIR) / "checkpoint" / name;
}

class GoldenModel : public testing::TestWithParam<const char*> {};

// The same model in both formats: the reference dequantized the GGUF tensors and put the rows of
// `llama` into Hugging Face's order for the safetensors file.
TEST_P(GoldenModel, GgufEqualsSafetensors) {
  const auto gguf = open_checkpoint(golden(GetParam()) / "model.gguf.bin");
  const auto safetensors = open_checkpoint(golden(GetParam()));
  ASSERT_EQ(gguf->tensors().size(), safetensors->tensors().size());
  for (const TensorInfo& info : safetensors->tensors()) {
    const TensorInfo* other = gguf->find(info.name);
    ASSERT_NE(other, nullptr) << info.name;
    EXPECT_EQ(other->shape, info.shape) << info.name;
    EXPECT_EQ(read_floats(*gguf, *other), read_floats(*safetensors, info))
        << info.name << " as " << other->stored;
  }
}

TEST_P(GoldenModel, ConfigsAreEqual) {
  const auto gguf = open_checkpoint(golden(GetParam()) / "model.gguf.bin");
  const auto safetensors = open_checkpoint(golden(GetParam()));
  Config config = gguf->config();
  if (config.model_type == "llama") {
    EXPECT_THAT(config.rope_frequency_divisors, ElementsAre(1, 2, 3, 4));
    config.rope_frequency_divisors.clear();
  }
  EXPECT_EQ(config.dtype, DType::kFloat16);
  config.dtype = DType::kFloat32;
  EXPECT_EQ(describe(config), describe(safetensors->config()));
}

// Any rectangle equals the same part of the whole tensor, for every type and for permuted rows too.
TEST_P(GoldenModel, RectanglesEqualTheWhole) {
  std::mt19937 random(7);
  const auto range = [&](std::int64_t size) {
    std::int64_t begin = std::uniform_int_distribution<std::int64_t>(0, size)(random);
    std::int64_t end = std::uniform_int_distribution<std::int64_t>(0, size)(random);
    return Range{std::min(begin, end), std::max(begin, end)};
  };
  for (const fs::path& path : {golden(GetParam()) / "model.gguf.bin", golden(GetParam())}) {
    const auto checkpoint = open_checkpoint(path);
    for (const TensorInfo& info : checkpoint->tensors()) {
      const bool is_vector = info.shape.rank() == 1;
      const std::int64_t width = is_vector ? 1 : info.shape[1];
      const std::vector<float> whole = read_floats(*checkpoint, info);
      for (int i = 0; i < 40; ++i) {
        const Range rows = range(info.shape[0]);
        const Range columns = is_vector || i % 4 == 0 ? Range{0, width} : range(width);
        std::vector<float> expected;
        for (std::int64_t row = rows.begin; row < rows.end; ++row)
          for (std::int64_t column = columns.begin; column < columns.end; ++column)
            expected.push_back(whole[static_cast<std::size_t>(row * width + column)]);
        ASSERT_EQ(read_floats(*checkpoint, info, rows, columns), expected)
            << info.name << " as " << info.stored << " rows " << rows.begin << ".." << rows.end
            << " columns " << columns.begin << ".." << columns.end;
      }
    }
  }
}

// Every rank reads from the same checkpoint at once.
TEST_P(GoldenModel, ReadsFromManyThreads) {
  const auto checkpoint = open_checkpoint(golden(GetParam()) / "model.gguf.bin");
  std::vector<std::vector<float>> expected;
  for (const TensorInfo& info : checkpoint->tensors())
    expected.push_back(read_floats(*checkpoint, info));
  std::vector<int> equal(4, 0);
  std::vector<std::thread> threads;
  for (int& mine : equal)
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < expected.size(); ++i)
        mine += read_floats(*checkpoint, checkpoint->tensors()[i]) == expected[i];
    });
  for (auto& thread : threads) thread.join();
  for (const int mine : equal) EXPECT_EQ(mine, static_cast<int>(expected.size()));
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenModel, testing::Values("llama", "qwen2", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Checkpoint, TensorsAreInModelOrder) {
  TempDir directory;
  test::write_tiny_model(directory);
  const auto checkpoint = open_checkpoint(directory.path());
  const auto expected = expected_tensors(checkpoint->config());
  ASSERT_EQ(checkpoint->tensors().size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const TensorInfo& info = checkpoint->tensors()[i];
    EXPECT_EQ(info.name, expected[i].name);
    EXPECT_EQ(info.shape, expected[i].shape);
    EXPECT_EQ(info.dtype, DType::kFloat32);
    EXPECT_EQ(info.stored, "float32");
    EXPECT_EQ(info.stored_bytes, static_cast<std::uint64_t>(info.shape.numel()) * 4);
    EXPECT_EQ(checkpoint->file_of(info), (directory.path() / "model.safetensors").string());
    EXPECT_EQ(read_floats(*checkpoint, info)[0], 1000.0f * static_cast<float>(i));
  }
  EXPECT_EQ(checkpoint->find("model.none.weight"), nullptr);
}

TEST(Checkpoint, DeliversSixteenBitWeightsAsTheyAre) {
  for (const char* dtype : {"BF16", "F16"}) {
    TempDir directory;
    nlohmann::json config = test::tiny_config_json();
    config.erase("torch_dtype");
    directory.write("config.json", config.dump());
    test::SafetensorsFile file;
    std::uint16_t next = 0;
    for (const auto& tensor : expected_tensors(config_from_json(config, "tiny"))) {
      std::string bytes;
      for (std::int64_t i = 0; i < tensor.shape.numel(); ++i) bytes += test::bytes_of(next++);
      file.add(tensor.name, test::sizes_of(tensor.shape), dtype, bytes);
    }
    directory.write("other-name.safetensors", file.bytes());
    const auto checkpoint = open_checkpoint(directory.path());
    const DType expected = dtype == std::string("F16") ? DType::kFloat16 : DType::kBFloat16;
    EXPECT_EQ(checkpoint->config().dtype, expected);  // the config does not say: the weights do
    std::uint16_t first = 0;
    for (const TensorInfo& info : checkpoint->tensors()) {
      EXPECT_EQ(info.dtype, expected);
      std::vector<std::uint16_t> bits(static_cast<std::size_t>(info.shape.numel()));
      checkpoint->read(info, {0, info.shape[0]}, {0, info.shape.rank() == 1 ? 1 : info.shape[1]},
                       bits.data());
      for (const std::uint16_t each : bits) ASSERT_EQ(each, first++);
    }
  }
}

// Splits the tiny model's tensors over two files in turn.
void write_sharded(const TempDir& directory,
                   const std::function<void(nlohmann::json& index)>& change = {}) {
  directory.write("config.json", test::tiny_config_json().dump());
  const test::SafetensorsFile whole = test::tiny_safetensors();
  test::SafetensorsFile shards[2];
  nlohmann::json index{{"metadata", {{"total_size", whole.data.size()}}}};
  int turn = 0;
  for (const auto& [name, entry] : whole.header.items()) {
    if (name == "__metadata__") continue;
    const std::size_t begin = entry["data_offsets"][0];
    const std::size_t end = entry["data_offsets"][1];
    shards[turn % 2].add(name, entry["shape"], "F32",
                         std::string_view(whole.data).substr(begin, end - begin));
    index["weight_map"][name] =
        turn % 2 ? "model-00002-of-00002.safetensors" : "model-00001-of-00002.safetensors";
    ++turn;
  }
  directory.write("model-00001-of-00002.safetensors", shards[0].bytes());
  directory.write("model-00002-of-00002.safetensors", shards[1].bytes());
  if (change) change(index);
  directory.write("model.safetensors.index.json", index.dump());
}

TEST(Checkpoint, ShardedEqualsSingleFile) {
  TempDir single_directory, sharded_directory;
  test::write_tiny_model(single_directory);
  write_sharded(sharded_directory);
  const auto single = open_checkpoint(single_directory.path());
  const auto sharded = open_checkpoint(sharded_directory.path());
  ASSERT_EQ(single->tensors().size(), sharded->tensors().size());
  std::set<std::string> files;
  for (const TensorInfo& info : single->tensors()) {
    EXPECT_EQ(read_floats(*single, info), read_floats(*sharded, *sharded->find(info.name)));
    files.insert(sharded->file_of(info));
  }
  EXPECT_EQ(files.size(), 2u);
}

TEST(Checkpoint, BadIndexesAreNamed) {
  const std::string norm = "model.norm.weight";
  struct Case {
    std::function<void(nlohmann::json&)> change;
    std::vector<std::string> expected;
  };
  const auto place = [&](const nlohmann::json& value) {
    return [=](nlohmann::json& index) { index["weight_map"][norm] = value; };
  };
  const std::string other = "model-00001-of-00002.safetensors";
  const std::vector<Case> cases{
      {place("../model-00001-of-00002.safetensors"), {norm, "../model", "beside the index"}},
      {place("/etc/passwd"), {norm, "/etc/passwd", "beside the index"}},
      {place("sub\\x.safetensors"), {norm, "beside the index"}},
      {place("..safetensors"), {"..safetensors", "No such file"}},
      {place(std::string("a\0.safetensors", 14)), {norm, "beside the index"}},
      {place("config.json"), {norm, "beside the index"}},
      {place(""), {norm, "beside the index"}},
      {place(3), {norm, "file name is expected"}},
      {place("absent.safetensors"), {"absent.safetensors", "No such file"}},
      {[&](auto& index) { index["weight_map"].erase(norm); },
       {norm, "is not in model.safetensors."}},
      {[&](auto& index) { index["weight_map"]["model.extra"] = other; },
       {"model.extra", other, "index.json puts it"}},
      {[&](auto& index) {
         auto& file = index["weight_map"][norm];
         file = file == other ? "model-00002-of-00002.safetensors" : other;
       },
       {norm, "index.json puts it"}},
      {[](auto& index) { index["weight_map"] = 3; }, {"weight_map"}},
      {[](auto& index) { index.erase("weight_map"); }, {"weight_map"}},
      {[](auto& index) { index = nlohmann::json::array(); }, {"weight_map"}},
      {[](auto& index) { index["weight_map"] = nlohmann::json::object(); }, {"is missing"}},
  };
  for (const Case& bad : cases) {
    TempDir directory;
    write_sharded(directory, bad.change);
    const std::string error = error_of([&] { open_checkpoint(directory.path()); });
    EXPECT_THAT(error, HasSubstr(directory.path().string()));
    for (const std::string& part : bad.expected) EXPECT_THAT(error, HasSubstr(part));
  }
}

TEST(Checkpoint, ATensorInTwoShardsIsNamed) {
  TempDir directory;
  write_sharded(directory);
  directory.write("model-00002-of-00002.safetensors", test::tiny_safetensors().bytes());
  EXPECT_THAT(error_of([&] { open_checkpoint(directory.path()); }),
              AllOf(HasSubstr("model-00002-of-00002.safetensors"), HasSubstr("is in "),
                    HasSubstr("already")));
}

TEST(Checkpoint, KnownHarmlessTensorsAreIgnored) {
  TempDir directory;
  nlohmann::json config = test::tiny_config_json();
  config["tie_word_embeddings"] = true;
  directory.write("config.json", config.dump());
  test::SafetensorsFile file = test::tiny_safetensors();  // has lm_head.weight
  file.add("model.layers.0.self_attn.rotary_emb.inv_freq", {2}, "F32", "12345678");
  directory.write("model.safetensors", file.bytes());
  const auto checkpoint = open_checkpoint(directory.path());
  EXPECT_EQ(checkpoint->find("lm_head.weight"), nullptr);
  EXPECT_EQ(checkpoint->tensors().size(), expected_tensors(checkpoint->config()).size());
}

TEST(Checkpoint, ReadsOutsideOfATensorAreRejected) {
  TempDir directory;
  test::write_tiny_model(directory);
  const auto safetensors = open_checkpoint(directory.path());
  const auto gguf = open_checkpoint(directory.write("m.gguf", test::tiny_gguf().bytes()));
  const auto dummy = open_dummy_checkpoint(directory.path());
  std::vector<float> out(1000);
  for (const Checkpoint* checkpoint : {safetensors.get(), gguf.get(), dummy.get()}) {
    const TensorInfo& info = *checkpoint->find("model.embed_tokens.weight");
    ASSERT_EQ(to_string(info.shape), "[5, 8]");
    const std::vector<std::pair<Range, Range>> bad{
        {{0, 6}, {0, 8}},  {{-1, 2}, {0, 8}}, {{3, 2}, {0, 8}},        {{0, 5}, {0, 9}},
        {{0, 5}, {-1, 8}}, {{6, 6}, {0, 8}},  {{0, INT64_MAX}, {0, 8}}};
    for (const auto& [rows, columns] : bad)
      EXPECT_THAT(
          error_of([&, r = rows, c = columns] { checkpoint->read(info, r, c, out.data()); }),
          AllOf(HasSubstr("model.embed_tokens.weight"), HasSubstr("[5, 8]")));
    TensorInfo other = info;
    other.name = "other";
    EXPECT_THAT(error_of([&] {
                  checkpoint->read(other, {0, 1}, {0, 1}, out.data());
                }),
                HasSubstr("other"));
  }
}

TEST(Checkpoint, AFileThatShrinksIsNamedWithItsTensor) {
  TempDir directory;
  test::write_tiny_model(directory);
  const auto gguf_path = directory.write("m.gguf", test::tiny_gguf().bytes());
  const auto safetensors = open_checkpoint(directory.path());
  const auto gguf = open_checkpoint(gguf_path);
  fs::resize_file(directory.path() / "model.safetensors", 100);
  fs::resize_file(gguf_path, 100);
  std::vector<float> out(1000);
  for (const Checkpoint* checkpoint : {safetensors.get(), gguf.get()}) {
    const TensorInfo& info = *checkpoint->find("model.layers.0.self_attn.q_proj.weight");
    EXPECT_THAT(error_of([&] {
                  checkpoint->read(info, {0, 1}, {0, 8}, out.data());
                }),
                AllOf(HasSubstr(checkpoint->file_of(info)), HasSubstr("truncated"),
                      HasSubstr("q_proj.weight")));
  }
}

TEST(OpenCheckpoint, SaysWhatIsWrongWithAPath) {
  TempDir directory;
  const auto error = [&](const std::string& name) {
    return error_of([&] { open_checkpoint(directory.path() / name); });
  };
  EXPECT_THAT(error("none"), AllOf(HasSubstr("/none"), HasSubstr("no such file")));
  fs::create_directory(directory.path() / "empty");
  EXPECT_THAT(error("empty"), AllOf(HasSubstr("/empty"), HasSubstr("no config.json")));

  fs::create_directory(directory.path() / "pickled");
  directory.write("pickled/config.json", test::tiny_config_json().dump());
  EXPECT_THAT(error("pickled"), HasSubstr("no *.safetensors file"));
  directory.write("pickled/pytorch_model.bin", "PK");
  EXPECT_THAT(error("pickled"), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("PyTorch")));
  EXPECT_THAT(error("pickled/pytorch_model.bin"), HasSubstr("PyTorch"));

  fs::create_directory(directory.path() / "two");
  directory.write("two/config.json", test::tiny_config_json().dump());
  directory.write("two/a.safetensors", "");
  directory.write("two/b.safetensors", "");
  EXPECT_THAT(error("two"), HasSubstr("2 *.safetensors files"));
  EXPECT_THAT(error("two/a.safetensors"), HasSubstr("give the directory"));
  EXPECT_THAT(error("two/config.json"), HasSubstr("give the directory"));

  const std::string pointer = "version https://git-lfs.invalid/spec/v1\noid sha256:0\nsize 9\n";
  directory.write("lfs.gguf", pointer);
  EXPECT_THAT(error("lfs.gguf"), AllOf(HasSubstr("lfs.gguf"), HasSubstr("Git LFS pointer")));
  directory.write("lfs.bin", pointer);
  EXPECT_THAT(error("lfs.bin"), HasSubstr("Git LFS pointer"));
  fs::create_directory(directory.path() / "lfs");
  directory.write("lfs/config.json", test::tiny_config_json().dump());
  directory.write("lfs/model.safetensors", pointer);
  EXPECT_THAT(error("lfs"), AllOf(HasSubstr("model.safetensors"), HasSubstr("Git LFS pointer")));

  directory.write("x.txt", "hello");
  EXPECT_THAT(error("x.txt"), AllOf(HasSubstr("x.txt"), HasSubstr("\"hell\"")));
  directory.write("nothing", "");
  EXPECT_THAT(error("nothing"), HasSubstr("neither"));
  directory.write("wrong.gguf", "hello");
  EXPECT_THAT(error("wrong.gguf"), HasSubstr("not a GGUF file"));
}

TEST(DemoModel, HeaderAndOneRow) {
  const fs::path path =
      fs::path(LOCKSTEP_SOURCE_DIR) / ".cache" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!fs::exists(path)) GTEST_SKIP() << path << " is not there; scripts/demo-model.sh fetches it";
  const auto checkpoint = open_checkpoint(path);
  const Config& config = checkpoint->config();
  EXPECT_EQ(config.vocab_size, 49152);
  EXPECT_EQ(config.hidden_size, 576);
  EXPECT_EQ(config.intermediate_size, 1536);
  EXPECT_EQ(config.num_hidden_layers, 30);
  EXPECT_EQ(config.num_attention_heads, 9);
  EXPECT_EQ(config.num_key_value_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.max_position_embeddings, 8192);
  EXPECT_EQ(config.rms_norm_eps, 1e-5f);
  EXPECT_EQ(config.rope_theta, 100000.0f);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));
  EXPECT_EQ(checkpoint->tensors().size(), 272u);
  EXPECT_EQ(checkpoint->find("model.embed_tokens.weight")->stored, "Q8_0");
  EXPECT_EQ(checkpoint->find("model.layers.29.mlp.down_proj.weight")->stored, "Q4_1");
  const TensorInfo& embedding = *checkpoint->find("model.embed_tokens.weight");
  EXPECT_EQ(read_floats(*checkpoint, embedding, {49151, 49152}, {0, 576}).size(), 576u);
}

}  // namespace
}  // namespace lockstep
