/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What the headers of a frame say, read and never written.
 *
 *     Ethernet (or none) -> up to 2 VLAN tags -> IPv4 | IPv6 and up to 8 extension headers -> protocol
 *
 * Every byte is copied by bpf_skb_load_bytes, which also reaches what is not in the linear part of a
 * socket buffer and refuses what lies outside the frame. A frame that ends too early, or whose lengths
 * contradict each other, is of the kind KIND_MALFORMED; nothing else follows from that.
 *
 * Sources: RFC 791; RFC 8200 sections 4 and 4.5; IEEE 802.1Q.
 */
#ifndef ROUTED_BPF_HEADERS_H
#define ROUTED_BPF_HEADERS_H

#include "helpers.h"

#define VLAN_TAGS_MAX 2
#define EXTENSIONS_MAX 8

enum family { FAMILY_NONE, FAMILY_IPV4, FAMILY_IPV6, FAMILIES };

/* As in routed/dataplane/layout.py. Those of FAMILY_NONE are KIND_OTHER, KIND_MALFORMED, KIND_ARP. */
enum kind {
	KIND_OTHER, KIND_MALFORMED, KIND_ICMP, KIND_TCP, KIND_UDP, KIND_GRE, KIND_ESP, KIND_AH,
	KIND_TUNNEL, KIND_OSPF, KIND_SCTP, KIND_IGMP, KIND_PIM, KIND_VRRP, KIND_ARP,
	KINDS = 16
};

struct packet {
	__u32 family, kind;
	__u32 header_bytes;		/* up to the payload of TCP and UDP, as far as it is known */
	__u32 link_bytes;		/* before the network header */
	__u32 network_bytes;		/* from the network header on, as it says; 0 if it does not */
	__u32 is_routed;		/* whether the destination is one that routes are for */
	__u32 protocol;			/* as the last header that was read names it */
	__u32 is_later_fragment;	/* whether the headers of the transport are in another frame */
	__u32 address, source;		/* destination and source, host order: IPv4 */
	__u64 high, low;		/* and IPv6 */
	__u64 source_high, source_low;
};

INLINE __u32 kind_of(__u8 protocol)
{
	switch (protocol) {
	case 1: case 58: return KIND_ICMP;
	case 2: return KIND_IGMP;
	case 4: case 41: return KIND_TUNNEL;
	case 6: return KIND_TCP;
	case 17: return KIND_UDP;
	case 47: return KIND_GRE;
	case 50: return KIND_ESP;
	case 51: return KIND_AH;
	case 89: return KIND_OSPF;
	case 103: return KIND_PIM;
	case 112: return KIND_VRRP;
	case 132: return KIND_SCTP;
	default: return KIND_OTHER;
	}
}

/* The length of what follows the network header, for segments that were merged into one frame. */
INLINE __u32 transport_bytes(struct __sk_buff *skb, __u32 at, __u32 kind)
{
	__u8 offset;

	if (kind == KIND_UDP)
		return 8;
	if (kind != KIND_TCP || load_bytes(skb, at + 12, &offset, 1) < 0)
		return 0;
	return offset >> 4 << 2;
}

INLINE void read_ipv4(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	struct { __u8 version, tos; __u16 length, id, fragment; __u8 ttl, protocol; __u16 sum;
		 __u32 source, destination; } ip;
	__u32 bytes;

	packet->family = FAMILY_IPV4;
	packet->link_bytes = at;
	packet->kind = KIND_MALFORMED;
	if (load_bytes(skb, at, &ip, sizeof(ip)) < 0 || ip.version >> 4 != 4)
		return;
	bytes = (ip.version & 15) << 2;
	if (bytes < sizeof(ip) || FROM_NETWORK16(ip.length) < bytes)
		return;
	packet->kind = kind_of(ip.protocol);
	packet->network_bytes = FROM_NETWORK16(ip.length);
	packet->protocol = ip.protocol;
	packet->is_later_fragment = FROM_NETWORK16(ip.fragment) & 0x1fff;
	packet->header_bytes = at + bytes;
	packet->source = FROM_NETWORK32(ip.source);
	packet->address = FROM_NETWORK32(ip.destination);
	packet->is_routed = packet->address >> 28 < 14;		/* neither multicast nor broadcast */
}

/* The protocol behind the extension headers of IPv6, or what stands in the way to it. */
INLINE __u32 skip_extensions(struct __sk_buff *skb, __u32 *at, __u8 next, struct packet *packet)
{
	struct { __u8 next, length; __u16 fragment; } extension;
	__u32 i;

	for (i = 0; i < EXTENSIONS_MAX; i++) {
		packet->protocol = next;
		if (next != 0 && next != 43 && next != 44 && next != 60 && next != 135 &&
		    next != 139 && next != 140)
			return kind_of(next);
		if (load_bytes(skb, *at, &extension, sizeof(extension)) < 0)
			return KIND_MALFORMED;
		if (next == 44) {
			*at += 8;
			if (FROM_NETWORK16(extension.fragment) >> 3) {	/* not the first one */
				packet->protocol = extension.next;
				packet->is_later_fragment = 1;
				return kind_of(extension.next);
			}
		} else
			*at += 8 + 8 * extension.length;
		next = extension.next;
	}
	return KIND_OTHER;
}

INLINE void read_ipv6(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	struct { __u32 version; __u16 length; __u8 next, hop_limit;
		 __u64 source[2], destination[2]; } ip;

	packet->family = FAMILY_IPV6;
	packet->link_bytes = at;
	packet->kind = KIND_MALFORMED;
	if (load_bytes(skb, at, &ip, sizeof(ip)) < 0 || FROM_NETWORK32(ip.version) >> 28 != 6)
		return;
	packet->high = FROM_NETWORK64(ip.destination[0]);
	packet->low = FROM_NETWORK64(ip.destination[1]);
	/* neither multicast, ff00::/8, nor link-local, fe80::/10 */
	packet->is_routed = packet->high >> 56 != 0xff && packet->high >> 54 != 0x3fa;
	at += sizeof(ip);
	if (ip.length)			/* else a jumbogram, or merged segments */
		packet->network_bytes = sizeof(ip) + FROM_NETWORK16(ip.length);
	packet->source_high = FROM_NETWORK64(ip.source[0]);
	packet->source_low = FROM_NETWORK64(ip.source[1]);
	packet->kind = skip_extensions(skb, &at, ip.next, packet);
	packet->header_bytes = at;
}

/* Read the headers of a frame whose network header, or first VLAN tag, is at `at`. */
INLINE void read_headers(struct __sk_buff *skb, __u32 at, __u32 ether_type, struct packet *packet)
{
	struct { __u16 tag, type; } vlan;
	__u32 i;

	packet->family = FAMILY_NONE;
	packet->kind = KIND_OTHER;
	packet->header_bytes = at;
	packet->is_routed = 0;
	for (i = 0; i < VLAN_TAGS_MAX; i++) {
		if (ether_type != 0x8100 && ether_type != 0x88a8)
			break;
		if (load_bytes(skb, at, &vlan, sizeof(vlan)) < 0) {
			packet->kind = KIND_MALFORMED;
			return;
		}
		ether_type = FROM_NETWORK16(vlan.type);
		at += sizeof(vlan);
	}
	if (ether_type == 0x0800)
		read_ipv4(skb, at, packet);
	else if (ether_type == 0x86dd)
		read_ipv6(skb, at, packet);
	else if (ether_type == 0x0806)
		packet->kind = KIND_ARP;
}

#endif
