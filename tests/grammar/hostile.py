"""A program: hostile grammars and schemas on llama.cpp's engine; it prints how many were refused, and drawn by."""

import json
import sys
from pathlib import Path

import numpy as np

from edge_sir.engine import SamplingParams
from edge_sir.errors import ConfigError
from edge_sir.grammar.guide import Grammar
from edge_sir.grammar.json_schema import schema_to_gbnf
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.native import NativeModel

engine = LlamaEngine(NativeModel(Path(sys.argv[1])), 256, EngineOptions(threads=1), owns_model=True)
deep = {"type": "integer"}
for _ in range(90):
    deep = {"type": "array", "items": deep}
grammars = [
    "",
    "root",
    "root ::=",
    "root ::= root",
    'root ::= root "a" | "b"',
    'root ::= n root "x" | "y"\nn ::= e\ne ::= ""',
    'root ::= "a" missing',
    "root ::= " + "(" * 30000 + '"a"' + ")" * 30000,
    "root ::= " + "(" * 30000,
    'root ::= "a"{999999999}',
    'root ::= (("a"{20000}){20000}){20000}',
    'root ::= ("a"?){20000}',
    "root ::= .{0,20000}",
    'root ::= "\0"',
    "\0",
    "root ::= [\0-\0]",
    "root ::= []",
    "root ::= [^\\x00-\\U0010FFFF]",
    'root ::= "' + "a" * 10**6,
    'root ::= "\\UFFFFFFFF"',
    "root ::= <[99999999999]>",
    "root ::= !<[0]>",
    "root ::= <|im_end|>",
    'root ::= s\ns ::= "a" s "b" | "a" s "c" | [a-z]',
    "\ud800",
    'root ::= "\ud800"',
    'root ::= "a"\r\n\r\n# end',
    "\n".join(["root ::= r0", *(f'r{i} ::= r{i + 1} | r{i + 1} "x"' for i in range(3000)), 'r3000 ::= "z"']),
]
schemas = [
    "",
    "[" * 10**5,
    "{}",
    "true",
    "null",
    '"x"',
    json.dumps(deep),
    '{"$ref":"#"}',
    '{"pattern":"("}',
    '{"type":"string","pattern":"' + "(" * 5000 + '"}',
    '{"type":"string","pattern":"^(a*)*$"}',
    '{"enum":[' + "1," * 50000 + "1]}",
    '{"type":"string","minLength":20000}',
    '{"type":"array","minItems":20000,"items":{"type":"string"}}',
    '{"const":"\\u0000\\ud800"}',
    '{"properties":{"\\ud800":{}},"required":["\\u0000"]}',
    '{"minimum":1e400,"type":"integer"}',
    '{"type":["integer"],"maximum":-1e15}',
]
logits = np.random.default_rng(0).normal(size=engine.spec.n_vocab).astype(np.float32)
n_refused = n_drawn = 0
for text, is_schema in [*((g, False) for g in grammars), *((s, True) for s in schemas)]:
    try:
        sampler = engine.sampler(SamplingParams(grammar=Grammar(schema_to_gbnf(text) if is_schema else text)))
        for _ in range(4):
            sampler.sample(logits)
        sampler.close()
        n_drawn += 1
    except ConfigError as error:
        assert "\n" not in str(error) and len(str(error)) < 300, error
        n_refused += 1
sys.stdout.write(f"{n_refused} {n_drawn}\n")
sys.stdout.flush()
engine.close()
