/*-------------------------------------------------------------------------
 *
 * constrain.c
 *	  An answer that keeps to a grammar, as the scheduler sees it.
 *
 * A grammar is compiled once for all answers that use it: its automaton's
 * states and its masks are made as answers come to them, and kept.  Compiled
 * grammars are found by their digest and compared byte by byte.  Nothing that
 * is kept changes an answer.
 *
 *-------------------------------------------------------------------------
 */
#include "constrain.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer_image.h"

/* Forced text is spelled in pieces of at most this many bytes. */
#define FORCE_BYTES		L3_SETTLED_TEXT

_Static_assert(FORCE_BYTES > L3_TRIE_MAX_PIECE, "a token must have forced text beside it");

/* A grammar in use or kept. */
typedef struct L3Compiled
{
	struct L3Compiled *next;	/* used before */
	L3Automaton *automaton;
	L3Masks    *masks;
	uint32_t	n_users;
} L3Compiled;

struct L3Constraint
{
	L3Grammars *grammars;
	L3Compiled *compiled;
	L3Cursor	cursor;
	uint64_t   *allowed;		/* (n_words) */
};

/* ----------------------------------------------------------------
 *		Compiled grammars
 * ----------------------------------------------------------------
 */

static void
free_compiled(L3Compiled *c)
{
	if (c == NULL)
		return;
	l3_masks_free(c->masks);
	l3_automaton_free(c->automaton);
	free(c);
}

void
l3_grammars_free(L3Grammars *g)
{
	while (g->first != NULL)
	{
		L3Compiled *c = g->first;

		g->first = c->next;
		free_compiled(c);
	}
	l3_vocabulary_free(g->vocabulary);
	g->vocabulary = NULL;
}

static size_t
compiled_bytes(const L3Compiled *c)
{
	return l3_automaton_bytes(c->automaton) + l3_masks_bytes(c->masks);
}

size_t
l3_grammars_bytes(const L3Grammars *g)
{
	size_t		bytes = 0;

	if (g->vocabulary != NULL)
		bytes = l3_vocabulary_bytes(g->vocabulary);
	for (const L3Compiled *c = g->first; c != NULL; c = c->next)
		bytes += compiled_bytes(c);
	return bytes;
}

/* Free those that nobody uses, beyond the bound, the one unused for longest first. */
static void
evict(L3Grammars *g)
{
	size_t		max_bytes = g->max_bytes != 0 ? g->max_bytes : L3_CONSTRAIN_CACHE_BYTES;
	size_t		bytes = 0;
	L3Compiled **link = &g->first;

	while (*link != NULL)
	{
		L3Compiled *c = *link;

		bytes += compiled_bytes(c);
		if (bytes > max_bytes && c->n_users == 0)
		{
			bytes -= compiled_bytes(c);
			*link = c->next;
			free_compiled(c);
		}
		else
			link = &c->next;
	}
}

/* A known grammar with this image, moved to the front; NULL when there is none. */
static L3Compiled *
find_compiled(L3Grammars *g, const L3Grammar *image, size_t size)
{
	for (L3Compiled **link = &g->first; *link != NULL; link = &(*link)->next)
	{
		L3Compiled *c = *link;
		const L3Grammar *known = c->automaton->grammar;

		if (known->size != size || memcmp(known->digest, image->digest, sizeof(known->digest)) != 0 ||
			memcmp(known, image, size) != 0)
			continue;
		*link = c->next;
		c->next = g->first;
		g->first = c;
		return c;
	}
	return NULL;
}

static L3Status
compile(L3Grammars *g, const void *image, size_t size, L3Compiled **compiled, L3Error *err)
{
	L3Compiled *c = calloc(1, sizeof(*c));
	void	   *copy = malloc(size > 0 ? size : 1);
	L3Status	status = L3_OK;

	if (c == NULL || copy == NULL)
		status = l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	if (status == L3_OK && g->vocabulary == NULL)
		status = l3_vocabulary_create(g->tok, &g->vocabulary, err);
	if (status == L3_OK)
	{
		/* what is checked cannot be changed by others any more */
		memcpy(copy, image, size);
		if (l3_grammar_check(copy, size, err) == NULL)
			status = err->status;
	}
	if (status == L3_OK)
		status = l3_automaton_create(copy, g->vocabulary->trie, &c->automaton, err);
	if (status == L3_OK)
		status = l3_masks_create(g->vocabulary, c->automaton, &c->masks, err);
	if (status == L3_OK && g->max_mask_effort != 0)
		c->masks->max_effort = g->max_mask_effort;
	free(copy);
	if (status != L3_OK)
	{
		free_compiled(c);
		return status;
	}
	c->next = g->first;
	g->first = c;
	*compiled = c;
	return L3_OK;
}

/* ----------------------------------------------------------------
 *		Beginning and end
 * ----------------------------------------------------------------
 */

static L3Status
check_max_tokens(const L3Constraint *constraint, int32_t max_tokens, L3Error *err)
{
	uint32_t	least = constraint->compiled->automaton->states[constraint->cursor.state].distance;

	if (constraint->cursor.state == L3_STATE_DEAD)
		return l3_error(err, L3_ERR_LIMIT, "grammar's rules are nested too deeply");
	if (least <= (uint32_t) max_tokens)
		return L3_OK;
	l3_error(err, L3_ERR_LIMIT,
			 "the shortest answer in the format needs up to %u tokens, and there is room for %d",
			 least, max_tokens);
	l3_error_hint(err, "Raise max_tokens or, where the context is full, shorten the prompt.");
	return L3_ERR_LIMIT;
}

L3Status
l3_constraint_open(L3Grammars *g, const void *image, size_t size, int32_t max_tokens,
				   L3Constraint **constraint_out, L3Error *err)
{
	L3Constraint *constraint = calloc(1, sizeof(*constraint));
	L3Compiled *compiled = NULL;
	L3Status	status = L3_OK;

	if (constraint == NULL)
		return l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	if (size >= sizeof(L3Grammar))
		compiled = find_compiled(g, image, size);
	if (compiled == NULL)
		status = compile(g, image, size, &compiled, err);
	if (status == L3_OK)
	{
		constraint->grammars = g;
		constraint->compiled = compiled;
		compiled->n_users++;
		constraint->allowed = calloc(g->vocabulary->trie->n_words, sizeof(uint64_t));
		if (constraint->allowed == NULL)
			status = l3_error(err, L3_ERR_MEMORY, "out of memory for a grammar");
	}
	if (status == L3_OK)
		status = l3_cursor_open(&constraint->cursor, compiled->automaton, err);
	if (status == L3_OK)
		status = check_max_tokens(constraint, max_tokens, err);
	if (status != L3_OK)
	{
		l3_constraint_close(constraint);
		return status;
	}
	evict(g);
	*constraint_out = constraint;
	return L3_OK;
}

void
l3_constraint_close(L3Constraint *constraint)
{
	if (constraint == NULL)
		return;
	l3_cursor_close(&constraint->cursor);
	if (constraint->compiled != NULL)
	{
		constraint->compiled->n_users--;
		evict(constraint->grammars);
	}
	free(constraint->allowed);
	free(constraint);
}

/* ----------------------------------------------------------------
 *		Going on
 * ----------------------------------------------------------------
 */

/* The state of the text so far, when there is room for more states. */
static L3Status
current_state(L3Constraint *constraint, uint32_t *state, L3Error *err)
{
	L3Automaton *a = constraint->compiled->automaton;
	size_t		max_bytes = constraint->grammars->max_state_bytes;

	if (l3_automaton_used(a) > (max_bytes != 0 ? max_bytes : L3_CONSTRAIN_STATE_BYTES))
		l3_automaton_clear(a);
	return l3_cursor_state(&constraint->cursor, state, err);
}

bool
l3_constraint_ended(const L3Constraint *constraint)
{
	const L3Cursor *cursor = &constraint->cursor;

	return cursor->saved == NULL && !cursor->lost &&
		cursor->automaton->states[cursor->state].n == 0;
}

L3Status
l3_constraint_prepare(L3Constraint *constraint, int32_t remaining, bool stop, L3Error *err)
{
	L3Automaton *a = constraint->compiled->automaton;
	L3Masks    *masks = constraint->compiled->masks;
	uint32_t	left = (uint32_t) remaining - 1;
	uint32_t	state;
	L3Status	status = current_state(constraint, &state, err);

	if (status == L3_OK)
		status = l3_masks_tokens(masks, state, left, constraint->allowed, err);
	if (status == L3_ERR_LIMIT)
	{
		/* that may be for what other answers have left: try from nothing */
		l3_automaton_clear(a);
		status = l3_cursor_state(&constraint->cursor, &state, err);
		if (status == L3_OK)
			status = l3_masks_tokens(masks, state, left, constraint->allowed, err);
	}
	if (status == L3_OK && stop && a->states[state].distance == 0)
	{
		const uint8_t *stops = L3_TOK_SECTION(constraint->grammars->tok, uint8_t, stops);
		uint8_t    *allowed = (uint8_t *) constraint->allowed;
		uint32_t	n = (l3_tokenizer_n_tokens(constraint->grammars->tok) + 7) / 8;

		/* both are bit id & 7 of byte id >> 3 where the lowest byte comes first */
		for (uint32_t i = 0; i < n; i++)
			allowed[i] |= stops[i];
	}
	return status;
}

const uint64_t *
l3_constraint_allowed(const L3Constraint *constraint)
{
	return constraint->allowed;
}

/* ----------------------------------------------------------------
 *		Forced text
 * ----------------------------------------------------------------
 */

/*
 * The bytes that can only follow, and whether the text ends there; *n of them
 * at most max.
 */
static L3Status
forced_bytes(L3Automaton *a, uint32_t state, uint8_t *bytes, size_t max, size_t *n, bool *ends,
			 L3Error *err)
{
	L3Status	status = L3_OK;
	int			byte;

	*n = 0;
	while (status == L3_OK && *n < max && (byte = l3_automaton_only_byte(a, state)) >= 0)
	{
		bytes[(*n)++] = (uint8_t) byte;
		status = l3_automaton_step(a, state, (uint8_t) byte, &state, err);
	}
	*ends = status == L3_OK && a->states[state].n == 0;
	return status;
}

/*
 * Spell forced text, and before it the n_begun bytes of begun, over which the
 * text has gone already: at most FORCE_BYTES together.  *any: was there forced
 * text, and room for it?
 */
static L3Status
force_piece(L3Constraint *constraint, const char *begun, size_t n_begun, int32_t remaining,
			L3Ids *ids, bool *any, L3Error *err)
{
	const L3Tokenizer *tok = constraint->grammars->tok;
	L3Automaton *a = constraint->compiled->automaton;
	uint8_t		bytes[FORCE_BYTES];
	size_t		n_before = ids->n;
	size_t		n;
	bool		ends;
	uint32_t	state;
	uint32_t	after;
	L3Status	status = current_state(constraint, &state, err);

	*any = false;
	if (n_begun > 0)
		memcpy(bytes, begun, n_begun);
	if (status == L3_OK)
		status = forced_bytes(a, state, bytes + n_begun, FORCE_BYTES - n_begun, &n, &ends, err);
	if (status != L3_OK)
		return status;
	n += n_begun;
	if (!ends)
		n = l3_split_settled((L3PreTokenizer) tok->header.pre, (const char *) bytes, n);
	if (n <= n_begun)
		return L3_OK;
	status = l3_tokenizer_encode_ids(tok, (const char *) bytes, n, false, ids, err);
	after = state;
	for (size_t i = n_begun; i < n && status == L3_OK; i++)
		status = l3_automaton_step(a, after, bytes[i], &after, err);
	if (status != L3_OK)
		return status;
	/* spelled so it may be longer than what fits: then sampling finds a way */
	if (ids->n - n_before + a->states[after].distance > (size_t) remaining)
	{
		ids->n = n_before;
		return L3_OK;
	}
	*any = true;
	return l3_cursor_advance(&constraint->cursor, bytes + n_begun, n - n_begun, err);
}

L3Status
l3_constraint_force(L3Constraint *constraint, int32_t remaining, L3Ids *ids, L3Error *err)
{
	size_t		n_before = ids->n;
	bool		any = true;
	L3Status	status = L3_OK;

	while (status == L3_OK && any)
		status = force_piece(constraint, NULL, 0, remaining - (int32_t) (ids->n - n_before), ids,
							 &any, err);
	return status;
}

/* A character's later bytes are no beginning of a text to spell. */
static bool
begins_character(const char *piece)
{
	return ((uint8_t) piece[0] & 0xC0) != 0x80;
}

L3Status
l3_constraint_accept(L3Constraint *constraint, int32_t token, int32_t remaining, L3Ids *ids,
					 L3Error *err)
{
	size_t		n_before = ids->n;
	uint32_t	len = 0;
	const char *piece = l3_tokenizer_piece(constraint->grammars->tok, token, &len);
	bool		together = false;
	L3Status	status = l3_cursor_advance(&constraint->cursor, (const uint8_t *) piece, len, err);

	if (status == L3_OK && len > 0 && begins_character(piece))
		status = force_piece(constraint, piece, len, remaining, ids, &together, err);
	if (status == L3_OK && !together)
		status = l3_ids_append(ids, &token, 1, err);
	if (status != L3_OK)
		return status;
	return l3_constraint_force(constraint, remaining - (int32_t) (ids->n - n_before), ids, err);
}
