// The values that templates compute with: Python's, as far as Jinja2 templates see them. Immutable
// but for Object; copies share. No thread-safety: a rendering keeps to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "core/check.h"
#include "text/marked_text.h"

namespace lockstep::jinja {

class Interpreter;
class Object;
class Value;
struct Dict;
struct Sequence;

// Python's integers know no limit. These are wide enough for all that JSON files hold.
using Integer = __int128;

// What a rendering may still spend. Whatever takes time or memory in proportion to its input is
// paid for before it is done.
class Budget {
 public:
  explicit Budget(std::uint64_t steps) : left_(steps) {}
  void spend(std::uint64_t steps = 1) {
    check(steps <= left_, "the template takes too many steps");
    left_ -= steps;
  }
  // Before making or looking through this many bytes of text.
  void spend_bytes(std::uint64_t bytes) { spend(1 + bytes / 8); }
  // Before making this many values.
  void spend_values(std::uint64_t values) { spend(4 * values); }

 private:
  std::uint64_t left_;
};

// What a look-up yields that finds nothing; printing it prints nothing, and most other uses throw
// its message.
struct Undefined {
  std::shared_ptr<const std::string> message;
};
struct None {};

class Value {
 public:
  using Data = std::variant<Undefined, None, bool, Integer, double,
                            std::shared_ptr<const MarkedText>, std::shared_ptr<const Sequence>,
                            std::shared_ptr<const Dict>, std::shared_ptr<Object>>;

  Value() = default;                           // undefined
  Value(None) : data_(None()) {}               // NOLINT: implicit on purpose, as all here
  Value(bool value) : data_(value) {}          // NOLINT
  Value(int value) : data_(Integer{value}) {}  // NOLINT
  Value(Integer value) : data_(value) {}       // NOLINT
  Value(double value) : data_(value) {}        // NOLINT
  Value(MarkedText text)                       // NOLINT
      : data_(std::make_shared<const MarkedText>(std::move(text))) {}
  Value(Sequence sequence);                                            // NOLINT
  Value(Dict dict);                                                    // NOLINT
  Value(std::shared_ptr<Object> object) : data_(std::move(object)) {}  // NOLINT
  Value(const char*) = delete;                                         // would be a bool

  static Value undefined(std::string message);
  // Text that the template's author or this program wrote.
  static Value trusted(std::string_view text) { return MarkedText(text, true); }

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  // Python's bool is an int.
  bool is_integer() const { return is_bool() || std::holds_alternative<Integer>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_integer() || is_float(); }

  // Null unless it is one.
  const MarkedText* text() const { return get<MarkedText>(); }
  const Sequence* sequence() const { return get<Sequence>(); }
  const Dict* dict() const { return get<Dict>(); }
  std::shared_ptr<Object> object() const {
    const auto* pointer = std::get_if<std::shared_ptr<Object>>(&data_);
    return pointer ? *pointer : nullptr;
  }

  bool boolean() const { return std::get<bool>(data_); }
  Integer integer() const;  // of is_integer()
  double number() const;    // of is_number()
  // Throws an undefined value's message.
  void require_defined() const;
  // "str", "int", "NoneType": Python's name of the type.
  std::string type_name() const;
  bool truth() const;
  // How deeply lists and dictionaries are nested in it.
  int depth() const;

 private:
  template <typename T>
  const T* get() const {
    const auto* pointer = std::get_if<std::shared_ptr<const T>>(&data_);
    return pointer ? pointer->get() : nullptr;
  }
  Data data_;
};

struct Sequence {
  enum class Kind : std::uint8_t { kList, kTuple, kRange, kKeys, kValues, kItems, kGenerator };

  // Throws Error when it is nested too deeply.
  explicit Sequence(std::vector<Value> values, Kind kind = Kind::kList);

  // Whether len() and subscripts work, as they do for lists, tuples and ranges.
  bool is_indexable() const { return kind <= Kind::kRange; }

  std::vector<Value> values;
  Kind kind;
  int depth = 1;
  mutable bool consumed = false;  // a generator can be walked through once
};

// In order of insertion.
struct Dict {
  // A key that is there keeps its place and gets the new value. Throws Error for a key that Python
  // could not hash, and when it is nested too deeply.
  void set(Value key, Value value, Budget& budget);
  const Value* find(const Value& key, Budget& budget) const;
  const Value* find(std::string_view key) const;

  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;

 private:
  std::unordered_map<std::string, std::size_t> index_;  // of the keys that are strings
  std::size_t other_keys_ = 0;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Functions, methods, macros, namespaces, the `loop` of a loop.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string type_name() const = 0;
  virtual Value attribute(std::string_view name);
  virtual bool callable() const { return false; }
  virtual Value call(Interpreter& interpreter, Arguments& arguments);
  // Ends the life of what it refers to, so that nothing refers to itself for ever.
  virtual void clear() {}
  // How deeply values are nested in it, for one that is not kept until the rendering's end.
  int depth() const { return depth_; }

 protected:
  void set_depth(int depth);

 private:
  int depth_ = 0;
};

// Python's ==, and < between values that it can order (others throw Error).
bool equals(const Value& a, const Value& b, Budget& budget);
bool less(const Value& a, const Value& b, Budget& budget);
// `item in container`.
bool contains(const Value& container, const Value& item, Budget& budget);

// What iterating yields: elements, characters, keys, nothing for an undefined value. Throws Error
// for what Python cannot iterate over.
std::vector<Value> iterate(const Value& value, Budget& budget);
// len().
Integer length_of(const Value& value, Budget& budget);

}  // namespace lockstep::jinja
