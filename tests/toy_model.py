"""A loaded model on the toy engine, for what plays dialogues."""

from edge_sir.engine import Engine
from edge_sir.eval.play.contexts import Contexts
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.template import ChatTemplate


class ToyModel:
    """What is asked of a `runtime.Model`; a token is a byte."""

    def __init__(self, n_ctx_train: int) -> None:
        self.codec = ByteTokenizer()
        self.template = ChatTemplate(self.codec.CHAT_TEMPLATE, bos=self.codec.bos_text, eos=self.codec.eos_text)
        self.n_ctx_train = n_ctx_train

    def open_engine(self, n_cells: int, *, n_seq_max: int) -> ToyEngine:
        return ToyEngine(n_cells, n_seq_max=n_seq_max, n_ctx_train=self.n_ctx_train)

    def release(self, engine: Engine) -> None:
        engine.close()

    def close(self) -> None:
        pass


def toy_contexts(n_ctx_train: int = 4096) -> Contexts:
    return Contexts(ToyModel(n_ctx_train), n_ctx_train, "toy", "toy", "0" * 64)
