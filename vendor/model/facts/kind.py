"""What a kind of question is, and the ways to ask that all kinds share."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    name: str
    answer: str  # `<value>` marks are replaced by the value asked for, or its default
    marks: tuple  # literals that a right answer contains; marks[0] must not appear in another kind's answer
    patterns: tuple
    default: dict = field(default_factory=dict)
    share: float = 1.0  # how often it is asked, against the other kinds


MACROS = {
    "HOW": "[how do i|how do i|how can i|how can i|how would i|how should i|how to|how do you|how does one|how do we"
    "|what is the way to|is there a way to|is it possible to|can i|could i|can you tell me how to|i want to|i need to"
    "|i would like to|i'd like to|tell me how to|show me how to|please show me how to|explain how to|what do i do to"
    "|what must i do to|what should i do to|what command do i use to|i am trying to|trying to|help me|let me|what is needed to|what's the best way to|what is the easiest way to|how might i"
    "|do you know how to|i wonder how to|i'd love to|any way to|is there some way to|how could one|how can one|would it be possible to|please"
    "|i am looking for a way to|i was wondering how to|what would i do to|how can we|i'd want to|we want to|what does it take to|teach me to|]",
    "WHATFLAG": "[what|which] [flag|option|switch|argument|command line flag|command line option|setting]",
    "WHATFIELD": "[what|which] [field|parameter|key|json field|request field|request parameter|option|setting]",
    "SRV": "[the server|the server|cllm|cllm|the cllm server|this server|my server|it]",
    "RUN": "[start|run|launch|start up|boot|bring up|fire up]",
    "SET": "[set|change|use|pass|give|choose|pick|specify|configure|adjust|control|modify|define]",
    "MORE": "[raise|increase|turn up|bump|boost|lift]",
    "LESS": "[lower|decrease|reduce|turn down|drop]",
    "WHATIS": "[what is|what is|what's|whats|what exactly is|explain|please explain|define|tell me about|can you explain"
    "|describe|tell me what is|i don't know what is]",
    "DOES": "[what does|what will|tell me what|explain what]",
    "REQ": "[in a request|in the request|in the body|for a request|in my request|per request|in the json|]",
    "WHERE": "[where do i find|where can i find|where are|where can i see|how do i see|how can i see|how do i get"
    "|how can i get|how do i read|how can i read|show me|give me|i want to see|i want|can i see|can i get|i need|where do i get]",
    "GEN": "[generate|generate text|complete|complete a prompt|complete text|send a prompt|call the api|call it|use the api"
    "|query the server|ask the server|talk to the server|make a request|send a request|get a completion|get text]",
    "BE": "[how can|how can|how could|how should|how would|can|could|may|how might|where can|where could]",
    "DONE": "[set|changed|used|given|specified|configured|adjusted|controlled|chosen|defined|selected|picked|modified]",
    "OUT": "[answer|answers|output|reply|text|response|result|replies|responses|generated text]",
}


def field_patterns(*names):
    """Ways to ask for a request field that all fields share; `names` are the ways to say it."""
    n = "[" + "|".join(names) + "]"
    return (
        "{HOW} {SET} [the|a|] %s {REQ}" % n,
        "{HOW} {SET} [the|] %s [parameter|field|value|setting|]" % n,
        "{DOES} [the|] %s [parameter|field|setting|option|] [do|mean|change|control|]" % n,
        "{WHATIS} [the|] %s" % n,
        "{WHATIS} [the|] %s [parameter|field|setting|]" % n,
        "{WHATFIELD} [sets|controls|changes|is for|do i use for|do i need for|is used for] [the|] %s" % n,
        "where do i [put|set|write|give|specify] [the|] %s" % n,
        "[can i|is it possible to|am i able to] {SET} [the|] %s [myself|]" % n,
        "does [it|cllm|the server] [have|support|accept|know|understand|take] [a|] %s" % n,
        "%s" % n,
        "%s [setting|parameter|please|example|help|usage]" % n,
        "give me an example [of|with|for] %s" % n,
        "[how can|how could|how should|can|could|where can|may] [the|a|] %s be {DONE}" % n,
        "how [is|does] [the|] %s [used|set|work|given|specified|chosen|changed]" % n,
        "[what is|what's] [the|] %s [good|used|there|meant] for" % n,
        "[what's|what is] the [point|purpose|meaning|effect|use|job] of [the|] %s" % n,
        "[where does|where should] [the|] %s go" % n,
        "i [want|need|would like|'d like] [a|an|the|to use|to set|to change] [the|] %s" % n,
        "[is there|is there such a thing as|do you have] [a|an|] %s [setting|parameter|option|field|]" % n,
        "how [should|do] i choose [the|a] %s" % n,
    )
