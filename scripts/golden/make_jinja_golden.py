#!/usr/bin/env python3
"""Writes tests/golden/jinja/cases.json: small templates, feature by feature, and what Jinja2 makes of
them.

    make_jinja_golden.py [--out DIR]

Reference: jinja2 3.1.6 (Python 3.11), set up as in jinja_reference.py. The file holds "versions",
"variables" (what every template sees) and "cases": lists of [template, output], where the output is
null if Jinja2 raises an error.
"""

import argparse
import json
import pathlib
import sys

import jinja2
from jinja_reference import render

VARIABLES = {
    "n": 7, "m": -3, "z": 0, "big": 18446744073709551615, "f": 2.5, "g": -0.125, "t": True,
    "u": False, "none_value": None, "s": "Hello, World", "e": "", "w": "  two  words \n", "q": "it's",
    "dq": 'say "hi"', "both": "'\"", "uni": "Größe ☃ 日本 🎉 é", "ctl": "a\tb\nc\\d\x00\x1f\x7f",
    "xs": [3, 1, 2], "ys": ["b", "A", "c", "a"], "mixed": [1, "1", 1.0, None, True, [2], {"k": "v"}],
    "empty": [], "d": {"b": 1, "a": [1, 2], "C": None, "items": "shadow"}, "ed": {},
    "users": [{"name": "Zoe", "age": 30, "tags": ["x"]}, {"name": "adam", "age": 25, "tags": []},
              {"name": "Bob", "age": 30, "admin": True, "address": {"city": "Rom"}}],
    "lines": "one\ntwo\r\n\nfour\n", "csv": "a,b,,c", "html": "<a href='x'>&\"</a>",
    "floats": [0.1, 1e16, 1e-5, 123456789.123, 1e22, 1.5e300, 100.0, 5e-324],
}

EXPRESSIONS = r"""
1 | 1.0 | 1_000 | 0x1F | 0b101 | 0o17 | 1e3 | 1.5e-7 | 'a' 'b' | "a\n\t\\\"\x41\u00e9\101\q" | none
None | true | True | false | nope | nope.x | nope['x'] | nope() | nope + 1 | 1 + nope | s + nope
nope ~ 'x' | nope == nope | nope == none | nope != 1 | nope < 1 | nope is defined | not nope
nope in xs | 'x' in nope | nope|length | nope|list | nope|string | nope|int | nope|tojson | -nope
nope|default('d') | e|default('d') | e|default('d', true) | none_value|default('d') | nope|d(5)|string
n + m | n - m | n * m | n / m | n // m | n % m | m // n | m % n | n ** 2 | n ** m | 2 ** 100 | 2 ** 0.5
n / z | n // z | n % z | f / 0 | f + n | f * 2 | f // 1 | -f // 1 | f % 1 | -f % 1 | g % f | f - g | f ** 2
1 + true | t + t | -t | +n | -n | --n | - n ** 2 | -2 ** 2 | 2 ** 3 ** 2 | -n|abs | (-n)|abs | -f|abs
7 % -3 | -7 % 3 | -7 // 3 | 7 // -3 | 7.5 % -2 | -7.5 // 2 | 0.1 + 0.2 | 1 / 3 | 10 / 5 | 2 / 3 * 3
big | big + 1 | big * 2 | big / 2 | -big | 1e16 | 1e15 | 123456789012345680.0 | 1e-4 | 0.00001 | 1e100
s + 'x' | s + 1 | 1 + s | s * 2 | 2 * s | s * 0 | s * -1 | xs + [4] | xs + (4,) | (1, 2) + (3,) | xs * 2
xs - 1 | s - 's' | [] + [] | 1 ~ 2 | s ~ n ~ none ~ t ~ xs | 'a' ~ 1 + 2 | 1 + 2 ~ 'a' | 'a' ~ 'b' * 2
1 == 1.0 | 1 == true | 0 == false | '1' == 1 | none == false | [1, 2] == [1, 2.0] | (1,) == [1] | {} == {}
{'a': 1, 'b': 2} == {'b': 2, 'a': 1} | 1 < 2 | 2 < 1 | 1 < 2 < 3 | 1 < 3 < 2 | 3 > 2 >= 2 != 1 | 'a' < 'b'
'a' < 1 | [1, 2] < [1, 3] | [1] < [1, 0] | none < 1 | true < 2 | 'B' < 'a' | '日' > 'a' | (1, 2) >= (1, 2)
1 in xs | 9 in xs | 9 not in xs | 'Hello' in s | 'x' not in s | 1 in s | 'a' in d | 'z' in d | none in mixed
1 in 5 | '' in s | [2] in mixed | [1] in d | 1 in (1, 2) | not 1 in xs | not (1 in xs) | 'a' in ['a'] in [[true]]
true and 0 | false or 'x' | 1 and 2 | 0 or none | not '' | not xs | not not xs | true and not false | 1 or nope.x
'yes' if t else 'no' | 'yes' if u else 'no' | 'yes' if u | ('yes' if u) is defined | 1 if 0 else 2 if 0 else 3
'a' if t is defined and not u else 'b' | 1 if xs else 2 if nope.x else 3 | (1 if t else 2) + 1
[] | [1, 'a', none, true, 2.5, [], {}, ()] | {} | {'a': 1, 2: 'b', none: [], 'k': 'it\'s'} | () | (1,) | (1, 2)
[1, 2,] | (1, 2,) | {'a': 1,} | {'a': 1, 'a': 2} | {1: 'x', true: 'y'} | {[1]: 2} | 1, 2 | 1, | [[[]]]
[q, dq, both, ctl, uni] | [e, w] | ['\u200b', '\xa0', '\u2028', '\ue000'] | [0.1, 1e16, 1e-05, 100.0] | floats
mixed | d | users | d.items() | d.keys() | d.values() | [d.keys()] | xs|string | d|string | (1, 'a')|string
s[0] | s[-1] | s[100] | s[1:3] | s[:3] | s[3:] | s[::-1] | s[::2] | s[10:2:-3] | s[-3:] | s[:-3] | s[5:2] | s[100:]
uni[0] | uni[2] | uni[6:8] | uni[::-1] | uni[-1] | uni|length | xs[0] | xs[-1] | xs[5] | xs[1:] | xs[::-1] | xs[:0]
xs[none:2] | xs[0:3:0] | xs['0'] | xs[1.0] | xs[true] | d['a'] | d['zz'] | d.a | d.zz | d.zz.y | d['zz']['y'] | d.a[0]
d.a.0 | d.a.1 | d.a.9 | users[0].name | users[0]['name'] | users.0.name | users[2].address.city | users[0].address
users[0].address.city | n.x | s.x | none_value.x | xs.x | d['items'] is defined | d.get('items') | (1, 2)[1] | (1, 2)[-1:]
d[[1]] | s['upper']() | d['get']('b') | d.get('zz') | d.get('zz', 5) | d.get('C', 5) | d.keys()|list | d.values()|list
d.items()|list | d.items()|length | d.items()[0] is defined | d.keys()[0] is defined | 'a' in d.keys() | 1 in d.values()
d.copy() | d.pop('b') | d.update({}) | d.clear() | xs.append(4) | xs.pop() | xs.sort() | xs.append is defined | d.pop is defined
xs.index(1) | xs.index(9) | xs.count(1) | [1, 1, true].count(1) | xs.copy() | (1, 2).index(2) | s.__class__ | s._x | xs.__len__()
w.strip() | w.lstrip() | w.rstrip() | s.strip('Hd') | 'xxaxx'.strip('x') | 'xxaxx'.lstrip('x') | 'xxaxx'.rstrip('x') | w.strip(none)
'\x1f a \x85'.strip() | '日本日'.strip('日') | s.split() | w.split() | csv.split(',') | csv.split(',', 1) | csv.split(',', -1)
csv.split(',', 0) | csv.rsplit(',', 1) | csv.rsplit(',') | w.split(none, 1) | ' a b c '.split(none, 1) | ' a b c '.rsplit(none, 1)
' a b c '.rsplit(maxsplit=0) | ' a b c '.split(maxsplit=0) | ''.split() | ''.split(',') | ' '.split() | ' '.split(' ') | s.split('')
csv.split(sep=',', maxsplit=2) | 'a<|b|>c<|b|>d'.split('<|b|>') | 'a<|b|>c'.split('<|b|>')[-1] | '</think>x'.split('</think>')[-1].lstrip('\n')
lines.splitlines() | lines.splitlines(true) | ''.splitlines() | s.partition(', ') | s.partition('x') | s.rpartition('o') | s.rpartition('x')
s.startswith('Hell') | s.startswith('x') | s.startswith(('x', 'H')) | s.endswith('ld') | s.endswith('') | s.startswith(1) | s.startswith('W', 7)
s.startswith(['H']) | s.find('o') | s.find('zz') | s.find('o', 5) | s.rfind('o') | s.index('W') | s.index('zz') | s.find('o', -5) | uni.find('☃')
s.count('o') | s.count('') | 'aaaa'.count('aa') | s.count('o', 5) | s.replace('o', '0') | s.replace('o', '0', 1) | s.replace('', '-') | s.replace('l', '')
s.replace('o') | uni.replace('é', 'e') | s.upper() | s.lower() | s.title() | s.capitalize() | s.swapcase() | uni.upper() | uni.lower() | "it's o'neil 3rd x-y".title()
'ß'.upper() | 'ΑΒΓ'.lower() | 'ǆ'.title() | 'straße'.capitalize() | 'İ'|length | s.isalpha() | 'abc'.isalpha() | '12'.isdigit() | ''.isdigit() | 'a1'.isalnum()
' \t'.isspace() | 'AB1'.isupper() | 'ab1'.islower() | '1'.isupper() | '12'.isdecimal() | '12'.isnumeric() | s.removeprefix('Hello') | s.removesuffix('World') | s.removeprefix('x')
', '.join(ys) | ','.join([]) | ','.join('abc') | ','.join([1]) | ','.join(d) | '-'.join(('a', 'b')) | 'a'.ljust(3, '.') | 'a'.rjust(3) | 'ab'.center(5, '*') | 'ab'.center(6) | 'abc'.center(6, '-')
'7'.zfill(3) | '-7'.zfill(4) | '{} {}'.format(1, 'a') | '{1} {0}'.format(1, 'a') | '{x}'.format(x=s) | '{{}}'.format() | '{}'.format() | '{y}'.format(x=1) | 'a'.nope() | s.strip(1)
s|upper | s|lower | s|title | s|capitalize | "it's o'neil 3rd x-y (abc)"|title | n|upper | none|upper | 'éa'|capitalize | w|trim | s|trim('Hd') | n|trim | s|length | xs|length | d|length | n|length
xs|count | (1, 2)|length | none|length | xs|first | xs|last | empty|first | empty|last | s|first | s|last | d|first | d|last | range(3)|last | xs|join | xs|join(',') | ys|join('-') | users|join(',', attribute='name') | d|join(',')
xs|list | s|list | d|list | n|list | none|list | xs|reverse|list | s|reverse | uni|reverse | xs|sort | ys|sort | ys|sort(case_sensitive=true) | xs|sort(reverse=true) | mixed|sort | users|sort(attribute='age')|map(attribute='name')|list
users|sort(attribute='name')|map(attribute='name')|list | users|sort(attribute='age,name')|map(attribute='name')|list | users|sort(attribute='nope') | [2, 1.5, true]|sort | ys|sort(true) | users|sort(true, attribute='age')|map(attribute='name')|list
d|dictsort | d|dictsort(true) | d|dictsort(by='value') | d|dictsort(reverse=true) | {'b': 2, 'a': 1}|dictsort(false, 'value') | xs|dictsort | d|items|list | nope|items|list | xs|items|list | xs|unique|list | ys|unique|list
['a', 'A', 'b']|unique|list | ['a', 'A', 'b']|unique(true)|list | [1, 1.0, true, '1']|unique|list | users|unique(attribute='age')|map(attribute='name')|list | xs|min | xs|max | ys|min | ys|max | ys|max(case_sensitive=true) | empty|min
users|max(attribute='age') | xs|sum | users|sum(attribute='age') | users|sum('age', 5) | empty|sum | ys|sum | [0.1, 0.2]|sum | xs|batch(2)|list | xs|batch(2, 'x')|list | xs|slice(2)|list | xs|slice(2, 'x')|list | range(7)|slice(3)|list | xs|slice(0)|list
users|map(attribute='name')|list | users|map(attribute='nope')|list | users|map(attribute='nope', default='-')|list | users|map(attribute='address.city')|list | ys|map('upper')|list | xs|map('string')|join | ys|map('replace', 'a', 'x')|list | xs|map|list
xs|map('nope')|list | users|map(attribute='tags.0')|list | xs|map('default', 3)|list | xs|map(attribute='x', default=1)|list | xs|map('string')|map('length')|sum | xs|select|list | mixed|select|list | xs|select('odd')|list | xs|reject('odd')|list
xs|select('gt', 1)|list | xs|select('in', [1, 2])|list | xs|select('nope')|list | mixed|select('string')|list | mixed|reject('none')|list | users|selectattr('admin')|map(attribute='name')|list | users|rejectattr('admin')|map(attribute='name')|list
users|selectattr('age', 'equalto', 30)|map(attribute='name')|list | users|selectattr('admin', 'defined')|list|length | users|selectattr('address.city', 'defined')|list|length | users|selectattr()|list | users|rejectattr('name', 'in', ['Bob'])|map(attribute='name')|list
'42'|int | '4_2'|int | ' 42 '|int | 'x'|int | 'x'|int(5) | '3.9'|int | '-3.9'|int | f|int | -f|int | '0x1f'|int(0, 16) | '1f'|int(base=16) | 'zz'|int(-1, 36) | none|int | t|int | '1e3'|int | xs|int(7) | 'inf'|int | '42'|float | 'x'|float | '1e3'|float | 'nan'|float
none|float(1.5) | n|float | ' 1.5 '|float | '1_0.5'|float | 'infinity'|float | n|string | f|string | none|string | t|string | xs|string|length | n|round | f|round | 3.5|round | 2.675|round(2) | 2.5|round(0, 'ceil') | 2.4|round(0, 'ceil') | 2.6|round(0, 'floor')
42.55|round(1, 'floor') | 1234.5|round(-2) | f|round|int | n|round(1) | 1.005|round(2) | -2.5|round | 0.5|round | 1e20|round | s|round | 2.5|round(0, 'x') | n|abs | m|abs | g|abs | s|abs | t|abs | html|escape | html|e | html|safe | html|forceescape | s|replace('o', '0')
s|replace('o', '0', 1) | n|replace('7', '8') | lines|indent | lines|indent(2) | lines|indent(2, true) | lines|indent(2, true, true) | lines|indent('> ') | lines|indent(width=1, first=true) | ''|indent(2) | 'a\n'|indent(2) | s|truncate(5) | s|truncate(8, true, '..', 0) | 'a long line of words here'|truncate(12, false, '...', 0)
s|truncate(12) | s|truncate(2) | s|center(20) | s|center(5) | '%s is %d'|format('a', 5) | '%(x)s'|format(x=1) | '%s'|format | '%s %s' % (1, 'b') | '%s' % n | '%d%%' % n | '%05d|%-5d|%+d|% d' % (42, 42, 42, 42) | '%x %X %o %#x' % (255, 255, 8, 255)
'%5.2f|%e|%g|%g' % (3.14159, 12345.678, 0.0001, 1e10) | '%r %r' % ('a', none) | '%5s|%-5s|%.2s' % ('ab', 'ab', 'abcd') | '%s' % (1, 2) | '%s %s' % (1,) | '%d' % 'x' | '%d' % 3.9 | '%q' % 1 | '%(a)s' % d | '%s' % xs | '%s' % d | 'a' % 1 | s|wordcount | w|wordcount | 'a-b c_d'|wordcount
n|tojson | f|tojson | none|tojson | t|tojson | s|tojson | uni|tojson | ctl|tojson | dq|tojson | xs|tojson | d|tojson | mixed|tojson | users|tojson | empty|tojson | ed|tojson | {}|tojson | (1, 2)|tojson | {'a': {}, 'b': []}|tojson(indent=2) | d|tojson(indent=4) | users|tojson(indent=2) | d|tojson(indent=0)
d|tojson(indent='\t') | xs|tojson(separators=(',', ':')) | d|tojson(separators=(',', ':')) | users|tojson(sort_keys=true) | uni|tojson(ensure_ascii=true) | ctl|tojson(ensure_ascii=true) | {1: 2, none: 3, true: 4, 1.5: 5}|tojson | {(1,): 2}|tojson | d.items()|tojson | xs|map('string')|tojson | html|tojson | 1e100|tojson | floats|tojson | big|tojson | range(3)|tojson
xs|tojson(nope=1) | d|tojson(true) | d|attr('get') is defined | d|attr('a') is defined | s|nope | s|upper|lower|length | s|upper() | (s|upper)[0] | s|upper ~ 'x' | n|string|length + 1 | -n|string | xs|first + 1 | 1 + 2|string
n is defined | n is undefined | n is odd | m is odd | n is even | z is even | f is odd | s is odd | n is divisibleby(7) | n is divisibleby 7 | n is divisibleby(0) | n is number | f is number | t is number | s is number | n is integer | t is integer | f is integer | f is float | n is float | t is boolean | n is boolean
t is true | n is true | 1 is true | u is false | none is none | nope is none | none_value is none | s is string | n is string | d is mapping | xs is mapping | xs is sequence | s is sequence | d is sequence | n is sequence | (1,) is sequence | range(2) is sequence | xs|map('string') is sequence | nope is sequence | nope is iterable
xs is iterable | s is iterable | d is iterable | n is iterable | none is iterable | d.items() is iterable | d.items() is sequence | range is callable | s is callable | s.upper is callable | nope is callable | 'abc' is lower | 'ABC' is upper | 'Abc' is lower | n is lower | 'upper' is filter | 'nope' is filter | 'odd' is test | 'nope' is test | 'tojson' is filter
1 is sameas 1 | none is sameas none | true is sameas true | true is sameas 1 | 1 is sameas 1.0 | n is eq 7 | n is equalto(7) | n is ne 7 | n is gt 5 | n is greaterthan 9 | n is lt 9 | n is lessthan 5 | n is ge 7 | n is le 6 | n is in [7] | n is not in [7] | n is not odd | n is not defined | not n is odd | n is nope | n is odd or u | n is eq 7 and t | s is escaped
n is defined is odd | n is in xs + [7] | n is divisibleby(7) and n > 5 | 'a' is in 'abc' | n is eq | n == 7 is odd | 1 + 2 is eq 2 | xs[0] is odd | users[0].name is string | (n is odd) ~ '' | [n is odd, u is true] | 5 is in(5, 6) | s is string and s is not none
range(5)|list | range(1, 4)|list | range(5, 0, -2)|list | range(0)|list | range(1, 2, 0) | range(200000) | range('a') | range(3)[1] | range(10)[2:4]|list | 2 in range(3) | range(3)|length | range(3)|sum | dict(a=1, b=2) | dict({'a': 1}, b=2) | dict([['a', 1]]) | dict() | dict(1) | namespace(a=1).a | namespace(a=1).b is defined | namespace().x
namespace({'a': 2}).a | namespace(_x=1) | joiner(', ')() | strftime_now('%d %b %Y') | strftime_now('%Y-%m-%d %H:%M:%S %A %j %%') | strftime_now('') | raise_exception('no') | cycler('a', 'b').next() | cycler() | s.upper().lower().strip()[0] | ('a', 'b')|join | {'f': s.upper}.f() | (s.upper)() | [s.upper][0]() | s.upper ~ '' != ''
xs[0] + xs[1] * xs[2] | (1 + 2) * 3 | 10 - 3 - 2 | 2 * 3 % 4 | 1 < 2 and 2 < 3 or false | not true == false | 1 if 1 < 2 else 0 | 'a' ~ ('b' if t else 'c') ~ 'd' | 'x' in 'xyz' and 'y' in 'xyz' | n > 5 and n < 10 and n != 8 | (n, m)[0] | {'a': {'b': {'c': 1}}}.a.b.c | {'a': [1, {'b': 2}]}['a'][1]['b'] | [[1, 2], [3, 4]][1][0]
1 2 | (1 | 1 +| [1 | {'a'} | {'a': } | a b | 'unterminated | xs[ | 1 ++ | * 2 | x = 1 | 1..2 | a.'b' | f(x for x in y) | lambda x: x | f(a=1, 2) | f(**d, 1) | @ | a ? b : c | ! t | t && u | n| | n|1 | n is 5 | n is | not | 1 not 2 | (1, | ) | ] | } | 'a' in | if | 5.upper() | 0123 | 1__0
""".strip()

TEMPLATES = [
    # White space control.
    "a\n{% if t %}\nb\n{% endif %}\nc", "a\n  {% if t %}  \nb\n  {% endif %}\nc", "a {% if t %} b {% endif %} c",
    "a\n  {%- if t -%}  \n b \n{%- endif -%}\n c", "a\n  {%+ if t +%}\n b\n  {%+ endif %}\n c", "a {{- ' b ' -}} c",
    "a\n {{- n }}\n", "{{ n }}\n\n", "{{ n }}\n", "x\n", "x\n\n", "\n", "", "  {{ n }}  ", "  {% if t %}x{% endif %}", "{# c #}\nx", "a {# c #} b",
    "a\n   {# c #}   \nb", "a {#- c -#} b", "a\n  {#+ c +#}\nb", "{#-#}x", "{# {{ n }} {% if %} #}x", "a{# multi\nline #}\nb\n{{ nope.x }}",
    "  {% raw %}{{ n }} {% if %}{% endraw %}\nx", "a {%- raw -%}  {{ n }}  {%- endraw -%}  b", "a\n  {% raw %}\n b\n  {% endraw %}\nc", "{% raw %}{% endraw %}",
    "a\r\nb\rc\n{% if t %}\r\nd{% endif %}", "{%if t%}x{%endif%}", "{%-if t-%} x {%-endif-%}", "{{'a'}}{{'b'}}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}.a.b }}",
    "{% set x %}\n a\n{% endset %}[{{ x }}]", "a\n{% set x = 1 %}\n\nb", "\t{% if t %}\n\tx\n\t{% endif %}\ny", "x {% if t %}\ny{% endif %}\n z", "\u00a0 {%- if t %}x{% endif %}",
    "{% if t %}\n  {% if t %}\n  x\n  {% endif %}\n{% endif %}\nend", "a}}b", "a%}b", "a#}b", "{ {n} }", "{{ '}}' }}", "{{ '{{' }}", "{{ \"%}\" }}", "{% if '%}' %}x{% endif %}", "{{n}}\n{{n}}", "{{ n -}}\n\n x",
    "{{ n\n}}{{ nope.x }}", "{{+ n }}", "{{ n +}}", "{% if t -%}\n\n  x  \n\n{%- endif %}\n\ny", "a{% if t %}{# c #}{% endif %}\nb", "{% if t %} {% endif %}|", "\n\n{% if t %}\n\n{% endif %}\n\n|",
    "{{", "{%", "{#", "{{ n", "{% if t", "{# x", "{% raw %}x", "{{ n }", "{% if t %}", "{% endif %}", "{% nope %}", "{% if t %}{% endfor %}", "{% for x in xs %}{% endif %}", "{% else %}", "{% elif t %}",
    # if
    "{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}", "{% if n > 9 %}a{% elif n > 3 %}b{% else %}c{% endif %}", "{% if n > 9 %}a{% elif n > 8 %}b{% else %}c{% endif %}", "{% if u %}a{% endif %}",
    "{% if nope %}a{% else %}b{% endif %}", "{% if nope.x %}a{% endif %}", "{% if xs and d %}a{% endif %}", "{% if (1, 2) %}a{% endif %}", "{% if 1, 2 %}a{% endif %}", "{% if %}a{% endif %}", "{% if t %}{% set y = 1 %}{% endif %}{{ y }}",
    "{% if t: %}a{% endif %}", "{% if t %}a{% else if u %}b{% endif %}",
    # for
    "{% for x in xs %}{{ x }},{% endfor %}", "{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in xs %}[{{ loop.previtem }}|{{ loop.nextitem }}]{% endfor %}", "{% for x in xs %}{{ loop.previtem is defined }}{% endfor %}", "{% for x in xs %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in xs %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {% endfor %}", "{% for x in xs %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}", "{% for x in xs %}{{ loop.nope }}{% endfor %}", "{% for x in xs %}{{ loop.nope.x }}{% endfor %}", "{{ loop }}", "{{ loop.index }}",
    "{% for x in empty %}a{% else %}none{% endfor %}", "{% for x in xs %}{{ x }}{% else %}none{% endfor %}", "{% for x in nope %}a{% else %}none{% endfor %}", "{% for x in n %}a{% endfor %}", "{% for x in none %}a{% endfor %}", "{% for c in 'aé日' %}{{ c }}.{% endfor %}",
    "{% for k in d %}{{ k }} {% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }} {% endfor %}", "{% for k, v in d|items %}{{ k }} {% endfor %}", "{% for k, v in d|dictsort %}{{ k }} {% endfor %}", "{% for a, b in xs %}{% endfor %}", "{% for a, b in [[1, 2], (3, 4), 'ab'] %}{{ a }}{{ b }} {% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{% for (a, b), c in [[[1, 2], 3]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, in [[1]] %}{{ a }}{% endfor %}", "{% for x in xs if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}", "{% for x in xs if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for u in users if u.age == 30 and not u.admin %}{{ u.name }}{% endfor %}", "{% for x in xs|sort %}{{ x }}{% endfor %}", "{% for x in xs if t else empty %}{{ x }}{% endfor %}", "{% for x in (xs if u else ys) %}{{ x }}{% endfor %}", "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in xs[::-1] %}{{ x }}{% endfor %}",
    "{% for x in range(3) %}{% for y in range(2) %}{{ x }}{{ y }}{{ loop.index }}{{ loop.last }} {% endfor %}{{ loop.index }};{% endfor %}", "{% for x in xs %}{% set outer = loop %}{% for y in [1] %}{{ outer.index }}{% endfor %}{% endfor %}", "{% for x in xs %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in xs %}{% for y in xs %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %};{% endfor %}", "{% break %}", "{% continue %}", "{% for x in xs %}{% break %}{% else %}e{% endfor %}",
    "{% for x in xs %}{% set y = x %}{% endfor %}{{ y }}", "{% set y = 0 %}{% for x in xs %}{% set y = y + x %}{{ y }},{% endfor %}{{ y }}", "{% set y = 0 %}{% for x in xs %}{{ y }}{% set y = x %}{{ y }} {% endfor %}", "{% for x in xs %}{% endfor %}{{ x }}", "{% set x = 9 %}{% for x in xs %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(sum=0) %}{% for x in xs %}{% set ns.sum = ns.sum + x %}{% endfor %}{{ ns.sum }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = ns.a + 1 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}", "{% set ns = namespace(x=[]) %}{% for y in xs %}{% set ns.x = ns.x + [y] %}{% endfor %}{{ ns.x }}", "{% set d.a = 1 %}", "{% set nope.a = 1 %}",
    "{% set ns = namespace(found=false) %}{% for u in users %}{% if u.admin %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}", "{% set ns = namespace() %}{{ ns.x.y }}", "{{ namespace(a=1) is mapping }}", "{% set ns = namespace(a=1) %}{{ ns['a'] }}", "{% set ns = namespace(a=1) %}{% set ns._b = 1 %}",
    "{% for x in xs %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for x in xs %}\n{{ x }}\n{% endfor %}\nend", "{% for x in xs -%}\n  {{ x }}\n{%- endfor %}", "{% for loop in xs %}{% endfor %}", "{% for x in xs recursive %}{{ x }}{% endfor %}" if False else "x", "{% for %}{% endfor %}", "{% for x xs %}{% endfor %}", "{% for x in %}{% endfor %}", "{% for 1 in xs %}{% endfor %}", "{% for x.y in xs %}{% endfor %}",
    "{% for m in xs|map('string') %}{{ m }}{{ loop.length }}{% endfor %}", "{% set g = xs|map('string') %}{{ g|list }}{{ g|list }}", "{% set g = xs|select('odd') %}{{ g|first }}", "{% for x in xs|reverse %}{{ x }}{{ loop.last }}{% endfor %}",
    # set
    "{% set x = 1 %}{{ x }}", "{% set x, y = 1, 2 %}{{ x }}{{ y }}", "{% set x, y = xs %}", "{% set (x, y) = (1, 2) %}{{ y }}", "{% set x = 1, 2 %}{{ x }}", "{% set x %}a{{ n }}b{% endset %}{{ x }}", "{% set x | upper %}a{{ n }}b{% endset %}{{ x }}", "{% set x | upper | replace('A', 'z') %}abA{% endset %}{{ x }}",
    "{% set x %}{% set y = 5 %}{{ y }}{% endset %}{{ x }}{{ y }}", "{% set ns = namespace() %}{% set ns.x %}abc{% endset %}{{ ns.x }}", "{% set x = x|default('d') %}{{ x }}", "{% set n = n + 1 %}{{ n }}", "{% set %}", "{% set x %}", "{% set x = %}", "{% set 1 = 2 %}", "{% set true = 1 %}", "{% set x.y.z = 1 %}", "{% set x = 1 if t %}{{ x }}", "{% set x = 1 if u %}{{ x is defined }}", "{% set s = s.upper() %}{{ s }}",
    # macro, call, filter, with, generation
    "{% macro m(a, b=2) %}[{{ a }},{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}{{ m() }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}", "{% macro m() %}x{% endmacro %}{{ m(1) }}", "{% macro m(a) %}x{% endmacro %}{{ m(b=1) }}", "{% macro m(a) %}x{% endmacro %}{{ m(1, a=1) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ y }}{% endmacro %}{% set y = 1 %}{{ m() }}", "{% set y = 1 %}{% macro m() %}{% set y = 2 %}{{ y }}{% endmacro %}{{ m() }}{{ y }}", "{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro m(x) %}\n  {{ x }}\n{% endmacro %}\n[{{ m(1) }}]", "{%- macro m(x) -%} {{ x }} {%- endmacro -%} [{{ m(1) }}]", "{{ m(1) }}{% macro m(x) %}{{ x }}{% endmacro %}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(1)|string|length }}{{ m('ab').upper() }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m is callable }}{{ m.name }}", "{% for x in xs %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m(a, b=1, c) %}{% endmacro %}",
    "{% macro outer() %}{% macro inner() %}i{% endmacro %}[{{ inner() }}]{% endmacro %}{{ outer() }}{{ inner is defined }}", "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}body{% endcall %}", "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}-{{ b }}{% endcall %}", "{% macro m(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call m('a') %}{{ n }}{% endcall %}", "{% macro m(*args) %}{% endmacro %}", "{% call n() %}{% endcall %}", "{% call n %}{% endcall %}",
    "{% filter upper %}a{{ n }}b{% endfilter %}", "{% filter replace('a', 'b')|upper %}aaa{% endfilter %}", "{% filter nope %}a{% endfilter %}", "{% filter indent(2) %}\na\nb\n{% endfilter %}", "{% with %}{{ n }}{% endwith %}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with n = n + 1 %}{{ n }}{% endwith %}{{ n }}", "{% with a = 1, b = a %}{{ b }}{% endwith %}", "{% with a = 1 %}{% set n = 5 %}{% endwith %}{{ n }}",
    "{% generation %}a{{ n }}{% endgeneration %}b", "{% for x in xs %}{%- generation -%} {{ x }} {%- endgeneration -%}{% endfor %}", "{% generation %}{% set y = 1 %}{% endgeneration %}{{ y }}", "{% for m in [{'role': 'assistant', 'content': 'x'}] %}\n{% generation %}\n{{ m.content }}\n{% endgeneration %}\n{% endfor %}|",
    "{% do xs %}", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{{ super() }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}", "{% set j = joiner() %}{% for x in xs %}{{ j() }}{{ x }}{% endfor %}", "{% set j = joiner('|') %}{% for x in xs %}{{ j() }}{{ x }}{% endfor %}",
    # As chat templates are written.
    "{% for m in [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}] %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '\n' }}{% endfor %}",
    "{% if users[0]['name'] == 'Zoe' %}{% set rest = users[1:] %}{% else %}{% set rest = users %}{% endif %}{% for u in rest %}{% if (u['age'] == 30) != (loop.index0 % 2 == 0) %}x{% else %}y{% endif %}{% endfor %}",
    "{{ raise_exception('Roles must alternate: ' + s) }}", "{% if not xs %}{{ raise_exception('x') }}{% endif %}ok", "{%- for u in users[::-1] %}\n    {%- set index = (users|length - 1) - loop.index0 %}\n    {{- index ~ u.name }}\n{%- endfor %}",
    "{%- macro render(items) %}\n    {%- for i in items %}\n        {{- i|tojson }}{{ ', ' if not loop.last }}\n    {%- endfor %}\n{%- endmacro %}\n{{- render(xs) }}", "{{- '<tool>' }}\n{%- for u in users %}\n    {{- u | tojson(indent=4) }}\n    {{- '\\n\\n' }}\n{%- endfor %}",
    "{% set content = '<think>\\nabc\\n</think>\\n\\nanswer' %}{{ content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}|{{ content.split('</think>')[-1].lstrip('\\n') }}",
    "{% set x = namespace(a=xs[0]) if t else none %}{{ x.a }}", "{{ 'a\\nb' }}", "{{ 'a\nb' }}", "{{ \"tab\\there\" }}", "{% if s is string and s.startswith('H') and not (s.endswith('x')) %}y{% endif %}", "{{ (s if s is string else s|tojson) }}", "{% set x = [] %}{% set x = x + [{'a': 1}] %}{{ x|tojson }}",
    "{{ self }}" if False else "y", "{{ xs|map('string')|join(', ') if xs is iterable and xs is not string else xs }}", "{{ users | selectattr('age', 'gt', 26) | map(attribute='name') | join(' & ') }}", "{% set _ = d.update({'x': 1}) %}", "{% set _ = xs.append(1) %}", "{%- set x -%}\n  a\n{%- endset -%}[{{ x }}]",
]


def expressions():
    # Each line holds several, with " | " between them, which is never one of Jinja's filters here:
    # filters are written without spaces.
    for line in EXPRESSIONS.splitlines():
        yield from line.split(" | ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/golden/jinja")
    out = parser.parse_args().out
    sources = [f"{{{{ {e} }}}}" for e in expressions()] + TEMPLATES
    cases = [[s, render(s, VARIABLES)] for s in dict.fromkeys(sources)]
    failures = sum(output is None for _, output in cases)
    versions = {"jinja2": jinja2.__version__, "python": sys.version.split()[0]}
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "cases.json", "w", encoding="utf-8") as file:
        file.write("{\n" + f'"versions": {json.dumps(versions)},\n')
        file.write(f'"variables": {json.dumps(VARIABLES, ensure_ascii=False)},\n"cases": [\n')
        file.write(",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]}\n")
    print(f"{len(cases)} cases, {failures} of them errors")


if __name__ == "__main__":
    main()
