#include "hub/hash.h"

#include <openssl/evp.h>

#include <array>

#include "core/check.h"

namespace lockstep {

struct ContentHash::Impl {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free};
  bool git = false;
};

ContentHash::ContentHash(const std::string& expected, std::uint64_t size)
    : impl_(std::make_unique<Impl>()) {
  impl_->git = expected.size() == 40;
  const EVP_MD* kind = impl_->git ? EVP_sha1() : EVP_sha256();
  check(impl_->context && EVP_DigestInit_ex(impl_->context.get(), kind, nullptr) == 1,
        "libcrypto cannot compute {}", name());
  if (impl_->git) update(fmt::format("blob {}", size) + '\0');
}

ContentHash::~ContentHash() = default;
ContentHash::ContentHash(ContentHash&&) noexcept = default;
ContentHash& ContentHash::operator=(ContentHash&&) noexcept = default;

void ContentHash::update(std::string_view bytes) {
  check(EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size()) == 1,
        "libcrypto cannot compute {}", name());
}

std::string ContentHash::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  check(EVP_DigestFinal_ex(impl_->context.get(), digest.data(), &size) == 1,
        "libcrypto cannot compute {}", name());
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

const char* ContentHash::name() const { return impl_->git ? "git's sha1" : "sha256"; }

}  // namespace lockstep
