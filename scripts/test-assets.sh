#!/usr/bin/env bash
# Fetches what the tests need and the tree does not carry, unless it is there: the demo model,
# Mistral's real SentencePiece models, Python's huggingface_hub, and the chat templates of many
# models. Prints the folder that they are in.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/demo-model.sh >/dev/null
readonly v1=mistral-v1/tokenizer.model v3=mistral-v3/tokenizer.model
[[ -f .cache/$v1 && -f .cache/$v3 ]] || scripts/fetch.sh mistral-common==1.13.1 \
  98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af \
  mistral_common/data/tokenizer.model.v1 \
  dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055 "$v1" \
  mistral_common/data/mistral_instruct_tokenizer_240323.model.v3 \
  9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33 "$v3"
readonly hub=huggingface_hub-0.36.0-py3-none-any.whl
readonly hub_sha256=7bcc9ad17d5b3f07b57c78e79d527102d08313caa278a641993acddcb894548d
[[ -f .cache/$hub ]] ||
  scripts/fetch.sh huggingface_hub==0.36.0 "$hub_sha256" . "$hub_sha256" "$hub"
# Real chat templates. Their authors' licenses do not let them into the tree.
readonly templates=.cache/chat-templates
if [[ ! -f $templates/complete ]]; then
  scripts/fetch.sh trl==1.16.0 c4726e139dd40e1a41661511c639c8a68416782b2e3e8c0befebd77bb7ba0396 \
    trl/chat_templates/cohere.jinja \
    90c33aee14aa2a226127516d48ee9184c9b90745d4a04c484621ec2e82fb712c chat-templates/trl_cohere.jinja \
    trl/chat_templates/cohere2.jinja \
    2147c474f41b522b7296f74692b9f31e45f49a31465960576a9d321339c5915a chat-templates/trl_cohere2.jinja \
    trl/chat_templates/deepseek_r1_distill.jinja \
    56a1447ad31926fdc21fb07e56e5642bd9c850c4f52d8c8af7bbe5f079a84f5f chat-templates/trl_deepseek_r1_distill.jinja \
    trl/chat_templates/deepseekv3.jinja \
    563b1ce7d61d50a9b4c7439a912a1116f095b712df5b5e4d3e1116049874eb64 chat-templates/trl_deepseekv3.jinja \
    trl/chat_templates/gemma.jinja \
    ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6 chat-templates/trl_gemma.jinja \
    trl/chat_templates/gemma3.jinja \
    7de1c58e208eda46e9c7f86397df37ec49883aeece39fb961e0a6b24088dd3c4 chat-templates/trl_gemma3.jinja \
    trl/chat_templates/gemma4.jinja \
    33204f1acb5bd0002713e16a593847f24ceeafe711ed88bda2a352dc996a3373 chat-templates/trl_gemma4.jinja \
    trl/chat_templates/glm4moe.jinja \
    44f815868bf02fa458dd2f741a338046f4bf45f398eb6d067766726b9d96cce3 chat-templates/trl_glm4moe.jinja \
    trl/chat_templates/gptoss.jinja \
    a4c9919cbbd4acdd51ccffe22da049264b1b73e59055fa58811a99efbd7c8146 chat-templates/trl_gptoss.jinja \
    trl/chat_templates/lfm2.jinja \
    cef187400d62a59507aab3a642ea9a8d2a2ef263562bc3430560e116945273cf chat-templates/trl_lfm2.jinja \
    trl/chat_templates/llama3.jinja \
    ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122 chat-templates/trl_llama3.jinja \
    trl/chat_templates/llama3_1.jinja \
    e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65 chat-templates/trl_llama3_1.jinja \
    trl/chat_templates/llama3_2.jinja \
    5816fce10444e03c2e9ee1ef8a4a1ea61ae7e69e438613f3b17b69d0426223a4 chat-templates/trl_llama3_2.jinja \
    trl/chat_templates/nemotron_3_nano.jinja \
    ab7813c3abdd9cb655905a410728b26c7884eca45ddfab8d9f931553485a7862 chat-templates/trl_nemotron_3_nano.jinja \
    trl/chat_templates/phi3.jinja \
    dcaee66df77bfbb789ec541fe713218da30225a526f1db97138fc39ee6dc56aa chat-templates/trl_phi3.jinja \
    trl/chat_templates/phi3_5.jinja \
    78d976a442bcde2f0be15aafbb8e3050e1104f86732266f68403251b89982a90 chat-templates/trl_phi3_5.jinja \
    trl/chat_templates/qwen2_5.jinja \
    cd8e9439f0570856fd70470bf8889ebd8b5d1107207f67a5efb46e342330527f chat-templates/trl_qwen2_5.jinja \
    trl/chat_templates/qwen3.jinja \
    a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8 chat-templates/trl_qwen3.jinja \
    trl/chat_templates/qwen3_5_think.jinja \
    a4aee8afcf2e0711942cf848899be66016f8d14a889ff9ede07bca099c28f715 chat-templates/trl_qwen3_5_think.jinja \
    trl/chat_templates/qwen3_instruct_2507.jinja \
    64f85b198065d0fba2a81f37e10ed68161ce2c19a754c7100e67e0ca2ee9c326 chat-templates/trl_qwen3_instruct_2507.jinja \
    trl/chat_templates/qwen3_vl.jinja \
    3636d0f0bd6bef02654cdffdc447b79cb2cef8ab02cc75267345946291a489e4 chat-templates/trl_qwen3_vl.jinja \
    trl/chat_templates/qwen3_training.jinja \
    1d944ff8f268b611abb296cdd24d0f51981eef1c8647ac321c3a0258f61eb6c9 chat-templates/trl_qwen3_training.jinja
  scripts/fetch.sh xinference==0.16.3 \
    e47e3c93322ea0be83baa73558926b88457eca251562ebad660e928b11fad9d2 \
    xinference/model/llm/llm_family.json \
    f699df65b16fed79ec896eaf47783c56970885d8b8c234994827112e7979cee7 \
    chat-templates/llm_family.json
  scripts/fetch.sh alignment-handbook==0.3.0 \
    a6b0596e32f4302535bed6e29c0c3d8aa29609f625cf4cb549b4007a42712669 \
    alignment/data.py dfd99b8e612ad27dce71aa929b8005d3f636508e41f534165f7e889547503c7e \
    chat-templates/data.py
  scripts/chat-templates.py $templates $templates/llm_family.json $templates/data.py
  touch $templates/complete
fi
echo "$PWD/.cache"
