"""llama.cpp's tokenizer behind the TextCodec protocol."""

import ctypes

import numpy as np

from edge_sir.engine import THINK_TAGS, Tokens
from edge_sir.errors import EngineError
from edge_sir.llama.native import NativeModel, lib

__all__ = ["LlamaText"]

_LONGEST_PIECE = 64  # bytes; longer ones are asked for again


class LlamaText:
    """Tokens of a model's vocabulary."""

    def __init__(self, model: NativeModel) -> None:
        self._vocab, self._n_vocab = model.vocab, model.n_vocab
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
        data = text.encode("utf-8", "replace")
        tokens = self._tokenize(data, len(data) + 8, special)
        if not special:
            # SentencePiece merging does not look at token types: "<s" + ">" may become the real <s>.
            for token in [t for t in np.unique(tokens).tolist() if self._is_marker(t)]:
                letters = [self.encode(letter, special=False) for letter in self._name(token)]
                parts = np.split(tokens, np.flatnonzero(tokens == token))
                tokens = np.concatenate([parts[0], *(x for part in parts[1:] for x in (*letters, part[1:]))])
        return tokens

    def _tokenize(self, data: bytes, capacity: int, special: bool) -> Tokens:
        tokens = np.empty(capacity, np.int32)
        pointer = tokens.ctypes.data_as(ctypes.POINTER(lib.llama_token))
        n = lib.llama_tokenize(self._vocab, data, len(data), pointer, capacity, False, special)
        if n == -(2**31):
            raise EngineError(f"llama_tokenize failed on a text of {len(data)} bytes")
        return self._tokenize(data, -n, special) if n < 0 else tokens[:n].copy()

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

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def _is_marker(self, token: int) -> bool:
        return token in self._markers or bool(lib.llama_vocab_is_control(self._vocab, token))

    def _name(self, token: int) -> str:
        return lib.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace") if token >= 0 else ""
