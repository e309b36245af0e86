/*-------------------------------------------------------------------------
 *
 * fuzz_grammar.c
 *	  Any bytes as a grammar, followed through any text.
 *
 * The first byte says how the image comes about: 0 the bytes as they are; else
 * the builder is driven by them (a stack machine), and where that byte is odd
 * the image is then changed in places that further bytes name and given its
 * right digest.  What the check accepts is followed over the rest of the input,
 * and what must hold of every grammar is looked at.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "constrain.h"
#include "grammar_graph.h"
#include "unit/tiny_vocab.h"

#define MAX_STACK	32
#define MAX_CHANGES	8
#define CHANGE_BYTES 3
#define MAX_TEXT	40

/* States of more stacks are not followed: that takes long. */
#define MAX_STACKS	512

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Input
{
	const uint8_t *data;
	size_t		size;
	size_t		at;
} Input;

static uint8_t
take(Input *in)
{
	return in->at < in->size ? in->data[in->at++] : 0;
}

/* Build a grammar as the input says: one byte for each node, and its arguments. */
static void *
build(Input *in, size_t *size)
{
	L3GrammarBuilder *b = l3_grammar_build_begin();
	uint32_t	rules[] = {l3_grammar_new_rule(b), l3_grammar_new_rule(b), l3_grammar_new_rule(b)};
	uint32_t	stack[MAX_STACK] = {l3_grammar_empty(b)};
	uint32_t	n = 1;
	int			n_nodes = take(in);
	void	   *image;
	uint8_t		low;
	uint32_t	count;
	L3Error		err;

	for (int i = 0; i < n_nodes && in->at < in->size; i++)
	{
		uint8_t		op = take(in);

		switch (op % 6)
		{
			case 0:
				low = take(in);
				if (n < MAX_STACK)
					stack[n++] = l3_grammar_range(b, low, low + op % 7 < 256 ? (uint8_t) (low + op % 7) : 255);
				break;
			case 1:
				count = 1 + op % 5;
				if (n == MAX_STACK || count > in->size - in->at)
					break;
				stack[n++] = l3_grammar_literal(b, in->data + in->at, count);
				in->at += count;
				break;
			case 2:
			case 3:
				count = 2 + op / 6 % 3;
				if (count <= n)
				{
					n -= count;
					stack[n] = op % 6 == 2 ? l3_grammar_seq(b, stack + n, count) :
						l3_grammar_alt(b, stack + n, count);
					n++;
				}
				break;
			case 4:
				count = take(in);
				low = take(in);
				if (n > 0)
					stack[n - 1] = l3_grammar_repeat(b, stack[n - 1], low % 4,
													 count > 250 ? L3_GRAMMAR_UNBOUNDED :
													 low % 4 + count * count * count);
				break;
			case 5:
				if (n < MAX_STACK)
					stack[n++] = l3_grammar_rule(b, rules[op / 6 % 3]);
				break;
		}
	}
	for (uint32_t i = 0; i < 3; i++)
		l3_grammar_define(b, rules[i], i < n ? stack[n - 1 - i] : stack[0]);
	return l3_grammar_build_finish(b, rules[0], &image, size, &err) == L3_OK ? image : NULL;
}

static void
change(Input *in, L3Grammar *image, size_t size)
{
	int			n = take(in) % MAX_CHANGES;

	for (int i = 0; i < n && in->at + CHANGE_BYTES <= in->size; i++)
	{
		size_t		place = take(in);

		place |= (size_t) take(in) << 8;
		((uint8_t *) image)[place % size] = take(in);
	}
	if (image->size == size)
		l3_grammar_digest(image, image->digest);
}

/* A byte brings the end nearer by one at most, and some token brings it nearer. */
static void
check_state(L3Masks *m, uint32_t state)
{
	L3Automaton *a = m->automaton;
	uint32_t	distance = a->states[state].distance;
	uint32_t	n_words = m->vocabulary->trie->n_words;
	uint64_t   *ids = calloc(n_words, sizeof(uint64_t));
	bool		any = false;
	uint32_t	next;
	L3Error		err;

	for (int byte = 0; byte < 256; byte++)
		if (l3_automaton_step(a, state, (uint8_t) byte, &next, &err) == L3_OK &&
			next != L3_STATE_DEAD && a->states[next].distance + 1 < distance)
			abort();
	if (distance > 0 && l3_masks_tokens(m, state, distance - 1, ids, &err) == L3_OK)
	{
		for (uint32_t i = 0; i < n_words; i++)
			any = any || ids[i] != 0;
		/* a stack that would be too deep may be the only way */
		if (!any && a->elements[a->stacks[a->states[state].first]].depth < L3_AUTOMATON_MAX_DEPTH / 2)
			abort();
	}
	free(ids);
}

static void
follow(L3Masks *m, const uint8_t *text, size_t n)
{
	L3Automaton *a = m->automaton;
	uint32_t	state;
	L3Error		err;

	if (l3_automaton_start(a, &state, &err) != L3_OK)
		return;
	for (size_t i = 0; state != L3_STATE_DEAD && a->states[state].n < MAX_STACKS; i++)
	{
		check_state(m, state);
		if (i == n || i == MAX_TEXT || l3_automaton_step(a, state, text[i], &state, &err) != L3_OK)
			break;
	}
}

static L3Vocabulary *
vocabulary(void)
{
	static L3Vocabulary *v;
	static TinyVocab tiny;
	uint64_t	size;
	L3Error		err;

	if (v == NULL)
	{
		void	   *tok;

		tiny_vocab(&tiny, "llama-bpe");
		tok = tiny_build(&tiny, &size, &err);
		if (l3_vocabulary_create(tok, &v, &err) != L3_OK)
			abort();
		free(tok);
	}
	return v;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input		in = {.data = data,.size = size};
	uint8_t		mode = take(&in);
	L3Automaton *a;
	L3Masks    *m;
	void	   *image;
	size_t		image_size;
	L3Error		err;

	if (mode == 0 && size > 1)
	{
		image_size = size - 1;
		image = malloc(image_size);
		memcpy(image, data + 1, image_size);
		in.at = size;
	}
	else
		image = build(&in, &image_size);
	if (image == NULL)
		return 0;
	if (mode % 2 == 1)
		change(&in, image, image_size);
	if (l3_grammar_check(image, image_size, &err) != NULL &&
		l3_automaton_create(image, vocabulary()->trie, &a, &err) == L3_OK)
	{
		if (l3_masks_create(vocabulary(), a, &m, &err) != L3_OK)
			abort();
		follow(m, data + in.at, size - in.at);
		l3_masks_free(m);
		l3_automaton_free(a);
	}
	free(image);
	return 0;
}
