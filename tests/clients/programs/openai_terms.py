"""openai-python: several replies, log-probabilities, a JSON schema, tools. Prints what came as JSON."""

import json
from typing import Any

import openai
from pydantic import BaseModel

client = openai.OpenAI(api_key="any", max_retries=0)
model = client.models.list().data[0].id
found: dict[str, Any] = {}


class City(BaseModel):
    name: str
    inhabitants: int


ask: list[Any] = [{"role": "user", "content": "Name a city with its number of inhabitants."}]
several = client.chat.completions.create(model=model, messages=ask, max_tokens=8, temperature=1, seed=1, n=3)
found["several"] = [choice.model_dump() for choice in several.choices]

shown = client.chat.completions.create(
    model=model, messages=ask, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
)
found["logprobs"] = shown.choices[0].model_dump()

parsed = client.chat.completions.parse(model=model, messages=ask, response_format=City, max_tokens=60, temperature=0)
found["parsed"] = parsed.choices[0].message.parsed.model_dump() if parsed.choices[0].message.parsed else None

weather: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
said: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
called = client.chat.completions.create(
    model=model, messages=said, tools=[weather], tool_choice="required", max_tokens=80, temperature=0
)
message = called.choices[0].message
found["called"] = called.choices[0].model_dump()
calls = message.tool_calls or []
said += [message.model_dump(exclude_none=True)]
said += [{"role": "tool", "tool_call_id": call.id, "content": "3 degrees and rain"} for call in calls]
raw = client.chat.completions.with_raw_response.create(
    model=model, messages=said, tools=[weather], tool_choice="none", max_tokens=24, temperature=0
)
found["told"], found["told_match"] = raw.parse().choices[0].model_dump(), raw.headers["x-edge-sir-match"]

said[:] = said[:1]
chunks = list(
    client.chat.completions.create(
        model=model, messages=said, tools=[weather], tool_choice="required", max_tokens=80, temperature=0, stream=True
    )
)
deltas = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
found["streamed_name"] = "".join(call.function.name or "" for call in deltas if call.function)
found["streamed_arguments"] = "".join(call.function.arguments or "" for call in deltas if call.function)
print(json.dumps(found))
