"""The texts that SmolLM2's golden data is made of. Written for this project."""

# About 200 tokens for the logits.
TEXT = """\
The ferry left the harbour at six, an hour before the fog lifted. On the upper deck a girl of \
nine counted gulls aloud, lost her place at 41, and began again from one. Her grandfather, who \
had been a ship's carpenter for thirty-five years, pretended not to listen; he was reading a \
letter from the bank. "Dear Mr. Aldous," it said, "we regret that your request of 12 March cannot \
be granted." He folded it twice, put it into his coat, and looked at the water for a while.

There are two ways to cross a strait, he used to say: with the tide, or with patience. The tide \
that morning ran north at about 3.5 knots, so the captain steered well to the south of the \
lighthouse and let the current carry them back. It is the same with heat in a wall, or prices in \
a market: small, steady forces decide where things end, while the loud ones only decide how they \
get there. By half past seven the sun stood over the roofs of the far town, and the girl had \
reached 112.
"""

LONG = """\
How a lock on a canal works. A canal that climbs a hill cannot simply be dug at a slope, because \
the water would run out of it. Instead it is cut into level stretches, and between two stretches \
of different height stands a lock: a chamber of brick or stone with a pair of gates at each end. \
Suppose that a boat comes from below. The lower gates are open and the chamber is as low as the \
water outside. The boat enters, and the keeper closes the lower gates behind it. Now small doors \
near the floor of the upper gates, called paddles, are wound open, and water from the upper \
stretch flows into the chamber. The boat rises with it. No pump is needed and no engine; the \
weight of the water does all of the work. When the chamber is as high as the upper stretch, the \
pressure on both sides of the upper gates is equal, and a single person can push them open with \
a long wooden beam. The boat leaves, and the lock is ready for a boat that comes down.

The gates are not flat. Each pair meets in a shallow V that points towards the higher water, so \
that the water itself presses the two leaves together and seals the gap between them. The more \
water there is, the tighter they close. Leonardo da Vinci drew gates of this kind for a canal in \
Milan, and they have hardly changed since. Every passage costs the upper stretch one chamber of \
water, and this is why canals need reservoirs at their highest point. In a dry summer the \
keepers make boats wait until there are two, one for each direction, because then a single \
chamber of water serves both. In short, the three most important things to remember are"""


def chat(*turns):
    """Turns alternate between user and assistant; the model's own chat template, written out."""
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    text = f"<|im_start|>system\n{system}<|im_end|>\n"
    for i, turn in enumerate(turns):
        text += f"<|im_start|>{'assistant' if i % 2 else 'user'}\n{turn}<|im_end|>\n"
    return text + "<|im_start|>assistant\n"


PROMPTS = [
    ("capital", "The capital of France is"),
    ("story", "Once upon a time, in a village at the edge of a forest, there lived"),
    ("water", "Water boils at 100 degrees Celsius because"),
    ("list", "Shopping list:\n1. Apples\n2. Bread\n3."),
    ("counting", "1, 2, 4, 8, 16, 32,"),
    ("sum", "Question: What is 17 + 25?\nAnswer:"),
    ("python", "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n"),
    ("cpp", "#include <vector>\n\n// Returns the largest element.\n"
            "int largest(const std::vector<int>& v) {\n"),
    ("json", '{"name": "Ada Lovelace", "born": 1815, "fields": ["mathematics",'),
    ("sql", "SELECT name, COUNT(*) FROM orders WHERE"),
    ("html", "<!DOCTYPE html>\n<html>\n<head>\n  <title>"),
    ("french", "La Révolution française a commencé en"),
    ("spanish", "Había una vez un niño que vivía en"),
    ("german", "Die wichtigsten Zutaten für einen guten Kuchen sind"),
    ("russian", "Москва — столица"),
    ("chinese", "中国的首都是"),
    ("japanese", "日本で一番高い山は"),
    ("emoji", "I love pizza 🍕 and ice cream 🍦! My favourite"),
    ("space", " "),
    ("end_of_text", "<|endoftext|>"),
    ("chat_capital", chat("What is the capital of France?")),
    ("chat_gravity", chat("Explain gravity to a child in two sentences.")),
    ("chat_turns", chat("Name a fruit.", "Banana.", "Now name a vegetable, and say what colour it "
                        "is.")),
    ("long", LONG),
]
