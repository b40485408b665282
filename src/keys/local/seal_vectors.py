"""Writes seal_vectors.txt: what seal.rs must produce, made with Python's `cryptography` instead of AWS-LC.

python3 seal_vectors.py > seal_vectors.txt
"""

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DATA_KEY = b"granary local 1 data key"
RECORD = b"granary local 1 record  "


def seal(key, salt, label, aad, plain):
    both = HKDF(SHA256(), 64, salt, label + aad).derive(key)
    body = AESGCM(both[:32]).encrypt(bytes(12), plain, aad)
    return salt + both[32:] + body


print("# key salt label aad plain sealed")
for key, salt, label, aad, plain in [
    (bytes(32), bytes(32), DATA_KEY, b"", bytes(32)),
    (bytes(range(32)), bytes(range(32, 64)), DATA_KEY, b"header", bytes(range(64, 96))),
    (bytes(range(32)), bytes(range(32, 64)), RECORD, b"header", bytes(range(64, 96))),
    (b"\xff" * 32, b"\x01" * 32, RECORD, b"{}" * 100, b""),
]:
    fields = (key, salt, label, aad, plain, seal(key, salt, label, aad, plain))
    print(*(field.hex() for field in fields))
