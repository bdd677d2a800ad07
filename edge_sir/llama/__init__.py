"""llama.cpp behind the Engine protocol; the only package that imports llama_cpp.

Written against llama-cpp-python 0.3.36 (llama.cpp 0.5.0-dev @ 0c1e57098, 2026-10-01), whose low-level
API it uses. Many failures of llama.cpp end the process, so arguments are checked before every call.
"""
