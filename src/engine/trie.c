/*-------------------------------------------------------------------------
 *
 * trie.c
 *	  A vocabulary as a tree of its tokens' bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "trie.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer_image.h"
#include "utf8.h"

/* ----------------------------------------------------------------
 *		Building
 * ----------------------------------------------------------------
 */

/* A token while they are sorted. */
typedef struct Piece
{
	const uint8_t *bytes;
	uint32_t	len;
	uint32_t	id;
} Piece;

static int
compare_pieces(const void *a, const void *b)
{
	const Piece *x = a;
	const Piece *y = b;
	int			order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);

	if (order != 0)
		return order;
	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

/* The tokens that may be sampled, sorted by their bytes; their number. */
static uint32_t
collect_pieces(const L3Tokenizer *tok, Piece *pieces)
{
	const uint8_t *types = L3_TOK_SECTION(tok, uint8_t, types);
	uint32_t	n = 0;

	for (uint32_t id = 0; id < tok->header.n_tokens; id++)
	{
		uint32_t	len = l3_tok_piece_len(tok, id);

		if (L3_TOKEN_TYPE(types[id]) == L3_TOKEN_NORMAL && len > 0 &&
			len <= L3_TRIE_MAX_PIECE && !l3_tokenizer_is_stop(tok, (int32_t) id))
			pieces[n++] = (Piece)
		{
			.bytes = l3_tok_piece(tok, id), .len = len, .id = id
		};
	}
	qsort(pieces, n, sizeof(*pieces), compare_pieces);
	return n;
}

/* Flags of a token: what is in it, and whether it begins a well-formed text. */
static uint8_t
piece_flags(const Piece *p)
{
	uint8_t		flags = 0;
	uint32_t	i = 0;

	while (i < p->len)
	{
		unsigned	want;
		unsigned	got = l3_utf8_well_formed(p->bytes + i, p->len - i, &want);

		if (want != 1)
			flags |= L3_TRIE_WIDE;
		if (got == 0 || (got < want && i + got < p->len))
			return flags | L3_TRIE_WIDE | L3_TRIE_ILL | L3_TRIE_ILL_HERE;
		i += got;
	}
	return flags;
}

/* The path from the root to the token being added. */
typedef struct Path
{
	L3Trie	   *trie;
	uint32_t	open[L3_TRIE_MAX_PIECE + 1];	/* nodes by depth */
	uint32_t	depth;
} Path;

/* Close nodes deeper than depth: what is below them is known to their parents. */
static void
close_to(Path *path, uint32_t depth)
{
	L3Trie	   *t = path->trie;

	for (; path->depth > depth; path->depth--)
	{
		L3TrieNode *node = &t->nodes[path->open[path->depth]];

		node->end = t->n_nodes;
		if (path->depth > 1)
		{
			L3TrieNode *parent = &t->nodes[path->open[path->depth - 1]];

			parent->ascii[0] |= node->ascii[0];
			parent->ascii[1] |= node->ascii[1];
			parent->flags |= node->flags & (L3_TRIE_WIDE | L3_TRIE_ILL);
			if (parent->height < node->height + 1)
				parent->height = (uint8_t) (node->height + 1);
			if (parent->n_chars + parent->more_chars < node->n_chars + node->more_chars)
				parent->more_chars = (uint8_t) (node->n_chars + node->more_chars - parent->n_chars);
		}
	}
}

static void
open_node(Path *path, uint8_t byte, uint32_t rank)
{
	L3Trie	   *t = path->trie;
	L3TrieNode *node = &t->nodes[t->n_nodes];

	uint8_t		n_chars = path->depth > 0 ? t->nodes[path->open[path->depth]].n_chars : 0;

	path->depth++;
	path->open[path->depth] = t->n_nodes;
	if (path->depth == 1)
		t->roots[byte] = t->n_nodes;
	*node = (L3TrieNode)
	{
		.byte = byte, .depth = (uint8_t) path->depth, .first_rank = rank,
		.n_chars = (uint8_t) (n_chars + ((byte & 0xC0) != 0x80))
	};
	if (byte < 0x80)
		node->ascii[byte >> 6] = UINT64_C(1) << (byte & 63);
	t->n_nodes++;
}

/* False when too many tokens have the same bytes. */
static bool
add_piece(Path *path, const Piece *p, const Piece *before, uint32_t rank)
{
	L3TrieNode *node;
	uint32_t	common = 0;

	while (before != NULL && common < before->len && common < p->len &&
		   before->bytes[common] == p->bytes[common])
		common++;
	close_to(path, common);
	while (path->depth < p->len)
		open_node(path, p->bytes[path->depth], rank);
	node = &path->trie->nodes[path->open[p->len]];
	if (node->n_here == UINT16_MAX)
		return false;
	node->n_here++;
	node->flags |= piece_flags(p);
	path->trie->ids[rank] = p->id;
	if (p->len > path->trie->max_piece)
		path->trie->max_piece = p->len;
	return true;
}

static L3Status
fill(L3Trie *t, const Piece *pieces, L3Error *err)
{
	size_t		n_nodes = 0;
	Path		path = {.trie = t};

	for (uint32_t i = 0; i < t->n_tokens; i++)
		n_nodes += pieces[i].len;
	t->nodes = malloc((n_nodes + 1) * sizeof(L3TrieNode));
	t->ids = malloc((size_t) (t->n_tokens + 1) * sizeof(uint32_t));
	if (t->nodes == NULL || t->ids == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory for the tree of a vocabulary");
	memset(t->roots, 0xff, sizeof(t->roots));
	for (uint32_t i = 0; i < t->n_tokens; i++)
		if (!add_piece(&path, &pieces[i], i > 0 ? &pieces[i - 1] : NULL, i))
			return l3_error(err, L3_ERR_UNSUPPORTED,
							"the model's vocabulary has more than %d tokens of the same bytes",
							UINT16_MAX);
	close_to(&path, 0);
	t->nodes[t->n_nodes] = (L3TrieNode)
	{
		.first_rank = t->n_tokens
	};
	for (int byte = 0; byte < 256; byte++)
		if (t->roots[byte] == UINT32_MAX || t->nodes[t->roots[byte]].n_here == 0)
			return l3_error(err, L3_ERR_UNSUPPORTED,
							"the model's vocabulary has no token for byte 0x%02x alone", byte);
	return L3_OK;
}

L3Status
l3_trie_create(const L3Tokenizer *tok, L3Trie **trie, L3Error *err)
{
	L3Trie	   *t = calloc(1, sizeof(*t));
	Piece	   *pieces = malloc((size_t) tok->header.n_tokens * sizeof(Piece));
	L3Status	status;

	if (t == NULL || pieces == NULL)
		status = l3_error(err, L3_ERR_MEMORY, "out of memory for the tree of a vocabulary");
	else
	{
		t->n_words = (tok->header.n_tokens + 63) / 64;
		t->n_tokens = collect_pieces(tok, pieces);
		status = fill(t, pieces, err);
	}
	free(pieces);
	if (status != L3_OK)
	{
		l3_trie_free(t);
		return status;
	}
	/* shared beginnings have left room; what cannot shrink stays */
	{
		L3TrieNode *nodes = realloc(t->nodes, (t->n_nodes + 1) * sizeof(L3TrieNode));

		if (nodes != NULL)
			t->nodes = nodes;
	}
	*trie = t;
	return L3_OK;
}

void
l3_trie_free(L3Trie *trie)
{
	if (trie == NULL)
		return;
	free(trie->nodes);
	free(trie->ids);
	free(trie);
}

size_t
l3_trie_bytes(const L3Trie *trie)
{
	return sizeof(*trie) + (trie->n_nodes + 1) * sizeof(L3TrieNode) +
		trie->n_tokens * sizeof(uint32_t);
}

/* ----------------------------------------------------------------
 *		Questions
 * ----------------------------------------------------------------
 */

/* From the end: the best of all tokens that begin at i, each then followed best. */
void
l3_trie_costs(const L3Trie *trie, const uint8_t *bytes, uint32_t n, uint32_t *cost)
{
	for (uint32_t i = n; i-- > 0;)
	{
		uint32_t	node = trie->roots[bytes[i]];
		uint32_t	at = i + 1;

		cost[i] = at < n ? cost[at] + 1 : 1;
		while (at < n)
		{
			uint32_t	child = node + 1;
			uint32_t	end = trie->nodes[node].end;

			while (child < end && trie->nodes[child].byte != bytes[at])
				child = trie->nodes[child].end;
			if (child >= end)
				break;
			node = child;
			at++;
			if (trie->nodes[node].n_here > 0)
			{
				uint32_t	whole = at < n ? cost[at] + 1 : 1;

				if (whole < cost[i])
					cost[i] = whole;
			}
		}
	}
}

/*
 * Go through the tokens of a set's characters: count those of each number of
 * characters in ends, or, with ids, put each at ends[number] and move that on.
 */
static void
visit_spelled(const L3Trie *trie, const L3ByteSet *set, uint32_t *ids, uint32_t *ends)
{
	uint32_t	i = 0;

	while (i < trie->n_nodes)
	{
		const L3TrieNode *node = &trie->nodes[i];

		if (!l3_byte_set_has(set, node->byte))
		{
			i = node->end;
			continue;
		}
		for (uint32_t j = 0; j < node->n_here && (node->flags & L3_TRIE_ILL_HERE) == 0; j++)
		{
			if (ids != NULL)
				ids[ends[node->n_chars]] = trie->ids[node->first_rank + j];
			ends[node->n_chars]++;
		}
		i++;
	}
}

uint32_t
l3_trie_spelled_with(const L3Trie *trie, const L3ByteSet *set, uint32_t *ids, uint32_t *ends)
{
	uint32_t	begins = 0;

	memset(ends, 0, (L3_TRIE_MAX_PIECE + 1) * sizeof(uint32_t));
	visit_spelled(trie, set, NULL, ends);
	for (int n = 0; n <= L3_TRIE_MAX_PIECE; n++)
	{
		uint32_t	count = ends[n];

		ends[n] = begins;
		begins += count;
	}
	visit_spelled(trie, set, ids, ends);
	return begins;
}
