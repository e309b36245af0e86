/*-------------------------------------------------------------------------
 *
 * quant_matmul.h
 *	  The quantised matrix product of an instruction set: few rows panel by
 *	  panel, more slab by slab.  Included once per way of multiplying bytes.
 *
 * The including file defines
 *	Slab			what a thread works on, with its chains
 *	FewRows			the same with few rows, with a group's FEW_ROWS_BYTES behind it for each group
 *	FEW_ROWS		how many rows those are
 *	multiply_slab(), store_chains()		as in SlabKernel
 *	multiply_few()	the product of few rows
 *
 *-------------------------------------------------------------------------
 */
_Static_assert(sizeof(Slab) <= L3_SCRATCH_SLAB, "it fits the bound on scratch");
_Static_assert(sizeof(FewRows) <= L3_SCRATCH_SLAB && FEW_ROWS_BYTES <= L3_ACT_GROUP * L3_SCRATCH_INPUT,
			   "few rows fit the bound on scratch");

static size_t
quant_scratch_bytes(const L3Matrix *w, int m_max)
{
	size_t		few = sizeof(FewRows) + (size_t) (w->n_in / L3_ACT_GROUP) * FEW_ROWS_BYTES;

	(void) m_max;
	if (!l3_type_quantised(w->type))
		return 0;
	return few > sizeof(Slab) ? few : sizeof(Slab);
}

static void
matmul_quant(const L3Matrix *w, int panel0, int panel1, const L3Act *x, int m, int m_prefill,
			 float *out, size_t ldo, bool accumulate, void *scratch)
{
	static const SlabKernel kernel = {multiply_slab, store_chains};
	Slab	   *slab = scratch;

	(void) m_prefill;			/* one arithmetic for both roles */
	if (m <= FEW_ROWS)
		multiply_few(w, panel0, panel1, x, m, out, ldo, accumulate, scratch);
	else
		multiply_slabs(&kernel, w, panel0, panel1, x, m, out, ldo, accumulate, slab->chains, slab);
}

/* Enter the quantised types into the table. */
static void
install_quant(L3Kernels *kernels)
{
	for (int type = L3_Q8_0; type < L3_N_PACKED_TYPES; type++)
		kernels->matmul[type] = matmul_quant;
	kernels->matmul_scratch_bytes = quant_scratch_bytes;
}
