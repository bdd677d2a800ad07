"""A result becomes a line of a job's output, as OpenAI's batches have it."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from edge_sir.batch.result import BatchResult
from edge_sir.text.reply import Reply

__all__ = ["ID_PREFIX", "digest_of", "digest_of_line", "output_line"]

ID_PREFIX = "batch_req_"
_STATUS = {"server_error": 500}


def digest_of(custom_id: str) -> bytes:
    """16 bytes that stand for a custom_id: two of 10**9 are alike with a chance of 10**-21."""
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()


def digest_of_line(number: int, line: bytes) -> bytes:
    """16 bytes that stand for a line without a custom_id of its own. number: counts from 1."""
    return hashlib.blake2b(line, digest_size=16, key=b"line %d" % number).digest()


def output_line(result: BatchResult, digest: bytes, *, model: str, created: int) -> bytes:
    """One line of JSON with its line break.

    Its ids follow from `digest` alone. model: the name of the one that answered. created: unix seconds. response is
    null for an error, unless replies were finished before it; error is null where there is none.
    """
    error = result.error
    response: dict[str, Any] | None = None
    if result.replies or error is None:
        response = {
            "status_code": 200 if error is None else _STATUS.get(error.code, 400),
            "request_id": f"req_{digest.hex()}",
            "body": _completion(result, f"chatcmpl-{digest.hex()}", model, created),
        }
    document = {
        "id": ID_PREFIX + digest.hex(),
        "custom_id": result.custom_id or None,
        "response": response,
        "error": None if error is None else {"code": error.code, "message": error.message},
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _completion(result: BatchResult, id: str, model: str, created: int) -> dict[str, Any]:
    return {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [_choice(reply) | {"index": 0, "logprobs": None} for reply in result.replies[-1:]],
        "usage": _usage(result.n_read, result.replies, result.edge_sir.get("shared", 0)),
        "replies": [
            _choice(reply)
            | {
                "index": i,
                "usage": _usage(reply.n_read, [reply]),
                "resident": reply.resident,
                "evicted": reply.evicted,
                "recalled": [r.as_dict() for r in reply.recalled],
            }
            for i, reply in enumerate(result.replies)
        ],
        "edge_sir": dict(result.edge_sir),
    }


def _choice(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.thought:
        message["reasoning_content"] = reply.thought
    return {"message": message, "finish_reason": "stop" if reply.finish == "stop" else "length"}


def _usage(n_read: int, replies: Sequence[Reply], n_shared: int = 0) -> dict[str, Any]:
    """Tokens read (template tokens included), those that were another dialogue's already, and tokens generated.

    What the cache still held of earlier turns is not read again, and does not count again.
    """
    n_generated = sum(r.n_generated for r in replies)
    return {
        "prompt_tokens": n_read + n_shared,
        "completion_tokens": n_generated,
        "total_tokens": n_read + n_shared + n_generated,
        "prompt_tokens_details": {"cached_tokens": n_shared},
        "completion_tokens_details": {"reasoning_tokens": sum(r.n_thought for r in replies)},
    }
