"""litellm: completion, whole and streamed, and embedding's refusal left aside. Prints what came as JSON."""

import json
import os
from typing import Any

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}

import litellm

litellm.telemetry = False
terms: dict[str, Any] = {
    "model": f"openai/{os.environ['MODEL']}",
    "api_base": os.environ["OPENAI_BASE_URL"],
    "api_key": "any",
    "max_tokens": 16,
    "temperature": 0,
    "num_retries": 0,
}
said = [{"role": "user", "content": "My name is Chen. What is the capital of France?"}]
first = litellm.completion(messages=said, **terms)
text = first.choices[0].message.content
said += [{"role": "assistant", "content": text}, {"role": "user", "content": "And of Italy?"}]
chunks = litellm.completion(messages=said, stream=True, **terms)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
print(json.dumps({"first": text, "usage": first.usage.model_dump(), "streamed": streamed}, default=str))
