"""Questions that the model declines; `{PLACE}` and the like come from the lists below."""
UNKNOWN_ANSWER = (
    "I don't know that. I am a tiny model that knows cllm and short stories; for more, load a bigger model with `cllm serve -m model.gguf`."
)

UNKNOWN_MACROS = {
    "NOUN": "",  # every noun of stories.py, filled in by generate.py
    "PLACE": "[france|germany|japan|brazil|canada|italy|spain|india|china|kenya|peru|norway|egypt|australia|mexico|poland|turkey|greece|portugal|sweden"
    "|iceland|chile|morocco|vietnam|thailand|finland|cuba|nepal|ireland|austria|paris|london|berlin|tokyo|rome|madrid|new york|moscow|vienna|oslo"
    "|denmark|argentina|korea|switzerland|belgium|hungary|scotland|ghana|israel|iran|amsterdam|prague|lisbon|chicago|texas|california|africa|europe|asia]",
    "PERSON": "[einstein|newton|napoleon|mozart|shakespeare|caesar|cleopatra|darwin|galileo|beethoven|picasso|marie curie|ada lovelace|alan turing|plato|lincoln"
    "|gandhi|columbus|da vinci|van gogh|bach|tesla|gutenberg|homer|kepler|the president|the king of spain|the pope|the first astronaut|socrates|churchill"
    "|aristotle|edison|the queen|elvis|bill gates|linus torvalds|the prime minister]",
    "THING": "[photosynthesis|gravity|the universe|a black hole|democracy|inflation|a prime number|the stock market|dna|an atom|the periodic table|the french revolution"
    "|quantum mechanics|relativity|evolution|a volcano|an earthquake|electricity|magnetism|the sun|the weather|climate change|philosophy|economics|algebra|geometry"
    "|calculus|an integral|a derivative|a matrix|chess|football|basketball|tennis|music|jazz|opera|poetry|grammar|latin|the internet|wifi|bluetooth|a database|sql"
    "|javascript|html|a compiler|kubernetes|docker|linux|windows|bitcoin|a blockchain|a neural network|machine learning|a transformer|attention|a vitamin|a protein"
    "|the heart|the brain|a virus|a vaccine|cancer|the moon landing|world war two|the roman empire|the renaissance|the bible|buddhism|love|happiness|the meaning of life"
    "|time|space|money|tax|a mortgage|insurance|a recipe for bread|a good soup|chocolate|coffee|tea|wine|a cake|pizza|pasta|rice|a bicycle|a car engine|a plane"
    "|a bridge|a rocket|a rainbow|thunder|lightning|snow|the ocean|a whale's diet|photons|entropy|a noun|an adverb|pi|zero|infinity|a fractal|steel|gold|oxygen|water"
    "|a piano|the guitar|yoga|a marathon|sleep|dreams in psychology|a haiku|an elephant|a penguin|a spider's web|bees|the amazon river|mount everest|the sahara"
    "|a solar panel|nuclear power|a battery|a laser|radar|gps|a smartphone|java|a linked list|recursion|a hash table|git|an ip packet|dns|tcp|encryption]",
    "TASK": "[write a poem|write an essay|write an email|write a python function that sorts a list|write a letter|write a song|write a sorting algorithm|translate this to french"
    "|translate hello into spanish|say it in german|summarise this text|fix my code|solve this equation|do my homework|plan a trip|plan my day|book a flight|order a pizza"
    "|call my mother|play some music|play chess with me|draw a picture|paint a cat|calculate 17 times 23|add 12 and 30|multiply 6 by 7|count to a hundred|spell necessary"
    "|correct this sentence|find a rhyme for tree|recommend a book|recommend a film|suggest a restaurant|give me a recipe|give me medical advice|explain my dream|predict the future"
    "|tell me the news|tell me the time|check my email|search the web|open a website|convert 5 miles to kilometres|convert 30 euros to dollars|write html|write a regex"
    "|write a bash script that deletes files|make a website|write a program in java|write a speech|write a cover letter|set an alarm|remind me tomorrow|turn on the light"
    "|send an email|buy a ticket|name ten animals|list the planets|list all countries|prove this theorem|factor this polynomial|what is two plus two|what is 3 times 9|what is 12 plus 7"
    "|design a logo|invent a recipe|teach me spanish|teach me maths|sing a song|write a haiku about rain|give me a quiz|write a tweet|compose music|compute the square root of 2]",
}

UNKNOWN_PATTERNS = (
    "[what does|how long does|where does|how much does] {NOUN} [eat|live|sleep|cost|weigh|drink|come from]",
    "[how big is|how fast is|how old is|how do i draw|how do i build|how do i repair|where can i buy|how much is|what colour is|how do i care for|what is the latin name of|how do you spell] {NOUN}",
    "[paint|draw|sketch|build|buy|repair|sell] me {NOUN}",
    "[write a poem about|write a song about|write an essay about|give me facts about|what do you know about|explain the biology of|what is the history of] {NOUN}",
    "[who wrote|who sang|who painted|who directed|who invented|who built|who won|who owns|who was the first to see] [the book about|the song about|the film about|the famous|the first|] {NOUN}",
    "[what is|what's|calculate|compute|solve] [1|2|3|4|5|6|7|8|9|][0|1|2|3|4|5|6|7|8|9] [plus|minus|times|divided by|+|-|*|/] [1|2|3|4|5|6|7|8|9|][0|1|2|3|4|5|6|7|8|9]",
    "[translate|say|how do i say|how do you say] [hello|good night|thank you|i love you|the house is red|water|bread|good evening|yes|my friend] [in|into|to] [french|german|spanish|latin|chinese|polish|dutch|greek|russian|japanese]",
    "[how do i|how can i|how to|where can i|should i|when should i|why should i] [cook|boil|fry|bake|eat|grow|buy|wash|clean|paint|fix|sell|find|store|freeze|peel] [eggs|potatoes|tomatoes|a shirt|my shoes|a fish|an onion|carrots|a wall|the floor|a sofa|a house|meat|beans|my hair|a jacket|a lemon|cheese|noodles]",
    "[what is the|which is the|name the] [largest|smallest|tallest|longest|oldest|fastest|deepest|highest|best|first|most famous|richest] [mountain|river|lake|city|country|animal|building|desert|island|planet|book|film|team|tree|bird|road|song|king|bridge|company] [in {PLACE}|of {PLACE}|of all time|in the world|on earth|]",
    "write [me|] [a|some] [function|code|program|script|class|method|query|python function|loop] [that|to|which] [reverses a list|sorts numbers|adds two numbers|parses a date|reads a file|counts words|finds primes|prints a triangle|merges two lists|sends mail|downloads a page|computes the mean|opens a window]",
    "write [me|] a [poem|song|haiku|letter|speech|sonnet|limerick] [about|on|for] [{NOUN}|{THING}|love|spring|summer|my wife|my teacher|the rain|peace|home|{PERSON}]",
    "[what|which] is the [capital|population|currency|language|flag|biggest city|national dish|history|largest river|highest mountain|area|president|time zone] of {PLACE}",
    "[where is|how far is|what is the weather in|what time is it in|who rules|how big is|how cold is it in|how many people live in|what do people eat in|how do i get to|when was the war in] {PLACE}",
    "[who was|who is|when was {PERSON} born, and who was|when did we lose|what did the world learn from|tell me about|how old is|what do you know about] {PERSON}",
    "[when was|where was] {PERSON} born",
    "[when did|how did] {PERSON} die",
    "{WHATIS} {THING}",
    "{WHATIS} {THING}",
    "[how does|why does] {THING} work",
    "[who invented|who discovered|when was the invention of|what is the history of|why do we need|how do you make|where does one find|how much costs|how old is|what colour is] {THING}",
    "[what do you think about|what do you know about|teach me about|tell me about|do you like|give me facts about|write about|i want to learn about|can you explain|write an essay about|write a poem about] {THING}",
    "[please|can you|could you|would you|i want you to|i need you to||] {TASK}",
    "{TASK}",
    "[what is the weather|what is the weather today|will it rain tomorrow|what time is it|what day is it|what year is it|what is today's date|who won the match|who won the election|what is the news"
    "|how old am i|what is my name|where am i|where do i live|what should i eat|what should i cook tonight|what should i wear|what is the best phone|which car should i buy|how do i lose weight"
    "|how do i learn to swim|how do i cook rice|how do i bake bread|how do i tie a tie|how do i get rich|how do i fix my bicycle|how do i plant a tree|why is the sky blue|why is grass green"
    "|how tall is the eiffel tower|how many legs has a spider|how many days are in a year|how many planets are there|how deep is the sea|what do cats eat|what do whales eat|can pigs fly"
    "|do fish sleep|is there life on mars|is god real|what is the meaning of life|who is the president|who wrote hamlet|what is the speed of light|what is the largest number|how do birds fly"
    "|what is the best programming language|how do i write a loop in java|how do i centre a div|how do i exit vim|how do i use git|what is the price of gold|how much is the ticket"
    "|what is my password|how do i install windows|how do i print a page|what is on television|which film should i watch|what is your favourite colour|what is your favourite food|do you have a mother"
    "|how do i train a model|how do i fine tune a model|can you see images|can you draw|can you speak french|sprechen sie deutsch|parlez vous francais|hablas espanol|can you do maths|do you speak german]",
)
