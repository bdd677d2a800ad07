"""openai-python: replies whole and streamed, the terms of a reply, errors, models. Prints what came as JSON."""

import asyncio
import json
from typing import Any

import openai

client = openai.OpenAI(api_key="any", max_retries=0)
model = client.models.list().data[0].id
history: list[Any] = [{"role": "user", "content": "My name is Ada. What is the capital of France?"}]
found: dict[str, Any] = {"model": model}

raw = client.chat.completions.with_raw_response.create(model=model, messages=history, max_tokens=16, temperature=0)
first = raw.parse()
found["session"] = raw.headers["x-edge-sir-session"]
found["request_id"] = first._request_id
found["first"] = first.model_dump()

history += [
    {"role": "assistant", "content": first.choices[0].message.content},
    {"role": "user", "content": "And of Italy?"},
]
raw = client.chat.completions.with_raw_response.create(model=model, messages=history, max_tokens=16, temperature=0)
found["second"], found["match"] = raw.parse().model_dump(), raw.headers["x-edge-sir-match"]
found["same_session"] = raw.headers["x-edge-sir-session"] == found["session"]

history += [
    {"role": "assistant", "content": raw.parse().choices[0].message.content},
    {"role": "user", "content": "And of Spain?"},
]
chunks = list(
    client.chat.completions.create(
        model=model, messages=history, max_tokens=16, temperature=0, stream=True, stream_options={"include_usage": True}
    )
)
found["streamed"] = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
found["stream_usage"] = chunks[-1].usage.model_dump() if chunks[-1].usage else None
found["stream_finish"] = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1]


def seeded(seed: int) -> str:
    said: list[Any] = [{"role": "user", "content": "Write a line about the sea."}]
    reply = client.chat.completions.create(model=model, messages=said, max_tokens=12, temperature=1, seed=seed)
    return reply.choices[0].message.content or ""


found["seeds"] = [seeded(3), seeded(3)]
say: list[Any] = [{"role": "user", "content": "Count: one, two, three, four"}]
stopped = client.chat.completions.create(model=model, messages=say, max_tokens=24, temperature=0, stop=["e", "o"])
found["stopped"] = stopped.choices[0].message.content

try:
    part: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": [part]}])
except openai.BadRequestError as error:
    found["refused"] = {"param": error.param, "type": error.type, "body": error.body}


async def at_once() -> list[str]:
    async with openai.AsyncOpenAI(api_key="any", max_retries=0) as other:

        async def one(i: int) -> str:
            said: list[Any] = [{"role": "user", "content": f"Say the number {i}."}]
            text = ""
            stream = await other.chat.completions.create(model=model, messages=said, max_tokens=8, stream=True)
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
            return text

        return list(await asyncio.gather(*(one(i) for i in range(3))))


found["at_once"] = asyncio.run(at_once())
print(json.dumps(found))
