/*-------------------------------------------------------------------------
 *
 * amx_emulator.c
 *	  AMX instructions on CPUs that have none, for tests.
 *
 * A CPU without AMX raises SIGILL at its instructions.  The handler
 * decodes the machine code and does what Intel's manual says (Intel 64 and IA-32
 * Architectures Software Developer's Manual, volume 2, LDTILECFG to TILEZERO),
 * so what is tested are the instructions that the compiler's assembler made.
 *
 *-------------------------------------------------------------------------
 */
#include "amx_emulator.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define N_TILES		8
#define ROWS		16
#define ROW_BYTES	64

/* Opcodes; the first is TILERELEASE's and TILEZERO's, too. */
enum
{
	OP_CONFIGURE = 0x49,
	OP_MOVE = 0x4B,
	OP_DOT_BF16 = 0x5C,
	OP_DOT_BYTES = 0x5E
};

/* A thread's tiles. */
static _Thread_local struct
{
	bool		configured;
	int			rows[N_TILES];
	int			row_bytes[N_TILES];
	uint8_t		data[N_TILES][ROWS][ROW_BYTES];
}			state;

static int left_out;				/* rows of a product */

/* An instruction, decoded. */
typedef struct Instruction
{
	int			prefix;			/* VEX.pp: 0 none, 1 66, 2 F3, 3 F2 */
	int			opcode;
	int			reg;			/* ModRM.reg */
	int			rm;				/* ModRM.rm, where it names a tile */
	int			vvvv;
	bool		in_memory;
	bool		has_index;
	uint8_t    *address;		/* base and displacement */
	long		stride;			/* index times scale */
	int			length;
} Instruction;

static void
fail(const char *message)
{
	if (write(STDERR_FILENO, message, strlen(message)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
		abort();
	abort();
}

/* ----------------------------------------------------------------
 *		Decoding
 * ----------------------------------------------------------------
 */

static long
general_register(const ucontext_t *context, int number)
{
	static const int places[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15
	};

	return (long) context->uc_mcontext.gregs[places[number]];
}

/* ModRM with memory: its address, from the byte after ModRM on. */
static void
decode_memory(const ucontext_t *context, const uint8_t *code, int mod, int rm, bool x, bool b,
			  Instruction *ins, const uint8_t *end_of_opcode)
{
	const uint8_t *at = code;
	long		base = 0;
	bool		rip_relative = false;
	int32_t		wide = 0;
	int			base_number = rm;

	if (rm == 4)
	{
		int			index = (*at >> 3 & 7) | (x ? 8 : 0);

		base_number = *at & 7;
		ins->has_index = index != 4;
		if (ins->has_index)
			ins->stride = general_register(context, index) << (*at >> 6);
		at++;
		if (base_number == 5 && mod == 0)
			mod = 2;			/* no base, four bytes */
		else
			base = general_register(context, base_number | (b ? 8 : 0));
	}
	else if (rm == 5 && mod == 0)
	{
		rip_relative = true;
		mod = 2;
	}
	else
		base = general_register(context, base_number | (b ? 8 : 0));

	if (mod == 1)
		base += (int8_t) *at++;
	else if (mod == 2)
	{
		memcpy(&wide, at, 4);
		base += wide;
		at += 4;
	}
	ins->length = (int) (at - end_of_opcode);
	if (rip_relative)
		base += (long) at;
	ins->address = (uint8_t *) base;
}

/* False when it is no AMX instruction. */
static bool
decode(const ucontext_t *context, Instruction *ins)
{
	const uint8_t *code = (const uint8_t *) context->uc_mcontext.gregs[REG_RIP];
	int			mod;

	memset(ins, 0, sizeof(*ins));
	/* three-byte VEX, map 0F38, W0, 128 bits */
	if (code[0] != 0xC4 || (code[1] & 31) != 2 || (code[2] & 0x84) != 0 ||
		(code[3] != OP_CONFIGURE && code[3] != OP_MOVE && code[3] != OP_DOT_BF16 && code[3] != OP_DOT_BYTES))
		return false;
	ins->prefix = code[2] & 3;
	ins->vvvv = ~(code[2] >> 3) & 15;
	ins->opcode = code[3];
	mod = code[4] >> 6;
	ins->reg = code[4] >> 3 & 7;
	ins->rm = code[4] & 7;
	ins->in_memory = mod != 3;
	ins->length = 5;
	if (ins->in_memory)
		decode_memory(context, code + 5, mod, ins->rm, (code[1] & 0x40) == 0, (code[1] & 0x20) == 0,
					  ins, code);
	return true;
}

/* ----------------------------------------------------------------
 *		Doing
 * ----------------------------------------------------------------
 */

static void
load_config(const uint8_t *from)
{
	memset(&state, 0, sizeof(state));
	if (from[0] == 0)
		return;
	if (from[0] != 1 || from[1] != 0)
		fail("emulated LDTILECFG: palette or start row");
	for (int i = 2; i < 16; i++)
		if (from[i] != 0)
			fail("emulated LDTILECFG: a reserved byte is not zero");
	for (int t = 0; t < 16; t++)
	{
		int			row_bytes = from[16 + 2 * t] | from[17 + 2 * t] << 8;
		int			rows = from[48 + t];

		if (t >= N_TILES)
		{
			if (row_bytes != 0 || rows != 0)
				fail("emulated LDTILECFG: a tile that does not exist");
			continue;
		}
		if (rows > ROWS || row_bytes > ROW_BYTES || (rows == 0) != (row_bytes == 0))
			fail("emulated LDTILECFG: size of a tile");
		state.rows[t] = rows;
		state.row_bytes[t] = row_bytes;
	}
	state.configured = true;
}

static void
need_tile(int tile)
{
	if (!state.configured)
		fail("emulated AMX: tiles are not configured");
	if (tile >= N_TILES || state.rows[tile] == 0)
		fail("emulated AMX: the tile is not configured");
}

static void
move_tile(const Instruction *ins, bool to_memory)
{
	int			tile = ins->reg;

	need_tile(tile);
	if (ins->rm != 4)
		fail("emulated AMX: a tile moves to or from a base and an index");
	if (!to_memory)
		memset(state.data[tile], 0, sizeof(state.data[tile]));
	for (int r = 0; r < state.rows[tile]; r++)
	{
		uint8_t    *row = ins->address + r * ins->stride;

		if (to_memory)
			memcpy(row, state.data[tile][r], (size_t) state.row_bytes[tile]);
		else
			memcpy(state.data[tile][r], row, (size_t) state.row_bytes[tile]);
	}
}

/* Sums, and the factors a of rows and b of columns: three tiles whose sizes fit. */
static void
need_product(int sum, int a, int b)
{
	need_tile(sum);
	need_tile(a);
	need_tile(b);
	if (sum == a || sum == b || a == b)
		fail("emulated TDP: a tile is named twice");
	if (state.row_bytes[sum] % 4 != 0 || state.row_bytes[a] % 4 != 0 || state.row_bytes[b] % 4 != 0 ||
		state.rows[sum] != state.rows[a] || state.row_bytes[sum] != state.row_bytes[b] ||
		state.row_bytes[a] / 4 != state.rows[b])
		fail("emulated TDP: sizes of tiles do not fit");
}

static void
multiply_bytes(int sum, int a, int b, bool a_signed, bool b_signed)
{
	for (int m = 0; m < state.rows[sum] - left_out; m++)
		for (int n = 0; n < state.row_bytes[sum] / 4; n++)
		{
			uint32_t	total;	/* wraps, as the instruction does */

			memcpy(&total, &state.data[sum][m][4 * n], 4);
			for (int k = 0; k < state.row_bytes[a]; k++)
			{
				uint8_t		x = state.data[a][m][k];
				uint8_t		w = state.data[b][k / 4][4 * n + k % 4];

				total += (uint32_t) ((a_signed ? (int8_t) x : x) * (b_signed ? (int8_t) w : w));
			}
			memcpy(&state.data[sum][m][4 * n], &total, 4);
		}
}

static inline float
bf16_at(const uint8_t *at)
{
	uint32_t	bits = (uint32_t) at[0] << 16 | (uint32_t) at[1] << 24;
	float		x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

/*
 * Fused multiply-adds of even and of odd k in chains of their own, both added to
 * the sum at the end; subnormals are 0 all along.
 */
__attribute__((target("fma")))
static void
multiply_bf16(int sum, int a, int b)
{
	unsigned	csr = _mm_getcsr();

	/* all exceptions masked, round to nearest, flush to zero, denormals are zero */
	_mm_setcsr(0x9FC0);
	for (int m = 0; m < state.rows[sum] - left_out; m++)
	{
		float		chain[2][ROW_BYTES / 4] = {{0}};

		for (int k = 0; k < state.row_bytes[a] / 2; k++)
			for (int n = 0; n < state.row_bytes[sum] / 4; n++)
				chain[k % 2][n] = __builtin_fmaf(bf16_at(&state.data[a][m][2 * k]),
												 bf16_at(&state.data[b][k / 2][4 * n + k % 2 * 2]), chain[k % 2][n]);
		for (int n = 0; n < state.row_bytes[sum] / 4; n++)
		{
			float		total;

			memcpy(&total, &state.data[sum][m][4 * n], 4);
			total += chain[0][n] + chain[1][n];
			memcpy(&state.data[sum][m][4 * n], &total, 4);
		}
	}
	_mm_setcsr(csr);
}

static void
execute(const Instruction *ins)
{
	switch (ins->opcode)
	{
		case OP_CONFIGURE:
			if (ins->prefix == 0 && ins->in_memory)
				load_config(ins->address);
			else if (ins->prefix == 0)
				memset(&state, 0, sizeof(state));	/* TILERELEASE */
			else if (ins->prefix == 3 && !ins->in_memory)
			{
				need_tile(ins->reg);	/* TILEZERO */
				memset(state.data[ins->reg], 0, sizeof(state.data[0]));
			}
			else
				fail("emulated AMX: STTILECFG is not");
			break;
		case OP_MOVE:
			if (ins->prefix == 0)
				fail("emulated AMX: no such move");
			move_tile(ins, ins->prefix == 2);	/* 66 and F2 load */
			break;
		case OP_DOT_BF16:
			if (ins->prefix != 2)
				fail("emulated AMX: no such product");
			need_product(ins->reg, ins->rm, ins->vvvv);
			multiply_bf16(ins->reg, ins->rm, ins->vvvv);
			break;
		case OP_DOT_BYTES:
			need_product(ins->reg, ins->rm, ins->vvvv);
			/* none: unsigned both; 66: b signed; F3: a signed; F2: both */
			multiply_bytes(ins->reg, ins->rm, ins->vvvv, ins->prefix >= 2,
						   ins->prefix == 1 || ins->prefix == 3);
			break;
	}
}

static void
on_illegal_instruction(int signo, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	Instruction ins;

	(void) signo;
	(void) info;
	if (!decode(user, &ins))
		fail("an illegal instruction, and none of AMX");
	/* Those that follow at once need no signal of their own. */
	do
	{
		execute(&ins);
		user->uc_mcontext.gregs[REG_RIP] += ins.length;
	} while (decode(user, &ins));
}

void
emulate_amx(bool faulty)
{
	struct sigaction action = {0};

	left_out = faulty ? 1 : 0;
	action.sa_sigaction = on_illegal_instruction;
	action.sa_flags = SA_SIGINFO;
	sigaction(SIGILL, &action, NULL);
}

#else							/* no x86 */

void
emulate_amx(bool faulty)
{
	(void) faulty;
}

#endif
