"""What a reply may be: grammars in llama.cpp's notation, JSON schemas as grammars, and tokens that go on in one."""
