"""Short stories, each a function of who it is about and what happens.

A character brings a name, a home, a nature and a habit; an episode brings four sentences and an ending. Asked
for a character alone, the story takes that character's own episode; asked for an episode alone, its own
character. So one question has one story, and there is nothing to choose while writing it.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Character:
    noun: str
    name: str
    he: str
    nature: str
    home: str
    habit: str


def _c(noun, name, he, nature, home, habit):
    return Character(noun, name, he, nature, home, habit)


CHARACTERS = (
    _c("fox", "Rusty", "he", "quick and curious", "at the edge of a forest", "counted the birds on the fence"),
    _c("cat", "Mina", "she", "proud but kind", "in a house with a blue door", "washed her paws in the sun"),
    _c("dog", "Bruno", "he", "loyal and cheerful", "on a farm by the river", "ran twice around the barn"),
    _c("girl", "Lily", "she", "brave and patient", "in a village below the hills", "carried water from the well"),
    _c("boy", "Tom", "he", "quiet and clever", "in a town by the sea", "looked for shells on the beach"),
    _c("robot", "Bolt", "he", "careful and polite", "in an old workshop", "polished every screw"),
    _c("dragon", "Ember", "she", "shy and gentle", "in a cave above the clouds", "warmed the stones with her breath"),
    _c("bear", "Bruin", "he", "slow and kind", "in a wood full of berries", "tasted a little honey"),
    _c("rabbit", "Clover", "she", "small and quick", "under an old oak", "nibbled fresh leaves"),
    _c("mouse", "Pip", "he", "tiny and brave", "behind a kitchen wall", "collected crumbs in a thimble"),
    _c("owl", "Olive", "she", "wise and calm", "in a hollow tree", "read the stars before sleep"),
    _c("bird", "Wren", "she", "merry and light", "in a nest near the mill", "sang to the rising sun"),
    _c("wolf", "Grey", "he", "strong and lonely", "on a cold mountain", "listened to the wind"),
    _c("lion", "Leo", "he", "proud and fair", "on a wide yellow plain", "greeted the sun with a yawn"),
    _c("horse", "Star", "she", "fast and gentle", "in a green meadow", "raced the morning mist"),
    _c("frog", "Fen", "he", "green and merry", "beside a quiet pond", "jumped over three lilies"),
    _c("turtle", "Shelby", "she", "slow and patient", "near a sandy bay", "walked to the water and back"),
    _c("elephant", "Ella", "she", "large and gentle", "beside a warm river", "watered the young trees"),
    _c("monkey", "Momo", "he", "playful and quick", "in a tall tree", "swung from branch to branch"),
    _c("hedgehog", "Thistle", "he", "prickly but kind", "under a pile of leaves", "swept the path to his door"),
    _c("squirrel", "Hazel", "she", "busy and neat", "in a crooked pine", "counted her nuts"),
    _c("penguin", "Pablo", "he", "funny and warm", "on a shore of ice", "slid down the snow hill"),
    _c("whale", "Marina", "she", "huge and gentle", "in the deep blue sea", "hummed a long song"),
    _c("fish", "Finn", "he", "silver and swift", "in a clear lake", "chased the light on the stones"),
    _c("duck", "Daisy", "she", "cheerful and round", "on a village pond", "led the way to the reeds"),
    _c("crow", "Corvin", "he", "black and clever", "on the church tower", "collected shiny things"),
    _c("bee", "Bea", "she", "busy and bright", "in a golden hive", "visited forty flowers"),
    _c("ant", "Anton", "he", "small and strong", "under a warm stone", "carried a crumb uphill"),
    _c("spider", "Silka", "she", "patient and skilful", "in the corner of a barn", "mended her web"),
    _c("snail", "Sid", "he", "slow and thoughtful", "in a wet garden", "crossed one whole leaf"),
    _c("king", "Alden", "he", "old and just", "in a castle of white stone", "opened the gates himself"),
    _c("queen", "Isolde", "she", "wise and fair", "in a palace by the lake", "walked among her people"),
    _c("princess", "Clara", "she", "bold and curious", "in a high tower", "climbed down by the ivy"),
    _c("prince", "Edmund", "he", "young and honest", "in a castle on a hill", "practised the flute"),
    _c("knight", "Roland", "he", "brave but tired", "near a broken bridge", "cleaned his shield"),
    _c("wizard", "Merrin", "he", "old and forgetful", "in a crooked tower", "looked for his hat"),
    _c("witch", "Willow", "she", "odd but friendly", "in a hut among the birches", "stirred a pot of soup"),
    _c("farmer", "Jonas", "he", "patient and strong", "on a small farm", "fed the hens at dawn"),
    _c("sailor", "Nils", "he", "bold and cheerful", "in a harbour town", "checked every rope"),
    _c("pirate", "Redbeard", "he", "loud but honest", "on a ship with patched sails", "climbed the mast"),
    _c("baker", "Berta", "she", "warm and busy", "in a street that smelled of bread", "rose before the sun"),
    _c("teacher", "Ada", "she", "kind and patient", "beside the school", "sharpened twelve pencils"),
    _c("old man", "Otto", "he", "gentle and slow", "in a cottage by the road", "waved to every traveller"),
    _c("old woman", "Greta", "she", "wise and merry", "in a cottage full of plants", "talked to her roses"),
    _c("child", "Robin", "she", "small and curious", "in a house with a red roof", "asked one new question"),
    _c("painter", "Vera", "she", "dreamy and kind", "under a roof of glass", "mixed a new colour"),
    _c("giant", "Boulder", "he", "huge but shy", "behind two mountains", "stepped over the river"),
    _c("ghost", "Misty", "she", "pale and polite", "in an empty house", "dusted the old stairs"),
    _c("astronaut", "Nova", "she", "calm and brave", "in a station above the earth", "looked down at the oceans"),
    _c("fisherman", "Piet", "he", "quiet and patient", "in a hut on the shore", "mended his nets"),
    _c("little star", "Twinkle", "she", "bright and shy", "high above a sleeping town", "watched over the roofs"),
    _c("cow", "Bella", "she", "calm and sweet", "on a green hill", "rang her little bell"),
    _c("sheep", "Woolly", "he", "soft and dreamy", "on a windy hill", "chewed the longest grass"),
    _c("goat", "Billy", "he", "stubborn and bold", "on a steep rock", "climbed to the highest stone"),
    _c("pig", "Rosie", "she", "clever and muddy", "behind the red barn", "rolled in the cool mud"),
    _c("hen", "Henny", "she", "careful and warm", "in a wooden coop", "laid one brown egg"),
    _c("tiger", "Raj", "he", "striped and silent", "in a deep jungle", "drank from the still pool"),
    _c("donkey", "Dusty", "he", "stubborn but loyal", "beside a windmill", "carried two sacks of flour"),
    _c("butterfly", "Flora", "she", "light and colourful", "in a wild garden", "danced above the poppies"),
    _c("deer", "Fawn", "she", "shy and swift", "in a silent forest", "drank from the cold brook"),
)

# Nouns that no character above carries: the story takes the noun from the question and the rest from here.
STRANGER = _c("stranger", "Sam", "he", "small and curious", "in a quiet valley", "greeted the sun")
STRANGERS = (
    "dinosaur|parrot|goose|lizard|snake|crocodile|kangaroo|panda|koala|giraffe|zebra|camel|octopus|crab|dolphin|seal|otter|beaver|badger|mole|bat|moth"
    "|beetle|ladybird|worm|cricket|swan|stork|raven|eagle|hawk|pigeon|sparrow|seagull|pony|lamb|calf|puppy|kitten|chicken|rooster|turkey|troll|elf|dwarf|fairy"
    "|mermaid|unicorn|phoenix|monster|vampire|zombie|scarecrow|snowman|teapot|lamp|clock|train|tractor|boat|ship|rocket|balloon|umbrella|shoe|hat|chair|spoon"
    "|tree|flower|mushroom|pumpkin|potato|apple|cloud|mountain|river|doctor|nurse|pilot|cook|tailor|shepherd|hunter|soldier|miller|singer|dancer|writer|poet"
    "|scientist|detective|thief|clown|gardener|carpenter|blacksmith|merchant|traveller|student|mother|father|grandmother|grandfather|sister|brother|baby"
    "|hamster|raccoon|moose|lobster|shark|starfish|firefly|dragonfly|computer|toaster|bicycle|car|truck|violin|drum|candle|pencil"
).split("|")


@dataclass(frozen=True)
class Episode:
    asks: tuple  # how a question names it: "who {finds a key}" or "about {a key}"
    topics: tuple
    text: str  # {N}, {he}, {his}, {him}, {He}, {noun}
    owner: str  # the character that has it when none is named


def _e(asks, topics, text, owner):
    return Episode(tuple(asks.split("|")), tuple(topics.split("|")), text, owner)


EPISODES = (
    _e("finds a lantern|found a lantern|discovers a lantern", "a lantern|an old lantern|light|the dark|darkness",
       "One evening {he} found an old lantern under a bridge. When {N} lit it, the dark road shone like a river of gold. {He} walked along it and led three lost travellers home. Since that night the lantern hangs by {his} door, and nobody gets lost.", "fox"),
    _e("finds a key|found a key|discovers a key|picks up a key", "a key|a golden key|a locked door|a lost key|a secret door",
       "One day {he} found a small golden key in the grass. {N} tried it in every door, but it opened none of them. At last {he} found a tiny box behind the garden wall, and the key turned. Inside lay a note that said: you looked, and so you found.", "girl"),
    _e("finds a map|found a map|follows a map|discovers a map", "a map|a treasure|treasure|a treasure map|an adventure|gold|adventure",
       "One morning {he} found a torn map with a red cross. {N} followed it over two hills and through a cold stream. Under the cross there was no gold, only a bench with a wide view. {N} sat down and thought that it was treasure enough.", "pirate"),
    _e("gets lost|is lost|loses the way|got lost|lost the way", "being lost|getting lost|a forest|the forest|the woods|a dark forest",
       "One day {he} went too far into the forest and lost the way. {N} sat on a stone and listened until {he} heard the brook. {He} followed the water down the hill, step by step. When the moon rose, {N} was home again, tired and glad.", "child"),
    _e("makes a friend|finds a friend|meets a friend|wants a friend|is lonely|looks for a friend|has no friends", "friendship|a friend|friends|a new friend|loneliness|being lonely|kindness",
       "One day {he} saw a stranger who sat alone in the rain. {N} was afraid, but {he} shared {his} bread and {his} dry corner. They talked until the clouds went away. From then on neither of them was alone.", "wolf"),
    _e("learns to fly|wants to fly|dreams of flying|tries to fly", "flying|the sky|wings",
       "One day {he} decided to learn to fly. {N} jumped from a box, then from a fence, and fell into the hay each time. In the end {he} built a kite and ran against the wind. It lifted {him} for one moment, and that moment was enough.", "penguin"),
    _e("goes to sea|sails the sea|sees the sea|wants to see the sea|crosses the ocean|goes to the beach", "the sea|the ocean|a boat trip|a journey|waves|the beach|a voyage",
       "One day {he} heard that the sea was only three days away. {N} packed an apple and walked towards the smell of salt. On the third evening the waves lay before {him}, wide and silver. {He} filled a bottle with the sound and took it home.", "sailor"),
    _e("looks at the moon|talks to the moon|visits the moon|wants to reach the moon|flies to the moon|goes to the moon", "the moon|night|the night|the stars|stars|a star|space",
       "One night {he} asked the moon why it was so far away. The moon answered that from there it could see everyone. So {N} waved, and all over the land others waved too. Since then {he} says good night to the moon and never feels small.", "owl"),
    _e("is caught in a storm|survives a storm|is afraid of a storm|is afraid of thunder|gets caught in the rain", "a storm|thunder|the rain|rain|bad weather|the wind|wind",
       "One day a great storm came over the hills. {N} was afraid, but {he} heard someone cry for help. {He} ran through the rain and pulled a small bird out of the mud. When the sun came back, {N} noticed that the fear was gone.", "dog"),
    _e("loves winter|sees snow|plays in the snow|waits for snow", "winter|snow|the snow|ice|christmas|the cold",
       "One winter morning the whole land was white. {N} made the first steps in the snow and wrote {his} name with them. Soon the others came and wrote their names beside it. By evening the field was a letter that only the sky could read.", "rabbit"),
    _e("plants a seed|grows a tree|plants a tree|has a garden|plants a flower", "a garden|a seed|spring|gardening|growing|patience",
       "One spring {he} planted a seed and waited. Every day {N} looked, and every day there was only earth. {He} watered it all the same. In the third week a green leaf came up, and {N} learned that waiting is work too.", "old woman"),
    _e("bakes a cake|bakes bread|cooks soup|bakes a pie|makes a soup", "a cake|bread|cooking|food|a soup|a feast|baking",
       "One day {he} baked a cake for a feast, but the salt went in instead of the sugar. {N} tasted it and laughed until the tears came. {He} broke it into crumbs and gave it to the fish in the pond. They had the best feast of all.", "baker"),
    _e("loses a hat|loses something|lost a ring|loses a ring|loses a shoe", "a ring|a lost ring|losing things|a lost toy",
       "One day {he} lost the ring that {his} grandmother had left. {N} searched the path, the field and the well. In the evening a crow dropped it on the window and asked for a crumb. {N} gave the bird a whole loaf.", "crow"),
    _e("tells the truth|tells a lie|lies|told a lie", "honesty|the truth|a lie|lying|truth",
       "One day {he} broke a window and told nobody. That night {N} could not sleep, for the wind came through the hole. In the morning {he} knocked on the door and told the truth. They mended the window together, and both slept well.", "prince"),
    _e("wins a race|runs a race|loses a race|takes part in a race", "a race|running|a contest|winning|sport|a competition",
       "One day there was a race to the old mill. {N} was not the first, because {he} stopped to help one who had fallen. They crossed the line together, last of all. The crowd cheered for them longer than for the winner.", "turtle"),
    _e("finds a book|reads a book|writes a book|loves books|learns to read", "a book|books|reading|a library|school|words",
       "One day {he} found a book with empty pages. {N} began to write down one good thing each evening. After a year the book was full, and {he} read it aloud to the whole village. The next morning everyone bought an empty book.", "teacher"),
    _e("hears music|plays music|learns to sing|wants to sing|plays the flute|sings a song", "music|a song|singing|a flute|a melody|a concert",
       "One day {he} heard a song from the other side of the valley. {N} tried to sing it, but the last line was missing. {He} went from door to door, and each neighbour knew one word of it. Together they sang it to the end.", "bird"),
    _e("repairs a clock|finds a clock|fixes a machine|repairs a machine|builds a machine|invents something", "a clock|time|a machine|an invention|science|technology",
       "One day the clock of the town stood still. {N} climbed up and found a tiny nest between the wheels. {He} waited for three weeks until the young birds had flown. Then the clock went on, and nobody had missed the time.", "robot"),
    _e("guards a bridge|crosses a bridge|builds a bridge", "a bridge|a river|the river|building",
       "One day the flood took the bridge away. {N} carried stones to the river, one after the other. The neighbours saw it and came with stones of their own. In a week there was a new bridge, and two villages that knew each other.", "knight"),
    _e("has a dream|dreams|cannot sleep|falls asleep|can't sleep", "a dream|dreams|sleep|bedtime|a bed|going to bed|a pillow",
       "One night {he} could not sleep, so {he} counted the sounds. There was the wind, the clock and a far away train. At the tenth sound {N} dreamed of a house that floated on the sea. In the morning there was a little sand in {his} shoes.", "cat"),
    _e("helps a neighbour|helps a stranger|helps someone|helps others|shares food|saves a friend|rescues a friend", "helping|helping others|sharing|a neighbour|courage|bravery|a hero|a rescue",
       "One day {he} saw a cart stuck in the mud. {N} pushed alone and could not move it. Then {he} called the neighbours, and ten hands did what two could not. The driver gave them apples, and they ate them on the road.", "donkey"),
    _e("climbs a mountain|wants to climb a mountain|reaches the top of a mountain|climbs a hill", "a mountain|the mountains|a hill|climbing|the top of a mountain",
       "One day {he} set out to climb the highest mountain. {N} turned back twice, once for rain and once for fear. The third time {he} reached the top and saw {his} own house, no bigger than a crumb. It had never looked so dear.", "goat"),
)

BY_NOUN = {c.noun: c for c in CHARACTERS}

# Every character's own episode when the question names none: where no episode is owned, the table order decides.
OWN = {e.owner: e for e in EPISODES}
OWN.update({c.noun: EPISODES[i % len(EPISODES)] for i, c in enumerate(CHARACTERS) if c.noun not in OWN})
DEFAULT = "fox"
ANOTHER = "girl"


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def character(noun):
    return BY_NOUN.get(noun) or Character(noun, STRANGER.name, STRANGER.he, STRANGER.nature, STRANGER.home, STRANGER.habit)


def tell(noun=None, episode=None):
    """The one story for this character and episode; either may be None."""
    if noun is None:
        noun = episode.owner if episode else DEFAULT
    if episode is None:
        episode = OWN.get(noun, EPISODES[4])
    c = character(noun)
    he = c.he
    words = {
        "N": c.name, "he": he, "He": he.capitalize(), "noun": noun,
        "his": {"he": "his", "she": "her"}[he], "him": {"he": "him", "she": "her"}[he],
    }
    opening = (
        f"Once upon a time there was {article(noun)} named {c.name} who lived {c.home}. "
        f"{c.name} was {c.nature}, and every morning {he} {c.habit}. "
    )
    return opening + episode.text.format(**words)
