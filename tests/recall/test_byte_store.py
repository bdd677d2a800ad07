"""Bytes outside the cells, under one bound."""

import subprocess
import sys
import threading
from collections import OrderedDict

from edge_sir.recall.store import ByteStore, default_bound


def test_what_was_used_least_recently_leaves_first() -> None:
    store = ByteStore(30)
    first, second, third = (store.put(bytes(10)) for _ in range(3))
    assert store.get(first) == bytes(10)
    store.put(bytes(10))
    assert (first in store, second in store, third in store) == (True, False, True)
    assert store.get(second) is None and store.n_bytes == 30


def test_a_bound_of_none_keeps_nothing_and_a_lower_one_takes_effect_at_once() -> None:
    store = ByteStore(100)
    keys = [store.put(bytes(10)) for _ in range(10)]
    store.bound = 25
    assert store.n_bytes == 20 and [key in store for key in keys] == [False] * 8 + [True] * 2
    store.bound = 0
    assert store.n_bytes == 0 and store.get(store.put(b"x")) is None


def test_what_is_discarded_is_not_counted() -> None:
    store = ByteStore(100)
    key = store.put(bytes(60))
    store.discard(key)
    store.discard(key)
    assert store.n_bytes == 0 and store.get(key) is None


def test_several_threads_may_use_it() -> None:
    store = ByteStore(1000)

    def work() -> None:
        for _ in range(300):
            key = store.put(bytes(7))
            store.get(key)
            store.discard(key)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.n_bytes == 0


def test_a_handler_that_comes_in_the_middle_of_a_call_may_use_it() -> None:
    store = ByteStore(1000)
    one, other = store.put(bytes(7)), store.put(bytes(9))

    class Interrupted(OrderedDict[int, bytes]):
        def move_to_end(self, key: int, last: bool = True) -> None:
            super().move_to_end(key, last)
            store.discard(other)

    store._blobs = Interrupted(store._blobs)
    thread = threading.Thread(target=store.get, args=(one,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive() and store.n_bytes == 7 and other not in store


def test_threads_that_ask_first_get_the_same_one() -> None:
    code = """
import time
from concurrent.futures import ThreadPoolExecutor
from edge_sir.recall import store
plain = store.default_bound
store.default_bound = lambda: (time.sleep(0.1), plain())[1]
with ThreadPoolExecutor(4) as pool:
    print(len({id(one) for one in pool.map(lambda _: store.process_store(), range(4))}))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split() == [b"1"]


def test_the_bound_is_a_share_of_what_is_free() -> None:
    assert 2**20 < default_bound() < 2**45


def test_what_has_left_may_come_back_under_its_key() -> None:
    store = ByteStore(10)
    key = store.put(b"123456")
    store.bound = 0
    store.bound = 10
    assert key not in store and store.put(b"123456", key) == key
    assert store.put(b"other", key) == key and store.get(key) == b"123456" and store.n_bytes == 6
    assert store.put(b"") == key + 1
