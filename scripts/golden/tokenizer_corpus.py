"""The corpus of make_tokenizer_golden.py: seeded lines of text in many languages and of code, emoji,
white space, numbers and random UTF-8. All of it is composed here; nothing is quoted."""

import random
import unicodedata

WORDS = (
    "the a of to and in that it is was for on with as at by from this have not are but one all we "
    "their there been if more when will would who so no out up into time people year way day man "
    "thing woman life child world school state family student group country problem hand part place "
    "case week company system program question labour number night point home water room mother area "
    "money story fact month lot right study book eye job word business issue side kind head house "
    "service friend father power hour game line end member law car city community name president "
    "team minute idea body information back parent face others level office door health person art "
    "history party result change morning reason research girl guy moment air teacher force education "
    "running runs ran quickly beautiful understanding tokenization internationalization don't can't "
    "won't I'm you're they've he'd she'll it's WE'RE I'D THEY'LL Don'T").split()

SENTENCES = [
    "The ship left the harbour before the sun came up, and nobody waved.",
    "Der Zug kam pünktlich an, aber die Tür öffnete sich nicht; größer wurde der Ärger.",
    "L'été dernier, nous avons mangé des crêpes près du château, où l'on chantait déjà.",
    "El niño soñó con un pingüino que vivía en una montaña. ¿Qué pasó después? ¡Nadie lo sabe!",
    "A menina não sabia se o avião já tinha chegado à estação de São João.",
    "Perché la città è così tranquilla di notte? Nessuno può dirlo con certezza.",
    "Zażółć gęślą jaźń, powiedział ktoś, i poszedł dalej przez śnieg.",
    "Příliš mnoho řek teče tímto údolím, řekla žena u okna.",
    "Yağmur yağıyordu; İstanbul'da ışıklar söndü, çocuklar eve döndü.",
    "Tối nay trời mưa rất to, chúng tôi ở nhà uống trà và kể chuyện.",
    "Сегодня утром снег растаял, и река снова потекла к морю.",
    "Вранці ми їли хліб із медом, а ввечері співали біля вогню.",
    "Το πρωί ο ήλιος έλαμπε πάνω από τη θάλασσα, αλλά κανείς δεν κολυμπούσε.",
    "בבוקר שתינו תה ליד החלון, והחתול ישן על הספר.",
    "في الصباح شربنا الشاي قرب النافذة، وكانت القطة نائمة فوق الكتاب.",
    "صبح کنار پنجره چای نوشیدیم و گربه روی کتاب خوابیده بود.",
    "सुबह हमने खिड़की के पास चाय पी, और बिल्ली किताब पर सो रही थी।",
    "সকালে আমরা জানালার পাশে চা খেলাম, আর বিড়ালটি বইয়ের উপর ঘুমাচ্ছিল।",
    "காலையில் நாங்கள் ஜன்னல் அருகே தேநீர் குடித்தோம்.",
    "ตอนเช้าเราดื่มชาข้างหน้าต่าง และแมวนอนหลับอยู่บนหนังสือ",
    "დილით ფანჯარასთან ჩაი დავლიეთ, კატას კი წიგნზე ეძინა.",
    "Առավոտյան մենք թեյ խմեցինք պատուհանի մոտ։",
    "朝、私たちは窓のそばでお茶を飲み、猫は本の上で眠っていた。コンピューターは動かなかった。",
    "早上我们在窗边喝茶,猫睡在书上。今天的天气很好,我们去公园散步吧!",
    "早晨我們在窗邊喝茶,貓睡在書上,電腦沒有開。",
    "아침에 우리는 창가에서 차를 마셨고, 고양이는 책 위에서 자고 있었다.",
    "Asubuhi tulikunywa chai karibu na dirisha, na paka alilala juu ya kitabu.",
    "Ráno bola hmla taká hustá, že sme nevideli most.",
]

CODE = [
    "def {a}({b}, *args, **kwargs):\n    \"\"\"Return {c}.\"\"\"\n    return {b}[{n}:] + {c} ** {n}",
    "for (int i = 0; i < {n}; ++i) {{\n\t{a}[i] += {b}->{c}(i, {f}f);\n}}",
    "#include <{a}.h>\ntemplate <typename T> auto {b}(const T& {c}) -> decltype({c} + {n});",
    "const {a} = async ({b}) => {{ await fetch(`/api/${{{c}}}?q={n}`); }};",
    "SELECT {a}, COUNT(*) FROM {b} WHERE {c} >= {n} GROUP BY 1 ORDER BY 2 DESC;",
    "<div class=\"{a}-{b}\" id='{c}'>&nbsp;{n}<br/></div>",
    "{{\"{a}\": [{n}, {f}, null, true], \"{b}\": {{\"{c}\": \"\\u00e9\\n\"}}}}",
    "$ git commit -m \"{a}: {b} (#{n})\" && make -j{n} {c} 2>&1 | tee ./{a}.log",
    "fn {a}<'a>({b}: &'a str) -> Result<(), Box<dyn Error>> {{ {c}!(\"{{:?}}\", {n}); Ok(()) }}",
    "    if {a} != {b} and not {c}:   # {n}%\n        raise ValueError(f'{{{a}!r}}')\n",
    "\\begin{{equation}} \\frac{{{n}}}{{{f}}} \\leq \\sum_{{i=1}}^{{{n}}} {a}_i \\end{{equation}}",
    "https://{a}.example.com/{b}/{c}?x={n}&y=%20{f}#{a}",
]

SPECIALS = [
    "<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]",
    "<|begin_of_text|>", "<|eot_id|>", "<tool_call>", "<mask>", "word", "NORM", "é́", "<0x0A>",
    "<s", "|im_end|>", "<|im_end", "[TOOL_CALLS]",
]

# Letters of a script, to compose words from.
SCRIPTS = [
    (0x61, 0x7A), (0x41, 0x5A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x587),
    (0x5D0, 0x5EA), (0x620, 0x6D3), (0x710, 0x74F), (0x904, 0x963), (0x985, 0x9CC), (0xA05, 0xA4C),
    (0xB05, 0xB4C), (0xB85, 0xBCD), (0xC05, 0xC4D), (0xD05, 0xD4D), (0xE01, 0xE4E), (0xE81, 0xECD),
    (0xF40, 0xF84), (0x1000, 0x1049), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x135A),
    (0x13A0, 0x13F4), (0x1780, 0x17D3), (0x1820, 0x1877), (0x1E00, 0x1FFF), (0x2C00, 0x2C5F),
    (0x3041, 0x309F), (0x30A0, 0x30FF), (0x3105, 0x312F), (0x4E00, 0x9FFF), (0xA000, 0xA48C),
    (0xAC00, 0xD7A3), (0x10330, 0x1034A), (0x1D400, 0x1D7FF), (0x20000, 0x20100), (0xFF21, 0xFF5A),
]

SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u3000", "\u2003", "\u200b", "\x0b",
          "\x0c", "\u0085", "\u2028", "\u1680", "\u180e", " \n", "\n ", "\t\t", "        "]
EMOJI = ["😀", "😂", "🤖", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇯🇵", "❤️", "☕", "🧑🏿‍🚀", "✨", "🀄", "①", "½", "Ⅷ",
         "™", "∑", "→", "█", "ﷺ", "ﬁ", "Å", "Ω", "가", "각", "é", "ñ", "ǖ", "ṩ", "ｶﾞ"]


def assigned(code_point):
    # Hugging Face's NFC does not know these yet: marks that are new in Unicode 14.
    if 0x898 <= code_point <= 0x89F or 0x8C8 <= code_point <= 0x8D2:
        return False
    return unicodedata.category(chr(code_point)) not in ("Cn", "Cs")


def script_word(r):
    low, high = r.choice(SCRIPTS)
    word = []
    while len(word) < r.randint(1, 9):
        code_point = r.randint(low, high)
        if assigned(code_point):
            word.append(chr(code_point))
    return "".join(word)


def number(r):
    return r.choice([
        lambda: str(r.randint(0, 10 ** r.randint(1, 18))),
        lambda: f"{r.uniform(-1e4, 1e4):.{r.randint(0, 6)}f}",
        lambda: f"{r.randint(0, 10**9):,}",
        lambda: f"{r.random():e}",
        lambda: f"0x{r.getrandbits(32):X}",
        lambda: f"{r.randint(1, 31)}.{r.randint(1, 12)}.{r.randint(1900, 2100)}",
        lambda: "".join(chr(r.choice([0x660, 0x966, 0xE50, 0xFF10]) + r.randint(0, 9))
                        for _ in range(r.randint(1, 6))),
        lambda: r.choice("²³¼½¾ⅠⅫ①㊿𝟘𝟡零一二") * r.randint(1, 3),
    ])()


def english(r):
    text = " ".join(r.choice(WORDS) for _ in range(r.randint(1, 18)))
    if r.random() < 0.5:
        text = text.capitalize() + r.choice(".?!…;:")
    return text.upper() if r.random() < 0.05 else text


def sentence(r):
    text = r.choice(SENTENCES)
    if r.random() < 0.5:
        words = text.split(" ")
        r.shuffle(words)
        text = " ".join(words)
    if r.random() < 0.2:
        text = unicodedata.normalize(r.choice(["NFD", "NFKD", "NFC"]), text)
    return text[: r.randint(8, 120)]


def code(r):
    names = [r.choice(WORDS).replace("'", "_") + r.choice(["", "_", "Name", "2"]) for _ in range(3)]
    return r.choice(CODE).format(a=names[0], b=names[1], c=names[2], n=r.randint(0, 5000),
                                 f=round(r.random() * 100, 3))


def emoji(r):
    return "".join(r.choice(EMOJI + [" ", "a", "\u0301", "\u0323", "\ufe0f", "\u200d"])
                   for _ in range(r.randint(1, 12)))


def white_space(r):
    parts = []
    for _ in range(r.randint(1, 6)):
        parts.append("".join(r.choice(SPACES) for _ in range(r.randint(0, 4))))
        parts.append(r.choice(["", r.choice(WORDS), number(r), r.choice(".,;!?-_\"'()"), "▁", "Ġ"]))
    return "".join(parts)


def random_code_points(r):
    text = []
    for _ in range(r.randint(1, 16)):
        limit = r.choice([0x80, 0x800, 0x3000, 0x10000, 0x20000, 0xE0200])
        code_point = r.randrange(limit)
        if assigned(code_point) or (r.random() < 0.02 and not 0xD800 <= code_point < 0xE000):
            text.append(chr(code_point))
    return "".join(text)


def marks(r):
    text = []
    for _ in range(r.randint(1, 6)):
        text.append(r.choice("aeiouAEIOUnsçå가ᄀᄀα"))
        for _ in range(r.randint(0, 4)):
            text.append(chr(r.choice([r.randint(0x300, 0x34E), r.randint(0x1161, 0x1175),
                                      r.randint(0x11A8, 0x11C2), 0x93C, 0x5B0, 0x651])))
    return "".join(text)


def contraction(r):
    return "".join(r.choice(["'", "’", "'s", "'S", "'ſ", "'ll", "'LL", "'Re", "'vE", "'t", "'d", "'m", "'K",
                             r.choice(WORDS), " ", "I", "we", "1", "é"])
                   for _ in range(r.randint(1, 8)))


def punctuation(r):
    return "".join(r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»„“”‘’–—…¿¡、。「」·• a1")
                   for _ in range(r.randint(1, 24)))


def special(r):
    return "".join(r.choice([r.choice(SPECIALS), r.choice(SPECIALS), r.choice(WORDS), " ", "\n", "x", "é"])
                   for _ in range(r.randint(1, 7)))


def repetition(r):
    unit = r.choice(["a", "ab", " ", "\n", "=", "-", "0", "ha", "の", "😀", "\u0301", "▁", "\t", "= ", "!?"])
    return r.choice(["", "x"]) + unit * r.randint(2, 60) + r.choice(["", "y", " y"])


def mixed(r):
    kinds = [english, sentence, code, emoji, number, punctuation, lambda r: script_word(r), special]
    return r.choice(["", " "]).join(r.choice(kinds)(r)[:30] for _ in range(r.randint(2, 4)))


def broken_bytes(r):
    """UTF-8 with bytes changed, cut off or inserted."""
    data = bytearray(mixed(r).encode()[:40])
    for _ in range(r.randint(1, 4)):
        if not data:
            break
        i = r.randrange(len(data))
        action = r.randrange(3)
        if action == 0:
            data[i] = r.randrange(0x80, 0x100)
        elif action == 1:
            del data[i]
        else:
            data.insert(i, r.choice([0xC0, 0xE2, 0xED, 0xA0, 0xF0, 0xF4, 0xFF, 0x80]))
    return bytes(data)


def make_corpus():
    """10,400 lines, as bytes."""
    r = random.Random(20240607)
    lines = [b"", b" ", b"a", b"\n", "\ufffd".encode(), "\ufeff".encode(), b"\x00", b"a\x00b", b"  "]
    lines += [s.encode() for s in SENTENCES] + [s.encode() for s in SPECIALS]
    kinds = [(english, 1400), (sentence, 1400), (code, 1100), (emoji, 600), (number, 500),
             (white_space, 800), (random_code_points, 900), (marks, 400), (contraction, 500),
             (punctuation, 600), (special, 600), (repetition, 300), (mixed, 500),
             (lambda r: " ".join(script_word(r) for _ in range(r.randint(1, 5))), 800)]
    for kind, count in kinds:
        lines += [kind(r).encode() for _ in range(count)]
    lines += [broken_bytes(r) for _ in range(300)]
    while len(lines) < 10400:
        lines.append(english(r).encode())
    return lines[:10800]


def escape(line):
    """One line of the committed file: UTF-8 but for backslash, line ends and broken bytes."""
    out = bytearray()
    for character in line.decode("utf-8", "surrogateescape"):
        if character == "\\":
            out += b"\\\\"
        elif character == "\n":
            out += b"\\n"
        elif character == "\r":
            out += b"\\r"
        elif "\udc80" <= character <= "\udcff":
            out += b"\\x%02x" % (ord(character) - 0xDC00)
        else:
            out += character.encode()
    return bytes(out)
