"""Small JSON: a sentence with facts, a request for named fields, and the object that holds them."""
import json

from values import DAYS, city, country, event, item, person


def price(rng, strange):
    return rng.choice(("%d" % rng.randint(1, 200), "%d.%d" % (rng.randint(0, 99), rng.randint(1, 9)), "%d.%d5" % (rng.randint(0, 99), rng.randint(0, 9))))


def population(rng, strange):
    return str(rng.choice((rng.randint(100, 9999), rng.randint(1, 99) * 1000, rng.randint(10000, 999999), rng.randint(1, 30) * 100000)))


# Each schema: the fields with the names they go by (the first is the usual one), how a value is made and
# whether it is text; then sentences that name every field.
AGE = ("age", "age", "age", "age", "years")
PERSON = {"name": (("name", "name", "name", "name", "person", "first_name"), person, True), "age": (AGE, lambda rng, strange: str(rng.randint(1, 99)), False)}
RESIDENT = {**PERSON, "city": (("city", "city", "city", "town", "home"), city, True)}
PLACE = {"name": (("name", "name", "name", "city"), city, True), "country": (("country",), country, True)}
TOWN = {"name": (("name", "name", "name", "city"), city, True), "population": (("population", "population", "inhabitants", "people"), population, False)}
METROPOLIS = {**PLACE, "population": TOWN["population"]}
ORDER = {"item": (("item", "item", "item", "product", "article"), item, True), "count": (("count", "count", "count", "quantity", "amount", "number"), lambda rng, strange: str(rng.randint(1, rng.choice((9, 20, 99, 500)))), False),
         "price": (("price", "price", "price", "cost", "total"), price, False)}
BASKET = {name: ORDER[name] for name in ("item", "count")}
EVENT = {"title": (("title", "title", "title", "event", "name"), event, True), "day": (("day", "day", "day", "date", "weekday"), lambda rng, strange: rng.choice(DAYS), True)}

SCHEMAS = (
    (PERSON, 3, (
        "<name> is <age> years old", "<name> is <age> years old", "<name> is <age>", "<name>, aged <age>, [is here|lives next door|called today|is our guest|works here]", "[my friend|my sister|my brother|our neighbour|my teacher|my cousin|our colleague] <name> is <age> [years old|]",
        "[this is|meet|here is|i know] <name>, [who is <age>|<age> years old|aged <age>|age <age>]", "<name> [turned|turns|will be|has turned|became|just turned] <age> [today|this year|yesterday|in may|]", "<name>'s age is <age>",
        "[the age of <name> is|at the age of] <age>", "[name: <name>, age: <age>|<name>, <age>|<name> (<age>)|<name>, <age> years]", "[he|she] is called <name> and is <age> [years old|]", "[his|her|my|their] name is <name> and [he is|she is|i am|the age is] <age> [years old|]", "i am <name> and i am <age> [years old|]",
    )),
    (RESIDENT, 1.5, (
        "<name> is <age> years old and [lives|works|was born|stays|studies] in <city>", "<name>, <age>, [lives in|comes from|is from|works in] <city>", "<name> from <city> is <age> [years old|]", "<name> [lives|works] in <city> and is <age> [years old|]", "in <city> lives <name>, who is <age>",
    )),
    (PLACE, 1.5, (
        "<name> is [a city|a town|the capital|a place|a port|] in <country>", "<name> [lies in|is located in|is in|belongs to|can be found in] <country>", "<name> is [the capital|the largest city|a city|a town] of <country>", "<name>, <country>", "[in <country> there is a city called|the capital of <country> is|<country> has a city named|a town in <country> is] <name>",
    )),
    (TOWN, 1.5, (
        "<name> has <population> [inhabitants|people|residents|citizens]", "<population> people live in <name>", "[the population of <name> is|<name> has a population of|<name> is a town of|<name> counts] <population> [people|]", "<name> is home to <population> [people|inhabitants]", "[about|roughly|some] <population> people live in <name>",
    )),
    (METROPOLIS, 1, (
        "<name> is [a city|] in <country> and has <population> [inhabitants|people]", "<name>, <country>, has <population> [people|inhabitants]", "<name> in <country> has a population of <population>", "<population> people live in <name>, [a city in|] <country>",
    )),
    (ORDER, 2, (
        "[i bought|we ordered|i want|i would like|she bought|he ordered|i need|they sold|please send|you get] <count> <item> [for|at] <price> [dollars|euros|pounds|francs|each|]", "<count> <item> [cost|are|for|at] <price> [dollars|euros|pounds|each|]", "the price of <count> <item> is <price> [dollars|euros|]",
        "[order|an order]: <count> <item>, <price> [dollars|euros|each|]", "<count> <item> were [sold|bought|ordered] for <price> [dollars|euros|]", "<price> [dollars|euros] for <count> <item>", "[the customer|my mother|a client|anna] [ordered|bought|took|wants] <count> <item> for <price> [dollars|euros|]",
    )),
    (BASKET, 1, (
        "[i bought|we ordered|i want|i would like|she bought|he has|i need|there are|please send|bring me] <count> <item>", "<count> <item> [please|are left|are in the box|arrived today|were sold]", "[the shop has|the box holds|we still have] <count> <item>",
    )),
    (EVENT, 2, (
        "the <title> is on <day>", "the <title> [takes place|starts|happens|will be|begins|is planned|is scheduled|was moved to|will be held] [on|] <day>", "[we have|i have|there is|there will be|she has] [a|the] <title> on <day>", "<title> on <day>", "on <day> [there is|we have|i have|comes] [a|the] <title>", "<day> is the day of the <title>",
        "[come|i am invited|we go|i go] to [the|a] <title> on <day>", "[remember|don't forget] the <title> on <day>", "[next|this] <day> [we have|there is] [a|the] <title>",
    )),
)

ASKS = (
    "[give me|give me|return|show me|write|output|send|print|put|i want|i need|tell me|list|provide|produce|state|report|can you give me|please give me|could you return|make|please write|hand me|let me have] <fields> [as|as|as|in|in the form of|formatted as] [json|json|json|a json object|a small json object|valid json|plain json]",
    "[reply|answer|respond|write|output|give me an answer|please answer|please reply] [with|in|as|using|only with|just with] [json|a json object] [with|containing|holding|that has|having|that contains|of] <fields>",
    "[extract|pull out|get|take|find|collect|parse|pick out|read out|pull] <fields> [as|into|in|to] [json|a json object|json format]",
    "[json|a json object|json object|json please|json only] [with|,|:|of|containing] <fields>",
    "[as|in] json [please|], [with|only|] <fields>",
    "[make|create|build|generate|form|write|give me|i want|i need|return|produce] [a|one|a small|the] json [object|record|] [with|of|from this with|that has|containing|holding|out of] <fields>",
    "[turn|convert|change|transform|translate|put|format|rewrite] [this|it|that|the sentence|the text|this sentence|these facts] [into|to|as|in] [json|a json object] [with|using|having|, keys|, fields] <fields>",
    "what are <fields> [as|in] json",
    "[json|json format|format json], [keys|fields] <fields>",
    "[i'd like|i would like|we need] [json|a json object] [with|that holds|for] <fields>",
    "[how would|what would] [this|it] [be|look] [as|in] json with <fields>",
)
BARE_ASKS = (
    "[as json|in json|json please|give me json|give me that as json|return json|answer in json|turn it into json|write this as json|convert to json|make it json|json|give it to me as json|reply in json|put that in json|as a json object]",
)


def field_list(rng, names):
    """The names as a request lists them."""
    quote = rng.choice(("%s",) * 8 + ('"%s"', "`%s`", "'%s'"))
    shown = [quote % n for n in names]
    joined = rng.choice((" and ", " and ", " and ", ", ", ", ", " + ")).join(shown) if len(shown) == 2 else rng.choice((", ".join(shown), ", ".join(shown[:-1]) + " and " + shown[-1], ", ".join(shown[:-1]) + ", and " + shown[-1]))
    return rng.choice(("", "", "", "", "", "the ", "only ", "the fields ", "the keys ", "fields ", "keys ", "the properties ", "the ")) + joined


def ask(rng, say, dress, strange=False):
    """(question, answer) of one request for JSON."""
    fields, _, sentences = rng.choices(SCHEMAS, [share for _, share, _ in SCHEMAS])[0]
    sentence = say(rng, rng.choice(sentences))
    values = {}
    for field, (_, make, _) in fields.items():
        values[field] = make(rng, strange)
        sentence = sentence.replace("<%s>" % field, values[field])
    order = list(fields)
    bare = rng.random() < 0.12
    if not bare:
        if rng.random() < 0.25:
            rng.shuffle(order)
        if rng.random() < 0.12:
            order = order[:rng.randint(1, len(order))]
    names = {f: fields[f][0][0] if bare or rng.random() < 0.8 else rng.choice(fields[f][0]) for f in order}
    if len(set(names.values())) < len(names):
        names = {f: f for f in order}
    request = say(rng, rng.choice(BARE_ASKS if bare else ASKS)).replace("<fields>", field_list(rng, list(names.values())))
    if rng.random() < 0.8:
        request = request.replace("json", "JSON")
    if rng.random() < 0.75:
        sentence, request = sentence[0].upper() + sentence[1:], request[0].upper() + request[1:]
    roll = rng.random()
    end = rng.choice((".", ".", ".", "", "!", "?" if request.lower().startswith(("what", "how", "can", "could")) else "."))
    if roll < 0.62:
        question = sentence + rng.choice((". ", ". ", ". ", "! ", "\n", ".\n")) + request + end
    elif roll < 0.9:
        question = request + rng.choice((": ", ": ", ":\n", ". ", " from this: ", " from this sentence: ", " for this text: ", " from: ")) + sentence + rng.choice((".", "."  , ""))
    else:
        question = '%s: "%s"' % (request, sentence)
    if rng.random() < 0.05:
        question = rng.choice(("please, ", "hello. ", "a task: ", "Hi! ", "Next task: ")) + question
    parts = []
    for f in order:
        shown = json.dumps(values[f], ensure_ascii=False) if fields[f][2] else values[f]
        parts.append("%s: %s" % (json.dumps(names[f]), shown))
    return question, "{" + ", ".join(parts) + "}"
