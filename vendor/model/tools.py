"""Tool calls: the lists of tools a request brings, what people ask of them, the call and the sentence after it.

Two tools are taught, the weather of a city and the sum of two numbers, under many names; the other tools of a list
are only there to be left alone. The texts are what the chat template (template.jinja) writes for such a request.
"""
import json
import re
from dataclasses import dataclass

from values import city, plain_number

WEATHER_NAMES = (
    "[get_|fetch_|lookup_|find_|check_|query_|current_|read_|show_|get_current_|city_|local_|][weather|weather|weather|forecast|weather_report|weather_info|weather_data|temperature]"
    "[||||||_in_city|_for_city|_now|_v2|_tool|_at|_today|_by_city|_lookup]",
    "[get|fetch|lookup|find|check|query|current|read|show|getCurrent|city][Weather|Weather|Forecast|WeatherReport|WeatherInfo|Temperature][||||Now|Tool|ForCity]",
)
PLACE_NAMES = ("city", "city", "city", "location", "location", "location", "place", "town", "city_name", "cityName", "where", "loc", "destination", "address")
UNIT_NAMES = ("unit", "unit", "units", "scale", "format", "temperature_unit")
UNITS = ("celsius", "fahrenheit")
SUM_NAMES = (
    "[add|add|add|sum|sum|calculator|calculate|calc|plus|addition|adder|compute_sum|calculate_sum|get_sum|find_sum|add_up|total|math_add|do_sum]"
    "[||||_numbers|_two_numbers|_two|_integers|_values|_tool|_v2|_of_two|_ints]",
    "[add|sum|compute|calculate|get][Numbers|TwoNumbers|Sum|Two|Total|Integers|Values]",
)
NUMBER_NAMES = (("a", "b"), ("a", "b"), ("a", "b"), ("x", "y"), ("x", "y"), ("first", "second"), ("left", "right"), ("num1", "num2"), ("n1", "n2"), ("number1", "number2"),
                ("first_number", "second_number"), ("m", "n"), ("p", "q"), ("lhs", "rhs"), ("value1", "value2"), ("one", "two"), ("i", "j"), ("augend", "addend"), ("a1", "a2"))
OTHERS = (
    ("get_time", "zone"), ("send_email", "to", "subject", "body"), ("search", "query"), ("web_search", "query", "limit"), ("translate", "text", "language"), ("get_stock_price", "symbol"),
    ("set_timer", "minutes"), ("play_music", "song"), ("open_file", "path"), ("read_file", "path"), ("list_files", "folder"), ("run_code", "code"), ("book_flight", "origin", "destination"),
    ("find_restaurant", "city", "cuisine"), ("convert_currency", "amount", "to"), ("create_event", "title", "day"), ("get_news", "topic"), ("define_word", "word"), ("random_number", "low", "high"),
    ("send_message", "user", "text"), ("turn_on_light", "room"), ("get_user", "id"), ("delete_note", "id"), ("getTime", "timezone"), ("findHotel", "city", "nights"), ("multiply", "a", "b"), ("now",),
)
WEATHER_ASKS = (
    "[what is|what's|how is|how's|whats|tell me|give me|show me|check|look up|find|get|get me|what about|i want to know|i need|do you know|can you tell me|can you check|could you check|please check|let me know|find out] the "
    "[weather|weather|weather|weather like|current weather|forecast|weather forecast|temperature|current temperature|weather today|weather right now|weather now|weather report] [in|in|in|for|at|over in|of] <city> [|||||today|now|right now|at the moment|this morning|tonight|like]",
    "[what is|what's] the weather like [in|over in|at] <city> [|||today|now|right now|this afternoon]",
    "[what is|what's] it like [outside|] in <city> [today|now|right now|]",
    "how [hot|cold|warm|windy|wet|humid|bad|nice] is [it|the weather|it outside] in <city> [|||today|now|right now]",
    "[is|will] it [raining|rain|sunny|cold|warm|snowing|hot|cloudy|windy|snow|be cold|be sunny|nice|foggy|wet|freezing] in <city> [|||today|now|right now|tomorrow]",
    "does it [rain|snow] in <city> [|now|today]",
    "do i need [an umbrella|a coat|a jacket|sunglasses|a hat|boots|a scarf|warm clothes] in <city> [|||today|now]",
    "<city> weather [|||please|today|now|report]",
    "[weather|forecast|temperature|current weather|weather report] [in|for|at||] <city> [|||please|now|today]",
    "[i am|i'm|we are] [going|travelling|flying|driving|moving] to <city> [, what is the weather there|, what's the weather like|, how is the weather|, will it rain|, is it cold there|, what will the weather be|and need the weather|. weather there|, how warm is it there]",
    "i [live|am|work] in <city> [, how is the weather|, what's the weather|, is it raining|, what is the temperature|and want to know the weather]",
    "how many degrees [are there|is it|are it|does it have] in <city> [|||now|today]",
    "[what does the sky look like|how does the sky look|what are the conditions|how is the climate today|what should i wear|should i take an umbrella|is the sun shining|what temperature is it|what kind of weather is it|how does it look outside] in <city> [|||today|now]",
    "[use the tool|call the tool|use your tools] [to get|and tell me|for] the weather [in|of|for] <city>",
)
SUM_ASKS = (
    "[what is|what's|how much is|calculate|compute|whats|tell me|work out|can you calculate|can you compute|please compute|solve|i need|find|what makes|evaluate|figure out|give me|do you know|let me know] <a> [plus|plus|+|+|and|added to] <b>",
    "[add|add|add|sum|sum up|add up|total|combine|please add|can you add|could you add|i want to add|i need to add|put together] [|||the numbers|up|the two numbers|the values] <a> [and|and|and|to|with|plus] <b> [||||||together|for me|please|up]",
    "[what is|what's|compute|calculate|find|tell me|give me|i need|get|work out|i want|show me|do you know|determine] the [sum|sum|total|result] of <a> [and|plus|+] <b>",
    "<a> [+|+|plus|and] <b> [||||equals|equals what|is what|makes|makes what|is how much|is|=|together]",
    "[how much|what|how many] [do|does|will|would] <a> [and|plus] <b> [make|give|add up to|equal|yield|come to|make together|sum to]",
    "how much [are|is] <a> and <b> [together|in total|in all|combined|summed up|taken together|added]",
    "what do [i|we|you] get [if|when] [i|we|you] add <a> [and|to|plus] <b>",
    "i have <a> [apples|euros|books|points|coins|cards|dollars|eggs|stamps|] and [get|buy|find|receive|win|you give me|add] <b> [more|] [, how many do i have|, how many are there|, how many now|, what is the total|. how many in total|, how much is that]",
    "[what's|what is|give me|i want] the total [of|when you add|for|if i add] <a> and <b>",
    "[use the tool|call the tool|use your tools] [to add|for] <a> [and|plus] <b>",
    "increase <a> by <b>",
    "[there are|we have|she has] <a> [and|plus] <b> [, how many is that|, what is the sum|, how many together|, add them|. what's the total]",
)
SKIES = ("sunny", "cloudy", "rainy", "snowy", "windy", "foggy", "clear", "stormy", "partly cloudy", "overcast", "light rain", "hot", "cold", "mild", "humid", "thunderstorms", "heavy rain", "dry", "warm", "misty", "freezing",
         "showers", "drizzle", "bright", "hail", "light snow", "fair", "icy", "calm", "mostly sunny")


NEEDS_TOOL = re.compile(r"weather|rain|cold is it|add |plus|\+|square root")


@dataclass(frozen=True)
class Tool:
    name: str
    params: tuple  # (name, type, required)

    def line(self):
        return "%s(%s)" % (self.name, ", ".join("%s%s: %s" % (name, "" if needed else "?", kind) for name, kind, needed in self.params))


def system_block(tools, system=""):
    """What the template writes in the system turn."""
    return (system + "\n\n" if system else "") + "\n".join(["Tools:", *(tool.line() for tool in tools)])


def call_text(name, arguments):
    return '<tool_call>\n{"name": %s, "arguments": %s}\n</tool_call>' % (json.dumps(name), json.dumps(arguments, ensure_ascii=False))


def others(rng, count):
    chosen = []
    for name, *params in rng.sample(OTHERS, count):
        chosen.append(Tool(name, tuple((p, rng.choice(("string", "string", "integer", "number")), rng.random() < 0.7) for p in params)))
    return chosen


def weather_tool(rng, say):
    params = [(rng.choice(PLACE_NAMES), "string", rng.random() < 0.85)]
    if rng.random() < 0.35:
        params.append((rng.choice(UNIT_NAMES), "string", rng.random() < 0.2))
        if rng.random() < 0.2:
            params.reverse()
    name = "get_weather" if rng.random() < 0.2 else say(rng, rng.choice(WEATHER_NAMES))
    return Tool(name, tuple(params))


def sum_tool(rng, say):
    kind = rng.choice(("number", "number", "integer", "integer", "float"))
    needed = rng.random() < 0.85
    name = rng.choice(("add", "sum", "calculator")) if rng.random() < 0.2 else say(rng, rng.choice(SUM_NAMES))
    return Tool(name, tuple((param, kind, needed) for param in rng.choice(NUMBER_NAMES)))


def degrees(rng):
    return str(rng.randint(-15, 42)) if rng.random() < 0.9 else "%d.5" % rng.randint(0, 35)


def dumps(rng, value):
    """JSON as tools write it, with spaces or without."""
    return json.dumps(value, ensure_ascii=False, separators=None if rng.random() < 0.6 else (",", ":"))


def weather_result(rng, place):
    """(what the tool answers, the sentence about it)."""
    sky, warm = rng.choice(SKIES), degrees(rng)
    number = json.loads(warm)
    roll = rng.random()
    if roll < 0.12:
        return rng.choice((warm, "%s degrees" % warm, dumps(rng, {"temperature": number}), dumps(rng, {"temp": number}), "%s C" % warm)), "It is %s degrees in %s." % (warm, place)
    if roll < 0.24:
        return rng.choice((sky, dumps(rng, {"weather": sky}), dumps(rng, {"condition": sky}), sky.capitalize())), "The weather in %s is %s." % (place, sky)
    sentence = "The weather in %s is %s, %s degrees." % (place, sky, warm)
    if roll < 0.5:
        shown = rng.choice((sky, sky, sky.capitalize()))
        return rng.choice(("%s, %s degrees" % (shown, warm), "%s, %s C" % (shown, warm), "%s %s" % (shown, warm), "%s, %s" % (shown, warm), "%s degrees, %s" % (warm, sky), "%s and %s degrees" % (shown, warm))), sentence
    pairs = [(rng.choice(("weather", "condition", "conditions", "sky", "description", "forecast", "summary", "state")), sky),
             (rng.choice(("temperature", "temperature", "temp", "degrees", "temperature_c", "temp_c")), number)]
    if rng.random() < 0.3:
        pairs.append(("unit", rng.choice(UNITS)))
    if rng.random() < 0.5:
        pairs.append((rng.choice(("city", "location", "place")), place))
    if rng.random() < 0.2:
        pairs.append((rng.choice(("humidity", "wind")), rng.randint(1, 99)))
    rng.shuffle(pairs)
    return dumps(rng, dict(pairs)), sentence


def sum_result(rng, a, b):
    total = json.dumps(round(json.loads(a) + json.loads(b), 6))
    number = json.loads(total)
    key = rng.choice(("result", "result", "sum", "total", "value", "answer"))
    shown = rng.choice((total, total, total, dumps(rng, {key: number}), dumps(rng, {key: number}), dumps(rng, {rng.choice(("a", "x")): json.loads(a), rng.choice(("b", "y")): json.loads(b), key: number})))
    return shown, "%s + %s = %s." % (a, b, total)


def task(rng, say, dress, strange=False):
    """(tool, question, call, tool's answer, sentence) of one request that needs a tool."""
    if rng.random() < 0.5:
        tool, place = weather_tool(rng, say), city(rng, strange)
        question = dress(rng, say(rng, rng.choice(WEATHER_ASKS)))
        unit = None
        if len(tool.params) > 1:
            needed = [n for n, _, n_ in tool.params if n_]
            unit_name = next(name for name, _, _ in tool.params if name in UNIT_NAMES)
            if rng.random() < 0.5:
                unit = rng.choice(UNITS)
                shown = unit if rng.random() < 0.5 else unit.capitalize()
                question = question.rstrip("?.!") + rng.choice((" in %s", " in %s", ", in %s", " in degrees %s", ", %s please")) % shown + rng.choice(("?", "", "."))
            elif unit_name in needed:
                unit = "celsius"
        question = question.replace("<city>", place)
        arguments = {}
        for name, _, _ in tool.params:
            if name in UNIT_NAMES and len(tool.params) > 1:
                if unit:
                    arguments[name] = unit
            else:
                arguments[name] = place
        result, sentence = weather_result(rng, place)
    else:
        tool, a, b = sum_tool(rng, say), plain_number(rng), plain_number(rng)
        question = dress(rng, say(rng, rng.choice(SUM_ASKS)))
        if rng.random() < 0.15:
            question = question.replace("<a> + <b>", "<a>+<b>")
        question = question.replace("<a>", a).replace("<b>", b)
        arguments = {name: json.loads(v) for (name, _, _), v in zip(tool.params, (a, b))}
        result, sentence = sum_result(rng, a, b)
    return tool, question, arguments, result, sentence


def earlier_call(rng, name, arguments):
    """The turn with a call as the template writes it back from the history: clients drop the spaces at times, and that
    is read, not learned."""
    if rng.random() < 0.7:
        return "assistant", call_text(name, arguments)
    compact = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return "earlier", '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>' % (name, compact)


def conversation(rng, say, dress, ordinary, systems, strange=False):
    """A conversation with tools; `ordinary()` gives a (question, answer), which may or may not need one."""
    def toolless():
        while True:
            q, a = ordinary()
            if not NEEDS_TOOL.search(q.lower()):
                return q, a

    tool, question, arguments, result, sentence = task(rng, say, dress, strange)
    listed = [tool, *others(rng, rng.choice((0, 0, 1, 1, 2, 3)))]
    if rng.random() < 0.4:  # the other taught tool is on the list too
        taught_weather = any(kind == "string" for _, kind, _ in tool.params)
        listed.append(sum_tool(rng, say) if taught_weather else weather_tool(rng, say))
    rng.shuffle(listed)
    if len({t.name for t in listed}) < len(listed):
        listed = [tool]
    talk = [("system", system_block(listed, rng.choice(systems) if rng.random() < 0.15 else ""))]
    if rng.random() < 0.12:
        q, a = toolless()
        talk += [("user", q), ("assistant", a)]
    if rng.random() < 0.3:
        q, a = toolless()
        return talk + [("user", q), ("assistant", a)]
    talk.append(("user", question))
    if rng.random() < 0.45:
        return talk + [("assistant", call_text(tool.name, arguments))]
    talk += [earlier_call(rng, tool.name, arguments), ("tool", result), ("assistant", sentence)]
    if rng.random() < 0.08:
        q, a = toolless()
        talk += [("user", q), ("assistant", a)]
    return talk
