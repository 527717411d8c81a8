/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Traffic: every frame counts for its interface, its protocol, its size, for the route to its
 * destination, and for its flow.
 *
 *     frame -> place of the interface -> headers -> counters of the interface, on this processor
 *                                               |-> longest match -> counters of the record
 *                                               '-> flow, on this processor (flows.h)
 *
 * The program never changes a frame and never decides about one: it returns TCX_NEXT, which lets the
 * programs behind it and then the kernel go on as if it were not there.
 *
 * All state is in arrays that user space maps; no map is read by a system call. Their sizes are chosen
 * when they are created; `config` has the masks, which the verifier takes as constants.
 *
 * Sources: the kernel's Documentation/bpf, include/uapi/linux/bpf.h.
 */
#include "helpers.h"
#include "headers.h"

#define PROCESSORS_MAX 1024
#define LINKS_MAX 64
#define PLACES 256
#define PROBES 8
#define WORDS_MAX (1u << 26)
#define RECORDS_MAX (1u << 22)
#define SIZES 8
#define NEXT -1				/* TCX_NEXT, and TC_ACT_UNSPEC for cls_bpf */

enum direction { RECEIVED, SENT, DIRECTIONS };

const volatile struct {
	__u32 processors_mask;		/* 2^n - 1, at least the highest processor number */
	__u32 words_mask;		/* 2^n - 1 */
	__u32 records;			/* records with counters of their own; 0: routes are not counted */
	__u32 root4, root6;		/* where the root directories begin */
	__u32 flow_sets;		/* 2^n, of each processor; 0: flows are not counted */
	__u64 seed;			/* of the hash of flows, so that no sender can choose collisions */
} config SECTION(".rodata.config");

__u32 words[WORDS_MAX] SECTION(".bss.words") __attribute__((aligned(8)));

#include "fib.h"
#include "flows.h"

struct count { __u64 packets, bytes; };

/* Which interface has which counters: open addressing by ifindex. The parent writes it. */
struct place {
	__u32 ifindex;			/* 0: free. Written last */
	__u16 slot;
	__u8 header_bytes;		/* before the network header: 14 of Ethernet, or none */
	__u8 reserved;
} places[PLACES] SECTION(".bss.places");

struct link {
	struct count kinds[FAMILIES * KINDS];
	__u64 sizes[SIZES];
} __attribute__((aligned(64)));
struct link links[PROCESSORS_MAX * LINKS_MAX * DIRECTIONS] SECTION(".bss.links");

/* Programs that have begun and ended on each processor: who waits until `ended` is at least what
 * `begun` was knows that no search is under way that had begun before. */
struct activity { __u64 begun, ended; } __attribute__((aligned(64)));
struct activity activity[PROCESSORS_MAX] SECTION(".bss.activity");

struct route { struct count directions[DIRECTIONS]; };
struct route routes[RECORDS_MAX] SECTION(".bss.routes");

INLINE struct place *find_place(__u32 ifindex)
{
	__u32 i;

	for (i = 0; i < PROBES; i++) {
		struct place *place = &places[(ifindex + i) & (PLACES - 1)];

		if (*(volatile __u32 *)&place->ifindex == ifindex)
			return place;
	}
	return 0;
}

INLINE __u32 size_class(__u32 bytes)
{
	if (bytes < 256)
		return bytes <= 64 ? 0 : bytes < 128 ? 1 : 2;
	if (bytes < 1024)
		return bytes < 512 ? 3 : 4;
	return bytes <= 1518 ? 5 : bytes <= 9216 ? 6 : 7;
}

INLINE void count_route(const struct packet *packet, __u32 direction, __u64 packets, __u64 bytes)
{
	__u32 record = 0;
	struct count *count;

	if (packet->is_routed)
		record = packet->family == FAMILY_IPV4 ? find4(packet->address)
						       : find6(packet->high, packet->low);
	if (record >= config.records)
		record = 0;
	count = &routes[record].directions[direction];
	__sync_fetch_and_add(&count->packets, packets);
	__sync_fetch_and_add(&count->bytes, bytes);
}

INLINE int account(struct __sk_buff *skb, __u32 direction)
{
	struct place *place = find_place(skb->ifindex);
	__u32 processor = processor_id() & config.processors_mask;
	struct activity *mine = &activity[processor];
	__u64 packets = 1, bytes = skb->len;
	struct packet packet = {};
	struct count *count;
	struct link *link;

	if (!place)
		return NEXT;
	*(volatile __u64 *)&mine->begun += 1;
	read_headers(skb, place->header_bytes, FROM_NETWORK16(skb->protocol), &packet);
	if (skb->gso_segs > 1) {	/* several segments in one: each had its own headers */
		packets = skb->gso_segs;
		bytes += (packets - 1) * (packet.header_bytes +
			transport_bytes(skb, packet.header_bytes, packet.kind));
	}
	link = &links[(processor * LINKS_MAX + (place->slot & (LINKS_MAX - 1))) * DIRECTIONS + direction];
	count = &link->kinds[packet.family * KINDS + packet.kind];
	count->packets += packets;
	count->bytes += bytes;
	link->sizes[size_class(bytes / packets)] += packets;
	if (config.flow_sets && packet.family != FAMILY_NONE && packet.kind != KIND_MALFORMED) {
		__u64 octets;
		__u32 came = direction == SENT ? skb->ingress_ifindex : skb->ifindex;

		/* `reserved` is 0, which the verifier does not know: else it would look at all that
		 * follows once for each kind and each protocol. */
		packet.kind = (packet.kind + place->reserved) & (KINDS - 1);
		packet.protocol = (packet.protocol + place->reserved) & 0xff;
		packet.is_later_fragment |= place->reserved;
		packet.header_bytes = (packet.header_bytes + place->reserved) & 0xffff;
		/* Octets of a flow are those of IP: neither link headers nor padding. */
		if (packets > 1 || !packet.network_bytes)
			octets = bytes - packets * packet.link_bytes;
		else
			octets = packet.network_bytes;
		count_flow(skb, &packet, processor, came, direction == SENT ? skb->ifindex : 0,
			   direction == SENT && came && find_place(came), packets, octets);
	}
	if (config.records && packet.family != FAMILY_NONE)
		count_route(&packet, direction, packets, bytes);
	*(volatile __u64 *)&mine->ended += 1;
	return NEXT;
}

SECTION("tcx/ingress") int received(struct __sk_buff *skb)
{
	return account(skb, RECEIVED);
}

SECTION("tcx/egress") int sent(struct __sk_buff *skb)
{
	return account(skb, SENT);
}

char license_text[] SECTION("license") = "Dual MIT/GPL";
