// What the parser makes of a template. Immutable once parsed, and then thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "jinja/value.h"

namespace lockstep::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Body = std::vector<Statement>;

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr list;  // f(*list); may be null
  ExpressionPtr dict;  // f(**dict); may be null
};

struct Expression {
  enum class Kind : std::uint8_t {
    kConstant,            // value
    kName,                // text
    kTuple,               // operands
    kList,                // operands
    kDict,                // operands: key, value, key, value...
    kCondition,           // operands: condition, then, else (may be null)
    kOr,                  // two operands
    kAnd,                 // two operands
    kNot,                 // operand
    kCompare,             // operands, with operators between them
    kConcat,              // operands
    kBinary,              // two operands, and the operator in text
    kUnary,               // operand, and "+" or "-" in text
    kAttribute,           // operand.text
    kItem,                // operand[operand]
    kSlice,               // operands: start, stop, step; each may be null
    kCall,                // operand(arguments)
    kFilter,              // operand | text(arguments); null for the body of a filter block
    kTest,                // operand is text(arguments)
    kNamespaceAttribute,  // a target of assignment: operators[0].text
  };
  Kind kind = Kind::kConstant;
  int line = 0;
  int depth = 1;  // levels of expressions in it
  std::string text = {};
  Value value = {};
  std::vector<ExpressionPtr> operands = {};
  std::vector<std::string> operators = {};
  std::unique_ptr<CallArguments> arguments = {};
};

struct Parameter {
  std::string name;
  ExpressionPtr default_value;  // may be null
};

struct Statement {
  enum class Kind : std::uint8_t {
    kData,         // text
    kPrint,        // expression
    kIf,           // if expression: body, or else_body
    kFor,          // for target in expression if condition: body, or else_body
    kSet,          // target = expression
    kSetBlock,     // target = body | expression (filters; may be null)
    kMacro,        // macro text(parameters): body
    kCallBlock,    // call(parameters) expression: body
    kFilterBlock,  // body | expression
    kWith,         // targets = values: body
    kGeneration,   // body
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kData;
  int line = 0;
  std::string text = {};
  ExpressionPtr target = {};
  ExpressionPtr expression = {};
  ExpressionPtr condition = {};
  std::vector<Parameter> parameters = {};
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments = {};  // of kWith
  bool uses_varargs = false;                                              // of macros
  bool uses_kwargs = false;
  Body body = {};
  Body else_body = {};
};

}  // namespace lockstep::jinja
