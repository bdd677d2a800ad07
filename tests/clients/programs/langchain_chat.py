"""LangChain's ChatOpenAI: invoke, stream, tools, structured output. Prints what came as JSON."""

import json
import os
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

base = os.environ["OPENAI_BASE_URL"]
chat = ChatOpenAI(model=os.environ["MODEL"], base_url=base, api_key="any", temperature=0, max_tokens=16, max_retries=0)
found: dict[str, Any] = {}
said: list[Any] = [SystemMessage("Be brief."), HumanMessage("My name is Bo. What is the capital of France?")]
first = chat.invoke(said)
found["first"], found["usage"] = first.content, first.usage_metadata
said += [AIMessage(first.content), HumanMessage("And of Italy?")]
found["streamed"] = "".join(str(chunk.content) for chunk in chat.stream(said))


class City(BaseModel):
    """A city."""

    name: str
    inhabitants: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


longer = chat.model_copy(update={"max_tokens": 80})
asked = longer.bind_tools([weather], tool_choice="weather").invoke("What is the weather in Oslo?")
found["calls"] = [{"name": call["name"], "args": call["args"]} for call in asked.tool_calls]
structured = longer.with_structured_output(City, method="json_schema").invoke("Name a city with its inhabitants.")
found["structured"] = structured.model_dump()
print(json.dumps(found, default=str))
