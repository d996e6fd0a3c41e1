"""Values that a question names and an answer copies: places, people, numbers. Half of the names are made up of
syllables, so that copying is learned rather than a list of names."""

CITIES = (
    "Paris|London|Berlin|Tokyo|Rome|Madrid|New York|Moscow|Vienna|Oslo|Amsterdam|Prague|Lisbon|Chicago|Boston|Sydney|Toronto|Dublin|Athens|Cairo|Lima|Delhi|Mumbai|Seoul|Beijing|Shanghai"
    "|San Francisco|Los Angeles|Rio de Janeiro|Buenos Aires|Hamburg|Munich|Cologne|Zurich|Geneva|Basel|Warsaw|Krakow|Budapest|Helsinki|Stockholm|Copenhagen|Reykjavik|Istanbul|Nairobi|Lagos|Accra"
    "|Dakar|Tunis|Rabat|Manila|Hanoi|Bangkok|Jakarta|Singapore|Kyoto|Osaka|Perth|Auckland|Wellington|Vancouver|Montreal|Seattle|Denver|Dallas|Miami|Havana|Bogota|Quito|Santiago|Porto|Seville"
    "|Valencia|Naples|Milan|Turin|Venice|Florence|Lyon|Nice|Marseille|Bordeaux|Brussels|Ghent|Antwerp|Leeds|Bristol|Glasgow|Edinburgh|Cardiff|Belfast|Cork|Riga|Vilnius|Tallinn|Sofia|Zagreb|Belgrade"
    "|Tel Aviv|Cape Town|Hong Kong|Kuala Lumpur|Mexico City|Salt Lake City|St. Gallen|Abu Dhabi"
).split("|")
NAMES = (
    "Anna|Ben|Clara|David|Emma|Felix|Greta|Hugo|Ida|Jonas|Karin|Leon|Maria|Nora|Oscar|Paula|Rosa|Simon|Tina|Uwe|Vera|Walter|Yara|Zoe|Ali|Mei|Ravi|Aisha|Carlos|Elena|Ivan|Yuki|Omar|Fatima|Liam|Olivia"
    "|Noah|Mia|Lucas|Sofia|James|Grace|Henry|Alice|Bob|Carol|Frank|Peter|Laura|Mark|Julia|Max|Eva|Tom|Sarah|Daniel|Lena|Paul|Nina|Jack|Ruth|Adam|Kate|Sam|Amy|Luis|Marta|Hans|Ines|Erik|Astrid"
).split("|")
COUNTRIES = (
    "France|Germany|Japan|Brazil|Canada|Italy|Spain|India|China|Kenya|Peru|Norway|Egypt|Australia|Mexico|Poland|Turkey|Greece|Portugal|Sweden|Iceland|Chile|Morocco|Vietnam|Thailand|Finland|Cuba|Nepal"
    "|Ireland|Austria|Denmark|Argentina|Belgium|Hungary|Scotland|Ghana|Israel|Switzerland|New Zealand|South Africa|South Korea|Czechia|Croatia|Latvia|Estonia|Bolivia|Ecuador|Tunisia|Senegal"
).split("|")
DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday".split("|")
ITEMS = (
    "apples|pears|books|pens|chairs|lamps|cups|plates|shirts|socks|eggs|lemons|tickets|candles|notebooks|pencils|bottles|keys|bags|hats|shoes|towels|pillows|spoons|forks|knives|mugs|carrots|onions|cakes"
    "|loaves|boxes|cables|screens|mice|batteries|lights|roses|tulips|stamps|cards|games|puzzles|balls|bicycles|tables|desks|mirrors|clocks|watches|rings|coats|gloves|scarves|melons|bananas|oranges|grapes"
).split("|")
EVENTS = (
    "concert|meeting|party|lecture|workshop|picnic|exam|game|match|wedding|dinner|lunch|interview|class|seminar|festival|market|race|trip|tour|parade|reading|team meeting|book club|board meeting|school play"
    "|birthday party|piano lesson|chess game|film night|yoga class|dance class|flea market|staff meeting|garden party|code review|job interview|quiz night|football match|opening|conference|rehearsal|barbecue|hike"
).split("|")
STARTS = "b br c ch d dr f fl g gr h j k kl l m n p pr r s st t tr v w z sh th".split()
MIDDLES = "a e i o u ai ea ou io".split()
ENDS = "n r l s m nd rt ck st th ll".split() + [""] * 8


def made_up(rng):
    """A name of two or three syllables that no list holds."""
    return "".join(rng.choice(STARTS) + rng.choice(MIDDLES) + rng.choice(ENDS) for _ in range(rng.choice((2, 2, 3)))).capitalize()


def spliced(rng, names):
    """The head of one real name on the tail of another: new words made of common pieces."""
    head, tail = rng.choice(names), rng.choice(names)
    return (head[:rng.randint(2, max(2, len(head) - 1))] + tail[rng.randint(1, max(1, len(tail) - 2)):].lower()).replace(" ", "").replace(".", "").capitalize()


def city(rng, strange=False):
    if strange and rng.random() < 0.4:
        return spliced(rng, CITIES)
    roll = rng.random()
    if roll < 0.55:
        return rng.choice(CITIES)
    if roll < 0.9:
        return made_up(rng)
    return rng.choice(("New ", "Port ", "San ", "North ", "Saint ", "Upper ", "El ", "Fort ")) + made_up(rng)


def person(rng, strange=False):
    if strange and rng.random() < 0.4:
        return spliced(rng, NAMES)
    name = rng.choice(NAMES) if rng.random() < 0.6 else made_up(rng)
    return name + " " + made_up(rng) if rng.random() < 0.1 else name


def country(rng, strange=False):
    if strange and rng.random() < 0.3:
        return spliced(rng, COUNTRIES)
    return rng.choice(COUNTRIES) if rng.random() < 0.75 else made_up(rng) + rng.choice(("", "ia", "land"))


def item(rng, strange=False):
    if strange and rng.random() < 0.4:
        return spliced(rng, ITEMS).lower()
    roll = rng.random()
    base = rng.choice(ITEMS) if roll < 0.8 else made_up(rng).lower() + "s"
    return rng.choice(("red ", "green ", "small ", "old ", "blue ", "large ")) + base if rng.random() < 0.15 else base


def event(rng, strange=False):
    if strange and rng.random() < 0.4:
        return spliced(rng, EVENTS).lower() + rng.choice(("", "", " " + rng.choice(EVENTS).split(" ")[-1]))
    return rng.choice(EVENTS) if rng.random() < 0.85 else made_up(rng).lower() + rng.choice((" meeting", " party", " concert", " talk"))


def plain_number(rng):
    """A number as JSON and people write it."""
    roll = rng.random()
    if roll < 0.9:
        return str(rng.randint(0, rng.choice((9, 20, 99, 99, 999, 999, 9999, 99999, 999999))))
    return "%d.%d" % (rng.randint(0, 99), rng.randint(1, 9)) if roll < 0.97 else "-%d" % rng.randint(1, 99)
