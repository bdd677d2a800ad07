"""openai-python: /v1/responses, whole and streamed, going on by id, found again and deleted. Prints JSON."""

import json
from typing import Any

import openai

client = openai.OpenAI(api_key="any", max_retries=0)
model = client.models.list().data[0].id
found: dict[str, Any] = {}
first = client.responses.create(model=model, input="My name is Ada.", instructions="Be brief.", max_output_tokens=12)
found["first"] = first.output_text
raw = client.responses.with_raw_response.create(
    model=model,
    input="What is my name?",
    instructions="Be brief.",
    previous_response_id=first.id,
    max_output_tokens=12,
    temperature=0,
)
second = raw.parse()
found["second"], found["match"] = second.output_text, raw.headers["x-edge-sir-match"]
found["usage"] = second.usage.model_dump() if second.usage else None

events = list(
    client.responses.create(
        model=model, input="And yours?", previous_response_id=second.id, max_output_tokens=12, stream=True
    )
)
found["events"] = [event.type for event in events]
found["streamed"] = "".join(event.delta for event in events if event.type == "response.output_text.delta")

found["again"] = client.responses.retrieve(second.id).output_text
client.responses.delete(second.id)
try:
    client.responses.retrieve(second.id)
except openai.NotFoundError as error:
    found["deleted"] = error.status_code
try:
    client.responses.create(model=model, input="x", previous_response_id="resp_unknown")
except openai.BadRequestError as error:
    found["unknown"] = error.code
print(json.dumps(found))
