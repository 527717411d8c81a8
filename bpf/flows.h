/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Flows: what each pair of addresses and ports has exchanged, in a cache of each processor.
 *
 *     key --hash--> set of 8 places, found by one line of tags --> counters of the flow
 *                                    |
 *                    all are taken --'--> one is displaced --> ring of ended flows
 *
 * A tag is 0 for a free place, TAG_CLOSING for one that the observer is about to read and free, and
 * else part of the hash. Only the observer writes TAG_CLOSING, and frees such a place once no run is
 * under way that began before (`activity` in traffic.bpf.c); meanwhile no program touches it except
 * those runs, and packets of its flow begin another one. So each packet is counted in one flow.
 *
 * A ring belongs to one processor, which writes `head`; the observer writes `tail`. A flow that finds
 * the ring full is lost, and counted.
 *
 * A packet that is forwarded is counted where it is received; where it leaves, its flow learns the
 * interface.
 */
#ifndef ROUTED_BPF_FLOWS_H
#define ROUTED_BPF_FLOWS_H

#include "headers.h"

#define WAYS 8
#define SETS_MAX (1u << 19)
#define RING 4096
#define TAG_CLOSING 1
#define TURN_SHIFT 22			/* the coarse clock moves on by 1 to 10 ms */

struct flow_key {
	__u64 source[2], destination[2];	/* host order, high part first */
	__u16 source_port, destination_port;
	__u32 ifindex;			/* where it was received; 0: sent by this host */
	__u8 family, protocol, reserved[6];
};

struct flow {
	struct flow_key key;
	__u64 packets, bytes, first_ns, last_ns;	/* bytes of IP */
	__u32 sent_ifindex;		/* where it left; 0: nowhere yet */
	__u8 tcp_flags, reserved[11];
};
struct flow flows[SETS_MAX * WAYS] SECTION(".bss.flows");

struct tags { __u64 tag[WAYS]; } __attribute__((aligned(64)));
struct tags tags[SETS_MAX] SECTION(".bss.tags");

struct flow ended[PROCESSORS_MAX * RING] SECTION(".bss.ended");
struct ring {
	__u64 head, tail;
	__u64 begun;			/* flows */
	__u64 lost_flows, lost_packets;	/* not reported: the ring was full, or the whole set closing */
	__u64 reserved[3];
} __attribute__((aligned(64)));
struct ring rings[PROCESSORS_MAX] SECTION(".bss.rings");

static __u64 (*const coarse_ns)(void) = (void *)BPF_FUNC_ktime_get_coarse_ns;

INLINE __u64 hash_of(const struct flow_key *key)
{
	const __u64 *words = (const __u64 *)key;
	__u64 h = config.seed;
	__u32 i;

#pragma unroll
	for (i = 0; i < sizeof(*key) / 8; i++) {
		h = (h ^ words[i]) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 32;	/* the low bits of a product depend on no high bit of a factor */
	}
	return h;
}

INLINE int is_same(const struct flow_key *left, const struct flow_key *right)
{
	const __u64 *one = (const __u64 *)left, *other = (const __u64 *)right;
	__u64 differences = 0;
	__u32 i;

#pragma unroll
	for (i = 0; i < sizeof(*left) / 8; i++)
		differences |= one[i] ^ other[i];
	return !differences;
}

INLINE void report_ended(struct ring *ring, __u32 processor, const struct flow *flow)
{
	__u64 head = ring->head;

	if (head - *(volatile __u64 *)&ring->tail >= RING) {
		ring->lost_flows++;
		ring->lost_packets += flow->packets;
		return;
	}
	ended[processor * RING + (head & (RING - 1))] = *flow;
	__sync_fetch_and_add(&ring->head, 1);	/* a full barrier: the flow is there first */
}

INLINE void read_ports(struct __sk_buff *skb, struct packet *packet, struct flow_key *key,
		       __u8 *tcp_flags)
{
	struct { __u8 type, code; } icmp;
	__u16 ports[2];

	if (packet->is_later_fragment)
		return;
	switch (packet->kind) {
	case KIND_TCP:
		if (load_bytes(skb, packet->header_bytes + 13, tcp_flags, 1) < 0)
			*tcp_flags = 0;
		/* fall through */
	case KIND_UDP:
	case KIND_SCTP:
		if (load_bytes(skb, packet->header_bytes, ports, sizeof(ports)) < 0)
			return;
		key->source_port = FROM_NETWORK16(ports[0]);
		key->destination_port = FROM_NETWORK16(ports[1]);
		return;
	case KIND_ICMP:			/* as NetFlow and IPFIX have it: type and code for the port */
		if (load_bytes(skb, packet->header_bytes, &icmp, sizeof(icmp)) == 0)
			key->destination_port = icmp.type << 8 | icmp.code;
	}
}

/* The way of a set that a new flow takes; WAYS for none. */
INLINE __u32 choose_way(const struct tags *line, __u32 empty, __u64 now)
{
	__u32 turn, i;

	if (empty < WAYS)
		return empty;
	for (i = 0; i < WAYS; i++) {
		turn = ((now >> TURN_SHIFT) + i) & (WAYS - 1);
		if (*(volatile __u64 *)&line->tag[turn] != TAG_CLOSING)
			return turn;
	}
	return WAYS;
}

/* Count packets for their flow. `received` is the interface where they came in, 0 for packets of
 * this host; `leaving` the one where they leave, 0 if it is not known yet. With `is_counted` they were
 * counted where they came in. */
INLINE void count_flow(struct __sk_buff *skb, struct packet *packet, __u32 processor, __u32 received,
		       __u32 leaving, int is_counted, __u64 packets, __u64 bytes)
{
	struct flow_key key = {};
	__u32 way, empty = WAYS, set, i;
	struct ring *ring = &rings[processor];
	struct flow *flow;
	struct tags *line;
	__u64 hash, tag, now;
	__u8 tcp_flags = 0;

	if (packet->family == FAMILY_IPV4) {
		key.source[1] = packet->source;
		key.destination[1] = packet->address;
	} else {
		key.source[0] = packet->source_high;
		key.source[1] = packet->source_low;
		key.destination[0] = packet->high;
		key.destination[1] = packet->low;
	}
	key.ifindex = received;
	key.family = packet->family;
	key.protocol = packet->protocol;
	read_ports(skb, packet, &key, &tcp_flags);
	hash = hash_of(&key);
	tag = hash | 2;			/* neither 0 nor TAG_CLOSING */
	set = processor * config.flow_sets + ((hash >> 20) & (config.flow_sets - 1));
	line = &tags[set];
	way = WAYS;
	for (i = 0; i < WAYS; i++) {
		__u64 there = *(volatile __u64 *)&line->tag[i];

		if (there == tag) {
			way = i;
			break;
		}
		if (!there)
			empty = i;
	}
	if (way < WAYS) {
		flow = &flows[set * WAYS + (way & (WAYS - 1))];
		if (is_same(&flow->key, &key)) {
			if (leaving)
				flow->sent_ifindex = leaving;
			if (is_counted)
				return;
			flow->packets += packets;
			flow->bytes += bytes;
			flow->tcp_flags |= tcp_flags;
			flow->last_ns = coarse_ns();
			return;
		}
	}
	if (is_counted)
		return;
	now = coarse_ns();
	if (way == WAYS)
		way = choose_way(line, empty, now);
	if (way == WAYS) {
		ring->lost_flows++;
		ring->lost_packets += packets;
		return;
	}
	way &= WAYS - 1;
	flow = &flows[set * WAYS + way];
	if (line->tag[way])
		report_ended(ring, processor, flow);
	ring->begun++;
	flow->key = key;
	flow->packets = packets;
	flow->bytes = bytes;
	flow->first_ns = flow->last_ns = now;
	flow->sent_ifindex = leaving;
	flow->tcp_flags = tcp_flags;
	*(volatile __u64 *)&line->tag[way] = tag;
}

#endif
