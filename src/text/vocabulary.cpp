#include "text/vocabulary.h"

#include "checkpoint/file.h"
#include "core/check.h"

namespace lockstep {

Vocabulary::Vocabulary(std::string source, std::size_t num_entries)
    : source_(std::move(source)), max_size_(num_entries * 8 + 65536) {
  check(num_entries <= (std::size_t{1} << 24), "{}: {} tokens are more than the {} allowed",
        source_, num_entries, std::size_t{1} << 24);
  entries_.reserve(num_entries);
  ids_.reserve(num_entries);
}

// `if` and not check(): quoting a name costs more than adding it.
Vocabulary::Entry& Vocabulary::insert(std::string_view token, std::int32_t id) {
  if (id < 0 || static_cast<std::size_t>(id) >= max_size_)
    fail("{}: the id {} of the token {} is outside of [0, {})", source_, id, quote_name(token),
         max_size_);
  const auto [it, inserted] = ids_.try_emplace(std::string(token), id);
  if (it->second != id)
    fail("{}: the token {} has two ids, {} and {}", source_, quote_name(token), it->second, id);
  if (static_cast<std::size_t>(id) >= entries_.size())
    entries_.resize(static_cast<std::size_t>(id) + 1);
  Entry& entry = entries_[static_cast<std::size_t>(id)];
  if (entry.present && entry.token != token)
    fail("{}: the id {} has two tokens, {} and {}", source_, id, quote_name(entry.token),
         quote_name(token));
  entry.present = true;
  entry.token = token;
  return entry;
}

void Vocabulary::add(std::string_view token, std::int32_t id) {
  Entry& entry = insert(token, id);
  if (entry.encodable) fail("{}: the token {} stands twice", source_, quote_name(token));
  entry.encodable = true;
}

void Vocabulary::add_added(std::string_view token, std::int32_t id, bool special) {
  Entry& entry = insert(token, id);
  entry.added = true;
  entry.special = entry.special || special;
}

void Vocabulary::extend(std::int32_t size) {
  check(size >= 0 && static_cast<std::size_t>(size) <= max_size_,
        "{}: a vocabulary of {} ids is too large", source_, size);
  if (size > this->size()) entries_.resize(static_cast<std::size_t>(size));
}

const Vocabulary::Entry& Vocabulary::entry(std::int32_t id) const {
  check(id >= 0 && id < size(), "{}: the token id {} is outside of the vocabulary [0, {})", source_,
        id, size());
  return entries_[static_cast<std::size_t>(id)];
}

const std::string& Vocabulary::token(std::int32_t id) const { return entry(id).token; }
bool Vocabulary::is_special(std::int32_t id) const { return entry(id).special; }
bool Vocabulary::is_added(std::int32_t id) const { return entry(id).added; }

std::int32_t Vocabulary::find(std::string_view token) const {
  const auto it = ids_.find(token);
  return it == ids_.end() ? -1 : it->second;
}

std::int32_t Vocabulary::find_encodable(std::string_view token) const {
  const std::int32_t id = find(token);
  return id >= 0 && entries_[static_cast<std::size_t>(id)].encodable ? id : -1;
}

}  // namespace lockstep
