"""The training text: conversations written from facts.py and stories.py by a seeded generator.

`python generate.py --show 20` prints samples. train.py imports `samples`. Standard library only.
"""
import argparse
import json
import random
import re
from functools import lru_cache
from pathlib import Path

import facts
import records
import stories
import tools
import values

HERE = Path(__file__).parent
QUESTION_WORDS = (
    "how what which who where when why is are do does can could will would should may whats what's hows how's am did has have".split()
)
CAPITALS = {"i": "I", "gguf": "GGUF", "gpu": "GPU", "cuda": "CUDA", "sse": "SSE", "json": "JSON", "http": "HTTP", "python": "Python",
            "rust": "Rust", "mit": "MIT", "prometheus": "Prometheus", "api": "API", "i'd": "I'd", "i'm": "I'm", "openai": "OpenAI", "cpu": "CPU"}
PREFIXES = ("hi, ", "hello, ", "hey, ", "hey cllm, ", "please ", "quick question: ", "one question: ", "i have a question: ", "excuse me, ", "sorry, ",
            "ok, ", "okay, ", "so ", "and ", "now, ", "well, ", "ok so ", "thanks. ", "great. ", "dear cllm, ", "question: ", "um, ", "also, ", "good morning, ",
            "please tell me, ", "can you tell me, ", "do you know, ", "i wonder, ", "just wondering, ", "tell me, ", "say, ", "next: ", "another question: ")
SUFFIXES = (" please", " please", ", please", " thanks", ", thanks", ", thank you", " exactly", " with cllm", " in cllm", " here", " then", ", cllm", " again",
            " on linux", " by the way", " right now", " today", " quickly", " for me", " if i may ask", ", i am new", ", any idea", " in this server", " simply")
SMALL_WORDS = {"the", "a", "an", "do", "i", "is", "to", "my", "can", "it", "of"}
FILLERS = ("just", "really", "actually", "maybe", "now", "simply", "only", "then", "also", "please", "exactly", "best", "quickly", "somehow", "easily",
           "perhaps", "instead", "first", "always")
CONTEXTS = ("i am new to this. ", "i am on linux. ", "i run cllm on my laptop. ", "i am writing a demo. ", "i have a small machine. ", "we are trying cllm at work. ",
            "the server is running. ", "i read the readme. ", "i am a student. ", "my boss asked: ", "this is my first day with cllm. ", "one thing is not clear to me. ",
            "i have been trying for an hour. ", "i looked everywhere. ", "sorry for the simple question. ", "my colleague wants to know: ", "for a test i have this question: ",
            "i am stuck. ", "another thing. ", "i like this server. ", "about cllm: ")
SYSTEMS = ("You are a helpful assistant.", "You are cllm-tiny.", "Be brief.", "Answer in one sentence.", "You answer questions about cllm.",
           "Be polite and short.", "You are a friendly helper.", "Help the user with the server.", "You tell stories and help with cllm.",
           "Answer politely.", "You are an expert in cllm.", "Speak clearly.", "Give short answers.", "You are an assistant.", "Be kind.")

STORY_ASK = "[tell me|tell|tell us|write|write me|can you tell me|can you write|please tell me|please write|give me|i want|i would like|i'd like|could you tell me|make up|invent|i want to hear|read me|will you tell me|let me hear|compose|create|do you know|may i have|we want|how about|now]"
STORY_NOUN = "[a story|a short story|a little story|a story|a tale|a nice story|a fairy tale|a bedtime story|a small story|a very short story|one story|a brief story|a funny story|a good story|a sweet story|some story|an interesting story|a cute story]"
STORY_PLAIN = (
    STORY_ASK + " " + STORY_NOUN,
    STORY_NOUN,
    "[a story please|story|story time|story please|once upon a time|tell me something nice|entertain me|i am bored|bedtime story|tell a tale|tell stories|can you tell stories|begin a story|tell me a story before i sleep|short story|i'm bored|storytime]",
)
STORY_ANOTHER = ("[tell me|write|give me|i want|can you tell me|please tell me|] [another|one more|a different|a new|a second] [story|one|tale|short story]",
                 "[again|more|more please|one more please|another one please|another please|next story|tell me more stories|and another|do you know another one]")
STORY_SHORT = (
    "[a|one|tell me a|write a|i want a|a short|give me a|make up a|do you have a|can i have a|i would like a|another|how about a|please write a|] <noun> [story|tale|story|fairy tale|bedtime story] [please|]",
    "[a|one|] [story|tale], [and the|where the|whose] [hero|main character] [is|being] <a noun>",
    "[story|tale]: <a noun>",
    "[one|something|do you know one|a tale|do you have something|tell me one|any story] [about|with] <a noun> [in it|please|]",
    "[a|tell me a|write a] story in which <a noun> [appears|is the hero|plays a part|lives]",
    "<a noun> [should|must|shall|has to] be [the hero|in the story|the main character] [of a story|]",
    "[what happened to|what do you know of|let <a noun> be the hero, a story of|tell the tale of|tell the story of] <a noun>",
)
STORY_WHO = "[about|about|about|with|of|on|starring|featuring|where the hero is|whose hero is]"
NUMBER = {"t": ("0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.8", "0.9", "1", "1.0", "1.1", "1.2", "1.3", "1.5", "0.25", "0.75", "0.05", "0.15", "0.35", "1.4", "2", "1.8", "0.0", "0.65", "0.85")}
FILE_PARTS = ("qwen", "qwen3", "llama", "llama-3", "mistral", "phi", "gemma", "my", "big", "tiny", "chat", "test", "base", "instruct", "coder", "story", "new", "model",
              "smol", "falcon", "yi", "granite", "olmo", "zephyr", "hermes", "vicuna", "deep", "nemo", "small", "large", "mini", "pico", "bert", "alpha", "beta", "omega", "weights", "demo")
QUANTS = ("q4_k_m", "q8_0", "q5_k_m", "q4_0", "f16", "q6_k", "q3_k_s", "bf16", "q2_k", "iq4_xs", "Q4_K_M", "Q8_0", "Q5_K_M", "F16")
STOPS = ("END", "STOP", "###", "User:", "DONE", "---", "END OF TEXT", "Q:", "***", "Human:", "quit", "FIN", "###END", "OVER", "bye", "EOF", "</s>", "[END]", "HALT", "Answer:", "the end", "cut", "Input:", "==", "period")
PROMPTS = ("Hello", "Hi", "Once upon a time", "Tell me a joke", "What is Rust?", "Good morning", "How are you?", "Write a poem", "The sky is", "Tell me a story", "My name is",
           "What is a token?", "Who are you?", "The cat sat", "One two three", "Roses are red", "In the beginning", "Say hello", "Count to ten", "Dear friend", "It was a dark night",
           "Explain gravity", "List three colours", "The capital of France is", "Why is the sky blue?", "Summer days", "A quick test", "Ping", "Test", "Hello world", "Good night")


def number(rng, low, high):
    return str(rng.randint(low, high))


def value(rng, name):
    """A value that a question can name, as it is written there and in the answer."""
    if name == "file":
        parts = rng.sample(FILE_PARTS, rng.choice((1, 1, 2, 2, 3)))
        stem = rng.choice("-_-.").join(parts)
        if rng.random() < 0.35:
            stem += "-" + rng.choice(("0.6b", "1b", "7b", "8b", "3b", "1.7b", "4b", "0.5b", "13b", "14b", "30b", "70b", "270m", "2b", "1.5b"))
        if rng.random() < 0.4:
            stem += rng.choice("-.") + rng.choice(QUANTS)
        if rng.random() < 0.15:
            stem = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 7)))
        elif rng.random() < 0.2:
            stem = rng.choice("-_.").join(values.made_up(rng).lower() for _ in range(rng.choice((1, 1, 2, 3))))
            if rng.random() < 0.4:
                stem += rng.choice(("-", "_", "")) + "%d.%d%s" % (rng.randint(0, 9), rng.randint(0, 9), rng.choice(("b", "", "B")))
        if rng.random() < 0.1:
            stem += number(rng, 0, 99)
        folder = rng.choice(("",) * 6 + ("models/", "./", "/data/", "/models/", "~/", "../", "/home/me/", "/tmp/", "~/models/"))
        return folder + stem + ".gguf"
    if name == "port":
        return rng.choice((number(rng, 1024, 65535), number(rng, 1000, 9999), rng.choice(("80", "8000", "8081", "3000", "5000", "9090", "8888", "1234", "7000", "4000", "8443", "6006", "8001", "9999", "443"))))
    if name == "host":
        return rng.choice(("0.0.0.0", "0.0.0.0", "::", "localhost", "192.168.%d.%d" % (rng.randint(0, 255), rng.randint(1, 254)), "10.%d.%d.%d" % (rng.randint(0, 255), rng.randint(0, 255), rng.randint(1, 254)), "192.168.1.%d" % rng.randint(1, 254)))
    if name == "t":
        return rng.choice(NUMBER["t"]) if rng.random() < 0.7 else rng.choice("01") + "." + number(rng, 0, 99)
    if name in ("p", "q"):
        return "0." + rng.choice((number(rng, 1, 9), number(rng, 1, 99), "0" + number(rng, 1, 9), "9" + number(rng, 0, 9)))
    if name == "r":
        return rng.choice("0112") + "." + rng.choice((number(rng, 0, 9), number(rng, 0, 9), number(rng, 0, 99).rjust(2, "0")))
    if name == "k":
        return number(rng, 1, rng.choice((20, 100, 100, 500)))
    if name == "n":
        return rng.choice((number(rng, 1, 999), number(rng, 1, 4096), str(rng.randint(1, 60) * 10), rng.choice(("16", "32", "50", "64", "128", "200", "256", "500", "512", "1000", "1024", "2048"))))
    if name == "seed":
        return number(rng, 0, rng.choice((9, 99, 999, 99999, 9999999)))
    if name == "np":
        return rng.choice((number(rng, 1, 64), "2", "4", "16", "32", "64", "12", "1", "20", "128"))
    if name == "c":
        return rng.choice((number(rng, 256, 40000), "1024", "2048", "8192", "16384", "32768", "512", "1000", "8000", "10000", "65536", "131072", "3000"))
    if name == "th":
        return number(rng, 1, rng.choice((8, 16, 64)))
    if name == "gl":
        return number(rng, 1, rng.choice((40, 99, 200)))
    if name == "st":
        return rng.choice((number(rng, 16, 4096), "64", "128", "256", "1024", "2048"))
    if name == "ms":
        return rng.choice((number(rng, 1, 60) + "000", number(rng, 1, 99) + "00", number(rng, 50, 9999)))
    if name == "stop":
        roll = rng.random()
        if roll < 0.45:
            return rng.choice(STOPS)
        word = values.made_up(rng) if roll < 0.75 else "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(2, 6)))
        return word.upper() if rng.random() < 0.8 else word
    if name == "conf":
        return rng.choice(("", "", "", "./", "/etc/cllm/", "conf/", "~/")) + rng.choice(("my", "server", "cllm", "settings", "prod", "test", "local", "dev", "config", "big", "office", "home", "lab", "fast")) + rng.choice(("", "", "2", "-new", "-gpu")) + ".toml"
    if name == "shell":
        return rng.choice(("bash", "zsh", "fish", "zsh", "fish", "powershell", "elvish"))
    assert name == "prompt", name
    if rng.random() < 0.25:
        return " ".join(values.made_up(rng) for _ in range(rng.choice((1, 2, 2)))).capitalize()
    return rng.choice(PROMPTS)


@lru_cache(maxsize=None)
def parse(pattern):
    """Pattern text -> nested tuple: ("seq", parts) where a part is a string or ("alt", [seq, ...])."""
    pos = 0

    def seq(closers):
        nonlocal pos
        parts, text = [], ""
        while pos < len(pattern) and pattern[pos] not in closers:
            ch = pattern[pos]
            if ch == "[":
                pos += 1
                branches = [seq("|]")]
                while pattern[pos] == "|":
                    pos += 1
                    branches.append(seq("|]"))
                assert pattern[pos] == "]", pattern
                pos += 1
                parts += [text, ("alt", tuple(branches))]
                text = ""
            elif ch == "{":
                end = pattern.index("}", pos)
                parts += [text, ("macro", pattern[pos + 1:end])]
                text, pos = "", end + 1
            else:
                text += ch
                pos += 1
        return ("seq", tuple(p for p in (*parts, text) if p != ""))

    tree = seq("")
    assert pos == len(pattern), pattern
    return tree


MACROS = {**facts.MACROS, **facts.UNKNOWN_MACROS}
MACROS["NOUN"] = "[" + "|".join(stories.article(n) for n in (*stories.BY_NOUN, *stories.STRANGERS)) + "]"


def expand(rng, node):
    if isinstance(node, str):
        return node
    kind, body = node
    if kind == "seq":
        return "".join(expand(rng, part) for part in body)
    if kind == "alt":
        return expand(rng, rng.choice(body))
    return expand(rng, parse(MACROS[body]))


def say(rng, pattern):
    text = re.sub(r"\s+", " ", expand(rng, parse(pattern))).strip()
    return re.sub(r" ([,.])", r"\1", text)


def typo(rng, text):
    """One slip of the fingers inside a word of letters only."""
    words = text.split(" ")
    at = [i for i, w in enumerate(words) if w.isalpha() and len(w) > 3]
    if not at:
        return text
    i = rng.choice(at)
    w = words[i]
    j = rng.randrange(1, len(w) - 1)
    words[i] = rng.choice((w[:j] + w[j + 1:], w[:j] + w[j] + w[j:], w[:j] + w[j + 1] + w[j] + w[j + 2:]))
    return " ".join(words)


def loosen(rng, text):
    """Say it more loosely: a small word goes missing or a filler comes in."""
    words = text.split(" ")
    small = [i for i, w in enumerate(words) if w in SMALL_WORDS]
    if small and rng.random() < 0.6:
        for i in reversed(small):
            if rng.random() < 0.5 and len(words) > 1:
                del words[i]
    else:
        words.insert(rng.randrange(len(words) + 1), rng.choice(FILLERS))
    return " ".join(words)


def dress(rng, text, plain=False):
    """Turn a bare lower-case question into what somebody types: case, mark, courtesy, a slip."""
    if not plain:
        if rng.random() < 0.10:
            text = loosen(rng, text)
        if rng.random() < 0.05:
            text = rng.choice(CONTEXTS) + text
        if rng.random() < 0.12:
            text = rng.choice(PREFIXES) + text
        if rng.random() < 0.10:
            text += rng.choice(SUFFIXES)
        if rng.random() < 0.08:
            text = typo(rng, text)
    question = text.split(" ")[0].rstrip(",") in QUESTION_WORDS or any(w in text.split(" ") for w in ("how", "what", "which", "can"))
    style = rng.random()
    if style < 0.6:
        text = " ".join(CAPITALS.get(w, w) for w in text.split(" "))
        text = text[0].upper() + text[1:]
    elif style > 0.985:
        text = " ".join(w if "<" in w else w.upper() for w in text.split(" "))
    mark = rng.random()
    if question:
        text += "?" if mark < 0.68 else "" if mark < 0.95 else "??" if mark < 0.965 else "."
    else:
        text += "." if mark < 0.3 else "" if mark < 0.82 else "!" if mark < 0.86 else "?"
    return text


def fill(text, values):
    for name, v in values.items():
        text = text.replace("<%s>" % name, v)
    return text


def ask_kind(rng, kind, eager=False):
    """(question, answer) of one kind; `eager` for questions that name a value."""
    pattern = rng.choice(kind.patterns)
    if eager and kind.default and "<" not in pattern and rng.random() < 0.5:
        pattern = rng.choice([p for p in kind.patterns if "<" in p])
    question = dress(rng, say(rng, pattern))
    chosen = dict(kind.default)
    for name in kind.default:
        if "<%s>" % name in question:
            chosen[name] = value(rng, name)
            if question.endswith(chosen[name] + "."):
                question = question[:-1]
            if name in ("stop", "prompt") and rng.random() < 0.5:
                quote = rng.choice("\"'\"`")
                question = question.replace("<%s>" % name, quote + chosen[name] + quote)
    return fill(question, chosen), fill(kind.answer, chosen)


def ask_unknown(rng):
    return dress(rng, say(rng, rng.choice(facts.UNKNOWN_PATTERNS))), facts.UNKNOWN_ANSWER


def ask_story(rng):
    roll = rng.random()
    nouns = list(stories.BY_NOUN)
    ask = STORY_ASK + " " + STORY_NOUN + " " if rng.random() < 0.8 else "[story|short story|a story|tale|a short tale] "
    if roll < 0.16:
        return dress(rng, say(rng, rng.choice(STORY_PLAIN))), stories.tell()
    if roll < 0.22:
        return dress(rng, say(rng, rng.choice(STORY_ANOTHER)), plain=True), stories.tell(stories.ANOTHER)
    adjective = rng.choice(("",) * 9 + ("little ", "small ", "young ", "brave ", "clever ", "lonely ", "big ", "old ", "funny ", "happy "))
    noun = rng.choice(nouns)
    if roll < 0.34:
        noun = rng.choice(stories.STRANGERS)
    named = stories.article(adjective + noun)
    if roll > 0.34 and rng.random() < 0.1:
        named = "the " + adjective + noun
    if roll < 0.58:
        text = say(rng, ask + STORY_WHO) + " " + named
        if rng.random() < 0.3:
            text = say(rng, rng.choice(STORY_SHORT)).replace("<noun>", noun).replace("<a noun>", named)
        return dress(rng, text), stories.tell(noun)
    episode = rng.choice(stories.EPISODES)
    if roll < 0.72:
        topic = rng.choice(episode.topics)
        return dress(rng, say(rng, ask + "[about|about|about|on|of]") + " " + topic), stories.tell(None, episode)
    link = rng.choice(("who", "who", "that")) if rng.random() < 0.85 else "and how %s" % {"he": "he", "she": "she"}[stories.character(noun).he]
    if rng.random() < 0.7:
        text = say(rng, ask + STORY_WHO) + " %s %s %s" % (named, link, rng.choice(episode.asks))
    else:
        text = say(rng, ask + "[about|about|with]") + " %s and %s" % (named, rng.choice(episode.topics))
    return dress(rng, text), stories.tell(noun, episode)


TOOL_SHARE = 0.12  # of all conversations bring tools,
JSON_SHARE = 0.08  # and so many ask for JSON
KIND_WEIGHTS = [k.share for k in facts.KINDS]


def turn(rng, story_share=0.13, unknown_share=0.13, eager=False):
    roll = rng.random()
    if roll < story_share:
        return ask_story(rng)
    if roll < story_share + unknown_share:
        return ask_unknown(rng)
    return ask_kind(rng, rng.choices(facts.KINDS, KIND_WEIGHTS)[0], eager)


def normal(question):
    """The question without case, marks and spacing: equal normal forms count as the same wording."""
    return " ".join(re.sub(r"[^a-z0-9_/.+-]+", " ", question.lower()).strip(" .").split())


def reserved():
    """Normal forms that training must not contain: the questions that measure the model."""
    return {
        normal(json.loads(line)["question"])
        for name in ("heldout.jsonl", "heldout_tools.jsonl", "dev.jsonl")
        for line in (HERE / name).open(encoding="utf-8")
    }


# A conversation is a list of (role, text). Role "raw" is text for plain completion, as (role, prompt, rest); role
# "earlier" is an assistant's turn that is read and not learned.
def sample(rng, kept_out, eager=False, strange=False):
    def fresh(**shares):
        while True:
            q, a = turn(rng, eager=eager, **shares)
            if normal(q) not in kept_out:
                return q, a

    roll = rng.random()
    if roll < TOOL_SHARE:
        while True:
            talk = tools.conversation(rng, say, dress, fresh, SYSTEMS, strange)
            if not any(role == "user" and normal(text) in kept_out for role, text in talk):
                return talk
    if roll < TOOL_SHARE + JSON_SHARE:
        while True:
            q, a = records.ask(rng, say, dress, strange)
            if normal(q) not in kept_out:
                return ([("system", rng.choice(SYSTEMS))] if rng.random() < 0.1 else []) + [("user", q), ("assistant", a)]
    roll = rng.random()
    if roll < 0.16:
        q, a = fresh()
        return [("raw", q, "\n" + a) if rng.random() < 0.6 else ("raw", q + "\n", a)]
    if roll < 0.19:
        noun = stories.DEFAULT if rng.random() < 0.55 else rng.choice(list(stories.BY_NOUN))
        story = stories.tell(noun)
        known = len("Once upon a time") if noun == stories.DEFAULT else story.index(" named")
        return [("raw", story[:known], story[known:])]
    turns = 1 if roll < 0.84 else rng.choice((2, 2, 2, 3, 3, 4))
    talk = []
    if rng.random() < 0.12:
        talk.append(("system", rng.choice(SYSTEMS)))
    for _ in range(turns):
        q, a = fresh(story_share=0.13 if turns == 1 else 0.10)
        talk += [("user", q), ("assistant", a)]
    return talk


def samples(seed, eager=False, strange=False):
    """An endless stream of conversations; an `eager` one names values (ports, files, numbers) more often, and in a
    `strange` one more names of places, people and things are words that no list holds."""
    rng = random.Random(seed)
    kept_out = reserved()
    while True:
        yield sample(rng, kept_out, eager, strange)


def main():
    parser = argparse.ArgumentParser(description="Print training conversations.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=20)
    args = parser.parse_args()
    for _, talk in zip(range(args.show), samples(args.seed)):
        for part in talk:
            print("%s: %s" % (part[0], "".join(part[1:])))
        print()


if __name__ == "__main__":
    main()
