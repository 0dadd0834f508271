#!/usr/bin/env python3
"""A small Klamm client, written from docs/PROTOCOL.md alone.

It creates a topic, produces records into it and consumes them again, and needs nothing but
Python 3.8 and the package `msgpack`:

    pip install msgpack
    python3 examples/python/klamm_example.py [HOST:PORT [TOPIC [RECORDS]]]
"""

import socket
import struct
import sys
import time

import msgpack

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, CREATE_TOPICS = 0, 1, 2, 3, 18, 19
OK, TOPIC_ALREADY_EXISTS = 0, 36
NO_TOPIC_ID = bytes(16)


class Connection:
    """One connection to one broker: a frame out, a frame in."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.correlation_id = 0
        error, apis, *_, cluster_id, version = self.call(API_VERSIONS, ["klamm-python", "0.1"])
        assert error == OK
        self.cluster_id, self.broker_version = cluster_id, version
        self.apis = {key: (low, high) for key, low, high in apis}

    def call(self, api, body, version=0):
        self.correlation_id += 1
        request = [api, version, self.correlation_id, "klamm_example.py", body]
        frame = msgpack.packb(request, use_bin_type=True)
        self.socket.sendall(struct.pack(">I", len(frame)) + frame)

        (length,) = struct.unpack(">I", self.read(4))
        # `raw=False`: MessagePack's str becomes str, and its bin becomes bytes.
        response = msgpack.unpackb(self.read(length), raw=False)
        correlation_id, error, message, body = response
        assert correlation_id == self.correlation_id, "only one request is in flight here"
        if error != OK:
            raise RuntimeError(f"API {api} is refused: error {error}, {message}")
        return body

    def read(self, length):
        parts = []
        while length > 0:
            part = self.socket.recv(min(length, 1 << 16))
            if not part:
                raise ConnectionError("the broker has closed the connection")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


# --- The record batch ---


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(value):
    """Zigzag, seven bits a byte, lowest first."""
    value = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    shift = value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def length_and(data):
    return varint(-1) if data is None else varint(len(data)) + data


def build_batch(records, timestamp):
    """A batch of (key, value) pairs, all of one time, without compression and idempotence."""
    encoded = bytearray()
    for offset_delta, (key, value) in enumerate(records):
        record = b"\0" + varint(0) + varint(offset_delta)
        record += length_and(key) + length_and(value) + varint(0)
        encoded += varint(len(record)) + record
    count = len(records)
    # From the attributes on: what the checksum covers.
    checked = struct.pack(
        ">hiqqqhii", 0, count - 1, timestamp, timestamp, -1, -1, -1, count
    ) + bytes(encoded)
    body = struct.pack(">ibI", -1, 2, crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(body)) + body


def read_batches(data):
    """Yields (offset, key, value) of all records of all whole, uncompressed batches."""
    at = 0
    while len(data) - at >= 61:
        base_offset, length = struct.unpack_from(">qi", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        crc, attributes = struct.unpack_from(">Ih", data, at + 17)
        assert crc == crc32c(data[at + 21 : end]), "the batch is corrupt"
        assert attributes & 7 == 0, "this example doesn't decompress"
        (count,) = struct.unpack_from(">i", data, at + 57)
        at += 61
        for _ in range(count):
            _length, at = read_varint(data, at)
            at += 1  # attributes
            _timestamp_delta, at = read_varint(data, at)
            offset_delta, at = read_varint(data, at)
            fields = []
            for _ in ("key", "value"):
                size, at = read_varint(data, at)
                fields.append(None if size < 0 else data[at : at + size])
                at += max(size, 0)
            headers, at = read_varint(data, at)
            for _ in range(2 * headers):
                size, at = read_varint(data, at)
                at += max(size, 0)
            yield base_offset + offset_delta, *fields
        assert at == end


# --- What a client does ---


def leader_of(connection, topic):
    """The address of the broker that leads the topic's partition 0."""
    deadline = time.monotonic() + 10
    while True:
        _throttle, brokers, _cluster, _controller, topics, _error = connection.call(
            METADATA, [[[NO_TOPIC_ID, topic]], False, False]
        )
        error, _name, _id, _internal, partitions, _operations = topics[0]
        for _error, index, leader, *_replicas in partitions:
            for broker, host, port, _rack in brokers:
                if error == OK and index == 0 and broker == leader:
                    return f"{host}:{port}"
        assert time.monotonic() < deadline, f"{topic} has no leader"
        time.sleep(0.05)


def main():
    address, topic, count = (sys.argv[1:] + ["127.0.0.1:7070", "from-python", "1000"][len(sys.argv) - 1 :])[:3]
    connection = Connection(address)
    print(f"cluster {connection.cluster_id}, version {connection.broker_version}")

    # One partition, and the broker's default for the number of replicas.
    _throttle, [created] = connection.call(CREATE_TOPICS, [[[topic, 1, -1, [], []]], 10_000, False])
    assert created[2] in (OK, TOPIC_ALREADY_EXISTS), f"the topic can't be made: {created[3]}"
    leader = Connection(leader_of(connection, topic))

    # acks = -1: answered when every in-sync replica has the records on disk.
    records = [(b"key %d" % i, b"value %d" % i) for i in range(int(count))]
    batch = build_batch(records, int(time.time() * 1000))
    produce = [None, -1, 30_000, [[topic, NO_TOPIC_ID, [[0, batch]]]]]
    [[[_topic, _id, [produced]]], *_] = leader.call(PRODUCE, produce)
    _index, error, base_offset, _time, _start, _errors, message, _leader = produced
    assert error == OK, f"error {error}: {message}"
    print(f"produced {len(records)} records at offset {base_offset}")

    read = []
    position = base_offset
    while len(read) < len(records):
        wanted = [[topic, NO_TOPIC_ID, [[0, -1, position, -1, 1 << 20]]]]
        # Outside of a session (0, -1), nothing forgotten, no rack.
        fetch = [5_000, 1, 1 << 22, 0, 0, -1, wanted, [], ""]
        _throttle, error, _session, topics, _endpoints = leader.call(FETCH, fetch)
        assert error == OK
        [[_topic, _id, [[_index, error, _high_watermark, *_, data]]]] = topics
        assert error == OK, f"error {error}"
        for offset, key, value in read_batches(data):
            # The first batch may start before the position.
            if offset >= position:
                read.append((key, value))
                position = offset + 1
    assert read[: len(records)] == records
    print(f"consumed {len(read)} records, up to offset {position - 1}")


if __name__ == "__main__":
    main()
