"""What scapy says of frames that came out of the packet path: one JSON object a line (`Sample` in tests/src/program/differential.rs).

Prints every fault and `N frames, M faults`; ends with 1 where there is one.
"""

import json
import socket
import sys

from scapy.layers.inet import IP, TCP, UDP, in4_chksum
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6NDOptDstLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    in6_chksum,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.utils import checksum

EXTENSIONS = (0, 43, 60)
FRAGMENT = 44


class Fault(Exception):
    """Something is wrong with a frame."""


def expect(what, found, right):
    if found != right:
        raise Fault(f"{what} is {found!r}, should be {right!r}")


class Packet:
    """A frame taken apart: link by scapy, the IP header by scapy, and the bytes behind it."""

    def __init__(self, frame=None, packet=None):
        self.frame = frame
        if packet is None:
            layer = Ether(frame)
            self.macs = frame[:12]
            at = 14
            while isinstance(layer.payload, (Dot1Q, Dot1AD)):
                layer = layer.payload
                at += 4
            self.tags = frame[12 : at - 2] if at > 14 else b""
            self.ether_type = layer.type
            packet = frame[at:]
        self.rest = packet
        self.ip = None
        version = packet[0] >> 4 if packet else 0
        if frame is not None and self.ether_type not in (0x0800, 0x86DD):
            return
        self.is_v4 = version == 4
        if self.is_v4:
            self.ip = IP(packet)
            self.header = packet[: self.ip.ihl * 4]
            self.packet = packet[: self.ip.len]
            self.protocol = self.ip.proto
            self.transport = self.packet[len(self.header) :]
            self.is_fragment = self.ip.frag != 0 or self.ip.flags.MF
            self.is_later = self.ip.frag != 0
            self.hops = self.ip.ttl
        elif version == 6:
            self.ip = IPv6(packet)
            self.header = packet[:40]
            self.packet = packet[: 40 + self.ip.plen]
            self.hops = self.ip.hlim
            self.follow()
        else:
            raise Fault(f"IP version {version}")

    def follow(self):
        """Follows the extension headers of IPv6."""
        self.protocol, at = self.ip.nh, 40
        self.is_fragment = self.is_later = False
        while self.protocol in EXTENSIONS or self.protocol == FRAGMENT:
            here = self.packet[at:]
            if self.protocol == FRAGMENT:
                field = int.from_bytes(here[2:4], "big")
                self.is_later |= field & 0xFFF8 != 0
                self.is_fragment |= field & 0xFFF9 != 0
                size = 8
            else:
                size = (here[1] + 1) * 8
            self.protocol = here[0]
            at += size
        self.transport = self.packet[at:]

    def trailer(self):
        return self.rest[len(self.packet) :]

    def transport_sum(self):
        """0 where the checksum of TCP, UDP or ICMP is right."""
        if self.is_v4 and self.protocol == 1:
            return checksum(self.transport)
        if self.is_v4:
            return in4_chksum(self.protocol, self.ip, self.transport)
        return in6_chksum(self.protocol, self.ip, self.transport)


def sound(packet, gue_port):
    """Lengths and checksums, in tunnels too."""
    if packet.is_v4:
        expect("checksum of the IPv4 header", checksum(packet.header), 0)
    expect("length", len(packet.packet), packet.ip.len if packet.is_v4 else packet.ip.plen + 40)
    if packet.is_fragment:
        return
    if packet.protocol in (4, 41):
        sound(Packet(packet=packet.transport), gue_port)
    elif packet.protocol == 17:
        udp = UDP(packet.transport)
        if udp.dport == gue_port and packet.transport[8:9] and packet.transport[8] >> 4 in (4, 6):
            sound(Packet(packet=packet.transport[8:]), gue_port)
        expect("length of UDP", udp.len <= len(packet.transport), True)
        if udp.chksum != 0:
            expect("checksum of UDP", packet.transport_sum() in (0, 0xFFFF), True)
    elif packet.protocol in (1, 6, 58):
        expect(f"checksum of protocol {packet.protocol}", packet.transport_sum() in (0, 0xFFFF), True)


def is_sound(packet, gue_port):
    """Parsers differ: by a source route (RFC 791) scapy takes its last address for the destination, and finds the checksum wrong."""
    try:
        sound(packet, gue_port)
    except Fault:
        return False
    return True


def one_hop_further(packet):
    """The packet as a router sends it on."""
    sent = bytearray(packet.packet)
    sent[8 if packet.is_v4 else 7] -= 1
    if packet.is_v4:
        size = len(packet.header)
        sent[10:12] = b"\0\0"
        sent[10:12] = checksum(bytes(sent[:size])).to_bytes(2, "big")
    return bytes(sent)


def same_packet(found, right, what):
    """The same bytes, but for the segment size of a SYN and what follows from it."""
    if found == right:
        return
    mine, theirs = Packet(packet=found), Packet(packet=right)
    if mine.protocol == theirs.protocol == 6 and len(found) == len(right):
        mine, theirs = TCP(mine.transport), TCP(theirs.transport)
        sizes = [[value for name, value in tcp.options if name == "MSS"] for tcp in (mine, theirs)]
        if theirs.flags.S and sizes[0] and sizes[0][0] < sizes[1][0]:
            other = [[option for option in tcp.options if option[0] != "MSS"] for tcp in (mine, theirs)]
            expect("other TCP options", other[0], other[1])
            expect("TCP payload", bytes(mine.payload), bytes(theirs.payload))
            return
    raise Fault(f"{what} is {found.hex()}, should be {right.hex()}")


def payload(packet):
    """What TCP or UDP carries, or all where there are no ports."""
    if packet.is_later:
        return packet.transport
    if packet.protocol == 6:
        return packet.transport[20:]
    if packet.protocol == 17:
        return packet.transport[8:]
    return b""


def ends(packet):
    """Source and destination as they lie there: with a source route (RFC 791) scapy names its last address instead."""
    if packet.is_v4:
        return [socket.inet_ntoa(packet.header[at : at + 4]) for at in (12, 16)]
    return [packet.ip.src, packet.ip.dst]


def forwarded(before, after, sample):
    verdict = sample["verdict"]
    right = one_hop_further(before)
    if verdict == "forwarded_l2":
        same_packet(after.packet, right, "the packet")
        expect("padding", after.trailer(), before.trailer())
        return
    expect("an outer header of a backend", ends(after) in sample["tunnels"], True)
    if verdict == "forwarded_nat":
        translated(before, after)
        return
    inner = after.transport
    if verdict == "forwarded_gue":
        udp = UDP(after.transport)
        expect("outer UDP port", udp.dport, sample["gue_port"])
        expect("outer UDP length", udp.len, len(after.transport))
        inner = after.transport[8:]
    else:
        expect("outer protocol", after.protocol, 4 if before.is_v4 else 41)
    same_packet(inner, right, "the inner packet")
    expect("padding", after.trailer(), before.trailer())


def translated(before, after):
    expect("hop limit", after.hops, before.hops - 1)
    if before.protocol in (6, 17):
        expect("payload", payload(after), payload(before))
    if before.is_v4 != after.is_v4:
        if before.protocol in (1, 58):
            crossed(before, after)
        elif before.is_fragment:
            expect("place among the fragments", place(after), place(before))


def place(packet):
    """Offset in bytes, whether more follow, and the half of the identification that both families have."""
    if packet.is_v4:
        return (packet.ip.frag * 8, bool(packet.ip.flags.MF), packet.ip.id)
    fragment = packet.ip[IPv6ExtHdrFragment]
    return (fragment.offset * 8, bool(fragment.m), fragment.id & 0xFFFF)


def crossed(before, after):
    """An ICMP error in the other family (RFC 7915)."""
    expect("protocol", after.protocol, 1 if after.is_v4 else 58)
    was, found = before.transport[0], after.transport[0]
    # Unreachable may become a parameter problem and too big, and the reverse.
    kinds = {3: (1, 2, 4), 11: (3,), 12: (4,)} if before.is_v4 else {1: (3,), 2: (3,), 3: (11,), 4: (12, 3)}
    expect(f"type {was} as {found}", found in kinds[was], True)
    if not after.is_v4 and found == 2:
        expect("MTU of at least 1280", int.from_bytes(after.transport[4:8], "big") >= 1280, True)
    if after.is_v4 and after.transport[:2] == b"\x03\x04":
        expect("MTU of at least 68", int.from_bytes(after.transport[6:8], "big") >= 68, True)
    # A quote of IPv4 may be too short for scapy to read it as IPv6, even to throw it away.
    quotes = [(IP if packet.is_v4 else IPv6)(packet.transport[8:]) for packet in (after, before)]
    expect("quoted ends", [quotes[0].src, quotes[0].dst], ends(after)[::-1])
    hops = [quote.ttl if isinstance(quote, IP) else quote.hlim for quote in quotes]
    expect("quoted hop limit", hops[0], hops[1])


def echoed(before, after):
    expect("MAC addresses", after.macs, before.macs[6:12] + before.macs[:6])
    expect("addresses", ends(after), ends(before)[::-1])
    expect("type and code", after.transport[:2], b"\0\0" if after.is_v4 else b"\x81\0")
    expect("identifier, sequence and payload", after.transport[4:], before.transport[4:])


def resolved(before, after, sample):
    def mac_for(address):
        mac = sample["virtual_macs"].get(address, sample["node_mac"])
        return ":".join(mac[at : at + 2] for at in range(0, 12, 2))

    if sample["verdict"] == "arp_answered":
        question, answer = ARP(before.rest), ARP(after.rest)
        expect("operation", answer.op, 2)
        expect("sender", (answer.hwsrc, answer.psrc), (mac_for(question.pdst), question.pdst))
        expect("target", (answer.hwdst, answer.pdst), (question.hwsrc, question.psrc))
        return
    advertisement = ICMPv6ND_NA(after.transport)
    expect("target", after.transport[8:24], before.transport[8:24])
    expect("source address", after.ip.src, advertisement.tgt)
    expect("hop limit", after.hops, 255)
    expect("MAC address", advertisement[ICMPv6NDOptDstLLAddr].lladdr, mac_for(advertisement.tgt))
    expect("override flag", advertisement.O, 1)


def too_big(before, after):
    expect("addresses", ends(after), ends(before)[::-1])
    expect("type and code", after.transport[:2], b"\x03\x04" if after.is_v4 else b"\x02\0")
    quoted = after.transport[8:]
    if before.protocol == 6 and not before.is_later and len(before.transport) > 13 and before.transport[13] & 2:
        # A SYN may have had its segment size lowered before it turned out to be too big: from its checksum on it may differ.
        quoted = quoted[: len(before.packet) - len(before.transport) + 16]
    expect("what is quoted", quoted, before.packet[: len(quoted)])


def unwrapped(before, after):
    """The inner packet, in which only congestion may have been told."""
    begins = len(before.packet) - len(before.transport)
    heads = (8, 12) if before.protocol == 17 else (0,)
    for head in heads:
        inner, found = bytearray(before.rest[begins + head :]), bytearray(after.rest)
        free = (1, 10, 11) if after.is_v4 else (1,)
        if len(inner) == len(found):
            for at in free:
                inner[at] = found[at] = 0
            if inner == found:
                return
    raise Fault("what came out is not what was in the tunnel")


def judge(sample):
    output = bytes.fromhex(sample["output"])
    before, after = Packet(bytes.fromhex(sample["input"])), Packet(output)
    if after.ip is not None and is_sound(before, sample["gue_port"]):
        sound(after, sample["gue_port"])
    verdict = sample["verdict"]
    if verdict in ("forwarded_l2", "forwarded_ipip", "forwarded_gue", "forwarded_nat"):
        forwarded(before, after, sample)
    elif verdict == "translated_reply":
        translated(before, after)
    elif verdict == "echo_answered":
        echoed(before, after)
    elif verdict in ("arp_answered", "neighbour_answered"):
        resolved(before, after, sample)
    elif verdict == "too_big_answered":
        too_big(before, after)
    elif verdict == "decapsulated":
        unwrapped(before, after)
    else:
        raise Fault("nobody told this script what it means")


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        samples = [json.loads(line) for line in file]
    faults = 0
    for sample in samples:
        try:
            judge(sample)
        except Exception as fault:  # A parser that fails on a frame finds fault with it.
            faults += 1
            kind = type(fault).__name__
            print(f"{sample['verdict']}: {kind}: {fault}\n  input  {sample['input']}\n  output {sample['output']}")
    print(f"{len(samples)} frames, {faults} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
