"""llama.cpp's tokenizer behind the TextCodec protocol."""

import ctypes
import re
from functools import cache
from itertools import pairwise

import numpy as np

from edge_sir._owner import owned
from edge_sir.engine import THINK_TAGS, Tokens
from edge_sir.errors import CapabilityError, EngineError
from edge_sir.llama.deep_stack import on_deep_stack
from edge_sir.llama.native import NativeModel, lib
from edge_sir.llama.text_limits import limits_of, needs_stack, pieces, recurses

__all__ = ["LlamaText"]

_LONGEST_PIECE = 64  # bytes; longer ones are asked for again
_MOST_BYTES = 2**31 - 1  # llama_tokenize counts in int32


@owned()
class LlamaText:
    """Tokens of a model's vocabulary.

    Texts of any content are taken, up to 2 GB. The tokens are llama.cpp's but for very long runs of one kind of
    characters, which it would not survive or not end (`text_limits`): those are cut, so tokens differ where one would
    have reached across a cut. No run of 8192 characters is cut, and none of 32,768 but with two pre-tokenizers. For
    SentencePiece a text of more than 32,768 is cut at the ends of lines and words, and inside only where there is none.
    """

    def __init__(self, model: NativeModel) -> None:
        self.owner = model.owner
        self._vocab, self._n_vocab = model.vocab, model.n_vocab
        kind = model.header.tokenizer_model, model.header.text("tokenizer.ggml.pre", "")
        self._limits, self._recursive = limits_of(*kind), recurses(*kind)
        self._sentencepiece = lib.llama_vocab_type(self._vocab) == lib.LLAMA_VOCAB_TYPE_SPM
        self._special = cache(self._find_special)
        bos, eos = int(lib.llama_vocab_bos(self._vocab)), int(lib.llama_vocab_eos(self._vocab))
        self.bos = bos if lib.llama_vocab_get_add_bos(self._vocab) else -1
        self.bos_text = self._name(bos)
        self.eos_text = self._name(eos)
        # Tokens marked USER_DEFINED are parsed in any text. Those that the template writes are role markers.
        self._markers: set[int] = set()
        for token in set(self.encode(model.header.chat_template or "", special=True).tolist()):
            user_defined = lib.llama_vocab_get_attr(self._vocab, token) & lib.LLAMA_TOKEN_ATTR_USER_DEFINED
            if user_defined and len(self._name(token)) > 2 and not self._name(token).isspace():
                self._markers.add(token)
        # Some models make their think tags control tokens, which have no text; people must see where they stand.
        self._tags = {}
        for tag in THINK_TAGS:
            ids = self.encode(tag, special=True)
            if len(ids) == 1:
                self._tags[int(ids[0])] = tag.encode()

    def encode(self, text: str, *, special: bool) -> Tokens:
        """Tokens of `text`, nothing added; int32 [n]. Raises CapabilityError for more than 2 GB."""
        tokens = self._tokens(text, special)
        if not special:
            # SentencePiece merging does not look at token types: "<s" + ">" may become the real <s>.
            used = np.flatnonzero(np.bincount(np.maximum(tokens, 0)))
            for token in [t for t in used.tolist() if self._is_marker(t)]:
                letters = np.concatenate([self.encode(letter, special=False) for letter in self._name(token)])
                tokens = _replaced(tokens, token, letters)
        return tokens

    def _tokens(self, text: str, special: bool) -> Tokens:
        if len(text) > _MOST_BYTES:
            raise _too_long(text)
        parts = pieces(text, self._limits, lambda: self._special(special))
        if self._recursive and needs_stack(text, self._limits):
            return on_deep_stack(lambda: self._joined(parts, special))
        return self._joined(parts, special)

    def _joined(self, parts: list[str], special: bool) -> Tokens:
        tokens = [self._tokenize(parts[0], special)]
        for before, part in pairwise(parts):
            starts_anew = not self._sentencepiece or before.endswith(tuple(self._special(special)))
            tokens.append(self._tokenize(part, special) if starts_anew else self._continued(part, special))
        return np.concatenate(tokens)

    def _continued(self, text: str, special: bool) -> Tokens:
        """Tokens without the blank that SentencePiece puts before a text: behind a text that is taken off again."""
        lead = "." if text[0].isspace() else "\n"
        expected, tokens = self._tokenize(lead, special), self._tokenize(lead + text, special)
        merged = not np.array_equal(tokens[: len(expected)], expected)
        return self._tokenize(text, special) if merged else tokens[len(expected) :]

    def _tokenize(self, text: str, special: bool) -> Tokens:
        data = text.encode("utf-8", "replace")
        if len(data) > _MOST_BYTES:
            raise _too_long(text)
        capacity = len(data) + 8
        while True:
            tokens = np.empty(capacity, np.int32)
            pointer = tokens.ctypes.data_as(ctypes.POINTER(lib.llama_token))
            n = lib.llama_tokenize(self._vocab, data, len(data), pointer, capacity, False, special)
            if n == -(2**31):
                raise EngineError(f"llama_tokenize failed on a text of {len(data)} bytes")
            if n >= 0:
                return tokens[:n].copy()
            capacity = -n

    def _find_special(self, special: bool) -> frozenset[str]:
        """The texts of the tokens that llama.cpp looks for before it tokenizes."""
        wanted = lib.LLAMA_TOKEN_ATTR_USER_DEFINED
        if special:
            wanted |= lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN
        ids = (i for i in range(self._n_vocab) if lib.llama_vocab_get_attr(self._vocab, i) & wanted)
        return frozenset(name for i in ids if (name := self._name(i)))

    def split(self, text: str) -> list[str]:
        wanted = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_USER_DEFINED | lib.LLAMA_TOKEN_ATTR_UNKNOWN
        used = set(self.encode(text, special=True).tolist())
        names = {self._name(t) for t in used if lib.llama_vocab_get_attr(self._vocab, t) & wanted} - {""}
        longest_first = sorted(names, key=len, reverse=True)
        return re.split(f"({'|'.join(map(re.escape, longest_first))})", text) if names else [text]

    def piece(self, token: int) -> bytes:
        if token in self._tags:
            return self._tags[token]
        if not 0 <= token < self._n_vocab:  # llama.cpp would end the process
            raise EngineError(f"token {token} is outside the vocabulary of {self._n_vocab}")
        buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
        n = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        if n < 0:
            buffer = ctypes.create_string_buffer(-n)
            n = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[:n]

    def pieces(self) -> list[bytes]:
        """`piece` of each token of the vocabulary."""
        buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
        to_piece, vocab = lib.llama_token_to_piece, self._vocab
        found = []
        for token in range(self._n_vocab):
            n = to_piece(vocab, token, buffer, _LONGEST_PIECE, 0, False)
            found.append(buffer.raw[:n] if n >= 0 and token not in self._tags else self.piece(token))
        return found

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def _is_marker(self, token: int) -> bool:
        return token in self._markers or bool(lib.llama_vocab_is_control(self._vocab, token))

    def _name(self, token: int) -> str:
        return lib.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace") if token >= 0 else ""


def _replaced(tokens: Tokens, token: int, by: Tokens) -> Tokens:
    """`tokens` with each `token` replaced by all of `by`."""
    hits = tokens == token
    lengths = np.where(hits, len(by), 1)
    replaced = np.repeat(tokens, lengths)
    replaced[np.repeat(hits, lengths)] = np.tile(by, int(hits.sum()))
    return replaced


def _too_long(text: str) -> CapabilityError:
    return CapabilityError(f"a text of {len(text)} characters is too long; give it in parts of less than 2 GB")
