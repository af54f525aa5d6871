#include "jinja/value.h"

#include <algorithm>

#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

// Far beyond any real input; keeps recursion over values shallow.
constexpr int kMaxValueDepth = 100;

int checked_depth(int depth) {
  check(depth <= kMaxValueDepth, "lists and dictionaries are nested deeper than {} levels",
        kMaxValueDepth);
  return depth;
}

bool sequences_equal(const Sequence& a, const Sequence& b, Budget& budget) {
  if (a.kind != b.kind || a.values.size() != b.values.size()) return false;
  for (std::size_t i = 0; i < a.values.size(); ++i)
    if (!equals(a.values[i], b.values[i], budget)) return false;
  return true;
}

bool dicts_equal(const Dict& a, const Dict& b, Budget& budget) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.find(key, budget);
    if (!other || !equals(value, *other, budget)) return false;
  }
  return true;
}

}  // namespace

Value::Value(Sequence sequence) : data_(std::make_shared<const Sequence>(std::move(sequence))) {}
Value::Value(Dict dict) : data_(std::make_shared<const Dict>(std::move(dict))) {}

Value Value::undefined(std::string message) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(message))};
  return value;
}

Integer Value::integer() const { return is_bool() ? Integer{boolean()} : std::get<Integer>(data_); }

double Value::number() const {
  return is_float() ? std::get<double>(data_) : static_cast<double>(integer());
}

void Value::require_defined() const {
  const auto* undefined = std::get_if<Undefined>(&data_);
  if (undefined) fail("{}", undefined->message ? *undefined->message : "a value is undefined");
}

std::string Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_integer()) return "int";
  if (is_float()) return "float";
  if (text()) return "str";
  if (dict()) return "dict";
  if (const Sequence* sequence = this->sequence()) {
    switch (sequence->kind) {
      case Sequence::Kind::kList:
        return "list";
      case Sequence::Kind::kTuple:
        return "tuple";
      case Sequence::Kind::kRange:
        return "range";
      case Sequence::Kind::kKeys:
        return "dict_keys";
      case Sequence::Kind::kValues:
        return "dict_values";
      case Sequence::Kind::kItems:
        return "dict_items";
      case Sequence::Kind::kGenerator:
        return "generator";
    }
  }
  return object()->type_name();
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_bool()) return boolean();
  if (is_integer()) return integer() != 0;
  if (is_float()) return number() != 0;
  if (const MarkedText* text = this->text()) return !text->empty();
  if (const Dict* dict = this->dict()) return !dict->entries.empty();
  if (const Sequence* sequence = this->sequence())
    return sequence->kind == Sequence::Kind::kGenerator || !sequence->values.empty();
  return true;
}

int Value::depth() const {
  if (const Sequence* sequence = this->sequence()) return sequence->depth;
  if (const Dict* dict = this->dict()) return dict->depth;
  if (const auto* object = std::get_if<std::shared_ptr<Object>>(&data_)) return (*object)->depth();
  return 0;
}

Sequence::Sequence(std::vector<Value> values, Kind kind) : values(std::move(values)), kind(kind) {
  for (const Value& value : this->values) depth = std::max(depth, 1 + value.depth());
  checked_depth(depth);
}

void Dict::set(Value key, Value value, Budget& budget) {
  check(!key.dict() && !(key.sequence() && key.sequence()->kind == Sequence::Kind::kList),
        "unhashable type: '{}'", key.type_name());
  depth = checked_depth(std::max(depth, 1 + std::max(key.depth(), value.depth())));
  if (const Value* found = find(key, budget)) {
    const_cast<Value&>(*found) = std::move(value);
    return;
  }
  if (const MarkedText* text = key.text())
    index_.emplace(text->bytes(), entries.size());
  else
    ++other_keys_;
  entries.emplace_back(std::move(key), std::move(value));
}

const Value* Dict::find(std::string_view key) const {
  const auto found = index_.find(std::string(key));
  return found == index_.end() ? nullptr : &entries[found->second].second;
}

const Value* Dict::find(const Value& key, Budget& budget) const {
  if (const MarkedText* text = key.text()) return find(text->bytes());
  if (other_keys_ == 0) return nullptr;
  for (const auto& [other, value] : entries)
    if (equals(other, key, budget)) return &value;
  return nullptr;
}

void Object::set_depth(int depth) { depth_ = checked_depth(depth); }

Value Object::attribute(std::string_view name) {
  return Value::undefined(
      fmt::format("'{} object' has no attribute {}", type_name(), quoted(name)));
}

Value Object::call(Interpreter&, Arguments&) { fail("'{}' object is not callable", type_name()); }

bool equals(const Value& a, const Value& b, Budget& budget) {
  budget.spend();
  if (a.is_integer() && b.is_integer()) return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.is_undefined() || a.is_none()) return a.is_undefined() ? b.is_undefined() : b.is_none();
  if (a.text() && b.text()) {
    budget.spend_bytes(std::min(a.text()->size(), b.text()->size()));
    return a.text()->bytes() == b.text()->bytes();
  }
  if (a.sequence() && b.sequence()) return sequences_equal(*a.sequence(), *b.sequence(), budget);
  if (a.dict() && b.dict()) return dicts_equal(*a.dict(), *b.dict(), budget);
  return a.object() && a.object() == b.object();
}

bool less(const Value& a, const Value& b, Budget& budget) {
  budget.spend();
  a.require_defined();
  b.require_defined();
  if (a.is_integer() && b.is_integer()) return a.integer() < b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  // Bytes of UTF-8 are ordered as code points are.
  if (a.text() && b.text()) {
    budget.spend_bytes(std::min(a.text()->size(), b.text()->size()));
    return a.text()->bytes() < b.text()->bytes();
  }
  const Sequence* left = a.sequence();
  const Sequence* right = b.sequence();
  check(left && right && left->kind == right->kind && left->kind <= Sequence::Kind::kTuple,
        "'<' not supported between instances of '{}' and '{}'", a.type_name(), b.type_name());
  for (std::size_t i = 0; i < std::min(left->values.size(), right->values.size()); ++i)
    if (!equals(left->values[i], right->values[i], budget))
      return less(left->values[i], right->values[i], budget);
  return left->values.size() < right->values.size();
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  if (const MarkedText* text = container.text()) {
    item.require_defined();
    check(item.text() != nullptr, "'in <string>' requires string as left operand, not {}",
          item.type_name());
    budget.spend_bytes(text->size());
    return text->bytes().find(item.text()->bytes()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) {
    check(!item.dict() && !(item.sequence() && item.sequence()->kind == Sequence::Kind::kList),
          "unhashable type: '{}'", item.type_name());
    return dict->find(item, budget) != nullptr;
  }
  const std::vector<Value> values = iterate(container, budget);
  return std::any_of(values.begin(), values.end(),
                     [&](const Value& value) { return equals(value, item, budget); });
}

std::vector<Value> iterate(const Value& value, Budget& budget) {
  std::vector<Value> values;
  if (value.is_undefined()) return values;
  if (const MarkedText* text = value.text()) {
    budget.spend_values(text->size());
    for (std::size_t i = 0; i < text->size();) {
      const std::size_t end = next_character(text->bytes(), i);
      values.emplace_back(text->slice(i, end));
      i = end;
    }
  } else if (const Sequence* sequence = value.sequence()) {
    if (sequence->consumed) return values;
    sequence->consumed = sequence->kind == Sequence::Kind::kGenerator;
    budget.spend(sequence->values.size());
    values = sequence->values;
  } else if (const Dict* dict = value.dict()) {
    budget.spend(dict->entries.size());
    for (const auto& [key, unused] : dict->entries) values.push_back(key);
  } else {
    fail("'{}' object is not iterable", value.type_name());
  }
  return values;
}

Integer length_of(const Value& value, Budget& budget) {
  if (value.is_undefined()) return 0;
  if (const MarkedText* text = value.text()) {
    budget.spend_bytes(text->size());
    return static_cast<Integer>(character_count(text->bytes()));
  }
  if (const Dict* dict = value.dict()) return static_cast<Integer>(dict->entries.size());
  const Sequence* sequence = value.sequence();
  check(sequence && sequence->kind != Sequence::Kind::kGenerator,
        "object of type '{}' has no len()", value.type_name());
  return static_cast<Integer>(sequence->values.size());
}

}  // namespace lockstep::jinja
