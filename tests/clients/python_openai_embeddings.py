"""Python's openai against a cllm that serves an embedding model: CLLM_URL names it."""

import asyncio
import os

import openai

URL = os.environ["CLLM_URL"] + "/v1"
client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
TEXTS = ["A bird sings.", "A plane flies.", "zu " * 300]


def refused(param, call):
    try:
        call()
    except openai.BadRequestError as error:
        assert error.param == param, error
    else:
        raise AssertionError(f"{param} was accepted")


# Without encoding_format the client asks for base64 and decodes it.
packed = client.embeddings.create(model="bert", input=TEXTS)
plain = client.embeddings.create(model="bert", input=TEXTS, encoding_format="float")
assert [item.index for item in packed.data] == [0, 1, 2] and len(packed.data[0].embedding) == 128, packed
for a, b in zip(packed.data, plain.data):
    assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 1e-6
    assert abs(sum(x * x for x in a.embedding) - 1) < 1e-5
assert packed.usage.prompt_tokens == packed.usage.total_tokens > 300, packed.usage

one = client.embeddings.create(model="bert", input=TEXTS[0], dimensions=16)
assert len(one.data[0].embedding) == 16
ids = client.embeddings.create(model="bert", input=[[2, 300, 3], [2, 301, 3]])
assert len(ids.data) == 2 and ids.usage.prompt_tokens == 6

refused("dimensions", lambda: client.embeddings.create(model="bert", input="a", dimensions=129))
refused("input[1]", lambda: client.embeddings.create(model="bert", input=["a", "zu " * 600]))
refused(None, lambda: client.chat.completions.create(model="bert", messages=[{"role": "user", "content": "Hi"}]))


async def at_once():
    own = openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0)
    answers = await asyncio.gather(*(own.embeddings.create(model="bert", input=TEXTS) for _ in range(8)))
    for answer in answers:
        assert max(abs(x - y) for x, y in zip(answer.data[0].embedding, packed.data[0].embedding)) < 1e-3


asyncio.run(at_once())
print("openai", openai.__version__, "has its embeddings")
